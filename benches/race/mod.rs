//! Contenders that do the same work, timed against each other.
//!
//! Machines are shared and never idle, so nothing here is asserted, and no time stands alone:
//! contenders take turns, round after round, the best of each counts, and what is printed is the
//! ratio to the first of them. Processor time is that of this process and of every child that it
//! waited for; what the kernel does on its own threads (writing back, loop devices) is in the wall
//! time alone.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::fs;
use std::time::{Duration, Instant};

/// The variable that says how many rounds there are.
const ROUNDS: &str = "PLYWOOD_BENCH_ROUNDS";
const DEFAULT_ROUNDS: usize = 3;

/// Clock ticks of a second in `/proc`: the same on every architecture that Debian has.
const TICKS: u64 = 100;

/// Contenders, the reference first.
pub(crate) struct Race<'a> {
    title: &'a str,
    contenders: Vec<Contender<'a>>,
}

struct Contender<'a> {
    name: &'a str,
    lap: Box<dyn FnMut() -> Cost + 'a>,
    best: Cost,
}

impl<'a> Race<'a> {
    /// Announces a race.
    pub(crate) fn new(title: &'a str) -> Self {
        Self { title, contenders: Vec::new() }
    }

    /// Adds a contender.
    pub(crate) fn enter<R>(self, name: &'a str, mut work: impl FnMut() -> R + 'a) -> Self {
        self.enter_prepared(name, || (), move |()| work())
    }

    /// Adds a contender whose preparation is not timed. Neither is dropping what its work returns.
    pub(crate) fn enter_prepared<T, R>(
        mut self,
        name: &'a str,
        mut prepare: impl FnMut() -> T + 'a,
        mut work: impl FnMut(T) -> R + 'a,
    ) -> Self {
        let lap = Box::new(move || {
            let ready = prepare();
            // What preparing left to be written would be written at the contender's expense.
            rustix::fs::sync();
            let start = Start::now();
            let result = work(ready);
            let cost = start.cost();
            drop(result);
            cost
        });
        self.contenders.push(Contender { name, lap, best: Cost::MAX });
        self
    }

    /// Runs all rounds and prints a table.
    pub(crate) fn run(mut self) {
        eprintln!("{}: {} contenders, rounds: {}", self.title, self.contenders.len(), rounds());
        for _ in 0..rounds() {
            for contender in &mut self.contenders {
                let cost = (contender.lap)();
                eprintln!("  {:7.2} s  {}", cost.wall.as_secs_f64(), contender.name);
                contender.best = contender.best.min(cost);
            }
        }
        self.print();
    }

    fn print(&self) {
        println!("\n### {}\n", self.title);
        println!("| way | wall s | CPU s | wall ratio | CPU ratio |\n|---|--:|--:|--:|--:|");
        let reference = self.contenders[0].best;
        for Contender { name, best, .. } in &self.contenders {
            let [wall, cpu] = [best.wall, best.cpu].map(|time| time.as_secs_f64());
            let wall_ratio = wall / reference.wall.as_secs_f64();
            let cpu_ratio = cpu / reference.cpu.as_secs_f64();
            println!("| {name} | {wall:.2} | {cpu:.2} | {wall_ratio:.2} | {cpu_ratio:.2} |");
        }
        println!();
    }
}

/// Returns how often each contender runs.
pub(crate) fn rounds() -> usize {
    let asked = std::env::var(ROUNDS).ok();
    asked.map_or(DEFAULT_ROUNDS, |rounds| rounds.parse().expect("PLYWOOD_BENCH_ROUNDS is a number"))
}

/// What one lap took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl Cost {
    const MAX: Self = Self { wall: Duration::MAX, cpu: Duration::MAX };

    fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

struct Start {
    wall: Instant,
    cpu: Duration,
}

impl Start {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: processor_time() }
    }

    fn cost(&self) -> Cost {
        Cost { wall: self.wall.elapsed(), cpu: processor_time() - self.cpu }
    }
}

/// Returns the processor time of this process and of the children that it waited for.
///
/// Source: proc_pid_stat(5), fields 14 to 17.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("the name of the program is in parentheses");
    let ticks: u64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

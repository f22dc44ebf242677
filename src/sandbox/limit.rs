//! Limits of a job: time by a clock; processes and memory by control groups of version 1, version
//! 2, or both.
//!
//! Each job gets a group of its own. With version 1 it is below plywood's group; with version 2 it
//! is below the nearest ancestor that enables the controller for its children. The supervisor
//! enters the group before anything else.
//!
//! Groups outlive their processes. After a SIGKILL, an empty group is left; the next job with
//! limits removes it.
//!
//! Source: Linux, `admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst`, `cgroup-v1/pids.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::setup;
use crate::port::{Limit, Limits, SandboxError};

/// Prefix of the names of groups. The pid of plywood follows.
const PREFIX: &str = "plywood-";

/// The most processes that Linux can have at the same time. A control group refuses larger limits,
/// which would have no effect.
///
/// Source: Linux, `include/linux/threads.h`, `PID_MAX_LIMIT`.
const MOST_PROCESSES: u64 = 4 * 1024 * 1024;

/// The control groups of one job. Dropping it removes them; the job must have ended.
pub(super) struct Groups {
    places: Vec<Place>,
    limits: Limits,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    version: Version,
    controllers: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Groups {
    /// Makes the groups that the limits need. Without limits, or with a time limit alone, there are
    /// none.
    ///
    /// # Errors
    /// [`SandboxError::NoController`] if this host's control groups cannot hold a limit.
    pub(super) fn make(limits: &Limits) -> Result<Self, SandboxError> {
        let wanted = [limits.memory.map(|_| "memory"), limits.processes.map(|_| "pids")];
        let wanted: Vec<_> = wanted.into_iter().flatten().collect();
        let mut groups = Self { places: Vec::new(), limits: *limits };
        if wanted.is_empty() {
            return Ok(groups);
        }
        // Mount points may have names that are not UTF-8. Those of control groups do not, and the
        // others must not make this fail.
        let read = |path: &str| match fs::read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(setup(format!("read `{path}`"))(error)),
        };
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let subtree = |directory: &Path| fs::read_to_string(directory.join("cgroup.subtree_control"));
        let parents = parents(&wanted, &mounts, &own, |directory| subtree(directory).unwrap_or_default())
            .map_err(|controller| SandboxError::NoController { controller })?;
        for parent in parents {
            groups.add(parent)?;
        }
        Ok(groups)
    }

    fn add(&mut self, parent: Place) -> Result<(), SandboxError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(&parent.directory);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = parent.directory.join(name);
        fs::create_dir(&directory)
            .map_err(setup(format!("make the control group `{}`", directory.display())))?;
        let place = Place { directory, ..parent };
        // Before the settings: if one of them fails, dropping `self` removes the group.
        self.places.push(place.clone());
        for (file, value) in settings(&place, &self.limits) {
            let path = place.directory.join(file);
            match fs::write(&path, value.to_string()) {
                // The kernel was built or started without accounting of swap.
                Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("sw") => {}
                result => result.map_err(setup(format!("write `{}`", path.display())))?,
            }
        }
        Ok(())
    }

    /// Returns the files into which a process writes its pid, or `0`, to enter the groups.
    pub(super) fn doors(&self) -> Vec<PathBuf> {
        self.places.iter().map(|place| place.directory.join("cgroup.procs")).collect()
    }

    /// Returns the limit of memory or processes that the job reached, if any.
    pub(super) fn exceeded(&self) -> Option<Limit> {
        let hit = |controller: &str| {
            let mut places = self.places.iter().filter(|place| place.controllers.contains(&controller));
            places.any(|place| {
                let (file, counter) = match (controller, place.version) {
                    ("pids", _) => ("pids.events", "max"),
                    (_, Version::Two) => ("memory.events", "oom_kill"),
                    (_, Version::One) => ("memory.oom_control", "oom_kill"),
                };
                count(&fs::read_to_string(place.directory.join(file)).unwrap_or_default(), counter) > 0
            })
        };
        match self.limits {
            Limits { memory: Some(bytes), .. } if hit("memory") => Some(Limit::Memory(bytes)),
            Limits { processes: Some(count), .. } if hit("pids") => Some(Limit::Processes(count)),
            _ => None,
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let started = Instant::now();
        for place in &self.places {
            // A killed process leaves its group shortly after its parent has reaped it. Until then
            // the kernel refuses to remove the group.
            while fs::remove_dir(&place.directory).is_err() && started.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Returns the value of a counter in a file of lines `name value`.
fn count(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// Returns the files of a group and the numbers to write into them, in this order: version 1
/// refuses a limit of memory and swap that is below the limit of memory.
fn settings(place: &Place, limits: &Limits) -> Vec<(&'static str, u64)> {
    let memory = limits.memory.filter(|_| place.controllers.contains(&"memory"));
    let processes = limits.processes.filter(|_| place.controllers.contains(&"pids"));
    let mut settings = match (memory, place.version) {
        // Without swap: otherwise a job over its limit would fill the swap of the build host
        // instead of ending.
        (Some(bytes), Version::Two) => vec![("memory.max", bytes), ("memory.swap.max", 0)],
        (Some(bytes), Version::One) => {
            vec![("memory.limit_in_bytes", bytes), ("memory.memsw.limit_in_bytes", bytes)]
        }
        (None, _) => Vec::new(),
    };
    // The supervisor and pid 1 of the sandbox are in the group, too.
    let own_processes = 2;
    let most = |count: u64| count.saturating_add(own_processes).min(MOST_PROCESSES);
    settings.extend(processes.map(|count| ("pids.max", most(count))));
    settings
}

/// Returns the groups below which a job's groups are made, or as an error the first controller that
/// no group offers. `mounts` is `/proc/self/mountinfo`, `own` is `/proc/self/cgroup`.
fn parents(
    wanted: &[&'static str],
    mounts: &str,
    own: &str,
    subtree_control: impl Fn(&Path) -> String,
) -> Result<Vec<Place>, &'static str> {
    let mut places = Vec::new();
    let mut left = Vec::new();
    for controller in wanted {
        match version_one(controller, mounts, own) {
            Some(directory) => {
                places.push(Place { directory, version: Version::One, controllers: vec![*controller] });
            }
            None => left.push(*controller),
        }
    }
    let Some(first) = left.first() else { return Ok(places) };
    let (mount, directory) = version_two(mounts, own).ok_or(*first)?;
    // In version 2, a group that has processes cannot enable controllers for its children, so
    // plywood's own group rarely can. An ancestor does, such as systemd's slice.
    let above = directory.ancestors().take_while(|above| above.starts_with(&mount));
    let hands_on = |above: &&Path| {
        let handed = subtree_control(above);
        left.iter().all(|controller| handed.split_whitespace().any(|one| one == *controller))
    };
    let directory = above.into_iter().find(hands_on).ok_or(*first)?.to_owned();
    places.push(Place { directory, version: Version::Two, controllers: left });
    Ok(places)
}

/// Returns this process' group in the hierarchy of a version 1 controller.
fn version_one(controller: &str, mounts: &str, own: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let (_, path) = groups(own).find(|(controllers, _)| has(controllers))?;
    let mut mounts = hierarchies(mounts).filter(|mount| mount.kind == "cgroup" && has(mount.options));
    mounts.find_map(|mount| mount.directory(path))
}

/// Returns the mount point of version 2, and this process' group below it.
fn version_two(mounts: &str, own: &str) -> Option<(PathBuf, PathBuf)> {
    let (_, path) = groups(own).find(|(controllers, _)| controllers.is_empty())?;
    let mut mounts = hierarchies(mounts).filter(|mount| mount.kind == "cgroup2");
    mounts.find_map(|mount| Some((PathBuf::from(mount.place), mount.directory(path)?)))
}

/// Returns the controllers and the path of each group.
fn groups(own: &str) -> impl Iterator<Item = (&str, &str)> {
    own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// A mounted hierarchy of control groups.
struct Hierarchy<'a> {
    root: &'a str,
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Hierarchy<'_> {
    /// Returns the directory of a group, or `None` if it is outside of the mounted part. A
    /// container sees only its own part.
    fn directory(&self, group: &str) -> Option<PathBuf> {
        let inner = Path::new(group).strip_prefix(self.root).ok()?;
        Some(Path::new(self.place).join(inner))
    }
}

fn hierarchies(mounts: &str) -> impl Iterator<Item = Hierarchy<'_>> {
    mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mount: Vec<_> = mount.split(' ').collect();
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        Some(Hierarchy { root: mount.get(3)?, place: mount.get(4)?, kind, options })
    })
}

/// Removes the groups that killed processes of plywood have left. The kernel refuses to remove a
/// group that is in use.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).map(str::to_owned);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "32 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                       33 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    const TWO: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(mounts: &str, own: &str, handed: &str) -> Result<Vec<(String, Version)>, &'static str> {
        let subtree = |directory: &Path| match directory.ends_with("user.slice") {
            true => handed.to_owned(),
            false => String::new(),
        };
        let places = parents(&["memory", "pids"], mounts, own, subtree)?;
        Ok(places.into_iter().map(|place| (place.directory.display().to_string(), place.version)).collect())
    }

    #[test]
    fn controllers_are_found_in_either_version() {
        let own = "9:memory:/a/b\n8:pids:/\n0::/user.slice/session.scope\n";
        let one = |place: &str| (place.to_owned(), Version::One);
        let both = vec![one("/sys/fs/cgroup/memory/a/b"), one("/sys/fs/cgroup/pids/")];
        assert_eq!(found(&format!("{ONE}{TWO}"), own, ""), Ok(both));
        let own = "0::/user.slice/session.scope\n";
        let unified = ("/sys/fs/cgroup/unified/user.slice".to_owned(), Version::Two);
        assert_eq!(found(TWO, own, "cpu memory pids"), Ok(vec![unified]));
        assert_eq!(found(TWO, own, "cpu"), Err("memory"));
        assert_eq!(found("", own, ""), Err("memory"));
        // A container that sees its own group as the root.
        let inside = "32 31 0:30 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 31 0:31 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let own = "9:memory:/docker/x\n8:pids:/docker/x\n";
        let both = vec![one("/sys/fs/cgroup/memory/"), one("/sys/fs/cgroup/pids/")];
        assert_eq!(found(inside, own, ""), Ok(both));
    }

    #[test]
    fn a_limit_of_more_processes_than_the_kernel_has_is_the_kernels() {
        let directory = PathBuf::from("/group");
        let place = Place { directory, version: Version::Two, controllers: vec!["pids"] };
        for (wanted, expected) in [(7, 9), (u64::MAX, MOST_PROCESSES), (MOST_PROCESSES, MOST_PROCESSES)] {
            let limits = Limits { processes: Some(wanted), ..Limits::default() };
            assert_eq!(settings(&place, &limits), [("pids.max", expected)]);
        }
    }

    #[test]
    fn counters_are_read_from_their_line() {
        let events = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n";
        assert_eq!((count(events, "oom_kill"), count(events, "max"), count("", "max")), (1, 12, 0));
    }
}

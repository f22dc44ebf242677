//! Follows a page of the book: writes its files, runs its commands, and compares their output.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use super::page::{Block, Command, Page, commands};
use super::project::Project;
use super::registry::{Door, Server};

/// The registry in the pages. A test has a registry on its own port.
const REGISTRY: &str = "localhost:5000";

/// The programs that `make install` installs.
const PROGRAMS: [&str; 5] =
    ["plywood", "disk-image-create", "ramdisk-image-create", "diskimage-builder", "element-info"];

/// Ignores the options of sudo, and accepts variables before the command.
const SUDO: &str = "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec env \"$@\"\n";

/// The exit status of the script if a command did not end as in the page.
const SURPRISE: i32 = 90;

/// A reader in the directory of a project. The page writes its `plywood.toml`.
pub(crate) struct Reader {
    pub(crate) project: Project,
    registry: Option<Server>,
}

impl Reader {
    /// Returns a reader whose `debian-bookworm` is little more than a shell, for pages that do not
    /// need Debian.
    pub(crate) fn with_small_base() -> Self {
        Self::at(Project::new("").with_small_base())
    }

    /// Returns a reader whose store has Debian bookworm.
    pub(crate) fn with_debian() -> Self {
        Self::at(Project::new("").with_base())
    }

    fn at(project: Project) -> Self {
        fs::remove_file(project.path().join("plywood.toml")).unwrap();
        let programs = Self::programs(&project);
        fs::create_dir(&programs).unwrap();
        PROGRAMS.iter().for_each(|name| symlink(env!("CARGO_BIN_EXE_plywood"), programs.join(name)).unwrap());
        // The tests run as root, and the sudo of the machine would drop the variables that name the
        // store.
        fs::write(programs.join("sudo"), SUDO).unwrap();
        fs::set_permissions(programs.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { project, registry: None }
    }

    fn programs(project: &Project) -> PathBuf {
        project.path().with_file_name("bin")
    }

    /// Starts the registry that pages call `localhost:5000`.
    pub(crate) fn with_registry(self) -> Self {
        Self { registry: Some(Server::start(Door::Open)), ..self }
    }

    /// Follows a page to its end.
    pub(crate) fn follow(&self, path: &str) {
        let mut page = Page::read(path);
        if let Some(registry) = &self.registry {
            page.text = page.text.replace(REGISTRY, &registry.host());
        }
        let blocks = page.blocks();
        let answers = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let status = self.shell(&script(&blocks, answers.path()));
        for (index, command) in blocks.iter().flat_map(commands_of).enumerate() {
            let answer = fs::read(answers.path().join(index.to_string())).unwrap_or_default();
            let answer = self.as_by_default(&String::from_utf8_lossy(&answer));
            let is_last = !answers.path().join((index + 1).to_string()).exists();
            let ended = !is_last || status == Some(0);
            assert!(ended, "{path}: `{}` did not end as the page says:\n{answer}", command.text);
            let shown = command.output.join("\n");
            let as_shown = command.output.is_empty() || prints(&command.output, &answer);
            assert!(as_shown, "{path}: `{}` prints\n{answer}\nnot\n{shown}", command.text);
        }
    }

    /// Replaces the store of the test by root's default store, because pages do not name a store.
    fn as_by_default(&self, printed: &str) -> String {
        let store = self.project.store().display().to_string();
        printed.replace(&format!(" --store {store}"), "").replace(&store, "/var/cache/plywood")
    }

    /// Runs a script with bash. Returns its exit status.
    fn shell(&self, script: &str) -> Option<i32> {
        let home = self.project.path().with_file_name("home");
        fs::create_dir_all(&home).unwrap();
        let programs = format!("{}:{}", Self::programs(&self.project).display(), env!("PATH"));
        let mut bash = Process::new("bash");
        bash.args(["-c", script]).current_dir(self.project.path()).env_clear();
        bash.env("PATH", programs).env("HOME", home).env("PLYWOOD_STORE", self.project.store());
        bash.status().unwrap().code()
    }
}

fn commands_of(block: &Block) -> Vec<Command> {
    if block.language == "console" { commands(&block.text) } else { Vec::new() }
}

/// Returns a script that writes the files of a page and runs its commands in order. The output of
/// each command goes to a file in `answers` with the number of the command.
fn script(blocks: &[Block], answers: &Path) -> String {
    let mut numbers = 0..;
    let parts = blocks.iter().map(|block| match block.file() {
        Some(file) => write(file, &block.text),
        None => {
            let commands = commands_of(block).into_iter().zip(numbers.by_ref());
            commands.map(|(command, number)| run(&command, &answers.join(number.to_string()))).collect()
        }
    });
    parts.collect()
}

fn write(file: &str, text: &str) -> String {
    format!("mkdir -p \"$(dirname {file})\"\ncat >{file} <<'END OF FILE'\n{text}END OF FILE\n")
}

/// Returns the script of a command. Variables and the directory that it sets stay for later
/// commands.
fn run(command: &Command, answer: &Path) -> String {
    let (answer, text) = (answer.display(), &command.text);
    let expected = if command.fails() { "-ne" } else { "-eq" };
    format!("{{\n{text}\n}} >{answer} 2>&1 </dev/null\n[ $? {expected} 0 ] || exit {SURPRISE}\n")
}

/// Returns true if a program printed the text of a page. A line `…` stands for any lines, and `…`
/// within a line for any text. Digests and numbers with a fraction, such as times and sizes, are
/// not compared.
fn prints(shown: &[String], printed: &str) -> bool {
    let printed: Vec<_> = printed.lines().map(settle).collect();
    let shown: Vec<_> = shown.iter().map(|line| settle(line)).collect();
    lines_match(&shown, &printed)
}

fn lines_match(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "…" => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    match shown.split_once('…') {
        None => shown == printed,
        Some((start, rest)) => printed.strip_prefix(start).is_some_and(|printed| {
            let ends = printed.char_indices().map(|(at, _)| at).chain([printed.len()]);
            ends.into_iter().any(|at| line_matches(rest, &printed[at..]))
        }),
    }
}

/// Replaces parts that differ from run to run by one character, and several spaces by one.
fn settle(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let mut rest = word;
        let mut settled = String::new();
        while let Some(start) = rest.find(is_part) {
            let length = rest[start..].find(|c| !is_part(c)).unwrap_or(rest.len() - start);
            settled += &rest[..start];
            settled += settle_part(&rest[start..start + length]);
            rest = &rest[start + length..];
        }
        settled + rest
    });
    words.collect::<Vec<_>>().join(" ")
}

fn settle_part(part: &str) -> &str {
    let is_digest = part.len() >= 12 && part.chars().all(|c| c.is_ascii_hexdigit());
    let is_fraction = part.contains('.') && part.parse::<f64>().is_ok();
    match (is_digest, is_fraction) {
        (true, _) => "DIGEST",
        (_, true) => "NUMBER",
        _ => part,
    }
}

#[test]
fn shown_output_matches_what_a_run_prints_up_to_digests_times_and_ellipses() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (page, printed, expected) in [
        ("made 599a132c404b in 0.0 s", "made 011111111111 in 12.5 s\n", true),
        ("  kernel  hit", "kernel   hit", true),
        ("a\n…\nc", "a\nb\nb\nc\n", true),
        ("…\nc", "a\nb\n", false),
        ("a", "a\nb\n", false),
        ("wrote …/out/web.qcow2 (…)", "wrote /x/out/web.qcow2 (qcow2, 1 MB)", true),
        ("wrote …/out/web.raw (…)", "wrote /x/out/web.qcow2 (qcow2, 1 MB)", false),
        ("web 1/7", "web 2/7", false),
    ] {
        assert_eq!(prints(&shown(page), printed), expected, "{page:?} and {printed:?}");
    }
}

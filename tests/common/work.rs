//! A directory in which tests call the commands, with its own elements.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory of a caller, with elements and a store beside it.
pub(crate) struct Work {
    directory: TempDir,
}

/// A hook that makes a small operating system.
const TINY: &str = r#"
cd "$TARGET_ROOT"
mkdir -p bin dev etc proc root run sys tmp usr/bin var/log
echo tiny >etc/tiny
"#;

/// The programs of that operating system.
const PROGRAMS: [&str; 11] =
    ["bash", "sh", "cat", "cp", "find", "grep", "ls", "mkdir", "rm", "touch", "chmod"];

/// Copies programs of the machine with their libraries.
const COPY: &str = r#"
cd "$TARGET_ROOT"
for program in $programs; do
    path=$(command -v "$program")
    cp -L "$path" bin/
    for library in $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
        mkdir -p ".${library%/*}"
        [ -e ".$library" ] || cp -L "$library" ".$library"
    done
done
"#;

impl Work {
    /// Makes a directory with the element `tiny`, an operating system.
    pub(crate) fn new() -> Self {
        let work = Self { directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        fs::create_dir(work.path()).unwrap();
        work.write("../elements/tiny/element-provides", "operating-system\n");
        work.hook("tiny", "root.d/10-tiny", TINY);
        work.programs("tiny", &PROGRAMS);
        work
    }

    /// Adds programs of this machine to an element.
    pub(crate) fn programs(&self, element: &str, names: &[&str]) {
        let script = format!("programs='{}'{COPY}", names.join(" "));
        self.hook(element, &format!("root.d/20-programs-{element}"), &script);
    }

    /// Returns the caller's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Writes a file, and creates its directories.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds an executable hook, a bash script, to an element.
    pub(crate) fn hook(&self, element: &str, hook: &str, script: &str) {
        let path = format!("../elements/{element}/{hook}");
        self.write(&path, &format!("#!/bin/bash\nset -eu\n{script}\n"));
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Returns one of the commands with these words. It is called through a symlink with its name.
    pub(crate) fn command(&self, name: &str, words: &[&str]) -> Command {
        let program = self.directory.path().join(name);
        if !program.exists() {
            symlink(env!("CARGO_BIN_EXE_plywood"), &program).unwrap();
        }
        let mut command = Command::new(program);
        command.args(words).current_dir(self.path()).env_clear().env("PATH", env!("PATH"));
        command.env("ELEMENTS_PATH", self.directory.path().join("elements"));
        command.env("PLYWOOD_STORE", self.store()).env("DIB_NO_TIMESTAMP", "1");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, name: &str, words: &[&str]) -> Run {
        Run::of(self.command(name, words).output().unwrap())
    }

    /// Runs `disk-image-create` to its end. The words are separated by spaces.
    pub(crate) fn create(&self, words: &str) -> Run {
        self.create_with(words, &[])
    }

    /// Runs `disk-image-create` with these variables.
    pub(crate) fn create_with(&self, words: &str, variables: &[(&str, &str)]) -> Run {
        let words: Vec<_> = words.split(' ').collect();
        let mut command = self.command("disk-image-create", &words);
        Run::of(command.envs(variables.iter().copied()).output().unwrap())
    }

    /// Returns the names of the files in a directory, sorted.
    pub(crate) fn files(&self, directory: &str) -> Vec<String> {
        names(&self.path().join(directory))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Removes everything from the caller's directory.
    pub(crate) fn clear(&self) {
        fs::remove_dir_all(self.path()).unwrap();
        fs::create_dir(self.path()).unwrap();
    }
}

/// Runs a program of the machine. Returns its output.
pub(crate) fn program(name: &str, words: &[&str], directory: &Path) -> String {
    let run = Command::new(name).args(words).current_dir(directory).output();
    let run = run.unwrap_or_else(|error| panic!("this test needs the program `{name}`: {error}"));
    assert!(run.status.success(), "{name} {words:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The exit and the output of a command.
#[derive(Debug)]
pub(crate) struct Run {
    /// `None` after a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Returns standard output. Fails the test if the run failed.
    #[track_caller]
    pub(crate) fn expect_success(self) -> String {
        assert_eq!(self.status, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

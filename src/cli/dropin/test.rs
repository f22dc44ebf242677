//! The functional tests of elements: builds `test-elements/<test>` together with its element, as
//! diskimage-builder's own test runner does.
//!
//! A test passes if the build succeeds and leaves no `/tmp/dib-test-should-fail` in the archive, or
//! if the build fails after it created that file.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Call, create};
use crate::cli::process::environment;
use crate::cli::report::{Failure, Message};
use crate::dropin::{Command, Environment, parse_definition};
use crate::element::{Element, shell_word};
use crate::engine::Process;
use crate::layer::Decoder;

/// The file that a test leaves in `/tmp` of its image if the build is expected to fail.
const SHOULD_FAIL: &str = "dib-test-should-fail";

/// A test of an element.
pub(in crate::cli) struct ElementTest<'a> {
    element: &'a Element,
    name: String,
    /// The formats of the outputs, as the test lists them.
    types: Vec<String>,
}

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Verdict {
    Passed,
    Failed,
}

/// Returns the tests of an element, by name.
pub(in crate::cli) fn tests_of(element: &Element) -> Result<Vec<ElementTest<'_>>, Failure> {
    let directory = element.root.join("test-elements");
    if !directory.is_dir() {
        return Err(Message::plain(format!("element `{}` has no directory `test-elements`", element.name)));
    }
    let mut tests = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tests.push(ElementTest { element, name, types: types(&path)? });
        }
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tests)
}

fn types(test: &Path) -> Result<Vec<String>, Failure> {
    let file = test.join("test-output-formats");
    let text = if file.is_file() { fs::read_to_string(file)? } else { "tar".to_owned() };
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

impl ElementTest<'_> {
    /// Returns the title: element and test.
    pub(in crate::cli) fn title(&self) -> String {
        format!("{}/{}", self.element.name, self.name)
    }

    /// Builds the test, with elements of `element_path` and the store `store`. Writes its log and
    /// outputs into the directory `output`.
    pub(in crate::cli) fn run(
        &self,
        element_path: &[PathBuf],
        store: Option<&Path>,
        output: &Path,
        process: &Process,
    ) -> Result<Verdict, Failure> {
        // Files of an earlier run would count as files of this run.
        if output.exists() {
            fs::remove_dir_all(output)?;
        }
        fs::create_dir_all(output)?;
        // Absolute, because the command at the break point runs in another directory.
        let output = &fs::canonicalize(output)?;
        let Some(directory) = output.to_str() else {
            return Err(Message::plain(format!("the name of `{}` is not UTF-8", output.display())));
        };
        let [command] = &parse_definition([self.definition(element_path, directory).as_str()])?[..] else {
            return Err(Message::plain(format!("test {} defines no image", self.title())));
        };
        let mut environment = environment();
        environment.extend(command.environment.clone());
        environment.extend(store.map(|store| ("PLYWOOD_STORE".to_owned(), store.display().to_string())));
        let status = self.create(&command.words, environment, process);
        self.verdict(status, output)
    }

    fn create(&self, words: &[String], environment: Environment, process: &Process) -> u8 {
        create::run(&Call { command: Command::DiskImageCreate, words: words.to_vec(), environment, process })
    }

    /// Returns the image definition of the test.
    fn definition(&self, element_path: &[PathBuf], output: &str) -> String {
        let own = self.element.root.join("test-elements");
        let path: Vec<_> =
            [&own].into_iter().chain(element_path).map(|dir| dir.display().to_string()).collect();
        json!([{
            "imagename": format!("{output}/image"),
            "logfile": format!("{output}/log"),
            "types": self.types,
            "skip-base": true,
            "debug-trace": 1,
            "environment": {
                "ELEMENTS_PATH": path.join(":"),
                "break": "after-error",
                "break_outside_target": "1",
                "break_cmd": format!("cp \"$TMP_MOUNT_PATH/tmp/{SHOULD_FAIL}\" {}", shell_word(output)),
            },
            "elements": [self.element.name, self.name],
        }])
        .to_string()
    }

    fn verdict(&self, status: u8, output: &Path) -> Result<Verdict, Failure> {
        let passed = match status {
            0 => !self.is_in_archive(&output.join("image.tar"))?,
            _ => output.join(SHOULD_FAIL).exists(),
        };
        Ok(if passed { Verdict::Passed } else { Verdict::Failed })
    }

    fn is_in_archive(&self, archive: &Path) -> Result<bool, Failure> {
        if !archive.is_file() {
            return Ok(false);
        }
        let mut decoder = Decoder::new(BufReader::new(File::open(archive)?));
        while let Some((entry, _)) = decoder.next_entry()? {
            if entry.path == format!("tmp/{SHOULD_FAIL}").as_bytes() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn a_directory_with_a_quote_stays_one_word_of_the_command() {
        let element = element("web").build();
        let test = ElementTest { element: &element, name: "good".to_owned(), types: vec!["tar".to_owned()] };
        let commands = parse_definition([test.definition(&[], "/it's here").as_str()]).unwrap();
        let command = &commands[0].environment["break_cmd"];
        assert!(command.ends_with(&format!(" {}", shell_word("/it's here"))), "{command}");
    }
}

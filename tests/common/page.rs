//! A page of the documentation: its blocks, headings and links.
//!
//! The word after the three backticks is the kind of the block, and determines its test:
//!
//! | block | test |
//! |---|---|
//! | `console` | `$ ` starts a command. `tests/system/docs.rs` runs all commands of a page in
//! order, and compares their output | | `LANGUAGE file=NAME` | a file that the reader writes;
//! commands below use it |
//! | `LANGUAGE example` | cannot run on a build host of plywood, such as a job file of a CI system: only its syntax is checked |
//! | `text` | a drawing or output of a program: not tested |

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A page, by its path in the repository.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// The number of its first line in the page, from 1.
    pub(crate) line: usize,
    pub(crate) language: String,
    /// The text after the language: `file=NAME`, `example`.
    pub(crate) word: String,
    pub(crate) text: String,
}

impl Block {
    /// Returns the name of the file that this block contains.
    pub(crate) fn file(&self) -> Option<&str> {
        self.word.strip_prefix("file=")
    }

    pub(crate) fn is_example(&self) -> bool {
        self.word == "example"
    }
}

/// A command of a `console` block, and the lines below it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command {
    /// Its lines, joined by line feeds. In the page, all lines except the first begin with `> `.
    pub(crate) text: String,
    /// The output in the page; empty if the page does not show it.
    pub(crate) output: Vec<String>,
}

impl Command {
    /// Returns true if the page shows an error of the command.
    pub(crate) fn fails(&self) -> bool {
        self.output.iter().any(|line| line.starts_with("error: "))
    }
}

/// Returns the commands of the text of a `console` block.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), commands.last_mut()) {
            (Some(text), _, _) => commands.push(Command { text: text.to_owned(), output: Vec::new() }),
            (_, Some(more), Some(last)) if last.output.is_empty() => last.text += &format!("\n{more}"),
            (_, _, Some(last)) => last.output.push(line.to_owned()),
            (_, _, None) => panic!("a console block begins with `$ `, not with: {line}"),
        }
    }
    commands
}

/// A line of a page with its number.
struct Line<'a> {
    number: usize,
    text: &'a str,
    is_prose: bool,
}

impl Page {
    /// Reads a page by its path in the repository.
    pub(crate) fn read(path: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Returns the fenced blocks, in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (index, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), open) {
                (Some(info), false) => {
                    let (language, word) = info.split_once(' ').unwrap_or((info, ""));
                    let (language, word) = (language.to_owned(), word.to_owned());
                    blocks.push(Block { line: index + 2, language, word, text: String::new() });
                }
                (None, true) => blocks.last_mut().expect("is open").text += &format!("{line}\n"),
                (Some(_), true) | (None, false) => {}
            }
            open ^= line.starts_with("```");
        }
        assert!(!open, "{}: the last block has no end", self.path);
        blocks
    }

    /// Returns the text of the blocks in a language, in order.
    pub(crate) fn texts(&self, language: &str) -> Vec<String> {
        self.blocks().into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut open = false;
        let lines = self.text.lines().enumerate().map(|(index, text)| {
            let is_fence = text.starts_with("```");
            open ^= is_fence;
            Line { number: index + 1, text, is_prose: !open && !is_fence && !text.starts_with("    ") }
        });
        lines.collect()
    }

    /// Returns each line of prose with its number, without blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().into_iter().filter(|line| line.is_prose).map(|line| (line.number, line.text))
    }

    /// Returns each line of code with its number: lines of blocks, and lines that are indented by
    /// four spaces.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().into_iter().filter(|line| !line.is_prose).map(|line| (line.number, line.text))
    }

    /// Returns the text of the headings, in order.
    pub(crate) fn headings(&self) -> Vec<&str> {
        let headings = self.prose().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| line.trim_start_matches('#').trim()).collect()
    }

    /// Returns the fragments of the headings, as both GitHub and mdBook make them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        let headings = self.headings();
        let anchors = headings.iter().map(|heading| {
            let anchor = anchor(heading);
            let count = seen.entry(anchor.clone()).or_insert(0);
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        });
        anchors.collect()
    }

    /// Returns the targets of the links in prose, with their lines. Inline code has no links.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let links = self.prose().flat_map(|(number, line)| {
            let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            let targets: Vec<_> = text
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'))
                .map(|(to, _)| (number, to.to_owned()))
                .collect();
            targets
        });
        links.collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

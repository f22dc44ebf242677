//! Checks that the program has the messages that the book quotes.

use std::fs;
use std::path::Path;

use super::file;
use super::page::Page;

/// Returns the string literals of Rust source as the program prints them, with `…` for each
/// inserted value.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (sign, after) = (&rest[at..=at], &rest[at + 1..]);
        rest = match sign {
            "\"" => literal(after, &mut found),
            // A character literal may be a quotation mark.
            "'" => after.strip_prefix("\"'").or(after.strip_prefix("\\\"'")).unwrap_or(after),
            _ => after
                .strip_prefix('/')
                .map_or(after, |comment| comment.split_once('\n').map_or("", |(_, next)| next)),
        };
    }
    found
}

/// Reads a literal after its opening quotation mark. Returns the source after it.
fn literal<'a>(source: &'a str, found: &mut Vec<String>) -> &'a str {
    let mut text = String::new();
    let mut chars = source.char_indices().peekable();
    while let Some((at, sign)) = chars.next() {
        match sign {
            '"' => {
                found.push(with_gaps(&text));
                return &source[at + 1..];
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                // A backslash at the end of a line skips the line feed and the spaces after it.
                Some((_, '\n')) => while chars.next_if(|(_, sign)| sign.is_whitespace()).is_some() {},
                Some((_, escaped)) => text.push(escaped),
                None => {}
            },
            other => text.push(other),
        }
    }
    ""
}

fn with_gaps(format: &str) -> String {
    let mut text = String::new();
    let mut depth = 0;
    for sign in format.chars() {
        match sign {
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                text.push('…');
            }
            other if depth == 0 => text.push(other),
            _ => {}
        }
    }
    text
}

fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        None if path.is_dir() => sources(&path),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn every_message_of_the_page_on_troubleshooting_is_one_of_the_program() {
    let known = literals(&sources(&file("src")));
    let page = Page::read("docs/troubleshooting.md");
    let messages: Vec<_> = page.prose().filter_map(|(_, line)| line.strip_prefix("### ")).collect();
    assert!(messages.len() > 20, "{} messages", messages.len());
    for message in messages {
        let is_known = known.iter().any(|literal| literal.contains(message));
        assert!(is_known, "docs/troubleshooting.md quotes `{message}`, which the program does not print");
    }
}

#[test]
fn literals_are_found_as_the_program_prints_them() {
    let source =
        "#[error(\"cannot open `{path}`: {0:?}\")] // \"no\"\n let c = '\"'; let t = \"a \\\n   b\\\"\";";
    assert_eq!(literals(source), ["cannot open `…`: …", "a b\""]);
}

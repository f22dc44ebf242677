//! Parses Rust source just enough to find the paths that it names.
//!
//! ```text
//! text -> tokens (without comments and literals) -> without test items -> paths, with expanded groups
//! ```
//!
//! `use crate::{oci::Digest, layer::{self, Entry}}` becomes `crate::oci::Digest`,
//! `crate::layer::self` and `crate::layer::Entry`, each with its line. A macro call counts as a
//! path ending in `!`.

/// One word or symbol of Rust source, with its 1-based line.
#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A path as named in source, such as `std::fs::read`, with the line of its last segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedPath {
    pub segments: Vec<String>,
    pub line: usize,
    pub role: Role,
}

/// The role of a path in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// In `pub use` with any visibility: the file re-exports the name.
    Export,
    /// In `use`.
    Import,
    /// Anywhere else.
    Mention,
}

/// The names that one source file uses outside of its tests.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub paths: Vec<NamedPath>,
    /// Modules declared as `#[cfg(test)] mod name;`: their files are tests too.
    pub test_modules: Vec<String>,
}

/// Returns every path that `source` names outside of comments, literals and items under
/// `#[cfg(test)]`.
pub(crate) fn names(source: &str) -> Names {
    let (tokens, test_modules) = without_tests(tokens(source));
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (first, role) = (paths.len(), role(&tokens[..at]));
        at = read_path(&tokens, at, &[], &mut paths).max(at + 1);
        paths[first..].iter_mut().for_each(|path| path.role = role);
    }
    Names { paths, test_modules }
}

/// Returns the role of a path that follows these tokens.
fn role(before: &[Token]) -> Role {
    let mut before = before.iter().rev().map(|token| token.text.as_str());
    match (before.next(), before.next()) {
        // The parenthesis belongs to `pub(super)`.
        (Some("use"), Some("pub" | ")")) => Role::Export,
        (Some("use"), _) => Role::Import,
        _ => Role::Mention,
    }
}

/// Reads the path or group that starts at `at`, below `prefix`. Returns its end.
fn read_path(tokens: &[Token], mut at: usize, prefix: &[String], out: &mut Vec<NamedPath>) -> usize {
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token.text == "{" && segments.len() == prefix.len() && !prefix.is_empty() {
            return read_group(tokens, at + 1, prefix, out);
        }
        if !token.is_word() && token.text != "*" {
            return at;
        }
        segments.push(token.text.clone());
        match tokens.get(at + 1).map(|next| next.text.as_str()) {
            Some("::") if tokens.get(at + 2).is_some_and(|next| next.text == "{") => {
                return read_group(tokens, at + 3, &segments, out);
            }
            Some("::") if tokens.get(at + 2).is_some_and(|next| next.is_word() || next.text == "*") => {
                at += 2
            }
            Some("!") => {
                segments.last_mut().expect("a segment was pushed").push('!');
                out.push(NamedPath { segments, line: token.line, role: Role::Mention });
                return at + 2;
            }
            _ => {
                out.push(NamedPath { segments, line: token.line, role: Role::Mention });
                return at + 1;
            }
        }
    }
    at
}

/// Reads `a, b::{c, d}}` below `prefix`. Returns the position after the closing brace.
fn read_group(tokens: &[Token], mut at: usize, prefix: &[String], out: &mut Vec<NamedPath>) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.text == "}" {
            return at + 1;
        }
        at = read_path(tokens, at, prefix, out).max(at + 1);
    }
    at
}

/// Removes every item under `#[cfg(test)]`, and reports the out-of-line modules among them.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(item) = test_attribute_end(&tokens, at) {
            let end = item_end(&tokens, item);
            modules.extend(out_of_line_module(&tokens[item..end]));
            at = end;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, modules)
}

/// If an attribute `#[cfg(… test …)]` starts at `at`, returns the start of its item.
fn test_attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let starts = ["#", "[", "cfg", "("].iter().enumerate().all(|(i, want)| is(tokens, at + i, want));
    let end = starts.then(|| closing(tokens, at + 1))?;
    let words: Vec<_> = tokens[at..end].iter().map(|token| token.text.as_str()).collect();
    (words.contains(&"test") && !words.contains(&"not")).then_some(end)
}

/// Returns the position after the item that starts at `at`: after its `;` or its block.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Returns the position after the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn out_of_line_module(item: &[Token]) -> Option<String> {
    let at = item.iter().position(|token| token.text == "mod")?;
    is(item, at + 2, ";").then(|| item[at + 1].text.clone())
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// Splits source into words and symbols. Drops comments, strings, characters, lifetimes and
/// numbers.
fn tokens(source: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let length = skipped_length(rest).unwrap_or_else(|| {
            let length = token_length(rest, first);
            if !first.is_whitespace() && !first.is_ascii_digit() {
                out.push(Token { text: rest[..length].trim_start_matches("r#").to_owned(), line });
            }
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    out
}

fn token_length(rest: &str, first: char) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(raw) = rest.strip_prefix("r#") {
        2 + raw.find(|c| !word(c)).unwrap_or(raw.len())
    } else if word(first) {
        rest.find(|c| !word(c)).unwrap_or(rest.len())
    } else if rest.starts_with("::") {
        2
    } else {
        first.len_utf8()
    }
}

/// Returns the length of the comment, literal or lifetime that `rest` starts with.
fn skipped_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_length(rest));
    }
    let literal = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - literal.len();
    let hashes = literal.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
    match hashes {
        _ if prefix > 1 => None,
        Some(count) if literal[1 + count..].starts_with('"') => {
            Some(prefix + 1 + count + raw_string_length(&literal[1 + count..], count))
        }
        _ if literal.starts_with('"') => Some(prefix + quoted_length(literal, '"')),
        _ if literal.starts_with('\'') => Some(prefix + quote_length(literal)),
        _ => None,
    }
}

fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let step = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth = depth.saturating_add_signed(step.0);
        at += step.1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string_length(quoted: &str, hashes: usize) -> usize {
    let end = format!("\"{}", "#".repeat(hashes));
    quoted[1..].find(&end).map_or(quoted.len(), |at| 1 + at + end.len())
}

/// Returns the length of a literal in `quote`s, with its escapes.
fn quoted_length(quoted: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in quoted.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    quoted.len()
}

/// Returns the length of a character literal or a lifetime.
fn quote_length(quoted: &str) -> usize {
    let mut after = quoted.chars().skip(1);
    let (first, second) = (after.next(), after.next());
    if first == Some('\\') || second == Some('\'') {
        quoted_length(quoted, '\'')
    } else {
        1 + quoted[1..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(quoted.len() - 1)
    }
}

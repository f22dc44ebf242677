//! Finds the public items of a source file that have no doc comment.
//!
//! rustc's lint `missing_docs` cannot exempt fields and variants. A field with a clear name needs
//! no comment, so this scan replaces the lint. It reads line by line and relies on rustfmt: an item
//! starts a line, and its closing brace has the same indentation.

/// An item without a doc comment, with its 1-based line.
#[derive(Debug, PartialEq)]
pub(crate) struct Undocumented {
    pub line: usize,
    pub text: String,
}

const KINDS: &[&str] = &["fn", "struct", "enum", "union", "trait", "type", "const", "static"];

/// Returns the items of `source` that are visible outside of their module and have no doc comment:
/// the module itself, `pub` and `pub(crate)` items, and methods of such traits. Items under
/// `#[cfg(test)]` are exempt.
pub(crate) fn undocumented(source: &str) -> Vec<Undocumented> {
    let mut found = Vec::new();
    if !source.starts_with("//!") {
        found.push(Undocumented { line: 1, text: "the module".to_owned() });
    }
    let (mut documented, mut is_test, mut open_brackets) = (false, false, 0);
    let (mut test_end, mut trait_end) = (None::<String>, None::<String>);
    for (index, line) in source.lines().enumerate() {
        let text = line.trim_start();
        if let Some(end) = &test_end {
            test_end = (line != end).then(|| end.clone());
            continue;
        }
        if open_brackets > 0 || text.starts_with("#[") {
            open_brackets += balance(text);
            is_test |= text.starts_with("#[cfg(") && text.contains("test") && !text.contains("not(test");
            continue;
        }
        // `$(#[$meta])*` in a macro stands for the doc comments of each use.
        if text.starts_with("//") || text.starts_with("$(#[") {
            documented |= text.starts_with("///") || text.starts_with('$');
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - text.len()]);
        let in_trait = trait_end.is_some() && line.starts_with("    fn ");
        if is_test {
            test_end = text.ends_with('{').then(|| end.clone());
        } else if !documented && (in_trait || is_public_item(text)) {
            found.push(Undocumented { line: index + 1, text: text.to_owned() });
        } else if is_public_trait(text) {
            trait_end = Some(end);
        } else if trait_end.as_deref() == Some(line) {
            trait_end = None;
        }
        (documented, is_test) = (false, false);
    }
    found
}

fn balance(text: &str) -> i32 {
    text.chars().map(|c| i32::from(c == '[') - i32::from(c == ']')).sum()
}

fn after_visibility(text: &str) -> Option<&str> {
    text.strip_prefix("pub ").or_else(|| text.strip_prefix("pub(crate) "))
}

fn is_public_item(text: &str) -> bool {
    let words = after_visibility(text).into_iter().flat_map(str::split_whitespace);
    let mut words = words.skip_while(|word| ["unsafe", "async", "extern", "\"C\""].contains(word));
    words.next().is_some_and(|word| KINDS.contains(&word))
}

fn is_public_trait(text: &str) -> bool {
    text.ends_with('{') && after_visibility(text).is_some_and(|item| item.starts_with("trait "))
}

//! The variables that configure an element, with their defaults and the files that read them.
//!
//! They are found by searching its texts, and only shown to users. [`variables`](super::variables)
//! decides which variables are in a layer's key.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Element;
use super::variables::{identifiers, is_comment, is_identifier, is_word_character};

/// A variable that an element reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ElementOption<'a> {
    pub name: String,
    /// The default value, as in the shell text `${NAME:-default}`; `None` if no file has one.
    pub default: Option<String>,
    /// The files that mention it, sorted.
    pub files: Vec<&'a str>,
}

/// Nearly every hook reads this variable, and it always has the same meaning.
const COMMON: [&str; 1] = ["DIB_DEBUG_TRACE"];

impl Element {
    /// Returns its options by name: every `DIB_` variable that its files mention, and every other
    /// variable to which a fragment of `environment.d` gives a default.
    pub fn options(&self) -> Vec<ElementOption<'_>> {
        let mut options = BTreeMap::new();
        let (fragments, others): (Vec<_>, Vec<_>) =
            self.texts().partition(|(path, _)| path.starts_with("environment.d/"));
        // Fragments first, because their default counts. Hooks repeat it only if they can run
        // without the fragments.
        for (path, text) in fragments.iter().chain(&others) {
            let is_fragment = path.starts_with("environment.d/");
            let code: Vec<_> = text.lines().filter(|line| !is_comment(line)).collect();
            let code = code.join("\n");
            let defaults = defaults(&code);
            for name in identifiers(&code).filter(|name| !COMMON.contains(name)) {
                let default = defaults.get(name);
                if !(name.starts_with("DIB_") || (is_fragment && default.is_some())) {
                    continue;
                }
                let option = options.entry(name.to_owned()).or_insert_with(|| ElementOption {
                    name: name.to_owned(),
                    default: None,
                    files: Vec::new(),
                });
                option.default = option.default.take().or_else(|| default.cloned());
                if option.files.last() != Some(path) {
                    option.files.push(path);
                }
            }
        }
        options.into_values().collect()
    }

    fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let texts = self.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)));
        texts.map(|(path, text)| (path, String::from_utf8_lossy(text).into_owned()))
    }
}

/// Returns the default of each variable that the shell text `code` expands with a default. The
/// first default counts.
fn defaults(code: &str) -> BTreeMap<&str, String> {
    let mut defaults = BTreeMap::new();
    for (start, _) in code.match_indices("${") {
        let rest = &code[start + 2..];
        let name = rest.split(|c: char| !is_word_character(c)).next().unwrap_or_default();
        let rest = &rest[name.len()..];
        let word = [":-", ":=", "-", "="].iter().find_map(|operator| rest.strip_prefix(operator));
        if let Some(word) = word.filter(|_| is_identifier(name)).and_then(braced) {
            defaults.entry(name).or_insert_with(|| unquoted(word));
        }
    }
    defaults
}

/// Returns the part of `text` before the brace that closes an expansion.
fn braced(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(&text[..at]),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquoted(word: &str) -> String {
    let word = word.split_whitespace().collect::<Vec<_>>().join(" ");
    let inner = ['"', '\''].iter().find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(&word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn options_have_defaults_and_the_files_that_read_them() {
        let element = element("web")
            .file(
                "environment.d/10-web",
                "export DIB_WEB_PORT=${DIB_WEB_PORT:-80}\n: \"${WEB_ROOT:=\"/srv/www\"}\"\nexport WEB_FIXED=1\n",
            )
            .hook("install.d/50-web", "echo ${DIB_WEB_PORT} $DIB_WEB_KEY ${DIB_WEB_DIR-${WEB_ROOT}/x} $WEB_ROOT\n# $DIB_NO")
            .hook("install.d/60-web", "[ ${DIB_DEBUG_TRACE:-0} -gt 0 ] && set -x; echo ${DIB_WEB_PORT:-81} ${DIB_CUT:-")
            .build();
        let found: Vec<_> = element
            .options()
            .into_iter()
            .map(|ElementOption { name, default, files }| {
                (name, default.unwrap_or("-".into()), files.join(" "))
            })
            .collect();
        let expected = [
            ("DIB_CUT", "-", "install.d/60-web"),
            ("DIB_WEB_DIR", "${WEB_ROOT}/x", "install.d/50-web"),
            ("DIB_WEB_KEY", "-", "install.d/50-web"),
            ("DIB_WEB_PORT", "80", "environment.d/10-web install.d/50-web install.d/60-web"),
            ("WEB_ROOT", "/srv/www", "environment.d/10-web"),
        ];
        let expected = expected.map(|(name, default, files)| (name.into(), default.into(), files.into()));
        assert_eq!(found, expected);
    }
}

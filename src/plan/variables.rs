//! Variables that describe the elements of an image to its hooks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::step::ELEMENTS_ON_HOST;
use crate::element::Element;

/// Returns the variables (and the function, in bash's exported form) that list the elements of an
/// image.
///
/// Source: diskimage-builder, `element_dependencies.py`.
pub fn element_variables(elements: &[Arc<Element>]) -> BTreeMap<String, String> {
    let names: Vec<_> = elements.iter().map(|element| element.name.as_str()).collect();
    let joined = |separator: &str, pair: &dyn Fn(&str) -> String| {
        names.iter().map(|name| pair(name)).collect::<Vec<_>>().join(separator)
    };
    let place = |name: &str| format!("{ELEMENTS_ON_HOST}/{name}");
    let yaml = elements_yaml(names.iter().map(|name| (*name, place(name))));
    let pairs = joined(" ", &|name| format!("[{name}]={}", place(name)));
    [
        ("IMAGE_ELEMENT", names.join(" ")),
        ("IMAGE_ELEMENT_YAML", yaml),
        ("BASH_FUNC_get_image_element_array%%", format!("() {{  echo \"{pairs} \"\n}}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns elements as a YAML map of names and directories, sorted by name, one per line. Programs
/// that do not parse YAML rely on this form.
pub fn elements_yaml<'a>(places: impl Iterator<Item = (&'a str, String)>) -> String {
    let sorted: BTreeMap<_, _> = places.collect();
    sorted.iter().map(|(name, path)| format!("{name}: {path}\n")).collect()
}

/// Variables that control how a step runs and logs, but not its result. Hooks see them; no key
/// contains them.
const OF_THE_RUN: [&str; 6] =
    ["DIB_CHECKSUM", "DIB_DEBUG_TRACE", "DIB_MIN_TMPFS", "DIB_NO_TIMESTAMP", "DIB_NO_TMPFS", "DIB_OFFLINE"];

/// Variables that name files which are written while a build runs, with changing names or content:
/// the log, and the files through which steps of a CI job exchange data.
const WRITTEN: [&str; 7] = [
    "GITHUB_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
    "HISTFILE",
    "LOGFILE",
];

/// Variables that describe the call or the image, and name no file to read.
const ABOUT_THE_CALL: [&str; 5] =
    ["DIB_ARGS", "DIB_ENV", "IMAGE_ELEMENT", "IMAGE_ELEMENT_YAML", "IMAGE_NAME"];

/// Returns true if a variable is part of keys.
pub(super) fn is_keyed(name: &str) -> bool {
    !OF_THE_RUN.contains(&name) && !names_written_file(name)
}

/// Returns true if a variable names a file that is written while a build runs, and that is no input
/// of the image.
pub fn names_written_file(name: &str) -> bool {
    WRITTEN.contains(&name)
}

/// Returns true if a variable names a log: the content of that file is no input, though its path
/// may be one.
pub fn names_log(name: &str) -> bool {
    ["_LOG", "_LOGFILE", "_LOG_FILE"].iter().any(|end| name.ends_with(end))
}

/// Returns true if the words in a variable are not paths.
pub fn is_about_the_call(name: &str) -> bool {
    ABOUT_THE_CALL.contains(&name)
}

/// Returns true if a text mentions a variable: by its name, or by a prefix of it (`${!DIB_KEY_*}`).
pub fn mentions_variable(text: &[u8], variable: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let words = text.split(|byte| !is_word(*byte)).filter(|word| !word.is_empty());
    let name = variable.as_bytes();
    words.into_iter().any(|word| word == name || (word.ends_with(b"_") && name.starts_with(word)))
}

/// Returns the name by which a text mentions a variable: for a function, the function's name.
pub(super) fn mentioned_name(variable: &str) -> &str {
    variable.strip_prefix("BASH_FUNC_").and_then(|name| name.strip_suffix("%%")).unwrap_or(variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn a_variable_is_mentioned_by_its_name_or_its_beginning() {
        for (text, expected) in [
            ("cp $DIB_KEY_1 x", true),
            ("for key in ${!DIB_KEY_*}", true),
            ("env | grep ^DIB_", true),
            ("cp $DIB_KEY x", false),
            ("cp $DIB_KEY_12 x", false),
            ("_", false),
        ] {
            assert_eq!(mentions_variable(text.as_bytes(), "DIB_KEY_1"), expected, "{text}");
        }
        assert!(names_log("WEB_LOG") && !names_log("DIB_CHANGELOG"));
    }

    #[test]
    fn elements_are_listed_in_every_form_that_hooks_know() {
        let elements = ["a", "b-c"].map(|name| Arc::new(element(name).build()));
        let variables = element_variables(&elements);
        assert_eq!(variables["IMAGE_ELEMENT"], "a b-c");
        let yaml = "a: /tmp/plywood/elements/a\nb-c: /tmp/plywood/elements/b-c\n";
        assert_eq!(variables["IMAGE_ELEMENT_YAML"], yaml);
        let function = "() {  echo \"[a]=/tmp/plywood/elements/a [b-c]=/tmp/plywood/elements/b-c \"\n}";
        assert_eq!(variables["BASH_FUNC_get_image_element_array%%"], function);
        assert_eq!(mentioned_name("BASH_FUNC_get_image_element_array%%"), "get_image_element_array");
    }
}

//! YAML and JSON files of elements.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::DuplicateKeyPolicy;

use super::ElementName;

/// A file of an element that is not YAML or JSON of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` of element `{element}`, line {line}, column {column}: {message}")]
pub struct DocumentError {
    pub element: ElementName,
    /// The file, relative to it.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    pub message: String,
}

/// A fault with its line and column.
struct Fault {
    line: usize,
    column: usize,
    message: String,
}

/// Parses the file `path` of `element`: JSON or YAML, according to its name.
pub(super) fn parse_document<T: DeserializeOwned>(
    element: &ElementName,
    path: &str,
    text: &[u8],
) -> Result<T, DocumentError> {
    parse(path, text).map_err(|fault| fault.of(element, path))
}

/// Finds a duplicate key in a map of the file `path` of `element`. As in diskimage-builder, the
/// last entry counts.
pub(super) fn repeated_key(element: &ElementName, path: &str, text: &[u8]) -> Option<DocumentError> {
    // JSON is parsed as YAML here, because the JSON parser does not report duplicate keys. YAML is
    // nearly a superset of JSON.
    let fault = parse_yaml::<IgnoredAny>(std::str::from_utf8(text).ok()?, DuplicateKeyPolicy::Error).err()?;
    let key = fault.message.strip_prefix("duplicate mapping key: ")?;
    let message = format!("`{key}` is listed twice: the last entry counts");
    Some(Fault { message, ..fault }.of(element, path))
}

impl Fault {
    fn of(self, element: &ElementName, path: &str) -> DocumentError {
        let Fault { line, column, message } = self;
        DocumentError { element: element.clone(), path: path.to_owned(), line, column, message }
    }
}

/// The entries of a map in the order of their keys. If a key occurs twice, the last value stands in
/// the position of the first, as in Python's JSON and YAML parsers.
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
        let mut entries: Vec<(String, T)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, T>()? {
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some((_, earlier)) => *earlier = value,
                None => entries.push((key, value)),
            }
        }
        Ok(Entries(entries))
    }
}

fn parse<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T, Fault> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let (line, column) = position_of_end(&text[..error.valid_up_to()]);
        Fault { line, column, message: error.to_string() }
    })?;
    // Some editors write a byte order mark, which JSON does not allow.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match path.ends_with(".json") || path == "pkg-map" {
        true => parse_json(text),
        false => parse_yaml(text, DuplicateKeyPolicy::LastWins),
    }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let position = message.rfind(" at line ").unwrap_or(message.len());
        // Column 0 means that the preceding line end was unexpected.
        let (line, column) = match error.column() {
            0 => end_of_line(text, error.line().saturating_sub(1)),
            column => (error.line(), column),
        };
        Fault { line, column, message: message[..position].to_owned() }
    })
}

/// The maximum depth of YAML. Parsers recurse for each level: a hostile file with thousands of
/// levels would overflow the stack and end the process.
pub const MAX_YAML_DEPTH: usize = 24;

fn parse_yaml<T: DeserializeOwned>(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<T, Fault> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! { max_depth: MAX_YAML_DEPTH },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((1, 1), |location| (location.line() as usize, location.column() as usize));
        let message = error.without_snippet().to_string();
        // plywood's message has the position, and users cannot set options of the parser.
        let end = [" at line ", ", set "].iter().filter_map(|mark| message.find(mark)).min();
        Fault { line, column, message: message[..end.unwrap_or(message.len())].to_owned() }
    })
}

/// Returns line and column of the end of this line.
fn end_of_line(text: &str, line: usize) -> (usize, usize) {
    let characters = text.lines().nth(line.saturating_sub(1)).map_or(0, |line| line.chars().count());
    (line.max(1), characters + 1)
}

/// Returns line and column of the text after `before`.
fn position_of_end(before: &[u8]) -> (usize, usize) {
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn message(path: &str, text: &[u8]) -> String {
        let name = "web".parse().unwrap();
        parse_document::<BTreeMap<String, String>>(&name, path, text).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_element_file_line_and_column() {
        let table: [(&str, &[u8], &str); 5] = [
            (
                "pkg-map",
                b"{\n \"a\": \"b\",\n}",
                "`pkg-map` of element `web`, line 3, column 1: trailing comma",
            ),
            (
                "pkg-map",
                b"{\n \"a\": 1\n}",
                "`pkg-map` of element `web`, line 2, column 7: invalid type: integer `1`, expected a string",
            ),
            (
                "pkg-map",
                b"{\n \"a\": nul\n}",
                "`pkg-map` of element `web`, line 2, column 10: expected ident",
            ),
            ("svc-map", b"a: b\n  c: d\n", "`svc-map` of element `web`, line 2, column 4: "),
            (
                "svc-map",
                b"a: \xff",
                "`svc-map` of element `web`, line 1, column 4: invalid utf-8 sequence of 1 bytes from index 3",
            ),
        ];
        for (path, text, expected) in table {
            let found = message(path, text);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    /// Python's `json.loads` and `yaml.safe_load` give the same.
    #[test]
    fn the_last_of_duplicate_keys_counts_and_is_reported() {
        let name = "web".parse().unwrap();
        for (path, text, place) in [
            ("svc-map", "a: b\nc: d\na: e\n", "line 3, column 1"),
            ("pkg-map", "{\"a\": \"b\", \"c\": \"d\", \"a\": \"e\"}", "line 1, column 22"),
        ] {
            let map: BTreeMap<String, String> = parse_document(&name, path, text.as_bytes()).unwrap();
            assert_eq!(map["a"], "e", "{path}");
            let Entries(entries) = parse_document::<Entries<String>>(&name, path, text.as_bytes()).unwrap();
            assert_eq!(
                entries,
                [("a", "e"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned())),
                "{path}"
            );
            let repeated = repeated_key(&name, path, text.as_bytes()).unwrap().to_string();
            let expected =
                format!("`{path}` of element `web`, {place}: `a` is listed twice: the last entry counts");
            assert_eq!(repeated, expected);
        }
        assert_eq!(repeated_key(&name, "svc-map", b"a: [b\n"), None);
    }

    #[test]
    fn the_file_name_decides_the_format() {
        let name = "web".parse().unwrap();
        for (path, text) in
            [("x.json", "{\t\"a\": \"b\"}"), ("x.yaml", "a: b"), ("svc-map", "{\"a\": \"b\"}")]
        {
            let map: BTreeMap<String, String> = parse_document(&name, path, text.as_bytes()).unwrap();
            assert_eq!(map["a"], "b", "{path}");
        }
    }
}

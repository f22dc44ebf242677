//! YAML and JSON files of elements.

use serde::de::DeserializeOwned;

use super::ElementName;

/// A file of an element that is no YAML or JSON of the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` of element `{element}`, line {line}: {message}")]
pub struct DocumentError {
    /// The element.
    pub element: ElementName,
    /// The file, relative to it.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// What is wrong, and in which line.
type Fault = (usize, String);

/// Reads the file `path` of `element`: JSON by its name, else YAML, of which JSON is nearly a part.
pub(super) fn parse_document<T: DeserializeOwned>(
    element: &ElementName,
    path: &str,
    text: &[u8],
) -> Result<T, DocumentError> {
    parse(path, text).map_err(|(line, message)| DocumentError {
        element: element.clone(),
        path: path.to_owned(),
        line,
        message,
    })
}

fn parse<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T, Fault> {
    let text =
        std::str::from_utf8(text).map_err(|error| (line_of(text, error.valid_up_to()), error.to_string()))?;
    match path.ends_with(".json") || path == "pkg-map" {
        true => parse_json(text),
        false => parse_yaml(text),
    }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let position = message.rfind(" at line ").unwrap_or(message.len());
        (error.line(), message[..position].to_owned())
    })
}

fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line() as usize);
        let message = error.without_snippet().to_string();
        // The position is said by us, and options of the parser mean nothing to a user.
        let end = [" at line ", ", set "].iter().filter_map(|mark| message.find(mark)).min();
        (line, message[..end.unwrap_or(message.len())].to_owned())
    })
}

fn line_of(text: &[u8], offset: usize) -> usize {
    text[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
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
    fn an_error_names_element_file_and_line() {
        let table: [(&str, &[u8], &str); 5] = [
            ("svc-map", b"a: b\na: c\n", "`svc-map` of element `web`, line 2: duplicate mapping key: a"),
            ("pkg-map", b"{\n \"a\": \"b\",\n}", "`pkg-map` of element `web`, line 3: trailing comma"),
            (
                "pkg-map",
                b"{\n \"a\": 1\n}",
                "`pkg-map` of element `web`, line 2: invalid type: integer `1`, expected a string",
            ),
            ("svc-map", b"a: b\n  c: d\n", "`svc-map` of element `web`, line 2: "),
            (
                "svc-map",
                b"a: \xff",
                "`svc-map` of element `web`, line 1: invalid utf-8 sequence of 1 bytes from index 3",
            ),
        ];
        for (path, text, expected) in table {
            let found = message(path, text);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn the_name_says_the_format() {
        let name = "web".parse().unwrap();
        for (path, text) in
            [("x.json", "{\t\"a\": \"b\"}"), ("x.yaml", "a: b"), ("svc-map", "{\"a\": \"b\"}")]
        {
            let map: BTreeMap<String, String> = parse_document(&name, path, text.as_bytes()).unwrap();
            assert_eq!(map["a"], "b", "{path}");
        }
    }
}

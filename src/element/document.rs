//! YAML and JSON files of elements.

use serde::de::DeserializeOwned;

use super::ElementName;

/// A file of an element that is no YAML or JSON of the expected shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` of element `{element}`, line {line}, column {column}: {message}")]
pub struct DocumentError {
    /// The element.
    pub element: ElementName,
    /// The file, relative to it.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// What is wrong, and in which line and column.
struct Fault {
    line: usize,
    column: usize,
    message: String,
}

/// Reads the file `path` of `element`: JSON by its name, else YAML, of which JSON is nearly a part.
pub(super) fn parse_document<T: DeserializeOwned>(
    element: &ElementName,
    path: &str,
    text: &[u8],
) -> Result<T, DocumentError> {
    parse(path, text).map_err(|Fault { line, column, message }| DocumentError {
        element: element.clone(),
        path: path.to_owned(),
        line,
        column,
        message,
    })
}

fn parse<T: DeserializeOwned>(path: &str, text: &[u8]) -> Result<T, Fault> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let (line, column) = position_of_end(&text[..error.valid_up_to()]);
        Fault { line, column, message: error.to_string() }
    })?;
    match path.ends_with(".json") || path == "pkg-map" {
        true => parse_json(text),
        false => parse_yaml(text),
    }
}

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let position = message.rfind(" at line ").unwrap_or(message.len());
        // Column 0 means that the line end before it was not expected.
        let (line, column) = match error.column() {
            0 => end_of_line(text, error.line().saturating_sub(1)),
            column => (error.line(), column),
        };
        Fault { line, column, message: message[..position].to_owned() }
    })
}

fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error
            .location()
            .map_or((1, 1), |location| (location.line() as usize, location.column() as usize));
        let message = error.without_snippet().to_string();
        // The position is said by us, and options of the parser mean nothing to a user.
        let end = [" at line ", ", set "].iter().filter_map(|mark| message.find(mark)).min();
        Fault { line, column, message: message[..end.unwrap_or(message.len())].to_owned() }
    })
}

/// Returns line and column of the end of this line.
fn end_of_line(text: &str, line: usize) -> (usize, usize) {
    let characters = text.lines().nth(line.saturating_sub(1)).map_or(0, |line| line.chars().count());
    (line.max(1), characters + 1)
}

/// Returns line and column of what follows `before`.
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
    fn an_error_names_element_file_and_place() {
        let table: [(&str, &[u8], &str); 6] = [
            (
                "svc-map",
                b"a: b\na: c\n",
                "`svc-map` of element `web`, line 2, column 1: duplicate mapping key: a",
            ),
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

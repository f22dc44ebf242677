//! Parses TOML. Errors have the position and a hint.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::DefinitionError;
use crate::element::nearest;

/// Parses `text`, the content of the file `path`.
///
/// # Errors
/// The first problem: invalid TOML, an unknown key, or a value of the wrong type or form.
pub fn parse_definition<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, DefinitionError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        let (message, hint) = explain(error.message());
        DefinitionError { path: path.to_owned(), line, column, message, hint }
    })
}

/// Returns the error that the value at `keys` in `text`, the content of the file `path`, is wrong.
/// Returns `None` if the text has no such value.
pub(super) fn wrong_value(
    path: &Path,
    text: &str,
    keys: &[&str],
    (message, hint): (String, String),
) -> Option<DefinitionError> {
    let (last, tables) = keys.split_last()?;
    let document = DeTable::parse(text).ok()?.into_inner();
    let table = tables.iter().try_fold(&document, |table, key| table.get(*key)?.get_ref().as_table())?;
    let (line, column) = position(text, table.get(*last)?.span().start);
    Some(DefinitionError { path: path.to_owned(), line, column, message, hint: Some(hint) })
}

/// Returns line and column of the byte at `offset`, both counted from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Returns the message and the hint for an error of serde. Replaces "field" by "key", and turns the
/// expected names or types into the hint.
fn explain(message: &str) -> (String, Option<String>) {
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return wrong_type(found, expected);
    }
    let unknown = [("unknown field ", "key"), ("unknown variant ", "value")].into_iter();
    let found = unknown.filter_map(|(prefix, what)| Some((message.strip_prefix(prefix)?, what))).next();
    match found.and_then(|(rest, what)| Some((rest.split_once(", ")?, what))) {
        Some(((name, expected), what)) => (format!("unknown {what} {name}"), Some(suggest(name, expected))),
        None => (message.trim_end().replace("missing field", "missing key"), None),
    }
}

/// Explains a value of the wrong type with the terms of TOML, and shows how to write it.
fn wrong_type(found: &str, expected: &str) -> (String, Option<String>) {
    let value = found.split_once(['"', '`']).map(|(_, rest)| rest.trim_end().trim_end_matches(['"', '`']));
    let (expected, hint) = match (expected.trim_end(), value) {
        ("a sequence" | "a list", Some(value)) => {
            let item = if found.starts_with("string") { format!("\"{value}\"") } else { value.to_owned() };
            ("a list", Some(format!("write `[{item}]`")))
        }
        ("a size", Some(value)) => ("a size", size_hint(value)),
        ("a string", Some(value)) if !found.starts_with("string") => {
            ("a string", Some(format!("write `\"{value}\"`")))
        }
        ("a sequence", None) => ("a list", None),
        (expected, _) if expected == "a map" || expected.starts_with("struct ") => ("a table", None),
        (expected, _) => (expected, None),
    };
    // Compared as a whole: the value that `found` quotes may contain these words.
    let found = match found {
        "sequence" => "a list",
        "map" => "a table",
        value => value,
    };
    (format!("invalid type: {found}, expected {expected}"), hint)
}

/// Shows how to write a number as a size. A large number is taken for bytes, a small one for
/// gibibytes.
fn size_hint(value: &str) -> Option<String> {
    let number: u64 = value.parse().ok()?;
    let unit = if number < 1 << 20 { "G" } else { "" };
    Some(format!("write `\"{number}{unit}\"`"))
}

fn suggest(name: &str, expected: &str) -> String {
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(name.trim_matches('`'), known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "remove it: no key is allowed here".to_owned(),
        None => format!(
            "{}: `{}`",
            if known.len() == 1 { "expected" } else { "expected one of" },
            known.join("`, `")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Project;

    /// Text, message, hint.
    const CASES: [(&str, &str, Option<&str>); 35] = [
        ("[image.a]\nelemnts = []\n", "2:1: unknown key `elemnts`", Some("did you mean `elements`?")),
        (
            "[image.a]\nzzz = 1\n",
            "2:1: unknown key `zzz`",
            Some(
                "expected one of: `base`, `elements`, `order`, `env`, `packages`, `files`, `outputs`, `disk`, `qcow2`, `container`",
            ),
        ),
        ("[imag.a]\nelements = []\n", "1:2: unknown key `imag`", Some("did you mean `image`?")),
        ("[image.a]\n  outputs = [\"qcow\"]\n", "2:14: unknown value `qcow`", Some("did you mean `qcow2`?")),
        (
            "[image.a]\nenv = { DIB_X = 1 }\n",
            "2:17: invalid type: integer `1`, expected a string (variables are text: put quotes around the value)",
            None,
        ),
        (
            "[image.a]\nenv = { DIB_X = true }\n",
            "2:17: invalid type: boolean `true`, expected a string (variables are text: put quotes around the value)",
            None,
        ),
        (
            "[image.a]\nenv = { \"a-b\" = \"1\" }\n",
            "2:9: `a-b` is not a valid variable name: expected letters, digits and `_`, not starting with a digit",
            None,
        ),
        (
            "[image.a]\nfiles = { \"\" = \"x\" }\n",
            "2:11: `` in `files` is not a valid file name in `/tmp/in_target.d/files`: expected one name without `/` (directories are copied whole)",
            None,
        ),
        (
            "[image.a.files]\nx = \"x\"\n\"../x\" = \"x\"\n",
            "3:1: `../x` in `files` is not a valid file name in `/tmp/in_target.d/files`: expected one name without `/` (directories are copied whole)",
            None,
        ),
        (
            "[image.a]\nfiles = { \"/etc/x\" = \"x\" }\n",
            "2:11: `/etc/x` in `files` is not a valid file name in `/tmp/in_target.d/files`: expected one name without `/` (directories are copied whole)",
            None,
        ),
        (
            "[image.a]\nfiles = { x = \"\" }\n",
            "2:15: an empty path in `files`: expected a file or directory, relative to the project",
            None,
        ),
        ("[image.a]\nelements = [\"a\", \"b\", \"a\"]\n", "2:12: `a` is listed twice", None),
        (
            "[image.a]\nelements = [\"nginx/d\"]\n",
            "2:12: element name `nginx/d` contains '/': expected letters, digits, `-`, `_`, `.`, `+` and `@`",
            None,
        ),
        ("[image.a]\npackages = [\"--force\"]\n", "2:12: `--force` is not a valid package name", None),
        (
            "[image.a]\nelements = \"a\"\n",
            "2:12: invalid type: string \"a\", expected a list",
            Some("write `[\"a\"]`"),
        ),
        (
            "[image.a]\nelements = \"bitmap\"\n",
            "2:12: invalid type: string \"bitmap\", expected a list",
            Some("write `[\"bitmap\"]`"),
        ),
        (
            "[image.a]\ndisk = { firmware = \"uefi\" }\n",
            "2:21: invalid type: string \"uefi\", expected a list",
            Some("write `[\"uefi\"]`"),
        ),
        (
            "[image.a.container]\nentrypoint = \"/bin/bash\"\n",
            "2:14: invalid type: string \"/bin/bash\", expected a list",
            Some("write `[\"/bin/bash\"]`"),
        ),
        (
            "[image.a]\ndisk = { size = 8 }\n",
            "2:17: invalid type: integer `8`, expected a size",
            Some("write `\"8G\"`"),
        ),
        (
            "[image.a]\ndisk = { size = 8589934592 }\n",
            "2:17: invalid type: integer `8589934592`, expected a size",
            Some("write `\"8589934592\"`"),
        ),
        (
            "[image.a]\ndisk = { size = 1.5 }\n",
            "2:17: invalid type: floating point `1.5`, expected a size",
            None,
        ),
        (
            "[limits]\nhook-memory = 2\n",
            "2:15: invalid type: integer `2`, expected a size",
            Some("write `\"2G\"`"),
        ),
        ("[image.a]\ndisk = 8\n", "2:8: invalid type: integer `8`, expected a table", None),
        (
            "[image.a]\nbase = \"../x\"\n",
            "2:8: `../x` cannot name a base: expected letters, digits, `.`, `-` and `_`, starting with a letter or digit",
            None,
        ),
        (
            "[image.\"a/b\"]\n",
            "1:8: image name `a/b` has a `/`: name the output directory with `-o` instead",
            None,
        ),
        (
            "[image.a]\ndisk = { size = \"8 parsecs\" }\n",
            "2:17: `8 parsecs` is not a size: expected a whole number and a unit, such as `4G`, `512MiB` or `500MB`",
            None,
        ),
        (
            "[image.a]\ndisk = { size = \"8\" }\n",
            "2:17: `8` is not a size: expected a whole number and a unit, such as `4G`, `512MiB` or `500MB`",
            None,
        ),
        (
            "[image.a]\ndisk = { size = \"9999999T\" }\n",
            "2:17: `9999999T` is too large for a disk: 256T at most",
            None,
        ),
        ("[image.a.container]\nworkdir = \"src\"\n", "2:11: `src` is not an absolute path", None),
        ("[image.a.container]\nuser = \"no such\"\n", "2:8: `no such` is not a valid user name", None),
        ("[image.a.container]\nentrypoint = [\"\"]\n", "2:14: the program's name is empty", None),
        (
            "[project]\nsource-date-epoch = \"now\"\n",
            "2:21: `now` is not a valid time: expected seconds since 1970, a date such as `\"2024-01-01\"`, or `\"git\"`",
            None,
        ),
        ("[image.ä]\n", "1:8: invalid unquoted key, expected letters, numbers, `-`, `_`", None),
        ("[image.a]\nbase = \n", "2:8: string values must be quoted, expected literal string", None),
        ("[image.a]\nbase = \"a\"\nbase = \"b\"\n", "3:1: duplicate key", None),
    ];

    #[test]
    fn an_error_has_position_problem_and_hint() {
        let found = CASES.map(|(text, ..)| {
            let error = parse_definition::<Project>(Path::new("plywood.toml"), text).unwrap_err();
            (text, error.to_string(), error.hint)
        });
        let expected = CASES
            .map(|(text, message, hint)| (text, format!("plywood.toml:{message}"), hint.map(str::to_owned)));
        assert_eq!(found, expected);
    }
}

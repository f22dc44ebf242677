//! The file `/etc/os-release`, which names the distribution of a root file system.
//!
//! Source: os-release(5).

use std::collections::BTreeMap;

/// The variables of an `os-release` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// The path of the file.
    pub const PATH: &str = "/etc/os-release";

    /// The maximum size that is read.
    pub const MOST_BYTES: u64 = 64 << 10;

    /// Parses the text of the file. The last assignment of a variable counts, as in a shell. Lines
    /// without an assignment are ignored.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        Self(lines.map(|(name, value)| (name.to_owned(), unquoted(value))).collect())
    }

    /// Returns the value of a variable, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Removes the quotes of a value. Within double quotes, and without quotes, a backslash escapes the
/// next character.
fn unquoted(value: &str) -> String {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(plain) = within('\'') {
        return plain.to_owned();
    }
    let mut text = String::new();
    let mut rest = within('"').unwrap_or(value).chars();
    while let Some(c) = rest.next() {
        text.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n# ID=comment\nVERSION_ID='12'\n\
                    BUG=\"a \\\"quoted\\\" \\$word\"\nEMPTY=\"\"\nno assignment\nID=ubuntu\n";
        let told = OsRelease::parse(text);
        for (name, expected) in [
            ("PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)")),
            ("ID", Some("ubuntu")),
            ("VERSION_ID", Some("12")),
            ("BUG", Some("a \"quoted\" $word")),
            ("EMPTY", None),
            ("NONE", None),
        ] {
            assert_eq!(told.get(name), expected, "{name}");
        }
    }
}

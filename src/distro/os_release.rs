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

/// Removes the quotes of a value. Without quotes, a backslash escapes every character, and within
/// double quotes those that have a meaning there. Source: POSIX.1-2017, "Shell Command Language",
/// 2.2.3.
fn unquoted(value: &str) -> String {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (within('\''), within('"')) {
        (Some(plain), _) => plain.to_owned(),
        (None, Some(quoted)) => unescaped(quoted, |c| matches!(c, '$' | '`' | '"' | '\\')),
        (None, None) => unescaped(value, |_| true),
    }
}

/// Removes the backslashes before characters that they escape.
fn unescaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.next_if(|next| is_escaped(*next)) } else { None };
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n# ID=comment\nVERSION_ID='12'\n\
                    BUG=\"a \\\"quoted\\\" \\$word\"\nPATH=\"C:\\dir\\\\new \\'x\\'\"\nBARE=a\\ b\\c\nEMPTY=\"\"\n\
                    END=\"a\\\\\"\nno assignment\nID=ubuntu\n";
        let told = OsRelease::parse(text);
        for (name, expected) in [
            ("PRETTY_NAME", Some("Debian GNU/Linux 12 (bookworm)")),
            ("ID", Some("ubuntu")),
            ("VERSION_ID", Some("12")),
            ("BUG", Some("a \"quoted\" $word")),
            ("PATH", Some("C:\\dir\\new \\'x\\'")),
            ("BARE", Some("a bc")),
            ("END", Some("a\\")),
            ("EMPTY", None),
            ("NONE", None),
        ] {
            assert_eq!(told.get(name), expected, "{name}");
        }
    }
}

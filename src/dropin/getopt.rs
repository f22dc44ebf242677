//! Parses options and operands like GNU getopt.
//!
//! Options may be anywhere; `--` ends them. Short options may be joined (`-xn`, `-oNAME`). Long
//! options may be abbreviated if that is unambiguous.

use super::option::{OPTIONS, Opt, Spelling, Takes, Upstream};

/// An invalid command line. The texts are getopt's, without the program's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("unrecognized option '--{0}'")]
    Unrecognized(String),
    #[error("invalid option -- '{0}'")]
    Invalid(char),
    #[error("option '--{name}' is ambiguous; possibilities:{}", list(possible))]
    Ambiguous {
        /// The name as given.
        name: String,
        /// The options with this prefix.
        possible: Vec<&'static str>,
    },
    #[error("option '--{0}' requires an argument")]
    NoValue(&'static str),
    #[error("option requires an argument -- '{0}'")]
    NoShortValue(char),
    #[error("option '--{0}' doesn't allow an argument")]
    UnwantedValue(&'static str),
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!(" '--{name}'")).collect()
}

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The options in order; the value is empty if the option takes none.
    pub(super) options: Vec<(Opt, String)>,
    pub(super) operands: Vec<String>,
}

/// Parses `words`, without the program's name.
pub(super) fn parse(words: &[String]) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed::default();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(""), _) => parsed.operands.extend(words.by_ref().map(str::to_owned)),
            (Some(long), _) => parsed.options.push(long_option(long, &mut words)?),
            (None, Some(letters)) if !letters.is_empty() => short_options(letters, &mut words, &mut parsed)?,
            _ => parsed.operands.push(word.to_owned()),
        }
    }
    Ok(parsed)
}

fn long_option<'a>(
    text: &str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(Opt, String), UsageError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let (spelling, long) = find_long(name)?;
    match (spelling.takes, value) {
        (Takes::Nothing, Some(_)) => Err(UsageError::UnwantedValue(long)),
        (Takes::Nothing, None) => Ok((spelling.option, String::new())),
        (Takes::Value, _) => {
            let value = value.or_else(|| words.next()).ok_or(UsageError::NoValue(long))?;
            Ok((spelling.option, value.to_owned()))
        }
    }
}

fn find_long(name: &str) -> Result<(&'static Spelling, &'static str), UsageError> {
    let spelled = OPTIONS.iter().filter_map(|spelling| Some((spelling, spelling.long?)));
    let possible: Vec<_> = spelled.filter(|(_, long)| long.starts_with(name)).collect();
    // Abbreviations that are unambiguous in diskimage-builder must stay so, although plywood also
    // accepts options that diskimage-builder rejects.
    let taken = || possible.iter().filter(|(spelling, _)| spelling.upstream == Upstream::Taken);
    match possible.iter().find(|(_, long)| *long == name) {
        Some(exact) => Ok(*exact),
        None if possible.is_empty() => Err(UsageError::Unrecognized(name.to_owned())),
        None if possible.len() == 1 => Ok(possible[0]),
        None => match taken().collect::<Vec<_>>().as_slice() {
            [only] => Ok(**only),
            _ => Err(UsageError::Ambiguous {
                name: name.to_owned(),
                possible: possible.iter().map(|(_, long)| *long).collect(),
            }),
        },
    }
}

fn short_options<'a>(
    letters: &str,
    words: &mut impl Iterator<Item = &'a str>,
    parsed: &mut Parsed,
) -> Result<(), UsageError> {
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        let found = OPTIONS.iter().find(|spelling| spelling.short == Some(letter));
        let spelling = found.ok_or(UsageError::Invalid(letter))?;
        if spelling.takes == Takes::Nothing {
            parsed.options.push((spelling.option, String::new()));
            continue;
        }
        let joined = Some(rest.as_str()).filter(|rest| !rest.is_empty());
        let value = joined.or_else(|| words.next()).ok_or(UsageError::NoShortValue(letter))?;
        parsed.options.push((spelling.option, value.to_owned()));
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> Parsed {
        parse(&words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn options_may_be_anywhere_joined_or_abbreviated() {
        type Options<'a> = &'a [(Opt, &'a str)];
        let table: [(&str, Options<'_>, &[&str]); 9] = [
            ("vm -o x debian -n", &[(Opt::Name, "x"), (Opt::NoBase, "")], &["vm", "debian"]),
            (
                "-xxnoname vm",
                &[(Opt::Trace, ""), (Opt::Trace, ""), (Opt::NoBase, ""), (Opt::Name, "name")],
                &["vm"],
            ),
            ("--image-size=5 --off", &[(Opt::ImageSize, "5"), (Opt::Offline, "")], &[]),
            ("--image-s 1.5", &[(Opt::ImageSize, "1.5")], &[]),
            ("-o a -- -o --x", &[(Opt::Name, "a")], &["-o", "--x"]),
            ("- -t qcow2,raw", &[(Opt::Types, "qcow2,raw")], &["-"]),
            // Unambiguous in diskimage-builder, whose getopt list lacks the journal size.
            ("--mkfs -K --mk=-q", &[(Opt::MkfsOptions, "-K"), (Opt::MkfsOptions, "-q")], &[]),
            ("--mkfs-j 8 --image-e 9", &[(Opt::MkfsJournalSize, "8"), (Opt::ImageExtraSize, "9")], &[]),
            ("-o -x", &[(Opt::Name, "-x")], &[]),
        ];
        for (line, options, operands) in table {
            let parsed = parsed(line);
            let found: Vec<_> =
                parsed.options.iter().map(|(option, value)| (*option, value.as_str())).collect();
            assert_eq!((found.as_slice(), parsed.operands), (options, words(&operands.join(" "))), "{line}");
        }
    }

    /// The program getopt of util-linux prints these texts.
    #[test]
    fn an_unknown_option_has_getopts_message() {
        let table = [
            ("--foo", "unrecognized option '--foo'"),
            ("--foo=1", "unrecognized option '--foo'"),
            ("-xz", "invalid option -- 'z'"),
            ("vm -o", "option requires an argument -- 'o'"),
            ("--image-size", "option '--image-size' requires an argument"),
            ("--offline=1", "option '--offline' doesn't allow an argument"),
            ("--root x", "unrecognized option '--root x'"),
            (
                "--image",
                "option '--image' is ambiguous; possibilities: '--image-size' '--image-extra-size' '--image-cache'",
            ),
        ];
        for (line, message) in table {
            let words = if line == "--root x" { vec![line.to_owned()] } else { words(line) };
            assert_eq!(parse(&words).unwrap_err().to_string(), message, "{line}");
        }
    }
}

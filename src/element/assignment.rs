//! The environment variables that a fragment of `environment.d` may set.
//!
//! As in [`variables`](super::variables), shell is not parsed, and the result may contain too many
//! names but not too few: every word in a position where shell assigns counts, and text that runs
//! other text may set any variable.

use std::collections::BTreeSet;

use super::is_ambient;
use super::variables::{identifiers, is_comment, is_identifier, is_word_character};

/// The variables that a fragment of `environment.d` may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignments {
    pub names: BTreeSet<String>,
    /// Whether one of them reaches programs that read it without a mention in any text: see
    /// [`is_ambient`].
    pub ambient: bool,
    /// Whether it also sets computed names or runs other text, so that it may set any variable.
    pub computed: bool,
}

impl Assignments {
    /// Returns the assignments of a fragment.
    pub fn of(text: &[u8]) -> Self {
        let mut found = Self::default();
        let text = String::from_utf8_lossy(text).replace("\\\n", " ");
        text.lines().filter(|line| !is_comment(line)).for_each(|line| found.read(line));
        found
    }

    fn read(&mut self, line: &str) {
        assigned_by_operator(line).for_each(|name| self.add(name, Reach::Shell));
        self.computed |= runs_other_text(line);
        let words = words(line);
        for (place, word) in words.iter().enumerate() {
            match Builtin::of(word) {
                Some(builtin) => self.read_builtin(builtin, &words[place + 1..]),
                None => continue,
            }
        }
    }

    fn read_builtin(&mut self, builtin: Builtin, arguments: &[&str]) {
        // Functions and arrays reach only shells that name them.
        let is_shells = arguments
            .iter()
            .take_while(|word| word.starts_with('-'))
            .any(|word| word.contains(['f', 'a', 'A']));
        let reach = match builtin {
            Builtin::Export if is_shells => Reach::Named,
            Builtin::Export => Reach::Programs,
            _ => Reach::Shell,
        };
        for argument in builtin.targets(arguments) {
            let text = argument.trim_start_matches(['"', '\'']);
            let name = text.split(|c: char| !is_word_character(c)).next().unwrap_or_default();
            self.computed |= text[name.len()..].starts_with('$') || text.starts_with('$');
            if is_identifier(name) {
                self.add(name, reach);
            }
        }
    }

    fn add(&mut self, name: &str, reach: Reach) {
        // By convention, a shell's own variable is lower case. Programs read no lower-case
        // variables except the proxies.
        let known_to_programs = name.contains(|c: char| c.is_ascii_uppercase()) || name.ends_with("_proxy");
        let is_seen = reach == Reach::Programs || (reach == Reach::Shell && known_to_programs);
        self.ambient |= is_ambient(name) && is_seen;
        self.names.insert(name.to_owned());
    }
}

/// The processes that see a variable after an assignment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The shell; programs too if it was exported before.
    Shell,
    /// Programs too.
    Programs,
    /// Only shells that name it.
    Named,
}

/// Builtin commands that set the variables in their arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Builtin {
    /// `export`, and `declare`, which may export.
    Export,
    /// Every argument is a name.
    All,
    /// The first argument is a name.
    First,
    /// The argument after `-v` is a name.
    AfterOption,
}

impl Builtin {
    fn of(word: &str) -> Option<Self> {
        match word {
            "export" | "declare" | "typeset" => Some(Builtin::Export),
            "local" | "readonly" | "unset" | "read" | "mapfile" | "readarray" | "getopts" => {
                Some(Builtin::All)
            }
            "for" | "select" => Some(Builtin::First),
            "printf" => Some(Builtin::AfterOption),
            _ => None,
        }
    }

    fn targets<'a>(self, arguments: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        let (skipped, taken) = match self {
            Builtin::Export | Builtin::All => (0, arguments.len()),
            Builtin::First => (0, 1),
            Builtin::AfterOption if arguments.first() == Some(&"-v") => (1, 1),
            Builtin::AfterOption => (0, 0),
        };
        arguments.iter().skip(skipped).take(taken).copied().filter(|word| !word.starts_with('-'))
    }
}

/// Splits a line at white space and between commands, outside of quotes; quotes stay.
fn words(line: &str) -> Vec<&str> {
    let mut quote = None;
    let separates = move |c: char| {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        quote.is_none() && (c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'))
    };
    line.split(separates).filter(|word| !word.is_empty()).collect()
}

/// Finds the words before `=`, `+=`, `:=`, `[…]=` and the operators of arithmetic that end in `=`.
fn assigned_by_operator(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices('=').filter(|(at, _)| !compares(line, *at)).filter_map(|(end, _)| {
        let before =
            line[..end].trim_end_matches(['+', '-', '*', '/', '%', ':', '|', '&', '^', '<', '>', ' ']);
        let before = match before.strip_suffix(']') {
            Some(indexed) => &indexed[..indexed.rfind('[')?],
            None => before,
        };
        let name = before.rsplit(|c: char| !is_word_character(c)).next()?;
        is_identifier(name).then_some(name)
    })
}

/// Returns true if the `=` at this position is part of `==` or `=~`. In shell, an assignment has no
/// space before the `=`.
fn compares(line: &str, at: usize) -> bool {
    let (before, after) = (&line[..at], &line[at + 1..]);
    before.ends_with(" =") || (before.ends_with(char::is_whitespace) && after.starts_with(['=', '~']))
}

/// Finds `source file`, `. file` and `eval` outside of quotes.
fn runs_other_text(line: &str) -> bool {
    let source = line.split_whitespace().any(|word| word == ".");
    let is_text = |word: &&str| word.starts_with(['"', '\'']) && !word.contains("$(") && !word.contains('`');
    let code = words(line).into_iter().filter(|word| !is_text(word));
    source || code.flat_map(identifiers).any(|word| word == "source" || word == "eval")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_arrays_reach_only_shells_that_name_them() {
        for (text, ambient) in [
            ("export -f web_install", false),
            ("declare -fx web_install", false),
            ("declare -ax web_list", false),
            ("export web_list", true),
        ] {
            let found = Assignments::of(text.as_bytes());
            assert_eq!((found.ambient, found.computed, found.names.len()), (ambient, false, 1), "{text}");
        }
    }

    #[test]
    fn text_that_may_assign_counts_as_an_assignment() {
        let table: [(&str, &[&str]); 24] = [
            ("[[ $DIB_A =~ \"x\" ]]", &[]),
            ("[[ $DIB_A == x && $DIB_B != y ]]", &[]),
            ("DIB_A==x", &["DIB_A"]),
            ("DIB_A=1", &["DIB_A"]),
            ("export DIB_A=${DIB_B:-x}", &["DIB_A"]),
            ("export DIB_A DIB_B", &["DIB_A", "DIB_B"]),
            ("export DIB_A=\"one two\" DIB_B='three four'", &["DIB_A", "DIB_B"]),
            (": ${DIB_A:=x} ${DIB_B=y}", &["DIB_A", "DIB_B"]),
            ("DIB_A+=\" more\"", &["DIB_A"]),
            ("DIB_A[$i]=x", &["DIB_A"]),
            ("(( DIB_A = 1, DIB_B += 2 ))", &["DIB_A", "DIB_B"]),
            ("declare -A DIB_A", &["DIB_A"]),
            ("read -r DIB_A DIB_B", &["DIB_A", "DIB_B"]),
            ("printf -v DIB_A %s x", &["DIB_A"]),
            ("printf '%s' DIB_A", &[]),
            ("for DIB_A in one two; do", &["DIB_A"]),
            ("if true; then unset DIB_A; fi", &["DIB_A", "fi"]),
            ("if [ \"$DIB_A\" = x ]; then", &[]),
            ("export DIB_A \\\n  DIB_B", &["DIB_A", "DIB_B"]),
            ("true&&export DIB_A", &["DIB_A"]),
            ("if true; then DIB_A=1; fi", &["DIB_A"]),
            ("mapfile -t DIB_A", &["DIB_A"]),
            ("echo $DIB_A", &[]),
            ("# DIB_A=1", &[]),
        ];
        for (text, names) in table {
            let found = Assignments::of(text.as_bytes());
            assert_eq!(found.names, names.iter().map(|name| (*name).to_owned()).collect(), "{text}");
        }
    }

    #[test]
    fn a_fragment_that_computes_names_or_runs_other_text_may_set_anything() {
        let table = [
            ("source /etc/os-release", true),
            (". /etc/os-release", true),
            ("if true; then . ./x; fi", true),
            ("[ -f x ] && . ./x", true),
            ("true;source x", true),
            ("x=\"$(source y)\"", true),
            ("[[ $DIB_A == \"source\" ]]", false),
            ("echo \"no 'source' install\"", false),
            ("eval \"$x\"", true),
            ("export \"$name=1\"", true),
            ("export DIB_$name=1", true),
            ("declare $name", true),
            ("export DIB_A=$name", false),
            ("# source: somewhere", false),
            ("DIB_A=./x", false),
        ];
        for (text, computed) in table {
            assert_eq!(Assignments::of(text.as_bytes()).computed, computed, "{text}");
        }
    }

    #[test]
    fn variables_that_programs_read_by_themselves_are_ambient() {
        let table = [
            ("PATH=/opt/bin", true),
            ("export PIP_INDEX_URL=x", true),
            ("http_proxy=x", true),
            ("export npm_config_registry=x", true),
            ("name=x", false),
            ("export DIB_A=PATH", false),
        ];
        for (text, ambient) in table {
            assert_eq!(Assignments::of(text.as_bytes()).ambient, ambient, "{text}");
        }
    }
}

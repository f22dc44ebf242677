//! The environment variables that a text may read.
//!
//! A hook sees exactly the variables in its layer's key, so this module decides both. It does not
//! parse the text, because a parser for each language could overlook something. Instead, every
//! identifier counts as a mention, in every language, including comments and documents. A text that
//! looks up variables by computed names counts as reading all of them. A key can therefore be too
//! wide, but not too narrow.

use std::collections::BTreeSet;

use super::{Element, ElementFile, FileKind, Mode, PROVIDER_DATA, is_never_called};

/// The variables that a text may read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    pub names: BTreeSet<String>,
    /// Whether it also looks up variables by computed names, so that it may read any variable.
    pub computed: bool,
}

impl Mentions {
    /// Returns the mentions of a text.
    pub fn of(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Self {
            names: identifiers(&text).map(str::to_owned).collect(),
            computed: looks_up_computed_names(&text),
        }
    }

    /// Adds the mentions of another text.
    pub fn merge(&mut self, other: Self) {
        self.names.extend(other.names);
        self.computed |= other.computed;
    }

    /// Returns true if the variable `name` may be read.
    pub fn includes(&self, name: &str) -> bool {
        self.computed || self.names.contains(name)
    }
}

impl FromIterator<Mentions> for Mentions {
    fn from_iter<I: IntoIterator<Item = Mentions>>(texts: I) -> Self {
        texts.into_iter().fold(Self::default(), |mut all, next| {
            all.merge(next);
            all
        })
    }
}

impl Element {
    /// Returns the mentions of its files, without those of `environment.d`, which are examined one
    /// by one.
    pub fn mentions(&self) -> Mentions {
        let files = self.files.iter().filter(|(path, _)| !path.starts_with("environment.d/"));
        files
            .map(|(path, file)| {
                let Mentions { names, computed } = mentions_of(file);
                Mentions { names, computed: computed && !PROVIDER_DATA.contains(&path.as_str()) }
            })
            .collect()
    }

    /// Returns the mentions of its tools (`bin/`). Hooks of every later element can call them.
    pub fn tool_mentions(&self) -> Mentions {
        let tools = self.files.iter().filter(|(path, _)| path.starts_with("bin/"));
        let called = tools.filter(|(path, _)| !is_never_called(&self.name, path));
        called.map(|(_, file)| mentions_of(file)).collect()
    }
}

/// Returns the mentions of a file. If a file is too large to be kept as text, a program counts as
/// reading any variable, and data as reading none.
fn mentions_of(file: &ElementFile) -> Mentions {
    let is_program = file.mode == Mode::Executable && matches!(file.kind, FileKind::File { .. });
    match &file.text {
        Some(text) => Mentions::of(text),
        None => Mentions { names: BTreeSet::new(), computed: is_program },
    }
}

/// Returns true if programs may read this variable although no text mentions it: `PATH`,
/// `http_proxy`, `PIP_INDEX_URL`. Only variables that start with `DIB_` are known to be read by
/// hooks alone.
pub fn is_ambient(name: &str) -> bool {
    !name.starts_with("DIB_")
}

pub(super) fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word_character(c)).filter(|word| is_identifier(word))
}

pub(super) fn is_word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

pub(super) fn is_identifier(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn looks_up_computed_names(text: &str) -> bool {
    // If a document is fed to a shell, variables are also expanded in lines that look like
    // comments.
    has_indirection(text) || text.lines().filter(|line| !is_comment(line)).any(line_looks_up)
}

/// Finds `${!name}` and `${!prefix*}`; `${!array[@]}` only lists an array's keys.
fn has_indirection(text: &str) -> bool {
    text.match_indices("${!").any(|(start, _)| {
        let rest = text[start + 3..].trim_start_matches(is_word_character);
        !(rest.starts_with("[@]}") || rest.starts_with("[*]}"))
    })
}

/// Words that look up or print variables.
const LOOKING_UP: [&str; 4] = ["printenv", "compgen", "envsubst", "eval"];

/// Common lines with `eval` in diskimage-builder's elements that look up no variable.
const HARMLESS: [&str; 3] = ["get_image_element_array", "eval set --", "rpm --eval"];

/// Names of the environment in other languages.
const ENVIRONMENTS: [&str; 4] = ["environ", "getenv", "ENV", "ENVIRON"];

fn line_looks_up(line: &str) -> bool {
    let harmless = HARMLESS.iter().any(|idiom| line.contains(idiom));
    (!harmless && identifiers(line).any(|word| LOOKING_UP.contains(&word)))
        || ENVIRONMENTS.iter().any(|name| indexes_by_value(line, name))
        || lists_variables(line, "env", &['|', ')', ';', '&', '>', '`', '"'])
        || ["set", "export", "declare", "declare -x", "typeset", "typeset -x"]
            .iter()
            .any(|command| lists_variables(line, command, &['|', ')', ';', '&', '>', '`']))
        || declares_reference(line)
        || tests_computed_name(line)
}

/// Finds uses of an environment without a literal key: `os.environ.items()` and `$ENV{$name}`, but
/// not `os.environ["X"]` and `$ENV{X}`.
fn indexes_by_value(line: &str, environment: &str) -> bool {
    line.match_indices(environment).any(|(start, _)| {
        let rest = &line[start + environment.len()..];
        is_word(line, start, environment) && !starts_with_literal_key(rest)
    })
}

fn starts_with_literal_key(rest: &str) -> bool {
    let quoted = rest.trim_start_matches(".get").strip_prefix(['[', '(', '{']);
    let quoted = quoted.is_some_and(|key| key.trim_start_matches([' ', 'b']).starts_with(['"', '\'']));
    let bare = rest.strip_prefix('{').map(|key| key.trim_start_matches(is_word_character));
    quoted || bare.is_some_and(|rest| rest.starts_with('}'))
}

/// Finds `env`, `set`, `export` and similar commands without arguments (or with `-0`), which list
/// variables. `ends` are the characters that can follow a command.
fn lists_variables(line: &str, command: &str, ends: &[char]) -> bool {
    line.match_indices(command).any(|(start, _)| {
        let rest = line[start + command.len()..].trim_start_matches([' ', '\t']);
        is_word(line, start, command) && (rest.is_empty() || rest.starts_with(ends) || rest.starts_with("-0"))
    })
}

fn is_word(line: &str, start: usize, word: &str) -> bool {
    let part_of_name = |c: char| is_word_character(c) || c == '-';
    !line[..start].ends_with(part_of_name) && !line[start + word.len()..].starts_with(is_word_character)
}

/// Finds `declare -n`, `local -n`, `declare -p`, `export -p` and similar commands.
fn declares_reference(line: &str) -> bool {
    const DECLARING: [&str; 5] = ["declare", "typeset", "local", "export", "readonly"];
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let command = pair[0].trim_start_matches(|c: char| !is_word_character(c));
        DECLARING.contains(&command) && pair[1].starts_with('-') && pair[1].contains(['n', 'p'])
    })
}

/// Finds `[[ -v $name ]]`.
fn tests_computed_name(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(3).any(|words| {
        matches!(words[0], "[" | "[[" | "test" | "!") && words[1] == "-v" && words[2].contains('$')
    })
}

/// Variables that files of `_LIB` read for the hooks that source or call them.
const READ_BY_LIBRARY: [&str; 11] = [
    "DIB_BAREMETAL_INITRD_PATTERN",
    "DIB_BAREMETAL_KERNEL_PATTERN",
    "DIB_BOOT_LABEL",
    "DIB_LIB_UDEV_ROOT",
    "DIB_MODULE_ROOT",
    "DIB_MOUNTPOINTS",
    "DIB_ROOT_FSTYPE",
    "DIB_ROOT_LABEL",
    "FS_TYPE",
    "RAMDISK_ELEMENT",
    "ROOT_LABEL",
];

/// Returns the variables that functions of `_LIB` read, if hooks with these mentions can call the
/// functions.
pub fn library_variables(mentions: &Mentions) -> impl Iterator<Item = String> + use<> {
    let reachable =
        ["_LIB", "DIB_BLOCK_DEVICE_PARAMS_YAML"].iter().any(|name| mentions.names.contains(*name));
    READ_BY_LIBRARY.into_iter().filter(move |_| reachable).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture;

    #[test]
    fn every_identifier_is_a_mention_in_any_language() {
        let table = [
            ("echo \"${DIB_A:-$DIB_B}\"", vec!["DIB_A", "DIB_B", "echo"]),
            ("os.environ['DIB_A']", vec!["DIB_A", "environ", "os"]),
            ("# DIB_A decides\n", vec!["DIB_A", "decides"]),
            ("x1=9y\u{e9}DIB_A", vec!["DIB_A", "x1"]),
        ];
        for (text, names) in table {
            let found = Mentions::of(text.as_bytes());
            assert_eq!(found.names, names.into_iter().map(str::to_owned).collect(), "{text}");
        }
    }

    #[test]
    fn a_program_too_large_to_be_kept_may_read_any_variable() {
        for (path, expected) in [("install.d/50-x", true), ("bin/x", true), ("blob.tar", false)] {
            let mut element = fixture::element("e").hook("install.d/50-x", "").hook("bin/x", "");
            element = element.file("blob.tar", "");
            let mut element = element.build();
            element.files.get_mut(path).unwrap().text = None;
            assert_eq!(element.mentions().includes("DIB_X"), expected, "{path}");
            assert_eq!(element.tool_mentions().includes("DIB_X"), path == "bin/x", "{path}");
        }
    }

    #[test]
    fn lookups_of_computed_names_are_recognized() {
        let table = [
            ("value=${!name}", true),
            ("for name in ${!DIB_REPOREF_*}; do", true),
            ("for key in ${!map[@]} ${!map[*]}; do", false),
            ("env | grep ^DIB_", true),
            ("vars=$(env)", true),
            ("env -0 >file", true),
            ("sudo env", true),
            ("( set -o posix; set )", true),
            ("set", true),
            ("#!/usr/bin/env bash", false),
            ("env DEBIAN_FRONTEND=noninteractive apt-get update", false),
            ("env -u TMPDIR true", false),
            ("set -eu", false),
            ("set -o pipefail", false),
            ("# the env", false),
            ("dib-env", false),
            ("declare -p DIB_A", true),
            ("export -p", true),
            ("export >file", true),
            ("declare -x | sort", true),
            ("typeset -x", true),
            ("declare -x DIB_A=1", false),
            ("export DIB_A", false),
            ("compgen -v DIB_", true),
            ("printenv", true),
            ("envsubst <template", true),
            ("for name in os.environ:", true),
            ("os.getenv(name)", true),
            ("$ENV{$name}", true),
            ("local -n target=$1", true),
            ("os.environ['DIB_A'] + os.environ.get(\"DIB_A\") + os.getenv('DIB_A')", false),
            ("os.environ.copy()", true),
            ("os.environ[name]", true),
            ("awk '{ print ENVIRON[\"DIB_A\"] }'", false),
            ("printf '%s' \"$ENVIRONMENT\"", false),
            ("ENV{SYSTEMD_WANTS}+=\"x@$name.service\"", false),
            ("$ENV{uc $name}", true),
            ("echo \"DIB_A is not set\"", false),
            ("declare -gn target=x", true),
            ("declare -A map", false),
            ("[[ -v $name ]] || exit 1", true),
            ("[[ -v DIB_A ]] || exit 1", false),
            ("eval TYPE=\\$$name", true),
            ("eval declare -A elements=($(get_image_element_array))", false),
            ("eval set -- \"$TEMP\"", false),
            ("rhel=$(rpm --eval '%{?rhel}')", false),
            ("echo \"$DIB_A\"", false),
        ];
        for (text, computed) in table {
            assert_eq!(Mentions::of(text.as_bytes()).computed, computed, "{text}");
        }
    }

    #[test]
    fn an_element_has_the_mentions_of_its_files_without_its_environment() {
        let element = fixture::element("e")
            .hook("install.d/50-e", "$DIB_A")
            .hook("bin/tool", "$DIB_B")
            .file("package-installs.yaml", "env:\n  when: DIB_C = 1\n")
            .file("pkg-map", "{\"default\": {\"env\": \"env\"}}")
            .file("environment.d/10-e", "DIB_D=1")
            .build();
        let mentions = element.mentions();
        assert!(["DIB_A", "DIB_B", "DIB_C"].iter().all(|name| mentions.includes(name)));
        assert!(!mentions.includes("DIB_D") && !mentions.computed);
        assert_eq!(element.tool_mentions().names, [String::from("DIB_B")].into());
    }

    #[test]
    fn hooks_that_source_the_library_read_its_variables() {
        let read = |text: &str| library_variables(&Mentions::of(text.as_bytes())).collect::<Vec<_>>();
        assert!(read("source $_LIB/img-functions").contains(&"DIB_BAREMETAL_KERNEL_PATTERN".to_owned()));
        assert_eq!(read("source /etc/os-release"), [""; 0]);
    }
}

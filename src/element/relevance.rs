//! The fragments of `environment.d` that affect a layer.
//!
//! Every fragment of every element is sourced before each phase. If all of them were in each
//! layer's key, one line in the fragment of a leaf element would rebuild the whole image. A
//! fragment is relevant to a layer if
//!
//! - it belongs to the layer's element; or
//! - it may set a variable that the layer's hooks read, or that another relevant fragment reads; or
//! - it may set a variable that programs read by themselves (`PATH`), or any variable at all.
//!
//! If a fragment consists of independent assignments, those that use the image's name are judged
//! separately: `DIB_MANIFEST_SAVE_DIR=${IMAGE_NAME}.d/` must not put the image's name into the key
//! of every layer that reads the variable of another line. Callers often give each build another
//! image name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::is_ambient;
use super::variables::{is_comment, is_identifier, is_word_character};
use super::{Assignments, ElementName, Mentions};

/// A fragment of `environment.d`, with the facts that decide its relevance.
#[derive(Debug, Clone)]
pub struct Fragment<'a> {
    pub element: &'a ElementName,
    pub name: &'a str,
    pub mentions: Mentions,
    pub assignments: Assignments,
    /// The possible effects of the fragment.
    pub reach: Reach,
}

/// The possible effects of a fragment, or of a line of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any effect: it is always relevant to its own element.
    Script,
    /// It only sets variables from the image's name: it is relevant to layers that read them.
    Assignment,
}

/// A variable that is always set: to the image's name if the name is relevant, or to a fixed word.
const ALWAYS_SET: &str = "IMAGE_NAME";

impl<'a> Fragment<'a> {
    /// Analyzes a fragment's text.
    pub fn new(element: &'a ElementName, name: &'a str, text: &[u8]) -> Self {
        let (mentions, assignments) = (Mentions::of(text), Assignments::of(text));
        Self { element, name, mentions, assignments, reach: Reach::Script }
    }

    /// Analyzes a fragment's text. Returns two fragments if it consists of independent assignments
    /// and some use the image's name.
    pub fn split(element: &'a ElementName, name: &'a str, text: &[u8]) -> Vec<Self> {
        let whole = String::from_utf8_lossy(text);
        let lines = whole.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
        if !whole.contains(ALWAYS_SET) || !lines.clone().all(is_independent) {
            return vec![Self::new(element, name, text)];
        }
        let (named, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains(ALWAYS_SET));
        let read = |lines: &[&str]| Self::new(element, name, lines.join("\n").as_bytes());
        vec![read(&rest), Self { reach: Reach::Assignment, ..read(&named) }]
    }

    /// Returns the reason why it is relevant to a layer of `element` whose files read `wanted`;
    /// `None` if it is not relevant.
    fn relevance(&self, element: &ElementName, wanted: &Mentions) -> Option<Relevance> {
        let Assignments { names, ambient, computed } = &self.assignments;
        let those = |is: &dyn Fn(&str) -> bool| names.iter().filter(|name| is(name)).cloned().collect();
        let read: BTreeSet<_> = those(&|name| wanted.includes(name));
        match self.reach {
            Reach::Script if self.element == element => Some(Relevance::Own),
            _ if *computed => Some(Relevance::SetsAny),
            _ if *ambient => Some(Relevance::SetsForPrograms(those(&is_ambient))),
            _ => (!read.is_empty()).then_some(Relevance::Sets(read)),
        }
    }
}

/// The reason why a fragment is relevant to a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// It belongs to the layer's element.
    Own,
    /// It may set these variables or functions, which files of the layer mention.
    Sets(BTreeSet<String>),
    /// It may set these variables, which programs read although no text mentions them.
    SetsForPrograms(BTreeSet<String>),
    /// It may set any variable: it computes names, or runs other text.
    SetsAny,
}

impl fmt::Display for Relevance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |names: &BTreeSet<String>| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Relevance::Own => f.write_str("it belongs to the element"),
            Relevance::Sets(names) => write!(f, "it sets {}, which a file of this step names", listed(names)),
            Relevance::SetsForPrograms(names) => {
                write!(f, "it exports {}, which any program may read", listed(names))
            }
            Relevance::SetsAny => f.write_str(
                "it may set any variable: it runs other text (`source`, `eval`), or computes names (`export \"$name\"`)",
            ),
        }
    }
}

/// Returns the indices in `fragments` (in their order) of the fragments that are relevant to a
/// layer of `element` whose hooks and providers read `hooks`, with the reasons.
pub fn relevant_fragments(
    element: &ElementName,
    hooks: &Mentions,
    fragments: &[Fragment<'_>],
) -> BTreeMap<usize, Relevance> {
    let mut wanted = hooks.clone();
    let mut relevant = BTreeMap::new();
    loop {
        let found = fragments.iter().enumerate().find_map(|(place, fragment)| {
            let relevance = (!relevant.contains_key(&place)).then(|| fragment.relevance(element, &wanted));
            Some((place, fragment, relevance.flatten()?))
        });
        // A relevant fragment may read variables that other fragments set, so the search starts
        // again after each addition.
        let Some((place, fragment, relevance)) = found else { return relevant };
        relevant.insert(place, relevance);
        wanted.merge(fragment.mentions.clone());
    }
}

/// Returns true if a line assigns one variable, using only values of variables that may be unset.
fn is_independent(line: &str) -> bool {
    let assignment = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = assignment.split_once('=') else { return false };
    let quotes = value.matches('"').count();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,+@\"${}".contains(c);
    is_identifier(name)
        && name.chars().all(is_word_character)
        && quotes.is_multiple_of(2)
        && value.chars().all(|c| plain(c) || (quotes > 0 && c == ' '))
        && value.split('$').skip(1).all(needs_nothing)
}

/// Returns true if an expansion (the text after its `$`) uses a variable that has a default or is
/// always set.
fn needs_nothing(expansion: &str) -> bool {
    let Some(inside) = expansion.strip_prefix('{') else { return false };
    let rest = inside.trim_start_matches(is_word_character);
    rest.starts_with(":-") || &inside[..inside.len() - rest.len()] == ALWAYS_SET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::names;

    #[test]
    fn a_fragment_is_relevant_by_the_variables_that_it_sets() {
        let elements = names(&["os", "own", "leaf"]);
        let fragment =
            |element: usize, text: &str| Fragment::new(&elements[element], "10-x", text.as_bytes());
        let table: [(&str, Vec<Fragment>, &[usize]); 7] = [
            ("nothing shared", vec![fragment(2, "DIB_X=1")], &[]),
            ("own", vec![fragment(1, "DIB_X=1")], &[0]),
            ("read by the hooks", vec![fragment(2, "DIB_READ=1")], &[0]),
            (
                "through another",
                vec![fragment(2, "DIB_X=1"), fragment(0, "DIB_Y=$DIB_X"), fragment(0, "DIB_READ=$DIB_Y")],
                &[0, 1, 2],
            ),
            ("ambient", vec![fragment(2, "PATH=/opt/bin:$PATH")], &[0]),
            ("any variable", vec![fragment(2, "source /etc/os-release"), fragment(2, "DIB_X=1")], &[0]),
            ("reads any variable", vec![fragment(1, "DIB_Y=${!name}"), fragment(2, "DIB_X=1")], &[0, 1]),
        ];
        let hooks = Mentions::of(b"echo $DIB_READ");
        let manifests =
            "# c\nexport DIB_READ=${DIB_READ:-/etc}\n\nexport DIB_SAVE=${DIB_SAVE:-${IMAGE_NAME}.d/}\n";
        let lines = Fragment::split(&elements[1], "14-manifests", manifests.as_bytes());
        let places = |fragments: &[Fragment<'_>]| {
            relevant_fragments(&elements[1], &hooks, fragments).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(places(&lines), [0]);
        for (case, fragments, expected) in table {
            assert_eq!(places(&fragments), expected, "{case}");
        }
    }

    #[test]
    fn a_relevant_fragment_has_a_reason() {
        let elements = names(&["own", "leaf"]);
        let hooks = Mentions::of(b"web_install; echo $DIB_READ");
        for (text, expected) in [
            (
                "web_install() { true; }\nexport -f web_install\nDIB_X=1",
                "it sets `web_install`, which a file",
            ),
            ("DIB_READ=1 DIB_OTHER=2", "it sets `DIB_READ`, which a file of this step names"),
            ("export WEB_PORT=80 DIB_X=1", "it exports `WEB_PORT`, which any program may read"),
            ("for f in a b; do export -f \"$f\"; done", "it may set any variable: "),
            ("install() { source x; }\nexport -f install", "it may set any variable: "),
        ] {
            let fragments = [Fragment::new(&elements[1], "10-x", text.as_bytes())];
            let found = relevant_fragments(&elements[0], &hooks, &fragments);
            assert!(found[&0].to_string().starts_with(expected), "{text}: {}", found[&0]);
            let own = relevant_fragments(&elements[1], &hooks, &fragments);
            assert_eq!(own[&0], Relevance::Own);
        }
    }

    #[test]
    fn only_independent_assignments_are_judged_separately() {
        for (text, parts) in [
            ("export DIB_A=${DIB_A:-1}\nDIB_B=${DIB_B:-\"a b\"}", 2),
            ("DIB_A=$DIB_B", 1),
            ("DIB_A=${DIB_B}", 1),
            ("DIB_A=${DIB_B:-$DIB_C}", 1),
            ("if true; then\nDIB_A=1\nfi", 1),
            ("DIB_A=$(hostname)", 1),
            ("DIB_A=\"one\ntwo\"", 1),
            ("DIB_A=1 \\\n DIB_B=2", 1),
            ("DIB_A=1 touch", 1),
            ("source x", 1),
        ] {
            let element = &names(&["e"])[0];
            let named = format!("{text}\nDIB_N=${{DIB_N:-${{IMAGE_NAME}}.d}}\n");
            assert_eq!(Fragment::split(element, "10-x", named.as_bytes()).len(), parts, "{text}");
            assert_eq!(Fragment::split(element, "10-x", text.as_bytes()).len(), 1, "{text}");
        }
    }
}

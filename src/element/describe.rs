//! Descriptions of elements for users: one element, and the graph of their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::{Catalog, Element, ElementName, ElementOption, Phase, Slot};

/// A summary of an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description<'a> {
    pub name: &'a ElementName,
    pub path: String,
    /// The first sentence of its README.
    pub summary: Option<String>,
    pub deps: &'a BTreeSet<ElementName>,
    pub provides: &'a BTreeSet<ElementName>,
    /// Its hooks by phase, in the order in which they run, without empty phases.
    pub hooks: BTreeMap<Phase, Vec<&'a str>>,
    /// Its hooks that do not run in its own step in element order, by slot.
    pub slots: BTreeMap<Slot, Vec<String>>,
    /// The fragments of its `environment.d`.
    pub environment: Vec<&'a str>,
    /// The variables that configure it.
    pub options: Vec<ElementOption<'a>>,
    /// The files in `static/` that it copies onto the root.
    #[serde(rename = "static")]
    pub statics: Vec<&'a str>,
    /// The programs that its hooks find in their `PATH`.
    pub programs: Vec<&'a str>,
    /// The packages that it may install or remove, by its own names, with their conditions.
    pub packages: BTreeSet<String>,
}

impl Element {
    /// Describes the element. Unreadable lists of packages count as empty, because the check
    /// reports them.
    pub fn describe(&self) -> Description<'_> {
        let hooks = Phase::ALL
            .into_iter()
            .map(|phase| (phase, self.hooks(phase).into_iter().map(|hook| hook.name).collect::<Vec<_>>()));
        let packages = self.package_list().unwrap_or_default().0;
        let mut slots: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.hooks_elsewhere().for_each(|(slot, hook)| slots.entry(slot).or_default().push(hook));
        Description {
            name: &self.name,
            path: self.root.display().to_string(),
            summary: self.readme.as_deref().and_then(summary),
            deps: &self.deps,
            provides: &self.provides,
            hooks: hooks.filter(|(_, names)| !names.is_empty()).collect(),
            slots,
            environment: self.environment_fragments().into_iter().map(|(name, _)| name).collect(),
            options: self.options(),
            statics: self.files_below("static").map(|(path, _)| path).collect(),
            programs: self.files_below("bin").map(|(path, _)| path).collect(),
            packages: packages.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Returns the first sentence of a README, joined across lines.
fn summary(readme: &str) -> Option<String> {
    let readme = readme.replace('\r', "");
    let prose = |paragraph: &str| {
        let lines = paragraph.lines().filter(|line| is_prose(line, paragraph));
        lines.map(str::trim).collect::<Vec<_>>().join(" ")
    };
    let mut texts = readme.split("\n\n").map(str::trim).map(prose);
    texts.find(|text| !text.is_empty()).map(|text| first_sentence(&text).to_owned())
}

/// A full stop ends a sentence, unless a space and a lower-case letter follow, as in "e.g. this".
fn first_sentence(text: &str) -> &str {
    let ends = |at: &usize| text[at + 2..].starts_with(|c: char| !c.is_lowercase());
    let end = text.match_indices(". ").map(|(at, _)| at).find(ends);
    end.map_or(text, |end| &text[..=end])
}

fn is_prose(line: &str, paragraph: &str) -> bool {
    let underline = |line: &str| line.len() > 2 && line.chars().all(|c| matches!(c, '=' | '-' | '~' | '*'));
    let underlined = paragraph.lines().skip_while(|other| *other != line).nth(1).is_some_and(underline);
    !(line.starts_with('#')
        || line.starts_with("..")
        || underline(line)
        || underlined
        || line.trim().is_empty())
}

/// Returns the dependencies among the elements of `catalog` as a graph in the language of Graphviz.
/// An arrow leads from an element to its dependency.
///
/// Source: <https://graphviz.org/doc/info/lang.html>
pub fn graph_dot(catalog: &Catalog) -> String {
    let mut text = "digraph elements {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
    for element in catalog.iter() {
        let _ = writeln!(text, "  \"{}\";", element.name);
        for dep in &element.deps {
            let _ = writeln!(text, "  \"{}\" -> \"{dep}\";", element.name);
        }
        for provided in &element.provides {
            let _ = writeln!(text, "  \"{provided}\" -> \"{}\" [style = dashed];", element.name);
        }
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn the_summary_is_the_first_sentence() {
        let table = [
            ("# hosts\n\nManages `/etc/hosts`.\nMore.\n", Some("Manages `/etc/hosts`.")),
            ("=====\nhosts\n=====\n\nManages it.\n", Some("Manages it.")),
            ("hosts\n-----\nManages it.\n", Some("Manages it.")),
            (
                "# x\n\nTakes what is\nwrapped, e.g. this, whole. And\nno more.\n",
                Some("Takes what is wrapped, e.g. this, whole."),
            ),
            ("# x\r\n\r\nOf Windows\r\nand whole\r\n\r\nMore\r\n", Some("Of Windows and whole")),
            (".. _x:\n\nText", Some("Text")),
            ("# only a heading\n", None),
            ("", None),
        ];
        for (readme, expected) in table {
            assert_eq!(summary(readme).as_deref(), expected, "{readme}");
        }
    }

    #[test]
    fn a_description_says_what_an_element_does() {
        let element = element("web")
            .readme("# web\n\nServes.\n")
            .deps(&["base"])
            .provides(&["http"])
            .hook("install.d/50-b", "")
            .hook("install.d/9-a", "")
            .hook("post-install.d/90-c", "")
            .slots("post-install.d/90- late")
            .file("environment.d/10-web", "")
            .file("package-installs.yaml", "nginx:\napache2: {uninstall: true}")
            .build();
        assert_eq!(
            serde_json::to_value(element.describe()).unwrap(),
            serde_json::json!({
                "name": "web",
                "path": "elements/web",
                "summary": "Serves.",
                "deps": ["base"],
                "provides": ["http"],
                "hooks": { "install.d": ["9-a", "50-b"], "post-install.d": ["90-c"] },
                "slots": { "late": ["post-install.d/90-c"] },
                "environment": ["10-web"],
                "options": [],
                "static": [],
                "programs": [],
                "packages": ["apache2 (removed)", "nginx"],
            })
        );
    }

    #[test]
    fn a_graph_has_an_arrow_for_every_dependency() {
        let catalog =
            Catalog::new([element("a").deps(&["b"]).build(), element("b").provides(&["c"]).build()]);
        assert_eq!(
            graph_dot(&catalog),
            "digraph elements {\n  rankdir = LR;\n  node [shape = box];\n  \"a\";\n  \"a\" -> \"b\";\n  \"b\";\n  \
             \"c\" -> \"b\" [style = dashed];\n}\n"
        );
    }
}

//! The hooks of install types.
//!
//! `install.d/<prefix>-<type>-install/` contains hooks for one way of installation. The hooks of
//! the chosen type join `install.d` itself, and replace hooks of the same name there:
//!
//! | variable | chooses |
//! |---|---|
//! | `DIB_INSTALLTYPE_<prefix, "-" turned into "_">` | the type for this prefix |
//! | `DIB_DEFAULT_INSTALLTYPE` | the type for all others; `source` if it is not set |
//!
//! Source: diskimage-builder, element `install-types`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Element, Environment, Hook, Phase, run_parts_order};

/// The phase of install types.
const PHASE: Phase = Phase::Install;

const PREFIX: &str = "DIB_INSTALLTYPE_";

impl Element {
    /// Returns the entries of `install.d` that come from install types, with their directories.
    pub fn typed_entries(&self, variables: &Environment) -> BTreeMap<&str, &str> {
        let chosen = Choice::of(variables);
        let below = self.files_below(PHASE.dir()).filter_map(|(path, _)| path.split_once('/'));
        let entries = below.filter(|(dir, _)| chosen.includes(dir));
        entries.map(|(dir, rest)| (rest.split('/').next().unwrap_or(rest), dir)).collect()
    }

    /// Returns the hooks of a phase in the order in which they run, including those of the chosen
    /// install types.
    pub fn chosen_hooks(&self, phase: Phase, variables: &Environment) -> Vec<Hook<'_>> {
        let mut hooks = self.hooks(phase);
        if phase == PHASE {
            let typed = self.typed_entries(variables);
            hooks.retain(|hook| !typed.contains_key(hook.name));
            let dirs: BTreeSet<_> = typed.values().copied().collect();
            for dir in dirs {
                let own = self.hooks_in(phase, &format!("{PHASE}/{dir}"));
                hooks.extend(own.into_iter().filter(|hook| typed.get(hook.name) == Some(&dir)));
            }
            hooks.sort_by(|a, b| run_parts_order(a.name, b.name));
        }
        hooks
    }

    /// Returns the hooks of a phase, including those of all install types, each name once.
    pub(super) fn possible_hooks(&self, phase: Phase) -> Vec<Hook<'_>> {
        let below = self.files_below(PHASE.dir()).filter_map(|(path, _)| path.split_once('/'));
        let dirs: BTreeSet<_> = below
            .map(|(dir, _)| dir)
            .filter(|dir| phase == PHASE && install_type_of(dir).is_some())
            .collect();
        let typed = dirs.into_iter().flat_map(|dir| self.hooks_in(phase, &format!("{PHASE}/{dir}")));
        let mut hooks: Vec<_> = self.hooks(phase).into_iter().chain(typed).collect();
        hooks.sort_by(|a, b| run_parts_order(a.name, b.name));
        hooks.dedup_by(|a, b| a.name == b.name);
        hooks
    }

    /// Returns the names of the variables that choose its install types.
    pub fn install_type_variables(&self) -> BTreeSet<String> {
        let below = self.files_below(PHASE.dir()).filter_map(|(path, _)| path.split_once('/'));
        below.filter_map(|(dir, _)| Some(install_type_of(dir)?.0)).collect()
    }
}

/// Returns the variable that chooses the directory `dir` of `install.d`, and the value that chooses
/// it.
pub(super) fn install_type_of(dir: &str) -> Option<(String, &str)> {
    let (prefix, kind) = dir.strip_suffix("-install")?.rsplit_once('-')?;
    Some((format!("{PREFIX}{}", prefix.replace('-', "_")), kind))
}

/// The install types of an image.
struct Choice<'a> {
    own: BTreeMap<String, &'a str>,
    default: &'a str,
}

impl<'a> Choice<'a> {
    fn of(variables: &'a Environment) -> Self {
        let own = variables
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.replace('_', "-"), value.as_str())));
        let default = variables.get("DIB_DEFAULT_INSTALLTYPE").map_or("source", String::as_str);
        Self { own: own.collect(), default }
    }

    fn includes(&self, dir: &str) -> bool {
        let own = self.own.iter().any(|(prefix, kind)| dir == format!("{prefix}-{kind}-install"));
        let by_default = dir.strip_suffix(&format!("-{}-install", self.default));
        own || by_default.is_some_and(|prefix| !self.own.contains_key(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn the_hooks_of_the_chosen_type_join_the_others() {
        let element = element("simple-init")
            .hook("install.d/50-always", "")
            .hook("install.d/40-own", "")
            .hook("install.d/simple-init-source-install/40-own", "")
            .hook("install.d/simple-init-source-install/60-late", "")
            .file("install.d/simple-init-source-install/data", "")
            .hook("install.d/simple-init-package-install/40-own", "")
            .hook("install.d/other-source-install/9-other", "")
            .hook("install.d/not-a-type/10-x", "")
            .build();
        let table: [(&[(&str, &str)], &str); 5] = [
            (&[], "9-other 40-own 50-always 60-late"),
            (&[("DIB_DEFAULT_INSTALLTYPE", "package")], "40-own 50-always"),
            (&[("DIB_INSTALLTYPE_simple_init", "package")], "9-other 40-own 50-always"),
            (
                &[("DIB_DEFAULT_INSTALLTYPE", "package"), ("DIB_INSTALLTYPE_simple_init", "source")],
                "40-own 50-always 60-late",
            ),
            (
                &[("DIB_INSTALLTYPE_simple_init", "repo"), ("DIB_INSTALLTYPE_other", "repo")],
                "40-own 50-always",
            ),
        ];
        for (variables, expected) in table {
            let variables =
                variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let hooks = element.chosen_hooks(Phase::Install, &variables);
            let names: Vec<_> = hooks.iter().map(|hook| hook.name).collect();
            assert_eq!(names.join(" "), expected, "{variables:?}");
        }
        let entries = element.typed_entries(&Environment::new());
        let source = "simple-init-source-install";
        assert_eq!(
            entries,
            [("40-own", source), ("60-late", source), ("9-other", "other-source-install"), ("data", source)]
                .into()
        );
        assert_eq!(
            element.install_type_variables(),
            ["DIB_INSTALLTYPE_other", "DIB_INSTALLTYPE_simple_init"].map(str::to_owned).into()
        );
        assert!(element.chosen_hooks(Phase::PostInstall, &Environment::new()).is_empty());
    }
}

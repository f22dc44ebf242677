//! What an element's lists of packages say.
//!
//! Source: diskimage-builder, element `package-installs`.

use super::document::parse_document;
use super::package_file::{RawList, RawRule};
use super::{DocumentError, Element, ElementName, Phase};

/// The phases in which packages are installed.
pub const PACKAGE_PHASES: [Phase; 3] = [Phase::PreInstall, Phase::Install, Phase::PostInstall];

/// The packages an element asks for, in the order of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageList(pub Vec<PackageEntry>);

/// One package under some conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEntry {
    /// Its name, before it is translated for the distribution.
    pub package: String,
    /// When it is wanted or not.
    pub phase: Phase,
    /// Whether it is wanted or not.
    pub action: PackageAction,
    /// What has to hold, or the entry does not count.
    pub conditions: Vec<Condition>,
}

/// What happens to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageAction {
    /// It is installed.
    Install,
    /// It is removed, unless another element wants it.
    Uninstall,
    /// It is installed, and removed in the end, unless another element wants it.
    BuildOnly,
}

/// Something that has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The element is installed in this way.
    InstallType(String),
    /// `ARCH` is one of these. They are not trimmed, as diskimage-builder does not trim them.
    Architecture(Vec<String>),
    /// `ARCH` is none of these.
    NotArchitecture(Vec<String>),
    /// `DIB_PYTHON_VERSION` is this.
    PythonVersion(String),
    /// The variable has this value.
    Equal(String, String),
    /// The variable has another value than this.
    NotEqual(String, String),
}

/// A list of packages that says something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageListError {
    /// Not of the expected shape.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A key that no rule has.
    #[error("package `{package}` of element `{element}`: unknown key `{key}`{}", suggestion(nearest))]
    UnknownKey {
        /// Whose list.
        element: ElementName,
        /// The package.
        package: String,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: Option<&'static str>,
    },
    /// A phase in which no package is installed.
    #[error(
        "package `{package}` of element `{element}`: packages are installed in `pre-install.d`, `install.d` and `post-install.d`, not in `{phase}`"
    )]
    Phase {
        /// Whose list.
        element: ElementName,
        /// The package.
        package: String,
        /// What the list says.
        phase: String,
    },
    /// Both `arch` and `not-arch`.
    #[error("package `{package}` of element `{element}`: `arch` and `not-arch` exclude each other")]
    BothArchitectures {
        /// Whose list.
        element: ElementName,
        /// The package.
        package: String,
    },
    /// A `when` that is no comparison.
    #[error(
        "package `{package}` of element `{element}`: `when: {when}` is not `VARIABLE = value` or `VARIABLE != value`"
    )]
    When {
        /// Whose list.
        element: ElementName,
        /// The package.
        package: String,
        /// What the list says.
        when: String,
    },
    /// A list where one text belongs.
    #[error("package `{package}` of element `{element}`: `{key}` is a list, expected one value")]
    NotOneValue {
        /// Whose list.
        element: ElementName,
        /// The package.
        package: String,
        /// The key.
        key: String,
    },
}

/// The keys that a rule can have.
const KEYS: [&str; 8] =
    ["phase", "installtype", "uninstall", "build-only", "arch", "not-arch", "dib_python_version", "when"];

fn suggestion(nearest: &Option<&str>) -> String {
    nearest.map(|key| format!(": did you mean `{key}`?")).unwrap_or_default()
}

impl Element {
    /// Returns the packages it asks for: `package-installs.json`, `package-installs.yaml`, and the plain lists
    /// `<phase>/package-installs-<name>` of old.
    pub fn package_list(&self) -> Result<PackageList, PackageListError> {
        let mut entries = Vec::new();
        for path in ["package-installs.json", "package-installs.yaml"] {
            if let Some(text) = self.text(path).filter(|text| !text.trim_ascii().is_empty()) {
                let raw: RawList = parse_document(&self.name, path, text)?;
                entries.extend(read_list(&self.name, raw)?);
            }
        }
        entries.extend(PACKAGE_PHASES.into_iter().flat_map(|phase| self.plain_entries(phase)));
        Ok(PackageList(entries))
    }

    fn plain_entries(&self, phase: Phase) -> Vec<PackageEntry> {
        let lists = self.files_in(phase.dir()).filter(|(name, _)| name.starts_with("package-installs-"));
        let texts = lists.filter_map(|(_, file)| file.text.as_deref()).map(String::from_utf8_lossy);
        texts
            .flat_map(|text| text.lines().filter_map(|line| plain_entry(phase, line)).collect::<Vec<_>>())
            .collect()
    }
}

fn plain_entry(phase: Phase, line: &str) -> Option<PackageEntry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (package, action) = match line.strip_prefix('-') {
        Some(package) => (package, PackageAction::Uninstall),
        None => (line, PackageAction::Install),
    };
    Some(PackageEntry { package: package.to_owned(), phase, action, conditions: Vec::new() })
}

fn read_list(element: &ElementName, raw: RawList) -> Result<Vec<PackageEntry>, PackageListError> {
    let rules = raw
        .0
        .into_iter()
        .flat_map(|(package, rules)| rules.0.into_iter().map(move |rule| (package.clone(), rule)));
    rules.map(|(package, rule)| RuleReader { element, package, rule }.read()).collect()
}

/// Turns one rule of one package into an entry.
struct RuleReader<'a> {
    element: &'a ElementName,
    package: String,
    rule: RawRule,
}

impl RuleReader<'_> {
    fn read(mut self) -> Result<PackageEntry, PackageListError> {
        let entry = PackageEntry {
            phase: self.phase()?,
            action: self.action(),
            conditions: self.conditions()?,
            package: self.package.clone(),
        };
        match self.rule.0.into_keys().next() {
            Some(key) => Err(PackageListError::UnknownKey {
                element: self.element.clone(),
                package: self.package,
                nearest: super::nearest(&key, KEYS),
                key,
            }),
            None => Ok(entry),
        }
    }

    fn phase(&mut self) -> Result<Phase, PackageListError> {
        let Some(phase) = self.one("phase")? else { return Ok(Phase::Install) };
        let known = PACKAGE_PHASES.into_iter().find(|known| known.dir() == phase);
        known.ok_or_else(|| PackageListError::Phase {
            element: self.element.clone(),
            package: self.package.clone(),
            phase,
        })
    }

    /// What the keys are set to does not matter: diskimage-builder looks at their presence alone.
    fn action(&mut self) -> PackageAction {
        let uninstall = self.rule.0.remove("uninstall").is_some();
        match self.rule.0.remove("build-only") {
            Some(_) => PackageAction::BuildOnly,
            None if uninstall => PackageAction::Uninstall,
            None => PackageAction::Install,
        }
    }

    fn conditions(&mut self) -> Result<Vec<Condition>, PackageListError> {
        let mut conditions = Vec::new();
        conditions.extend(self.one("installtype")?.map(Condition::InstallType));
        conditions.extend(self.architectures()?);
        conditions.extend(self.one("dib_python_version")?.map(Condition::PythonVersion));
        for when in self.rule.0.remove("when").unwrap_or_default().0 {
            conditions.push(self.comparison(when)?);
        }
        Ok(conditions)
    }

    fn architectures(&mut self) -> Result<Option<Condition>, PackageListError> {
        let list = |text: String| text.split(',').map(str::to_owned).collect();
        match (self.one("arch")?, self.one("not-arch")?) {
            (Some(_), Some(_)) => Err(PackageListError::BothArchitectures {
                element: self.element.clone(),
                package: self.package.clone(),
            }),
            (Some(only), None) => Ok(Some(Condition::Architecture(list(only)))),
            (None, Some(not)) => Ok(Some(Condition::NotArchitecture(list(not)))),
            (None, None) => Ok(None),
        }
    }

    fn comparison(&self, when: String) -> Result<Condition, PackageListError> {
        let end = when.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(when.len());
        let (variable, rest) = when.split_at(end);
        let (variable, rest) = (variable.to_owned(), rest.trim_start());
        let value = |rest: &str| rest.trim_start().to_owned();
        match (rest.strip_prefix('='), rest.strip_prefix("!=")) {
            (Some(rest), _) if end > 0 => Ok(Condition::Equal(variable, value(rest))),
            (_, Some(rest)) if end > 0 => Ok(Condition::NotEqual(variable, value(rest))),
            _ => Err(PackageListError::When {
                element: self.element.clone(),
                package: self.package.clone(),
                when,
            }),
        }
    }

    /// Takes the one value of a key out; an empty one counts as none.
    fn one(&mut self, key: &str) -> Result<Option<String>, PackageListError> {
        match self.rule.0.remove(key).unwrap_or_default().0.as_slice() {
            [] => Ok(None),
            [value] => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
            [_, _, ..] => Err(PackageListError::NotOneValue {
                element: self.element.clone(),
                package: self.package.clone(),
                key: key.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    fn list(text: &str) -> Result<Vec<PackageEntry>, PackageListError> {
        element("web").file("package-installs.yaml", text).build().package_list().map(|list| list.0)
    }

    #[test]
    fn every_key_is_read() {
        let text = "\
# kernel
plain:
empty: ''
linux:
  - not-arch: arm64
    when: DIB_KERNEL = linux image
  - arch: arm64,armhf
    when:
      - DIB_RELEASE != xenial
      - DIB_KERNEL=linux
gone:
  uninstall: no
  phase: pre-install.d
gcc: {build-only: true, installtype: source, dib_python_version: 3}
";
        let entry = |package: &str, phase, action, conditions| PackageEntry {
            package: package.to_owned(),
            phase,
            action,
            conditions,
        };
        let text_of = str::to_owned;
        let (install, none) = (PackageAction::Install, Vec::new);
        assert_eq!(
            list(text).unwrap(),
            [
                entry("plain", Phase::Install, install, none()),
                entry("empty", Phase::Install, install, none()),
                entry(
                    "linux",
                    Phase::Install,
                    install,
                    vec![
                        Condition::NotArchitecture(vec![text_of("arm64")]),
                        Condition::Equal(text_of("DIB_KERNEL"), text_of("linux image")),
                    ]
                ),
                entry(
                    "linux",
                    Phase::Install,
                    install,
                    vec![
                        Condition::Architecture(vec![text_of("arm64"), text_of("armhf")]),
                        Condition::NotEqual(text_of("DIB_RELEASE"), text_of("xenial")),
                        Condition::Equal(text_of("DIB_KERNEL"), text_of("linux")),
                    ]
                ),
                entry("gone", Phase::PreInstall, PackageAction::Uninstall, none()),
                entry(
                    "gcc",
                    Phase::Install,
                    PackageAction::BuildOnly,
                    vec![Condition::InstallType(text_of("source")), Condition::PythonVersion(text_of("3")),]
                ),
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_names_the_package() {
        let table = [
            (
                "a: {arch: x, not-arch: y}",
                "package `a` of element `web`: `arch` and `not-arch` exclude each other",
            ),
            (
                "a: {phase: root.d}",
                "package `a` of element `web`: packages are installed in `pre-install.d`, `install.d` and `post-install.d`, not in `root.d`",
            ),
            (
                "a: {when: DIB_X}",
                "package `a` of element `web`: `when: DIB_X` is not `VARIABLE = value` or `VARIABLE != value`",
            ),
            (
                "a: {uninstal: true}",
                "package `a` of element `web`: unknown key `uninstal`: did you mean `uninstall`?",
            ),
            ("a: {zzz: 1}", "package `a` of element `web`: unknown key `zzz`"),
            ("a: {phase: [x, y]}", "package `a` of element `web`: `phase` is a list, expected one value"),
            ("a: install.d", "`package-installs.yaml` of element `web`, line 1, column 1: "),
            ("- a\n- b\n", "`package-installs.yaml` of element `web`, line 1, column 1: "),
        ];
        for (text, expected) in table {
            let error = list(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn both_files_and_the_plain_lists_of_old_are_read() {
        let element = element("web")
            .file("package-installs.json", "{\"a\": null}")
            .file("package-installs.yaml", "# nothing yet\n")
            .file("post-install.d/package-installs-web", "# comment\n\n b \n-c\n")
            .build();
        let entries = element.package_list().unwrap().0;
        let found: Vec<_> =
            entries.iter().map(|entry| (entry.package.as_str(), entry.phase, entry.action)).collect();
        assert_eq!(
            found,
            [
                ("a", Phase::Install, PackageAction::Install),
                ("b", Phase::PostInstall, PackageAction::Install),
                ("c", Phase::PostInstall, PackageAction::Uninstall),
            ]
        );
    }
}

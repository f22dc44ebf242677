//! Parses the package lists of an element.
//!
//! Source: diskimage-builder, element `package-installs`.

use std::fmt;

use super::document::parse_document;
use super::install_type::install_type_of;
use super::package_file::PackageFile;
use super::package_rule::{Condition, PACKAGE_PHASES, PackageAction, Rule};
use super::{DocumentError, Element, Phase};

/// The packages an element asks for, in the order of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageList(pub Vec<PackageEntry>);

/// One package with its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEntry {
    /// The name before translation for the distribution.
    pub package: String,
    pub phase: Phase,
    pub action: PackageAction,
    /// All conditions must hold, or the entry is ignored.
    pub conditions: Vec<Condition>,
}

impl fmt::Display for PackageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            PackageAction::Install => None,
            PackageAction::Uninstall => Some("removed".to_owned()),
            PackageAction::BuildOnly => Some("removed in the end".to_owned()),
        };
        let conditions = self.conditions.iter().map(|condition| format!("if {condition}"));
        let remarks: Vec<_> = action.into_iter().chain(conditions).collect();
        f.write_str(&self.package)?;
        if remarks.is_empty() { Ok(()) } else { write!(f, " ({})", remarks.join(", ")) }
    }
}

impl Element {
    /// Returns the packages that it requests in `package-installs.json`, in
    /// `package-installs.yaml`, and in the older plain lists `<phase>/package-installs-<name>`.
    pub fn package_list(&self) -> Result<PackageList, DocumentError> {
        let mut list = Vec::new();
        for path in ["package-installs.json", "package-installs.yaml"] {
            if let Some(text) = self.text(path).filter(|text| !text.trim_ascii().is_empty()) {
                list.extend(entries(parse_document(&self.name, path, text)?));
            }
        }
        list.extend(PACKAGE_PHASES.into_iter().flat_map(|phase| self.plain_entries(phase)));
        Ok(PackageList(list))
    }

    fn plain_entries(&self, phase: Phase) -> Vec<PackageEntry> {
        let mut entries = Vec::new();
        for (path, file) in self.files_below(phase.dir()) {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let chosen = if dir.is_empty() { Some(Vec::new()) } else { chosen_type(dir) };
            let Some(conditions) = chosen.filter(|_| name.starts_with("package-installs-")) else { continue };
            let text = String::from_utf8_lossy(file.text.as_deref().unwrap_or_default());
            entries.extend(text.lines().filter_map(|line| plain_entry(phase, line, &conditions)));
        }
        entries
    }
}

/// Returns the condition under which a list in the directory of an install type counts.
fn chosen_type(dir: &str) -> Option<Vec<Condition>> {
    let (variable, kind) = install_type_of(dir)?;
    Some(vec![Condition::ChosenType(variable, kind.to_owned())])
}

fn plain_entry(phase: Phase, line: &str, conditions: &[Condition]) -> Option<PackageEntry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (package, action) = match line.strip_prefix('-') {
        Some(package) => (package, PackageAction::Uninstall),
        None => (line, PackageAction::Install),
    };
    Some(PackageEntry { package: package.to_owned(), phase, action, conditions: conditions.to_vec() })
}

fn entries(file: PackageFile) -> impl Iterator<Item = PackageEntry> {
    let rules = file
        .0
        .into_iter()
        .flat_map(|(package, rules)| rules.0.into_iter().map(move |rule| (package.clone(), rule)));
    rules.map(|(package, Rule { phase, action, conditions })| PackageEntry {
        package,
        phase,
        action,
        conditions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    fn list(text: &str) -> Result<Vec<PackageEntry>, DocumentError> {
        element("web").file("package-installs.yaml", text).build().package_list().map(|list| list.0)
    }

    #[test]
    fn every_key_is_read() {
        let text = "\
# kernel
plain:
empty: ''
none: []
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
                entry("none", Phase::Install, install, none()),
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
    fn an_invalid_rule_is_an_error_with_line_and_column() {
        let table = [
            ("a: {arch: x, not-arch: y}", "line 1, column 4: `arch` and `not-arch` exclude each other"),
            (
                "a:\n  phase: root.d\n",
                "line 2, column 3: packages are installed in `pre-install.d`, `install.d` and `post-install.d`, not in `root.d`",
            ),
            (
                "a: {when: DIB_X}",
                "line 1, column 4: `when: DIB_X` is not `VARIABLE = value` or `VARIABLE != value`",
            ),
            (
                "a: {when: DIB_X == 1}",
                "line 1, column 4: `when: DIB_X == 1`: expected one `=` or `!=`, and a value without quotes",
            ),
            (
                "a: {when: 'DIB_X != \"1\"'}",
                "line 1, column 4: `when: DIB_X != \"1\"`: expected one `=` or `!=`, and a value without quotes",
            ),
            ("a: {uninstal: true}", "line 1, column 4: unknown key `uninstal`: did you mean `uninstall`?"),
            (
                "b:\na:\n  - arch: x\n    pase: 1\n",
                "line 3, column 5: unknown key `pase`: did you mean `phase`?",
            ),
            ("a: {phase: [x, y]}", "line 1, column 4: `phase` is a list, expected one value"),
            ("-oX=y:\n", "line 1, column 1: `-oX=y` is not the name of a package"),
            ("a: install.d", "line 1, column 1: "),
            ("- a\n- b\n", "line 1, column 1: "),
        ];
        for (text, expected) in table {
            let error = list(text).unwrap_err().to_string();
            let expected = format!("`package-installs.yaml` of element `web`, {expected}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn remarks_are_ignored() {
        let remarked = "a: {description: for tests, owners: [me, {too: 1}], arch: x}";
        assert_eq!(list(remarked).unwrap(), list("a: {arch: x}").unwrap());
    }

    #[test]
    fn errors_in_json_have_line_and_column() {
        let element =
            element("web").file("package-installs.json", "{\n  \"a\": {\n    \"pase\": 1 } }").build();
        assert_eq!(
            element.package_list().unwrap_err().to_string(),
            "`package-installs.json` of element `web`, line 3, column 10: unknown key `pase`: did you mean `phase`?"
        );
    }

    #[test]
    fn both_files_and_the_older_plain_lists_are_read() {
        let element = element("web")
            .file("package-installs.json", "{\"a\": null}")
            .file("package-installs.yaml", "# nothing yet\n")
            .file("post-install.d/package-installs-web", "# comment\n\n b \n-c\n")
            .file("install.d/web-package-install/package-installs-web", "d\n")
            .file("install.d/other/package-installs-web", "e\n")
            .build();
        let entries = element.package_list().unwrap().0;
        let found: Vec<_> =
            entries.iter().map(|entry| (entry.package.as_str(), entry.phase, entry.action)).collect();
        assert_eq!(
            found,
            [
                ("a", Phase::Install, PackageAction::Install),
                ("d", Phase::Install, PackageAction::Install),
                ("b", Phase::PostInstall, PackageAction::Install),
                ("c", Phase::PostInstall, PackageAction::Uninstall),
            ]
        );
        let chosen = Condition::ChosenType("DIB_INSTALLTYPE_web".to_owned(), "package".to_owned());
        assert_eq!(entries[1].conditions, [chosen]);
    }
}

//! Merges the package lists of all elements.
//!
//! Source: diskimage-builder, element `package-installs`, `package-installs-squash`.

use std::collections::BTreeMap;

use super::package_list::{PackageEntry, PackageList};
use super::package_rule::{Condition, PackageAction};
use super::{ElementName, Phase};

/// The packages to install and remove, by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageRequests(BTreeMap<Phase, PhaseRequests>);

/// The packages to install and remove in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PhaseRequests {
    /// Installed at the start of the phase, or at the element's position in it.
    pub install: Vec<PackageRequest>,
    /// Removed after all elements.
    pub uninstall: Vec<PackageRequest>,
}

/// A package and the element that requests it. The map of that element translates the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageRequest {
    /// The name in the list.
    pub package: String,
    pub element: ElementName,
}

/// A condition on an unset variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("package `{package}` of element `{element}` depends on variable `{variable}`, which is not set")]
pub struct UnsetVariableError {
    pub element: ElementName,
    pub package: String,
    pub variable: String,
}

impl PackageRequests {
    /// Merges the lists of elements, in their order. Entries count if their conditions hold with
    /// these variables.
    ///
    /// A package that one element installs is not removed for another. Installations of an element
    /// depend on its own list alone; removals depend on all lists.
    ///
    /// # Errors
    /// If a condition names a variable that is not set.
    pub fn squash<'a>(
        lists: impl IntoIterator<Item = (&'a ElementName, &'a PackageList)>,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, UnsetVariableError> {
        let mut requests = Self::default();
        for (element, list) in lists {
            for entry in &list.0 {
                requests.add(element, entry, variables)?;
            }
        }
        Ok(requests)
    }

    /// Returns the requests of one phase.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRequests> {
        self.0.get(&phase)
    }

    /// Returns the packages that `element` installs in `phase`, in the order of its list and
    /// without duplicates.
    pub fn installs(&self, phase: Phase, element: &ElementName) -> Vec<&str> {
        let mut packages: Vec<&str> = Vec::new();
        let requests = self.0.get(&phase).into_iter().flat_map(|requests| &requests.install);
        for request in requests.filter(|request| request.element == *element) {
            if !packages.contains(&request.package.as_str()) {
                packages.push(&request.package);
            }
        }
        packages
    }

    fn add(
        &mut self,
        element: &ElementName,
        entry: &PackageEntry,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), UnsetVariableError> {
        let requests = self.0.entry(entry.phase).or_default();
        let removes = requests.removes(entry);
        // diskimage-builder counts these entries even if their conditions do not hold.
        if entry.action == PackageAction::Install {
            requests.uninstall.retain(|request| request.package != entry.package);
        }
        if !holds(element, entry, variables)? {
            return Ok(());
        }
        let request = PackageRequest { package: entry.package.clone(), element: element.clone() };
        if entry.action != PackageAction::Uninstall {
            requests.install.push(request.clone());
        }
        if removes {
            requests.uninstall.push(request);
        }
        Ok(())
    }
}

impl PhaseRequests {
    /// Returns true if the entry removes its package: it stays if an entry installs it and no entry
    /// removes it.
    fn removes(&self, entry: &PackageEntry) -> bool {
        let asked = |list: &[PackageRequest]| list.iter().any(|request| request.package == entry.package);
        let wanted = asked(&self.install) && !asked(&self.uninstall);
        entry.action != PackageAction::Install && !wanted
    }
}

fn holds(
    element: &ElementName,
    entry: &PackageEntry,
    variables: &BTreeMap<String, String>,
) -> Result<bool, UnsetVariableError> {
    for condition in &entry.conditions {
        let judged = judge(condition, element, variables).map_err(|variable| UnsetVariableError {
            element: element.clone(),
            package: entry.package.clone(),
            variable,
        });
        if !judged? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether the condition holds, or the name of the unset variable.
fn judge(
    condition: &Condition,
    element: &ElementName,
    variables: &BTreeMap<String, String>,
) -> Result<bool, String> {
    let value = |name: &str| variables.get(name).ok_or_else(|| name.to_owned());
    Ok(match condition {
        Condition::InstallType(wanted) => install_type(element, variables) == wanted,
        Condition::ChosenType(variable, wanted) => chosen_type(variable, variables) == wanted,
        Condition::Architecture(list) => list.contains(value("ARCH")?),
        Condition::NotArchitecture(list) => !list.contains(value("ARCH")?),
        Condition::PythonVersion(wanted) => variables.get("DIB_PYTHON_VERSION") == Some(wanted),
        Condition::Equal(name, wanted) => value(name)? == wanted,
        Condition::NotEqual(name, unwanted) => value(name)? != unwanted,
    })
}

/// Returns the install type of an element: `DIB_INSTALLTYPE_<element>`, else
/// `DIB_DEFAULT_INSTALLTYPE`, else `source`.
pub fn install_type<'a>(element: &ElementName, variables: &'a BTreeMap<String, String>) -> &'a str {
    chosen_type(&format!("DIB_INSTALLTYPE_{}", element.in_variable()), variables)
}

/// Returns the install type that `variable` chooses, else the default type.
fn chosen_type<'a>(variable: &str, variables: &'a BTreeMap<String, String>) -> &'a str {
    let own = variables.get(variable);
    own.or_else(|| variables.get("DIB_DEFAULT_INSTALLTYPE")).map_or("source", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture;

    fn squash(lists: &[&str], variables: &[(&str, &str)]) -> Result<PackageRequests, UnsetVariableError> {
        let elements: Vec<_> = (1..)
            .zip(lists)
            .map(|(number, list)| {
                fixture::element(&format!("test_element{number}")).file("package-installs.yaml", list).build()
            })
            .collect();
        let lists: Vec<_> = elements.iter().map(|element| element.package_list().unwrap()).collect();
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        PackageRequests::squash(elements.iter().map(|element| &element.name).zip(&lists), &variables)
    }

    /// Returns installs and uninstalls of `install.d` as `package element-number`.
    fn texts(requests: &PackageRequests) -> (Vec<String>, Vec<String>) {
        let text = |request: &PackageRequest| {
            format!("{} {}", request.package, request.element.as_str().trim_start_matches("test_element"))
        };
        let phase = requests.phase(Phase::Install).cloned().unwrap_or_default();
        (phase.install.iter().map(text).collect(), phase.uninstall.iter().map(text).collect())
    }

    const KERNELS: &str = "\
linux-image-generic:
  - not-arch: arm64
    when: DIB_UBUNTU_KERNEL = linux-image-generic
  - arch: arm64
    when: [DIB_RELEASE != xenial, DIB_UBUNTU_KERNEL = linux-image-generic]
linux-generic-hwe-16.04:
  arch: arm64
  when: [DIB_RELEASE = xenial, DIB_UBUNTU_KERNEL = linux-image-generic]
";

    /// Source: diskimage-builder, `package-installs/tests/test_package_squash.py`.
    #[test]
    fn lists_are_merged_as_diskimage_builder_merges_them() {
        let kernel = |arch, release| {
            vec![("ARCH", arch), ("DIB_RELEASE", release), ("DIB_UBUNTU_KERNEL", "linux-image-generic")]
        };
        let feature = vec![("DIB_FEATURE", "1")];
        let features = vec![("DIB_A_FEATURE", "1"), ("DIB_B_FEATURE", "1"), ("DIB_C_FEATURE", "1")];
        type Case<'a> = (&'a [&'a str], Vec<(&'a str, &'a str)>, &'a [&'a str], &'a [&'a str]);
        let table: [Case; 11] = [
            (&["test_package: ''"], vec![], &["test_package 1"], &[]),
            (
                &["test_package: ''\ntest_arm64_package: {arch: arm64}\ndo_not_install: {not-arch: arm64}"],
                vec![("ARCH", "arm64")],
                &["test_package 1", "test_arm64_package 1"],
                &[],
            ),
            (&[KERNELS], kernel("x86_64", "focal"), &["linux-image-generic 1"], &[]),
            (&[KERNELS], kernel("arm64", "xenial"), &["linux-generic-hwe-16.04 1"], &[]),
            (&[KERNELS], kernel("arm64", "focal"), &["linux-image-generic 1"], &[]),
            (
                &[
                    "a: {when: DIB_FEATURE=0}\nb: {when: DIB_FEATURE=1}\nc: {when: DIB_FEATURE!=0}\nd: {when: DIB_FEATURE!=1}",
                ],
                feature,
                &["b 1", "c 1"],
                &[],
            ),
            (
                &[
                    "a: {when: [DIB_A_FEATURE=1, DIB_B_FEATURE=1, DIB_C_FEATURE=1]}\nb: {when: [DIB_A_FEATURE=1, DIB_B_FEATURE=0, DIB_C_FEATURE=1]}",
                ],
                features,
                &["a 1"],
                &[],
            ),
            (&["p: ''", "p: {build-only: 'true'}"], vec![], &["p 1", "p 2"], &[]),
            (&["p: {build-only: 'true'}"], vec![], &["p 1"], &["p 1"]),
            (&["p: {build-only: 'true'}", "p: ''"], vec![], &["p 1", "p 2"], &[]),
            (&["p: ''", "p: {uninstall: true}", "q: {uninstall: true}"], vec![], &["p 1"], &["q 3"]),
        ];
        for (lists, variables, install, uninstall) in table {
            let (installs, uninstalls) = texts(&squash(lists, &variables).unwrap());
            assert_eq!(
                (installs, uninstalls),
                (
                    install.iter().map(|s| s.to_string()).collect(),
                    uninstall.iter().map(|s| s.to_string()).collect()
                ),
                "{lists:?}"
            );
        }
    }

    #[test]
    fn an_unset_variable_is_an_error() {
        let error = squash(&["package: {when: MISSING_VAR=1}"], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "package `package` of element `test_element1` depends on variable `MISSING_VAR`, which is not set"
        );
    }

    #[test]
    fn the_install_type_is_the_elements_own_or_the_default() {
        let lists = ["a: {installtype: package}\nb: {installtype: source}"];
        let table: [(&[(&str, &str)], &str); 3] = [
            (&[], "b 1"),
            (&[("DIB_DEFAULT_INSTALLTYPE", "package")], "a 1"),
            (&[("DIB_DEFAULT_INSTALLTYPE", "package"), ("DIB_INSTALLTYPE_test_element1", "source")], "b 1"),
        ];
        for (variables, expected) in table {
            assert_eq!(texts(&squash(&lists, variables).unwrap()).0, [expected]);
        }
    }

    #[test]
    fn an_element_installs_each_of_its_own_packages_once() {
        let requests = squash(&["a: [{}, {}]\nb:", "b:"], &[]).unwrap();
        assert_eq!(requests.installs(Phase::Install, &"test_element1".parse().unwrap()), ["a", "b"]);
        assert_eq!(
            requests.installs(Phase::PreInstall, &"test_element1".parse().unwrap()),
            Vec::<&str>::new()
        );
    }
}

//! Finds errors and probable mistakes in elements, before anything is built.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::order::find_cycle;
use super::{
    Assignments, Catalog, Element, ElementName, Hook, NativeProvider, OPERATING_SYSTEM, Phase, SLOT_FILE,
    duplicate_hooks, nearest,
};

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub element: ElementName,
    /// The file, relative to the element; `None` for the element as a whole.
    pub file: Option<String>,
    pub severity: Severity,
    /// A sentence without full stop.
    pub message: String,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No image with the element can be built.
    Error,
    /// The element probably does not do what its author intended.
    Warning,
}

/// Checks all elements of `catalog`. `provided` are the names that bases provide. Findings are
/// sorted by element, then by file.
pub fn check_elements(catalog: &Catalog, provided: &BTreeSet<ElementName>) -> Vec<Finding> {
    let known = Known::new(catalog, provided);
    let mut findings: Vec<_> = catalog.iter().flat_map(|element| check_element(element, &known)).collect();
    findings.extend(catalog.unusable().iter().map(|(element, unusable)| Finding {
        element: element.clone(),
        file: None,
        severity: Severity::Error,
        message: unusable.to_string(),
    }));
    findings.extend(check_duplicates(catalog));
    findings.extend(check_cycles(catalog));
    findings.sort();
    findings
}

fn check_element(element: &Element, known: &Known<'_>) -> Vec<Finding> {
    let mut report = Report { element, findings: Vec::new() };
    report.hooks();
    report.directories();
    report.strays(known);
    report.modes();
    report.slots();
    report.lists();
    report.repeated_keys();
    report.dependencies(known);
    report.documentation(known);
    report.findings
}

/// Facts about all elements of a catalog.
struct Known<'a> {
    elements: Vec<&'a Element>,
    /// All valid names in `element-deps`.
    names: BTreeSet<&'a str>,
    /// The `DIB_` variables that each element mentions.
    variables: BTreeMap<&'a ElementName, BTreeSet<String>>,
}

impl<'a> Known<'a> {
    fn new(catalog: &'a Catalog, provided: &'a BTreeSet<ElementName>) -> Self {
        let own = catalog.iter().map(|element| element.name.as_str());
        let by_elements = catalog.iter().flat_map(|element| &element.provides).map(ElementName::as_str);
        let native = NativeProvider::ALL.map(NativeProvider::name);
        let by_bases = provided.iter().map(ElementName::as_str).chain([OPERATING_SYSTEM]);
        Self {
            elements: catalog.iter().map(AsRef::as_ref).collect(),
            names: own.chain(by_elements).chain(native).chain(by_bases).collect(),
            variables: catalog.iter().map(|element| (&element.name, dib_variables(element))).collect(),
        }
    }

    fn is_mentioned(&self, variable: &str) -> bool {
        self.variables.values().any(|variables| variables.contains(variable))
    }
}

/// Returns the `DIB_` variables that an element's files mention, including `environment.d`.
fn dib_variables(element: &Element) -> BTreeSet<String> {
    let texts = element.files.values().filter_map(|file| file.text.as_deref());
    texts.flat_map(|text| identifiers_of(&String::from_utf8_lossy(text))).collect()
}

fn identifiers_of(text: &str) -> BTreeSet<String> {
    super::variables::identifiers(text).filter(|name| name.starts_with("DIB_")).map(str::to_owned).collect()
}

/// Collects the findings of one element.
struct Report<'a> {
    element: &'a Element,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, severity: Severity, file: Option<String>, message: impl ToString) {
        let message = message.to_string();
        self.findings.push(Finding { element: self.element.name.clone(), file, severity, message });
    }

    fn hooks(&mut self) {
        for skipped in self.element.skipped_hooks() {
            self.add(Severity::Warning, Some(skipped.path()), skipped);
        }
        for hook in Phase::ALL.into_iter().flat_map(|phase| self.element.hooks(phase)) {
            if let Some((severity, message)) = interpreter_fault(&hook) {
                self.add(severity, Some(hook.path()), message);
            }
        }
    }

    /// Finds phases that plywood replaces or skips.
    fn directories(&mut self) {
        let top = self.element.files.keys().filter_map(|path| path.split_once('/')).map(|(dir, _)| dir);
        for dir in top.collect::<BTreeSet<_>>() {
            match dir.parse::<Phase>() {
                Ok(Phase::Root) => self.add(
                    Severity::Warning,
                    Some(dir.to_owned()),
                    "hooks in `root.d` do not run on a base, which is a root file system already",
                ),
                Ok(phase @ Phase::BlockDevice) if !self.element.hooks(phase).is_empty() => self.add(
                    Severity::Error,
                    Some(dir.to_owned()),
                    "images with hooks in `block-device.d` are refused: plywood makes the disk",
                ),
                _ => {}
            }
        }
    }

    /// Finds files and directories that are ignored because their names are misspelled.
    fn strays(&mut self, known: &Known<'_>) {
        for stray in self.element.strays(known.elements.iter().copied()) {
            let file = stray.name.trim_end_matches('/').to_owned();
            self.add(Severity::Error, Some(file), stray);
        }
    }

    fn modes(&mut self) {
        for widened in self.element.widened() {
            self.add(Severity::Warning, Some(widened.path.clone()), widened);
        }
    }

    /// Finds slot rules without effect, and rules that contradict plywood's table.
    fn slots(&mut self) {
        for conflict in self.element.slot_conflicts() {
            self.add(Severity::Warning, Some(SLOT_FILE.to_owned()), conflict);
        }
    }

    fn lists(&mut self) {
        let results = [
            (
                "package-installs.yaml",
                self.element.package_list().map(drop).map_err(|error| error.to_string()),
            ),
            ("pkg-map", self.element.package_map().map(drop).map_err(|error| error.to_string())),
            ("svc-map", self.element.service_names().map(drop).map_err(|error| error.to_string())),
        ];
        for (file, result) in results {
            if let Err(message) = result {
                self.add(Severity::Error, Some(file.to_owned()), message);
            }
        }
    }

    fn repeated_keys(&mut self) {
        for repeated in self.element.repeated_keys() {
            self.add(Severity::Warning, Some(repeated.path.clone()), repeated);
        }
    }

    fn dependencies(&mut self, known: &Known<'_>) {
        for dep in self.element.deps.iter().filter(|dep| !known.names.contains(dep.as_str())) {
            let hint = nearest(dep.as_str(), known.names.iter().copied());
            let hint = hint.map(|hint| format!(": did you mean `{hint}`?")).unwrap_or_default();
            self.add(
                Severity::Error,
                Some("element-deps".to_owned()),
                format!("element `{dep}` not found{hint}"),
            );
        }
    }

    /// Compares the variables in the README with those that the files set and read.
    fn documentation(&mut self, known: &Known<'_>) {
        let Some(readme) = &self.element.readme else {
            return self.add(Severity::Warning, None, "the element has no README.md or README.rst");
        };
        let documented = identifiers_of(readme);
        for variable in self.options().difference(&documented) {
            self.add(Severity::Warning, None, format!("the README does not mention the option `{variable}`"));
        }
        for variable in
            documented.iter().filter(|variable| is_name(variable) && !known.is_mentioned(variable))
        {
            self.add(
                Severity::Warning,
                None,
                format!("the README mentions `{variable}`, which no file reads"),
            );
        }
    }

    /// Returns the `DIB_` variables to which its `environment.d` gives a default.
    fn options(&self) -> BTreeSet<String> {
        let fragments = self.element.environment_fragments();
        let texts = fragments.into_iter().filter_map(|(_, file)| file.text.as_deref());
        let names = texts.flat_map(|text| Assignments::of(text).names);
        names.filter(|name| name.starts_with("DIB_")).collect()
    }
}

/// Returns true if a README names a variable, and not a group of variables such as
/// `DIB_INSTALLTYPE_<element>`.
fn is_name(variable: &str) -> bool {
    !variable.ends_with('_')
}

/// Returns the reason why the kernel cannot run a hook. A missing interpreter line is only a
/// warning, because bash then runs the hook.
fn interpreter_fault(hook: &Hook<'_>) -> Option<(Severity, &'static str)> {
    let text = hook.file.text.as_deref()?;
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match first {
        _ if text.starts_with(b"\x7fELF") => None,
        line if !line.starts_with(b"#!") => Some((
            Severity::Warning,
            "the first line names no interpreter, so bash runs the hook (add `#!/bin/bash`)",
        )),
        line if line.ends_with(b"\r") => Some((
            Severity::Error,
            "the hook has CRLF line endings, so the kernel cannot find its interpreter",
        )),
        _ => None,
    }
}

fn check_duplicates(catalog: &Catalog) -> impl Iterator<Item = Finding> {
    let duplicates = duplicate_hooks(catalog.iter().map(AsRef::as_ref));
    duplicates.into_iter().map(|duplicate| Finding {
        message: format!("{duplicate}, so diskimage-builder refuses them in one image"),
        element: duplicate.second,
        file: Some(duplicate.path),
        severity: Severity::Warning,
    })
}

fn check_cycles(catalog: &Catalog) -> Option<Finding> {
    // Only a warning, because images in phase order can use such elements.
    let error = find_cycle(catalog.iter())?;
    let element = error.cycle.first()?.clone();
    let file = Some("element-deps".to_owned());
    let message = format!("{error}, so only images in phase order can use them");
    Some(Finding { element, file, severity: Severity::Warning, message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::{Builder, element, names};

    fn good(name: &str) -> Builder {
        element(name).readme("An element.")
    }

    fn found(elements: Vec<Element>) -> Vec<String> {
        let provided = names(&["dpkg"]).into_iter().collect();
        let findings = check_elements(&Catalog::new(elements), &provided);
        let file = |finding: &Finding| finding.file.clone().unwrap_or_default();
        findings
            .iter()
            .map(|found| format!("{:?} {} {}: {}", found.severity, found.element, file(found), found.message))
            .collect()
    }

    #[test]
    fn a_good_element_has_no_findings() {
        let element = element("web")
            .readme("DIB_WEB_PORT: the port. Needs DIB_RELEASE. See DIB_INSTALLTYPE_.")
            .deps(&["package-installs", "dpkg", "operating-system", "mail", "web"])
            .provides(&["mail"])
            .hook("install.d/50-web", "#!/bin/bash\necho $DIB_WEB_PORT $DIB_RELEASE")
            .file("environment.d/10-web", "export DIB_WEB_PORT=${DIB_WEB_PORT:-80}")
            .file("modprobe.d/web.conf", "")
            .build();
        assert_eq!(found(vec![element]), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_found() {
        let table = [
            (
                good("a").file("install.d/50-x", "#!"),
                "Warning a install.d/50-x: `install.d/50-x` is not executable, so it does not run",
            ),
            (
                good("a").hook("install.d/50-x.sh", "#!"),
                "Warning a install.d/50-x.sh: `install.d/50-x.sh` has '.' in its name, so it does not run",
            ),
            (
                good("a").hook("install.d/x", "echo"),
                "Warning a install.d/x: the first line names no interpreter, so bash runs the hook (add `#!/bin/bash`)",
            ),
            (
                good("a").hook("install.d/x", "#!/bin/sh\r\n"),
                "Error a install.d/x: the hook has CRLF line endings, so the kernel cannot find its interpreter",
            ),
            (
                good("a").file("finalize.d/x", ""),
                "Error a finalize.d: `finalize.d/` is ignored: did you mean `finalise.d/`?",
            ),
            (
                good("a").hook("root.d/x", "#!"),
                "Warning a root.d: hooks in `root.d` do not run on a base, which is a root file system already",
            ),
            (
                good("a").hook("block-device.d/x", "#!"),
                "Error a block-device.d: images with hooks in `block-device.d` are refused: plywood makes the disk",
            ),
            (
                good("a").file("package-installs.yaml", "x: {uninstal: 1}"),
                "Error a package-installs.yaml: `package-installs.yaml` of element `a`, line 1, column 4: unknown key `uninstal`: did you mean `uninstall`?",
            ),
            (
                good("a").file("package-installs.yaml", "x:\ny:\nx:\n"),
                "Warning a package-installs.yaml: `package-installs.yaml` of element `a`, line 3, column 1: `x` is listed twice: the last entry counts",
            ),
            (
                good("a").file("pkg-map", "{"),
                "Error a pkg-map: `pkg-map` of element `a`, line 1, column 1: EOF while parsing an object",
            ),
            (
                good("a").file("svc-map", "x: y"),
                "Error a svc-map: `svc-map` of element `a`, line 1, column 4: expected mapping start",
            ),
            (
                good("a").slots("install.d/50-x late"),
                "Warning a plywood-slots: line 1: no hook of `install.d` has a name that starts with `50-x`",
            ),
            (
                good("a").deps(&["pakage-installs"]),
                "Error a element-deps: element `pakage-installs` not found: did you mean `package-installs`?",
            ),
            (element("a"), "Warning a : the element has no README.md or README.rst"),
            (
                good("a").file("environment.d/x", "DIB_A=1"),
                "Warning a : the README does not mention the option `DIB_A`",
            ),
            (element("a").readme("DIB_B"), "Warning a : the README mentions `DIB_B`, which no file reads"),
        ];
        for (element, expected) in table {
            assert_eq!(found(vec![element.build()]), [expected]);
        }
    }

    #[test]
    fn faults_between_elements_are_found() {
        let elements = vec![
            good("a").deps(&["b"]).hook("install.d/50-x", "#!").build(),
            good("b").deps(&["a"]).hook("install.d/50-x", "#!").build(),
        ];
        assert_eq!(
            found(elements),
            [
                "Warning a element-deps: elements depend on each other: `a` → `b` → `a`, so only images in phase order can use them",
                "Warning b install.d/50-x: elements `a` and `b` both have a file `install.d/50-x`, so diskimage-builder refuses them in one image",
            ]
        );
    }
}

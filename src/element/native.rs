//! Elements whose work plywood does itself.

use std::collections::BTreeSet;

use super::{Condition, Element, ElementName, PACKAGE_PHASES, PROVIDER_DATA, Phase};

/// An element of diskimage-builder that processes the data of all other elements together.
///
/// With one layer for each element, such an element cannot be a layer: all others depend on it, so
/// its layer would come first, before the files that it processes. plywood does its work in each
/// layer, for that layer's element alone. `element-deps` and images may name the element. Its
/// directory, if there is one, is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NativeProvider {
    /// Gives hooks `dib-init-system` and installs `init-scripts/<init system>/`.
    InitSystem,
    /// Runs the hooks.
    RunParts,
    /// Installs `bin/` to `/usr/local/bin`.
    InstallBin,
    /// Copies `static/` onto the root.
    InstallStatic,
    /// Chooses the directories `install.d/<name>-<type>-install/`.
    InstallTypes,
    /// Writes the contents of the image into `DIB_MANIFEST_IMAGE_DIR`.
    Manifests,
    /// Installs and removes the packages in `package-installs.yaml`.
    PackageInstalls,
    /// Gives hooks `pkg-map` and its data.
    PackageMap,
    /// Fetches the sources in `source-repository-<name>`.
    SourceRepositories,
    /// Gives hooks `svc-map` and its data.
    ServiceMap,
}

impl NativeProvider {
    /// All providers, by name.
    pub const ALL: [NativeProvider; 10] = [
        NativeProvider::InitSystem,
        NativeProvider::RunParts,
        NativeProvider::InstallBin,
        NativeProvider::InstallStatic,
        NativeProvider::InstallTypes,
        NativeProvider::Manifests,
        NativeProvider::PackageInstalls,
        NativeProvider::PackageMap,
        NativeProvider::SourceRepositories,
        NativeProvider::ServiceMap,
    ];

    /// Returns the element's name.
    pub const fn name(self) -> &'static str {
        match self {
            NativeProvider::InitSystem => "dib-init-system",
            NativeProvider::RunParts => "dib-run-parts",
            NativeProvider::InstallBin => "install-bin",
            NativeProvider::InstallStatic => "install-static",
            NativeProvider::InstallTypes => "install-types",
            NativeProvider::Manifests => "manifests",
            NativeProvider::PackageInstalls => "package-installs",
            NativeProvider::PackageMap => "pkg-map",
            NativeProvider::SourceRepositories => "source-repositories",
            NativeProvider::ServiceMap => "svc-map",
        }
    }

    /// Returns the provider that stands in for the element `name`.
    pub fn of(name: &ElementName) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name.as_str())
    }
}

/// The phases in which plywood replaces the hooks of an element, for each element's own data. Hooks
/// of these elements in other phases run normally.
///
/// The last two are not in [`NativeProvider`], because their other hooks run.
const DONE_NATIVELY: [(&str, &[Phase]); 11] = [
    ("dib-init-system", &[Phase::Install]),
    ("install-bin", &[Phase::PreInstall]),
    ("install-static", &[Phase::Install]),
    ("install-types", &[Phase::ExtraData]),
    ("manifests", &[Phase::Cleanup]),
    ("package-installs", &[Phase::ExtraData, Phase::PreInstall, Phase::Install, Phase::PostInstall]),
    ("pkg-map", &[Phase::ExtraData]),
    ("source-repositories", &[Phase::ExtraData]),
    ("svc-map", &[Phase::ExtraData]),
    ("dracut-regenerate", &[Phase::ExtraData]),
    ("modprobe", &[Phase::ExtraData]),
];

/// Returns true if plywood replaces the hooks of `element` in `phase`.
pub fn is_done_natively(element: &ElementName, phase: Phase) -> bool {
    DONE_NATIVELY.iter().any(|(name, phases)| *name == element.as_str() && phases.contains(&phase))
}

/// Directories whose files the providers copy into the image.
const COPIED: [&str; 3] = ["bin", "init-scripts", "static"];

/// Returns true if a file of the hooks directory is input for a provider.
pub fn is_data_for_plywood(path: &str) -> bool {
    match path.split_once('/') {
        None => is_source_list(path) || PROVIDER_DATA.contains(&path),
        Some((dir, _)) => COPIED.contains(&dir) || plain_list_phase(path).is_some(),
    }
}

/// Returns true if a file at the top of the hooks directory lists sources to fetch.
pub fn is_source_list(name: &str) -> bool {
    name.starts_with("source-repository-") && !name.ends_with('~') && !name.contains('/')
}

/// Returns the phase in which the packages of a plain list are installed, by its path:
/// `install.d/package-installs-web`.
pub fn plain_list_phase(path: &str) -> Option<Phase> {
    let (dir, name) = path.split_once('/')?;
    let phase = PACKAGE_PHASES.into_iter().find(|phase| phase.dir() == dir)?;
    (name.starts_with("package-installs-") && !name.contains('/')).then_some(phase)
}

/// Returns true if a variable may change which sources are fetched, or from where.
pub fn is_source_variable(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["DIB_REPOTYPE_", "DIB_REPOLOCATION_", "DIB_REPOREF_", "DIB_INSTALLTYPE_"];
    const NAMES: [&str; 4] =
        ["DIB_GITREPOBASE", "DIB_DEFAULT_INSTALLTYPE", "DIB_OFFLINE", "NO_SOURCE_REPOSITORIES"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Tools that only replaced hooks call. Nothing that runs reads the files that they read. Element,
/// tool.
const NEVER_CALLED: [(&str, &str); 1] = [("package-installs", "bin/package-installs-squash")];

/// Returns true if the file at `path` of `element` is a program that never runs while an image is
/// built.
pub fn is_never_called(element: &ElementName, path: &str) -> bool {
    NEVER_CALLED.contains(&(element.as_str(), path))
}

/// Hooks that repeat a hook of another element under the same name: element, hook, the other
/// element. diskimage-builder refuses the two in one image.
const REPEATED: [(&str, &str, &str); 1] =
    [("modprobe-blacklist", "install.d/80-modprobe-blacklist", "modprobe")];

/// Returns the hook of `element` that repeats a hook of another element in the image, if there is
/// one.
pub(super) fn repeated_hook(element: &ElementName, in_image: impl Fn(&str) -> bool) -> Option<&'static str> {
    let row = REPEATED.iter().find(|(name, _, other)| *name == element.as_str() && in_image(other));
    row.map(|(_, hook, _)| *hook)
}

/// Values of variables that elements of diskimage-builder need to work today: element, variable,
/// value, reason.
const PRESETS: [(&str, &str, &str, &str); 2] = [
    (
        "dib-python",
        "DIB_PYTHON_VERSION",
        "3",
        "its own default for Debian is 2, and current Debian releases have no Python 2",
    ),
    ("manifests", "DIB_MANIFEST_IMAGE_DIR", "/etc/dib-manifests", "on a base, its environment.d is missing"),
];

/// Returns the variables that elements of these names need, with the values to use if the image
/// sets none.
pub fn preset_variables<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (String, String)> {
    let presets = names.flat_map(|name| PRESETS.iter().filter(move |preset| preset.0 == name));
    presets.map(|(_, variable, value, _)| ((*variable).to_owned(), (*value).to_owned()))
}

/// diskimage-builder's element that makes disks bootable.
const BOOT_LOADER: &str = "bootloader";

/// Its only hook. The hook would search for the disk among those of the build host, so plywood
/// replaces it.
pub const BOOT_LOADER_HOOK: &str = "finalise.d/50-bootloader";

/// Returns true if plywood replaces this element.
pub fn is_boot_loader(element: &Element) -> bool {
    element.name.as_str() == BOOT_LOADER && element.files.contains_key(BOOT_LOADER_HOOK)
}

/// Returns the variables that providers read for `element`, even if none of its files mention them.
/// Ignores lists of packages that cannot be parsed: other code reports them.
pub fn provider_variables(element: &Element) -> BTreeSet<String> {
    const ALWAYS: [&str; 5] =
        ["ARCH", "DIB_DEFAULT_INSTALLTYPE", "DIB_INIT_SYSTEM", "DIB_RELEASE", "DISTRO_NAME"];
    const BOOT_PACKAGES: [&str; 2] = ["DIB_BLOCK_DEVICE", "DIB_SKIP_GRUB_PACKAGE_INSTALL"];
    let conditions =
        element.package_list().unwrap_or_default().0.into_iter().flat_map(|entry| entry.conditions);
    let asks_for_python = conditions.into_iter().any(|it| matches!(it, Condition::PythonVersion(_)));
    let python = asks_for_python.then(|| "DIB_PYTHON_VERSION".to_owned());
    let own = format!("DIB_INSTALLTYPE_{}", element.name.in_variable());
    let boot = BOOT_PACKAGES.into_iter().filter(|_| element.name.as_str() == BOOT_LOADER);
    let names = ALWAYS.into_iter().chain(boot).map(str::to_owned).chain(python).chain([own]);
    names.chain(element.install_type_variables()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn replaced_hooks_are_distinguished_from_hooks_that_run() {
        for (element, phase, expected) in [
            ("package-installs", Phase::Install, true),
            ("dib-init-system", Phase::Install, true),
            ("dib-init-system", Phase::PreInstall, false),
            ("modprobe", Phase::ExtraData, true),
            ("modprobe", Phase::Install, false),
            ("web", Phase::Install, false),
        ] {
            assert_eq!(is_done_natively(&element.parse().unwrap(), phase), expected, "{element} {phase}");
        }
        let presets: Vec<_> = preset_variables(["web", "dib-python"].into_iter()).collect();
        assert_eq!(presets, [("DIB_PYTHON_VERSION".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn every_provider_is_found_by_its_name() {
        for provider in NativeProvider::ALL {
            assert_eq!(NativeProvider::of(&provider.name().parse().unwrap()), Some(provider));
        }
        assert_eq!(NativeProvider::of(&"base".parse().unwrap()), None);
    }

    #[test]
    fn providers_read_the_variables_that_an_elements_data_depends_on() {
        let plain = element("simple-init").build();
        let names = provider_variables(&plain);
        assert!(names.contains("DIB_INSTALLTYPE_simple_init") && !names.contains("DIB_PYTHON_VERSION"));
        let asking = element("web")
            .file("package-installs.yaml", "x: { dib_python_version: 3 }")
            .file("install.d/other-package-install/x", "")
            .build();
        let names = provider_variables(&asking);
        assert!(names.contains("DIB_PYTHON_VERSION") && names.contains("DIB_INSTALLTYPE_other"));
    }
}

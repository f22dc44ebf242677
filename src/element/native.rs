//! Elements whose work plywood does itself.

use std::collections::BTreeSet;

use super::ElementName;

/// An element of diskimage-builder that acts on the data of all others in one go.
///
/// With a layer an element that cannot be: as a dependency of everybody its layer comes first, so it would either do
/// everybody's work there, or nobody's. Plywood does its work in each layer, on that layer's element alone. The
/// element may be named in `element-deps` and in images; its directory, if there is one, is not used.
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
    /// Chooses among `install.d/<name>-<type>-install/`.
    InstallTypes,
    /// Keeps what the image is made of in `DIB_MANIFEST_IMAGE_DIR`.
    Manifests,
    /// Installs and removes what `package-installs.yaml` asks for.
    PackageInstalls,
    /// Gives hooks `pkg-map`, and the names it translates.
    PackageMap,
    /// Fetches what `source-repository-<name>` asks for.
    SourceRepositories,
    /// Gives hooks `svc-map`, and the names it translates.
    ServiceMap,
}

impl NativeProvider {
    /// All of them, by name.
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

/// The variables that providers read on behalf of the element `name`, though none of its files need mention them.
pub fn provider_variables(name: &ElementName) -> BTreeSet<String> {
    const ALWAYS: [&str; 6] = [
        "ARCH",
        "DIB_DEFAULT_INSTALLTYPE",
        "DIB_INIT_SYSTEM",
        "DIB_PYTHON_VERSION",
        "DIB_RELEASE",
        "DISTRO_NAME",
    ];
    let own = format!("DIB_INSTALLTYPE_{}", name.in_variable());
    ALWAYS.into_iter().map(str::to_owned).chain([own]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_found_by_its_name() {
        for provider in NativeProvider::ALL {
            assert_eq!(NativeProvider::of(&provider.name().parse().unwrap()), Some(provider));
        }
        assert_eq!(NativeProvider::of(&"base".parse().unwrap()), None);
    }

    #[test]
    fn the_install_type_of_an_element_has_its_name_in_a_variable() {
        let variables = provider_variables(&"simple-init".parse().unwrap());
        assert!(variables.contains("DIB_INSTALLTYPE_simple_init"), "{variables:?}");
    }
}

//! One base.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, BaseSource};
use crate::element::{ElementName, Family, OPERATING_SYSTEM};
use crate::oci::{Digest, canonical_json};

/// A base: a file `layers/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BaseDefinition {
    /// The distribution: hooks see it in `DISTRO_NAME`, maps of packages and services are searched
    /// for it.
    pub distro: String,
    /// The distribution's release: hooks see it in `DIB_RELEASE`.
    pub release: String,
    /// The distribution's family, for maps that do not name the distribution itself.
    pub family: Family,
    /// The architectures that the base supports.
    #[serde(default = "any_architecture")]
    pub architectures: BTreeSet<Architecture>,
    /// Elements that the base replaces, besides `operating-system`: `element-deps` may name them,
    /// and no directory is needed for them.
    #[serde(default)]
    pub provides: BTreeSet<ElementName>,
    /// Further variables for `environment.d` and hooks. An image's `env` overrides them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The source of its root file system.
    pub source: BaseSource,
}

fn any_architecture() -> BTreeSet<Architecture> {
    Architecture::ALL.into()
}

impl BaseDefinition {
    /// Returns every element name that the base provides, including `operating-system`.
    pub fn provided_names(&self) -> BTreeSet<ElementName> {
        let operating_system = OPERATING_SYSTEM.parse().ok();
        self.provides.iter().cloned().chain(operating_system).collect()
    }

    /// Returns the file of keys that the definition names.
    pub fn keyring(&self) -> Option<&PathBuf> {
        self.source.mmdebstrap()?.keyring.as_ref()
    }

    /// Returns the variables that elements rely on. The definition's `env` overrides them.
    pub fn variables(&self, architecture: Architecture) -> BTreeMap<String, String> {
        let facts = [
            ("ARCH", architecture.debian()),
            ("DISTRO_NAME", &self.distro),
            ("DIB_RELEASE", &self.release),
            ("DIB_INIT_SYSTEM", "systemd"),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        facts.into_iter().chain(self.env.clone()).collect()
    }

    /// Returns a digest of everything that decides the base's content. It contains digests instead
    /// of paths and references, so that it does not depend on where the base was stored.
    pub fn identity(&self) -> Digest {
        let mut base = self.clone();
        match &mut base.source {
            BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
                file.path = PathBuf::new();
            }
            BaseSource::Stored { reference, .. } => *reference = None,
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) => {}
        }
        Digest::of(canonical_json(&base))
    }

    /// Makes the path in its source relative to `dir`, the directory of the definition file.
    pub fn locate(&mut self, dir: &Path) {
        match &mut self.source {
            BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
                file.path = dir.join(&file.path);
            }
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) | BaseSource::Stored { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseDefinition {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_base_provides_an_operating_system_and_its_facts() {
        let base = base(
            "distro = 'debian'\nrelease = 'bookworm'\nfamily = 'debian'\nprovides = ['dpkg']\n\
             env = { DIB_INIT_SYSTEM = 'sysv' }\n[source.mmdebstrap]\nvariant = 'minbase'\nsuites = ['bookworm']\n",
        );
        let names: Vec<_> = base.provided_names().into_iter().map(String::from).collect();
        assert_eq!(names, ["dpkg", "operating-system"]);
        let variables = base.variables(Architecture::Amd64);
        let value = |name| variables.get(name).map(String::as_str);
        assert_eq!(value("ARCH"), Some("amd64"));
        assert_eq!(value("DIB_RELEASE"), Some("bookworm"));
        assert_eq!(value("DIB_INIT_SYSTEM"), Some("sysv"));
    }

    #[test]
    fn a_relative_path_starts_at_the_definition() {
        let digest = crate::oci::Digest::of("");
        for (kind, path, expected) in [
            ("rootfs-tar", "a.tar", "/layers/a.tar"),
            ("oci-layout", "../image", "/layers/../image"),
            ("docker-archive", "/srv/a.tar", "/srv/a.tar"),
        ] {
            let mut base = base(&format!(
                "distro = 'd'\nrelease = 'r'\nfamily = 'redhat'\n[source.{kind}]\npath = '{path}'\ndigest = '{digest}'\n"
            ));
            base.locate(Path::new("/layers"));
            let located = match &base.source {
                BaseSource::RootfsTar(file)
                | BaseSource::OciLayout(file)
                | BaseSource::DockerArchive(file) => file,
                other => panic!("{other:?}"),
            };
            assert_eq!(located.path, Path::new(expected));
        }
    }
}

//! Names of packages and services on a distribution.
//!
//! Source: diskimage-builder, elements `pkg-map` and `svc-map`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::document::{parse_document, repeated_key};
use super::nearest::not_misspelled;
use super::{DocumentError, Element, ElementName, Family, PROVIDER_DATA};

/// The distribution for which names are looked up.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    pub distro: &'a str,
    pub family: Option<Family>,
    pub release: &'a str,
}

impl<'a> Distribution<'a> {
    /// Returns the distribution `distro` with the family that diskimage-builder assigns to it.
    pub fn new(distro: &'a str, release: &'a str) -> Self {
        Self { distro, family: Family::of(distro), release }
    }
}

/// The sections of a `pkg-map`.
const SECTIONS: [&str; 4] = ["default", "family", "distro", "release"];

type Names = BTreeMap<String, Option<String>>;

/// An element's `pkg-map`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageMap {
    default: Names,
    family: BTreeMap<String, Names>,
    distro: BTreeMap<String, Names>,
    release: BTreeMap<String, BTreeMap<String, Names>>,
}

/// Implemented by hand: a derived implementation rejects duplicate sections, but diskimage-builder
/// uses the last one.
impl<'de> Deserialize<'de> for PackageMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sections;

        impl<'de> Visitor<'de> for Sections {
            type Value = PackageMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of sections")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut sections: A) -> Result<PackageMap, A::Error> {
                let mut map = PackageMap::default();
                while let Some(section) = sections.next_key::<String>()? {
                    match section.as_str() {
                        "default" => map.default = sections.next_value()?,
                        "family" => map.family = sections.next_value()?,
                        "distro" => map.distro = sections.next_value()?,
                        "release" => map.release = sections.next_value()?,
                        _ => {
                            not_misspelled(&section, SECTIONS).map_err(A::Error::custom)?;
                            sections.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(map)
            }
        }

        deserializer.deserialize_map(Sections)
    }
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// These names; empty if the distribution needs no package for it.
    To(Vec<String>),
    /// The map has no entry.
    Absent,
}

impl PackageMap {
    /// Returns every name with an entry in the map, sorted and without duplicates.
    pub fn names(&self) -> BTreeSet<&str> {
        let releases = self.release.values().flat_map(BTreeMap::values);
        let sections =
            self.family.values().chain(self.distro.values()).chain(releases).chain([&self.default]);
        sections.flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// Looks up a package: in the sections of the release, the distribution, the family, and the
    /// default, in this order.
    pub fn look_up(&self, package: &str, distribution: Distribution<'_>) -> Mapping {
        let Distribution { distro, family, release } = distribution;
        let release = if release == "8-stream" { "8" } else { release };
        let sections = [
            self.release.get(distro).and_then(|releases| releases.get(release)),
            self.distro.get(distro),
            family.and_then(|family| self.family.get(family.as_str())),
            Some(&self.default),
        ];
        let found = sections.into_iter().flatten().find_map(|names| names.get(package));
        found.map_or(Mapping::Absent, |names| {
            Mapping::To(names.iter().flat_map(|names| names.split_whitespace()).map(str::to_owned).collect())
        })
    }
}

/// The services of all elements, with their names on the distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceMap(BTreeMap<String, String>);

/// A service with entries in the maps of two elements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service `{service}` is in `svc-map` of element `{element}` and of an earlier element")]
pub struct DuplicateServiceError {
    pub service: String,
    pub element: ElementName,
}

/// An element's `svc-map`: service, then distribution, family or `default`.
pub type ServiceNames = BTreeMap<String, BTreeMap<String, String>>;

impl ServiceMap {
    /// Adds the map of one element.
    ///
    /// # Errors
    /// If one of its services has an entry already.
    pub fn add(
        &mut self,
        element: &ElementName,
        services: &ServiceNames,
        distribution: Distribution<'_>,
    ) -> Result<(), DuplicateServiceError> {
        for (service, names) in services {
            let name = service_name(service, names, distribution);
            if self.0.insert(service.clone(), name.to_owned()).is_some() {
                return Err(DuplicateServiceError { service: service.clone(), element: element.clone() });
            }
        }
        Ok(())
    }

    /// Returns service and name, in byte order of the services.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(service, name)| (service.as_str(), name.as_str()))
    }
}

fn service_name<'a>(
    service: &'a str,
    names: &'a BTreeMap<String, String>,
    distribution: Distribution<'_>,
) -> &'a str {
    let family = distribution.family.map(Family::as_str);
    let keys = [Some(distribution.distro), family, Some("default")];
    keys.into_iter().flatten().find_map(|key| names.get(key)).map_or(service, String::as_str)
}

impl Element {
    /// Returns its `pkg-map`, if it has one.
    pub fn package_map(&self) -> Result<Option<PackageMap>, DocumentError> {
        self.text("pkg-map").map(|text| parse_document(&self.name, "pkg-map", text)).transpose()
    }

    /// Returns the first duplicate key of each of its package lists and maps.
    pub fn repeated_keys(&self) -> Vec<DocumentError> {
        let files = PROVIDER_DATA.into_iter().filter_map(|path| Some((path, self.text(path)?)));
        files.filter_map(|(path, text)| repeated_key(&self.name, path, text)).collect()
    }

    /// Returns its `svc-map`, if it has one.
    pub fn service_names(&self) -> Result<Option<ServiceNames>, DocumentError> {
        self.text("svc-map").map(|text| parse_document(&self.name, "svc-map", text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn the_most_specific_section_of_a_package_map_wins() {
        let element = element("web")
            .file(
                "pkg-map",
                r#"{"default": {"a": "a-default", "b": "b1 b2", "c": "c", "d": "d"},
                    "family": {"debian": {"a": "a-family", "c": ""}, "redhat": {"d": "d-redhat"}},
                    "distro": {"ubuntu": {"a": "a-ubuntu"}, "centos": {"d": null}},
                    "release": {"ubuntu": {"noble": {"a": "a-noble"}}, "centos": {"8": {"a": "a-8"}}}}"#,
            )
            .build();
        let map = element.package_map().unwrap().unwrap();
        let table: [(&str, &str, &str, Option<&[&str]>); 9] = [
            ("a", "fedora", "40", Some(&["a-default"])),
            ("a", "debian", "bookworm", Some(&["a-family"])),
            ("a", "ubuntu", "jammy", Some(&["a-ubuntu"])),
            ("a", "ubuntu", "noble", Some(&["a-noble"])),
            ("a", "centos", "8-stream", Some(&["a-8"])),
            ("b", "debian", "bookworm", Some(&["b1", "b2"])),
            ("c", "debian", "bookworm", Some(&[])),
            ("d", "centos", "9", Some(&[])),
            ("e", "debian", "bookworm", None),
        ];
        for (package, distro, release, expected) in table {
            let found = map.look_up(package, Distribution::new(distro, release));
            let expected = expected.map_or(Mapping::Absent, |names| {
                Mapping::To(names.iter().map(|name| name.to_string()).collect())
            });
            assert_eq!(found, expected, "{package} {distro} {release}");
        }
    }

    #[test]
    fn a_misspelled_section_is_an_error_and_another_unknown_one_a_remark() {
        let map = |text: &str| element("web").file("pkg-map", text).build().package_map();
        let error = map(r#"{"famly": {"debian": {"a": "b"}}}"#).unwrap_err().to_string();
        assert!(error.contains("unknown key `famly`: did you mean `family`?"), "{error}");
        assert!(map(r#"{"comment": "of somebody", "default": {"a": "b"}}"#).is_ok());
    }

    const NOVA: &str = "\
nova-api: {debian: nova-api, default: openstack-nova-api}
nova-cert: {debian: nova-cert, default: openstack-nova-cert}
nova-compute: {debian: nova-compute, default: openstack-nova-compute}
nova-conductor: {debian: nova-conductor, default: openstack-nova-conductor}
nova-consoleauth: {debian: nova-console, default: openstack-nova-console}
";
    const GLANCE: &str = "glance-api: {debian: glance-api, default: openstack-glance-api}\n";
    const CINDER: &str = "\
cinder-api: {debian: cinder-api, default: openstack-cinder-api}
cinder-scheduler: {debian: cinder-scheduler, default: openstack-cinder-scheduler}
";

    /// Source: diskimage-builder, `svc-map/tests/test_data_merge.py`.
    #[test]
    fn services_of_all_elements_are_merged_for_the_distribution() {
        let services = ["nova-api", "nova-cert", "nova-compute", "nova-conductor", "nova-consoleauth"];
        let services = services.into_iter().chain(["glance-api", "cinder-api", "cinder-scheduler"]);
        for (distro, prefix) in [("fedora", "openstack-"), ("ubuntu", "")] {
            let mut map = ServiceMap::default();
            for (name, text) in [("nova", NOVA), ("glance", GLANCE), ("cinder", CINDER)] {
                let element = element(name).file("svc-map", text).build();
                let names = element.service_names().unwrap().unwrap();
                map.add(&element.name, &names, Distribution::new(distro, "any")).unwrap();
            }
            let expected: BTreeMap<String, String> = services
                .clone()
                .map(|service| {
                    (service.to_owned(), format!("{prefix}{}", service.replace("consoleauth", "console")))
                })
                .collect();
            assert_eq!(map.0, expected, "{distro}");
        }
    }

    #[test]
    fn the_last_of_duplicate_sections_or_keys_counts() {
        let text = r#"{"default": {"a": "1"}, "distro": {"debian": {"b": "1", "b": "2"}, "debian": {"b": "3"}},
                       "default": {"c": "1", "c": "2"}}"#;
        let map = element("web").file("pkg-map", text).build().package_map().unwrap().unwrap();
        let debian = Distribution::new("debian", "bookworm");
        for (package, expected) in [("a", None), ("b", Some("3")), ("c", Some("2"))] {
            let expected = expected.map_or(Mapping::Absent, |name| Mapping::To(vec![name.to_owned()]));
            assert_eq!(map.look_up(package, debian), expected, "{package}");
        }
    }

    #[test]
    fn a_service_in_two_maps_is_an_error_and_one_without_names_keeps_its_own() {
        let names: ServiceNames = [("sshd".to_owned(), BTreeMap::new())].into();
        let mut map = ServiceMap::default();
        let (first, second) = ("a".parse().unwrap(), "b".parse().unwrap());
        let debian = Distribution::new("debian", "bookworm");
        map.add(&first, &names, debian).unwrap();
        assert_eq!(map.iter().collect::<Vec<_>>(), [("sshd", "sshd")]);
        let error = map.add(&second, &names, debian).unwrap_err();
        assert_eq!(
            error.to_string(),
            "service `sshd` is in `svc-map` of element `b` and of an earlier element"
        );
    }
}

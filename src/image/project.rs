//! A project: the whole of `plywood.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{CacheSettings, ImageDefinition, ImageName, LimitSettings, RegistrySettings, TrustSettings};

/// A project: the file `plywood.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Project {
    /// Settings for all images.
    pub project: ProjectSettings,
    /// The versions of packages.
    pub packages: PackageSettings,
    /// The settings of registries, by host and port as references name them.
    pub registry: BTreeMap<String, RegistrySettings>,
    /// The registries through which hosts share built layers.
    pub cache: CacheSettings,
    /// The keys whose layers plywood uses.
    pub trust: TrustSettings,
    /// Limits for hooks.
    pub limits: LimitSettings,
    /// The images, by name.
    pub image: BTreeMap<ImageName, ImageDefinition>,
}

/// Settings for all images of a project: the table `[project]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ProjectSettings {
    /// The latest modification time of a file in an image, and the value of `SOURCE_DATE_EPOCH` in
    /// hooks: seconds since 1970, a date such as `"2024-01-01"` or `"2024-01-01T12:00:00Z"` (in
    /// UTC), or `"git"` for the time of the project's last commit. Default: the start of 1980, the
    /// first time that zip files can hold.
    #[schemars(schema_with = "epoch_schema")]
    pub source_date_epoch: EpochRequest,
    /// Directories of elements, relative to the project. If two elements have the same name, the
    /// first one counts. plywood's own elements come last.
    pub elements: Vec<PathBuf>,
}

impl Default for ProjectSettings {
    fn default() -> Self {
        Self { source_date_epoch: EpochRequest::default(), elements: vec!["elements".into()] }
    }
}

/// The versions of packages: the table `[packages]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PackageSettings {
    /// A text of your choice, such as a date, that is part of every layer's key. Cached layers keep
    /// the package versions that they were built with. Change the text to rebuild all layers with
    /// the current package versions.
    pub revision: String,
}

/// 1980-01-01T00:00:00Z.
pub const DEFAULT_EPOCH: i64 = 315_532_800;

/// The last second that squashfs can hold. FAT can hold one year more, and other file systems more
/// than that.
const LATEST_EPOCH: i64 = u32::MAX as i64;

/// The forms of a source date epoch.
const EPOCH_FORMS: &str = "seconds since 1970, a date such as `\"2024-01-01\"`, or `\"git\"`";

/// A source date epoch as requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochRequest {
    /// Seconds since 1970.
    Seconds(i64),
    /// The time of the project's last commit.
    Git,
}

impl Default for EpochRequest {
    fn default() -> Self {
        EpochRequest::Seconds(DEFAULT_EPOCH)
    }
}

impl Serialize for EpochRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EpochRequest::Seconds(seconds) => serializer.serialize_i64(*seconds),
            EpochRequest::Git => serializer.serialize_str("git"),
        }
    }
}

impl<'de> Deserialize<'de> for EpochRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Request;

        impl<'de> Visitor<'de> for Request {
            type Value = EpochRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EPOCH_FORMS)
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<EpochRequest, E> {
                match seconds {
                    ..0 => Err(E::custom("a source date epoch before 1970 cannot be written to layers")),
                    0..=LATEST_EPOCH => Ok(EpochRequest::Seconds(seconds)),
                    _ => Err(E::custom("a source date epoch after 2106-02-07 cannot be written to disks")),
                }
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<EpochRequest, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }

            /// TOML's own dates, without quotes. Its parser passes them as a map with one entry.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EpochRequest, A::Error> {
                let (_, text): (String, String) =
                    map.next_entry()?.ok_or_else(|| A::Error::custom(format!("expected {EPOCH_FORMS}")))?;
                self.visit_str(&text)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<EpochRequest, E> {
                match (text, super::date::seconds(text)) {
                    ("git", _) => Ok(EpochRequest::Git),
                    (_, Some(seconds)) => self.visit_i64(seconds),
                    (other, None) => {
                        Err(E::custom(format!("`{other}` is not a valid time: expected {EPOCH_FORMS}")))
                    }
                }
            }
        }

        deserializer.deserialize_any(Request)
    }
}

fn epoch_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}[Zz])?$" },
            { "const": "git" }
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Firmware;
    use crate::image::OutputFormat;

    #[test]
    fn a_project_has_defaults_for_everything() {
        let project: Project = toml::from_str("[image.builder]\nbase = 'debian-bookworm'\n").unwrap();
        assert_eq!(project.project.source_date_epoch, EpochRequest::Seconds(DEFAULT_EPOCH));
        assert_eq!(project.project.elements, [PathBuf::from("elements")]);
        let image = &project.image["builder"];
        assert_eq!(image.outputs, [OutputFormat::Qcow2]);
        assert_eq!(image.disk.firmware, [Firmware::Bios, Firmware::Uefi].into());
    }

    #[test]
    fn an_epoch_is_seconds_a_date_or_git() {
        for (text, expected) in [
            ("1700000000", Some(EpochRequest::Seconds(1_700_000_000))),
            ("'git'", Some(EpochRequest::Git)),
            ("'2024-01-01'", Some(EpochRequest::Seconds(1_704_067_200))),
            ("2024-01-01", Some(EpochRequest::Seconds(1_704_067_200))),
            ("2024-01-01T00:00:05Z", Some(EpochRequest::Seconds(1_704_067_205))),
            ("'1969-12-31'", None),
            ("'2024-02-30'", None),
            ("{ a = 'b' }", None),
            ("-1", None),
            ("4294967295", Some(EpochRequest::Seconds(4_294_967_295))),
            ("4294967296", None),
            ("'9999-01-01'", None),
            ("'now'", None),
            ("1.5", None),
        ] {
            let parsed = toml::from_str::<Project>(&format!("[project]\nsource-date-epoch = {text}\n"));
            assert_eq!(parsed.ok().map(|project| project.project.source_date_epoch), expected, "{text}");
        }
    }
}

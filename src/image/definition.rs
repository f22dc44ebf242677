//! One image.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DiskSettings;
use super::value::{absolute_path, command, environment, files, packages, unique_list, user};
use crate::distro::BaseName;
use crate::element::{ElementName, HookOrder};

/// An image: a table `[image.<name>]`.
///
/// An image of a base without elements is legal; an image without a base needs an element that provides
/// `operating-system`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageDefinition {
    /// The base it stands on: a file of `layers/`, named without `.toml`. Without one, an element has to provide
    /// `operating-system`.
    pub base: Option<BaseName>,
    /// Its elements. Those they depend on come by themselves, and before them.
    #[serde(default, deserialize_with = "unique_list")]
    pub elements: Vec<ElementName>,
    /// In which order its hooks run: `element` by element, each in a layer of its own, or `phase` by phase, as
    /// diskimage-builder does.
    #[serde(default)]
    pub order: HookOrder,
    /// Variables for `environment.d` and hooks. Values are texts: write `"1"`, not `1`.
    #[serde(default, deserialize_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// Packages to install beside those that elements ask for, by the distribution's names.
    #[serde(default, deserialize_with = "packages")]
    pub packages: Vec<String>,
    /// Files and directories of the project that hooks find by these names in `/tmp/in_target.d/files`. An element sees
    /// those that the variables it reads name.
    #[serde(default, deserialize_with = "files")]
    pub files: BTreeMap<String, PathBuf>,
    /// What to make of it.
    #[serde(default = "default_outputs", deserialize_with = "unique_list")]
    pub outputs: Vec<OutputFormat>,
    /// How its disk is laid out.
    #[serde(default)]
    pub disk: DiskSettings,
    /// How its qcow2 output is written.
    #[serde(default)]
    pub qcow2: Qcow2Settings,
    /// How its container behaves.
    #[serde(default)]
    pub container: ContainerSettings,
}

fn default_outputs() -> Vec<OutputFormat> {
    vec![OutputFormat::Qcow2]
}

/// A form an image is written in: `<image>.<format>` in the output directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    /// A disk for QEMU and OpenStack.
    Qcow2,
    /// A disk, byte by byte.
    Raw,
    /// A disk for Azure and Hyper-V.
    Vhd,
    /// A disk for VMware.
    Vmdk,
    /// A disk for VirtualBox.
    Vdi,
    /// The root file system as a tar file.
    Tar,
    /// The same, compressed by gzip.
    Tgz,
    /// The root file system as a SquashFS, `<image>.squash`.
    Squashfs,
    /// An App Container Image for rkt.
    Aci,
    /// A container image in an OCI layout directory, `<image>.oci`.
    Oci,
    /// A container image for `docker load`, `<image>.docker.tar`.
    DockerArchive,
}

impl OutputFormat {
    /// All formats.
    pub const ALL: [OutputFormat; 11] = [
        OutputFormat::Qcow2,
        OutputFormat::Raw,
        OutputFormat::Vhd,
        OutputFormat::Vmdk,
        OutputFormat::Vdi,
        OutputFormat::Tar,
        OutputFormat::Tgz,
        OutputFormat::Squashfs,
        OutputFormat::Aci,
        OutputFormat::Oci,
        OutputFormat::DockerArchive,
    ];

    /// Returns its name in definitions and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            OutputFormat::Qcow2 => "qcow2",
            OutputFormat::Raw => "raw",
            OutputFormat::Vhd => "vhd",
            OutputFormat::Vmdk => "vmdk",
            OutputFormat::Vdi => "vdi",
            OutputFormat::Tar => "tar",
            OutputFormat::Tgz => "tgz",
            OutputFormat::Squashfs => "squashfs",
            OutputFormat::Aci => "aci",
            OutputFormat::Oci => "oci",
            OutputFormat::DockerArchive => "docker-archive",
        }
    }

    /// Returns what follows the image's name and a dot in the name of its file or directory.
    pub const fn extension(self) -> &'static str {
        match self {
            OutputFormat::DockerArchive => "docker.tar",
            OutputFormat::Squashfs => "squash",
            other => other.as_str(),
        }
    }

    /// Returns true if it is a disk: the others are made of files alone.
    pub const fn is_disk(self) -> bool {
        use OutputFormat::{Qcow2, Raw, Vdi, Vhd, Vmdk};
        matches!(self, Qcow2 | Raw | Vhd | Vmdk | Vdi)
    }
}

/// A text that names no output format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a format: expected one of qcow2, raw, vhd, vmdk, vdi, tar, tgz, squashfs, aci, oci, docker-archive"
)]
pub struct OutputFormatError(String);

impl FromStr for OutputFormat {
    type Err = OutputFormatError;

    fn from_str(name: &str) -> Result<Self, OutputFormatError> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| OutputFormatError(name.to_owned()))
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a qcow2 disk is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Qcow2Settings {
    /// How its clusters are compressed.
    pub compression: Qcow2Compression,
}

/// A compression of qcow2 clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Qcow2Compression {
    /// Zstandard: smaller and faster; QEMU before 5.1 cannot read it.
    #[default]
    Zstd,
    /// Deflate: every QEMU reads it.
    Zlib,
    /// None.
    None,
}

/// How a container of the image behaves: the `config` object of the OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ContainerSettings {
    /// The program it runs, and its first arguments.
    #[serde(deserialize_with = "command")]
    pub entrypoint: Vec<String>,
    /// Further arguments, which `docker run IMAGE …` replaces; the program too if there is no entrypoint.
    pub cmd: Vec<String>,
    /// The user it runs as: a name or number of the image, optionally `:` and a group. Default: root.
    #[serde(deserialize_with = "user")]
    pub user: Option<String>,
    /// The directory it starts in, an absolute path. Default: `/`.
    #[serde(deserialize_with = "absolute_path")]
    pub workdir: Option<String>,
    /// Its environment. Values are texts.
    #[serde(deserialize_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How its layers are compressed.
    pub compression: Compression,
}

/// A compression of container layers. The layers' DiffIDs do not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Every container engine reads it.
    #[default]
    Gzip,
    /// Zstandard: smaller and faster; Docker before 23 and umoci before 0.5 cannot read it.
    Zstd,
}

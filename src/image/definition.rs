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
/// An image with a base needs no elements. An image without a base needs an element that provides
/// `operating-system`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageDefinition {
    /// The base below the elements: a file of `layers/`, named without `.toml`. Without a base, an
    /// element has to provide `operating-system`.
    pub base: Option<BaseName>,
    /// The elements of the image. plywood adds their dependencies, and places them first.
    #[serde(default, deserialize_with = "unique_list")]
    pub elements: Vec<ElementName>,
    /// The order of hooks: `element` by element, each in a layer of its own, or `phase` by phase,
    /// as diskimage-builder does.
    #[serde(default)]
    pub order: HookOrder,
    /// Variables for `environment.d` and hooks. Values are texts: write `"1"`, not `1`.
    #[serde(default, deserialize_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// Packages to install in addition to those of the elements, by the distribution's names.
    #[serde(default, deserialize_with = "packages")]
    pub packages: Vec<String>,
    /// Files and directories of the project, by the names under which hooks see them in
    /// `/tmp/in_target.d/files`. An element sees only the files that are named by variables it
    /// reads.
    #[serde(default, deserialize_with = "files")]
    pub files: BTreeMap<String, PathBuf>,
    /// The formats of the outputs.
    #[serde(default = "default_outputs", deserialize_with = "unique_list")]
    pub outputs: Vec<OutputFormat>,
    /// The layout of the disk.
    #[serde(default)]
    pub disk: DiskSettings,
    /// The settings of the qcow2 output.
    #[serde(default)]
    pub qcow2: Qcow2Settings,
    /// The config of the container.
    #[serde(default)]
    pub container: ContainerSettings,
}

fn default_outputs() -> Vec<OutputFormat> {
    vec![OutputFormat::Qcow2]
}

/// The format of an output: `<image>.<format>` in the output directory.
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
    /// The root file system as a tar file, compressed with gzip.
    Tgz,
    /// The root file system as a SquashFS image, `<image>.squash`.
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

    /// Returns the name in definitions and on the command line.
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

    /// Returns the extension of the output's file or directory, which follows the image's name and
    /// a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            OutputFormat::DockerArchive => "docker.tar",
            OutputFormat::Squashfs => "squash",
            other => other.as_str(),
        }
    }

    /// Returns true for disks. Other outputs consist of the files alone.
    pub const fn is_disk(self) -> bool {
        use OutputFormat::{Qcow2, Raw, Vdi, Vhd, Vmdk};
        matches!(self, Qcow2 | Raw | Vhd | Vmdk | Vdi)
    }
}

/// A text that is not an output format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown format `{0}`: expected one of qcow2, raw, vhd, vmdk, vdi, tar, tgz, squashfs, aci, oci, docker-archive"
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

/// The settings of a qcow2 disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Qcow2Settings {
    /// The compression of its clusters.
    pub compression: Qcow2Compression,
}

/// A compression of qcow2 clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Qcow2Compression {
    /// Zstandard: smaller and faster; QEMU before 5.1 cannot read it.
    #[default]
    Zstd,
    /// Deflate: every version of QEMU can read it.
    Zlib,
    /// None.
    None,
}

/// The config of the image's container: the `config` object of the OCI image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ContainerSettings {
    /// The program that the container runs, and its first arguments.
    #[serde(deserialize_with = "command")]
    pub entrypoint: Vec<String>,
    /// Further arguments, which `docker run IMAGE …` replaces. Without an entrypoint, they start
    /// with the program.
    pub cmd: Vec<String>,
    /// The user of the program: a name or number of the image, optionally followed by `:` and a
    /// group. Default: root.
    #[serde(deserialize_with = "user")]
    pub user: Option<String>,
    /// The working directory, an absolute path. Default: `/`.
    #[serde(deserialize_with = "absolute_path")]
    pub workdir: Option<String>,
    /// Its environment variables. Values are texts.
    #[serde(deserialize_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The compression of its layers.
    pub compression: Compression,
}

/// A compression of container layers. The layers' DiffIDs do not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Gzip: every container engine can read it.
    #[default]
    Gzip,
    /// Zstandard: smaller and faster; Docker before 23 and umoci before 0.5 cannot read it.
    Zstd,
}

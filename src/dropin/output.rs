//! The formats and names of outputs.

use std::fmt;

use jiff::Timestamp;

use super::variables::{Environment, number};
use crate::image::OutputFormat;

/// One type of a `-t` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputType {
    /// A file or directory in a format of plywood.
    File(OutputFormat),
    /// An image in the Docker engine.
    Docker,
    /// A disk in another format of qemu-img, by its name there.
    Qemu(String),
}

/// A text that is not a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid image type: expected a type such as `qcow2`, `raw` or `tar`")]
pub struct OutputTypeError(String);

impl OutputType {
    pub(super) fn parse(name: &str) -> Result<Self, OutputTypeError> {
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        match name {
            "docker" => Ok(OutputType::Docker),
            _ => match name.parse() {
                Ok(format) => Ok(OutputType::File(format)),
                Err(_) if is_name && !name.starts_with('-') => Ok(OutputType::Qemu(name.to_owned())),
                Err(_) => Err(OutputTypeError(name.to_owned())),
            },
        }
    }

    /// Returns the extension of the output's file, which follows the image's name and a dot; `None`
    /// if it is not a file.
    pub fn extension(&self) -> Option<&str> {
        match self {
            OutputType::File(format) => Some(format.extension()),
            OutputType::Docker => None,
            OutputType::Qemu(format) => Some(format),
        }
    }

    /// Returns true if the output is made from a disk. Images whose elements write the output
    /// themselves have no such output.
    pub fn is_disk(&self) -> bool {
        match self {
            OutputType::File(format) => format.is_disk(),
            OutputType::Docker => false,
            OutputType::Qemu(_) => true,
        }
    }

    /// Returns true if the output is an archive of the root file system.
    pub fn is_archive(&self) -> bool {
        use OutputFormat::{Aci, Squashfs, Tar, Tgz};
        matches!(self, OutputType::File(Aci | Squashfs | Tar | Tgz))
    }

    /// Returns true if the output has checksum files beside it.
    pub fn has_checksums(&self) -> bool {
        self.is_disk() || *self == OutputType::File(OutputFormat::Tgz)
    }
}

impl fmt::Display for OutputType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputType::File(format) => format.fmt(f),
            OutputType::Docker => f.pad("docker"),
            OutputType::Qemu(format) => f.pad(format),
        }
    }
}

/// The name with which all outputs of an image begin: a path, relative to the caller's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputName(String);

impl OutputName {
    /// Parses the value of `-o`. With a single type, an extension of this type is not part of the
    /// name.
    pub(super) fn new(name: &str, types: &[String]) -> Self {
        let ending = match types {
            [only] => name.strip_suffix(only).and_then(|name| name.strip_suffix('.')),
            _ => None,
        };
        Self(ending.unwrap_or(name).to_owned())
    }

    /// Returns the name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last component.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the path of an output.
    pub fn file(&self, extension: &str) -> String {
        format!("{}.{extension}", self.0)
    }

    /// Returns the new path of an existing output, renamed at `time`.
    pub fn old_file(&self, extension: &str, time: Timestamp) -> String {
        format!("{}-{}.{extension}", self.0, time.strftime("%Y.%m.%d-%H.%M.%S"))
    }
}

/// The treatment of an existing image of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldImage {
    /// It is renamed, with the time in its name.
    Renamed,
    Overwritten,
}

impl OldImage {
    pub(super) fn of(environment: &Environment) -> Self {
        match number(environment, "OVERWRITE_OLD_IMAGE") {
            None | Some(0) => OldImage::Renamed,
            Some(_) => OldImage::Overwritten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::environment;

    #[test]
    fn a_type_belongs_to_plywood_docker_or_qemu_img() {
        let table = [
            ("qcow2", Some(OutputType::File(OutputFormat::Qcow2))),
            ("squashfs", Some(OutputType::File(OutputFormat::Squashfs))),
            ("docker", Some(OutputType::Docker)),
            ("vhdx", Some(OutputType::Qemu("vhdx".to_owned()))),
            ("../x", None),
            ("-O", None),
        ];
        for (name, expected) in table {
            assert_eq!(OutputType::parse(name).ok(), expected, "{name}");
        }
        let checked: Vec<_> = ["qcow2", "raw", "vhd", "tgz", "vhdx", "tar", "squashfs", "aci", "docker"]
            .into_iter()
            .filter(|name| OutputType::parse(name).unwrap().has_checksums())
            .collect();
        assert_eq!(checked, ["qcow2", "raw", "vhd", "tgz", "vhdx"]);
    }

    #[test]
    fn only_the_extension_of_a_single_type_is_removed() {
        let table: [(&str, &[&str], &str); 6] = [
            ("x.qcow2", &["qcow2"], "x"),
            ("/images/a.b/x.tar", &["tar"], "/images/a.b/x"),
            ("x.qcow2", &["raw"], "x.qcow2"),
            ("x.qcow2", &["qcow2", "raw"], "x.qcow2"),
            ("xqcow2", &["qcow2"], "xqcow2"),
            ("debian-12.5", &["qcow2"], "debian-12.5"),
        ];
        for (name, types, expected) in table {
            let types: Vec<_> = types.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(OutputName::new(name, &types).as_str(), expected, "{name}");
        }
        assert_eq!(OutputName::new("out/x", &[]).base(), "x");
    }

    #[test]
    fn an_old_image_has_the_time_before_its_extension() {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let name = OutputName::new("out/debian-12.5", &[]);
        assert_eq!(name.file("qcow2"), "out/debian-12.5.qcow2");
        assert_eq!(name.old_file("qcow2", time), "out/debian-12.5-2023.11.14-22.13.20.qcow2");
        for (variables, old) in [
            (&[][..], OldImage::Renamed),
            (&[("OVERWRITE_OLD_IMAGE", "")], OldImage::Renamed),
            (&[("OVERWRITE_OLD_IMAGE", "0")], OldImage::Renamed),
            (&[("OVERWRITE_OLD_IMAGE", "1")], OldImage::Overwritten),
        ] {
            assert_eq!(OldImage::of(&environment(variables)), old);
        }
    }
}

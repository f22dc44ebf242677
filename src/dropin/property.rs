//! The keys of an image definition.

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Switch,
    /// A whole number from 0 to this maximum.
    Level(u64),
    /// A whole number of at least 1.
    Number,
    List,
    ChoiceList(&'static [&'static str]),
    Map,
}

/// The conversion of a key to the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// This option with the value. Lists are joined by commas, maps as `key=value`.
    Option(&'static str),
    /// This option, if it is true.
    Switch(&'static str),
    /// This option, repeated.
    Repeated(&'static str),
    Operands,
    /// Environment variables.
    Variables,
    /// The choice between the two commands.
    Ramdisk,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Property {
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) becomes: Becomes,
    pub(super) help: &'static str,
}

const fn property(key: &'static str, kind: Kind, becomes: Becomes, help: &'static str) -> Property {
    Property { key, kind, becomes, help }
}

/// Architectures, by Debian's and the kernel's names.
const ARCHITECTURES: &[&str] =
    &["aarch64", "amd64", "arm64", "armhf", "powerpc", "ppc64", "ppc64el", "ppc64le", "s390x", "x86_64"];

/// Image types that a definition may contain.
const TYPES: &[&str] = &["qcow2", "tar", "tgz", "squashfs", "vhd", "docker", "aci", "raw"];

use Becomes::{Operands, Option as Opt, Ramdisk, Repeated, Switch, Variables};
use Kind::{Choice, ChoiceList, Level, List, Map, Number, Text};

/// Every key, in the order of the arguments that they become.
pub(super) const PROPERTIES: [Property; 27] = [
    property("imagename", Text, Opt("-o"), "Name of the outputs, without their endings."),
    property("arch", Choice(ARCHITECTURES), Opt("-a"), "Architecture of the image."),
    property("types", ChoiceList(TYPES), Opt("-t"), "Image types to write."),
    property("environment", Map, Variables, "Variables to set for the build."),
    property("ramdisk", Kind::Switch, Ramdisk, "Whether to build a ramdisk."),
    property("debug-trace", Level(2), Repeated("-x"), "How much to trace hooks in the log; 0 is off."),
    property("uncompressed", Kind::Switch, Switch("-u"), "Do not compress a qcow2."),
    property("clear", Kind::Switch, Switch("-c"), "Start from an empty environment."),
    property("logfile", Text, Opt("--logfile"), "Append the log to this file."),
    property("checksum", Kind::Switch, Switch("--checksum"), "Write MD5 and SHA-256 files beside disks."),
    property("image-size", Number, Opt("--image-size"), "Size of the disk in GiB."),
    property(
        "image-extra-size",
        Number,
        Opt("--image-extra-size"),
        "Free space in addition to the content, in MiB.",
    ),
    property("image-cache", Text, Opt("--image-cache"), "Directory for downloads."),
    property(
        "max-online-resize",
        Number,
        Opt("--max-online-resize"),
        "Maximum size in blocks to which the mounted root file system can grow.",
    ),
    property("min-tmpfs", Number, Opt("--min-tmpfs"), "Ignored: builds use no tmpfs."),
    property("mkfs-journal-size", Number, Opt("--mkfs-journal-size"), "Size of the journal in MiB."),
    property(
        "mkfs-options",
        Text,
        Opt("--mkfs-options"),
        "Further options of mkfs for the root file system.",
    ),
    property("no-tmpfs", Kind::Switch, Switch("--no-tmpfs"), "Ignored: builds use no tmpfs."),
    property("offline", Kind::Switch, Switch("--offline"), "Do not update downloads."),
    property("qemu-img-options", Map, Opt("--qemu-img-options"), "Options of `qemu-img convert -o`."),
    property("root-label", Text, Opt("--root-label"), "Label of the root file system."),
    property("ramdisk-element", Text, Opt("--ramdisk-element"), "Element that makes the ramdisk."),
    property("install-type", Choice(&["source", "package"]), Opt("--install-type"), "Default install type."),
    property("docker-target", Text, Opt("--docker-target"), "Repository and tag for the type docker."),
    property("packages", List, Opt("-p"), "Packages to install in addition to those of the elements."),
    property("skip-base", Kind::Switch, Switch("-n"), "Leave out the element base."),
    property("elements", List, Operands, "The elements of the image."),
];

impl Property {
    /// Returns the key's definition.
    pub(super) fn of(key: &str) -> Option<&'static Property> {
        PROPERTIES.iter().find(|property| property.key == key)
    }
}

impl Kind {
    /// Describes the expected values.
    pub(super) fn expectation(self) -> String {
        match self {
            Kind::Text => "a string".to_owned(),
            Kind::Choice(choices) => format!("one of {}", choices.join(", ")),
            Kind::Switch => "true or false".to_owned(),
            Kind::Level(most) => format!("a whole number from 0 to {most}"),
            Kind::Number => "a whole number from 1".to_owned(),
            Kind::List => "a list of strings".to_owned(),
            Kind::ChoiceList(choices) => format!("a list of {}", choices.join(", ")),
            Kind::Map => "a map of strings".to_owned(),
        }
    }
}

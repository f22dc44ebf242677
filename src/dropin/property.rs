//! The keys of an image definition.

/// What a key's value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Switch,
    /// A whole number from 0 to this.
    Level(u64),
    /// A whole number from 1.
    Number,
    List,
    ChoiceList(&'static [&'static str]),
    Map,
}

/// What becomes of it on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// This option and the value; lists are joined by commas, maps as `key=value`.
    Option(&'static str),
    /// This option, if it is true.
    Switch(&'static str),
    /// This option, so many times.
    Repeated(&'static str),
    Operands,
    /// Variables of the environment.
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

/// Architectures, in Debian's and the kernel's words.
const ARCHITECTURES: &[&str] =
    &["aarch64", "amd64", "arm64", "armhf", "powerpc", "ppc64", "ppc64el", "ppc64le", "s390x", "x86_64"];

/// Image types that a definition may name.
const TYPES: &[&str] = &["qcow2", "tar", "tgz", "squashfs", "vhd", "docker", "aci", "raw"];

use Becomes::{Operands, Option as Opt, Ramdisk, Repeated, Switch, Variables};
use Kind::{Choice, ChoiceList, Level, List, Map, Number, Text};

/// Every key, in the order in which arguments are written.
pub(super) const PROPERTIES: [Property; 27] = [
    property("imagename", Text, Opt("-o"), "Name of the outputs, without their endings."),
    property("arch", Choice(ARCHITECTURES), Opt("-a"), "Architecture of the image."),
    property("types", ChoiceList(TYPES), Opt("-t"), "Image types to write."),
    property("environment", Map, Variables, "Variables to set for the build."),
    property("ramdisk", Kind::Switch, Ramdisk, "Whether to build a ramdisk."),
    property("debug-trace", Level(2), Repeated("-x"), "How much of the hooks' doing to log; 0 is off."),
    property("uncompressed", Kind::Switch, Switch("-u"), "Do not compress a qcow2."),
    property("clear", Kind::Switch, Switch("-c"), "Start from an empty environment."),
    property("logfile", Text, Opt("--logfile"), "Append the log to this file."),
    property("checksum", Kind::Switch, Switch("--checksum"), "Write MD5 and SHA-256 files beside disks."),
    property("image-size", Number, Opt("--image-size"), "Size of the disk in GiB."),
    property("image-extra-size", Number, Opt("--image-extra-size"), "Room beside the content in MiB."),
    property("image-cache", Text, Opt("--image-cache"), "Where downloads are kept."),
    property(
        "max-online-resize",
        Number,
        Opt("--max-online-resize"),
        "Up to how many blocks the root file system can be enlarged while it is mounted.",
    ),
    property("min-tmpfs", Number, Opt("--min-tmpfs"), "Size of a tmpfs in GiB; there is none any more."),
    property("mkfs-journal-size", Number, Opt("--mkfs-journal-size"), "Size of the journal in MiB."),
    property(
        "mkfs-options",
        Text,
        Opt("--mkfs-options"),
        "Further options of mkfs for the root file system.",
    ),
    property("no-tmpfs", Kind::Switch, Switch("--no-tmpfs"), "Use no tmpfs; none is used any more."),
    property("offline", Kind::Switch, Switch("--offline"), "Do not bring downloads up to date."),
    property("qemu-img-options", Map, Opt("--qemu-img-options"), "Options of `qemu-img convert -o`."),
    property("root-label", Text, Opt("--root-label"), "Label of the root file system."),
    property("ramdisk-element", Text, Opt("--ramdisk-element"), "Element that makes the ramdisk."),
    property("install-type", Choice(&["source", "package"]), Opt("--install-type"), "Default install type."),
    property("docker-target", Text, Opt("--docker-target"), "Repository and tag for the type docker."),
    property("packages", List, Opt("-p"), "Packages to install beside those that elements ask for."),
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
    /// Says in words what a value has to be.
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

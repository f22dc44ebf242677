//! The options of `disk-image-create` and `ramdisk-image-create`.

/// One option, independent of its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    Architecture,
    Name,
    Types,
    Trace,
    Uncompressed,
    Clear,
    NoBase,
    Packages,
    Help,
    Version,
    Checksum,
    ImageSize,
    ImageExtraSize,
    ImageCache,
    MaxOnlineResize,
    MkfsJournalSize,
    MkfsOptions,
    MinTmpfs,
    NoTmpfs,
    Offline,
    QemuImgOptions,
    RootLabel,
    RamdiskElement,
    InstallType,
    DockerTarget,
    LogFile,
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
}

/// Whether diskimage-builder itself accepts an option that it documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    Taken,
    /// The help text and the code have it, but the list given to getopt does not.
    Rejected,
}

/// The spelling of an option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    pub(super) option: Opt,
    pub(super) short: Option<char>,
    pub(super) long: Option<&'static str>,
    pub(super) takes: Takes,
    pub(super) upstream: Upstream,
}

const fn short(option: Opt, name: char, takes: Takes) -> Spelling {
    Spelling { option, short: Some(name), long: None, takes, upstream: Upstream::Taken }
}

const fn long(option: Opt, name: &'static str, takes: Takes) -> Spelling {
    Spelling { option, short: None, long: Some(name), takes, upstream: Upstream::Taken }
}

const fn rejected(option: Opt, name: &'static str) -> Spelling {
    Spelling { upstream: Upstream::Rejected, ..long(option, name, Takes::Value) }
}

/// Every option. Long ones are in diskimage-builder's order, in which getopt lists the
/// possibilities of an abbreviation.
pub(super) const OPTIONS: [Spelling; 26] = [
    short(Opt::Architecture, 'a', Takes::Value),
    short(Opt::Name, 'o', Takes::Value),
    short(Opt::Types, 't', Takes::Value),
    short(Opt::Trace, 'x', Takes::Nothing),
    short(Opt::Uncompressed, 'u', Takes::Nothing),
    short(Opt::Clear, 'c', Takes::Nothing),
    short(Opt::NoBase, 'n', Takes::Nothing),
    short(Opt::Packages, 'p', Takes::Value),
    long(Opt::Checksum, "checksum", Takes::Nothing),
    long(Opt::NoTmpfs, "no-tmpfs", Takes::Nothing),
    long(Opt::Offline, "offline", Takes::Nothing),
    Spelling { short: Some('h'), ..long(Opt::Help, "help", Takes::Nothing) },
    long(Opt::Version, "version", Takes::Nothing),
    long(Opt::MinTmpfs, "min-tmpfs", Takes::Value),
    long(Opt::ImageSize, "image-size", Takes::Value),
    rejected(Opt::ImageExtraSize, "image-extra-size"),
    long(Opt::ImageCache, "image-cache", Takes::Value),
    long(Opt::MaxOnlineResize, "max-online-resize", Takes::Value),
    long(Opt::MkfsOptions, "mkfs-options", Takes::Value),
    rejected(Opt::MkfsJournalSize, "mkfs-journal-size"),
    long(Opt::QemuImgOptions, "qemu-img-options", Takes::Value),
    long(Opt::RamdiskElement, "ramdisk-element", Takes::Value),
    long(Opt::RootLabel, "root-label", Takes::Value),
    long(Opt::InstallType, "install-type", Takes::Value),
    long(Opt::DockerTarget, "docker-target", Takes::Value),
    long(Opt::LogFile, "logfile", Takes::Value),
];

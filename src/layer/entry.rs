//! One entry of a layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One entry of a layer: a tar member without the details of its encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without leading or trailing slash; empty for the root itself. Any
    /// bytes but NUL.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Mode, owner, time and extended attributes. [`Meta::NONE`] for whiteouts, which have none of
    /// these.
    pub meta: Meta,
}

impl Entry {
    /// Returns the entry that hides what lower layers have at `path`.
    pub fn whiteout(path: Vec<u8>) -> Self {
        Self { path, kind: Kind::Whiteout, meta: Meta::NONE }
    }
}

/// The metadata of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: the lower 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Modification time in whole seconds since 1970.
    pub mtime: i64,
    /// The extended attributes that belong to content: see [`super::is_content`].
    pub xattrs: Xattrs,
}

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Meta {
    /// The metadata of whiteouts.
    pub const NONE: Self = Self { mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };

    /// The metadata of a directory that has no entry of its own and is only part of other paths:
    /// owned by root, mode 0755, time 0.
    pub const IMPLIED_DIRECTORY: Self =
        Self { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// A regular file of this many bytes.
    File(u64),
    /// A symbolic link to this target, verbatim.
    Symlink(Vec<u8>),
    /// Another name of the file at this path (relative to the root), which is an earlier entry or
    /// in a lower layer.
    Hardlink(Vec<u8>),
    /// A character device of this major and minor number.
    CharDevice(u32, u32),
    /// A block device of this major and minor number.
    BlockDevice(u32, u32),
    Fifo,
    /// Hides the entry that lower layers have at this path.
    Whiteout,
    /// Hides everything that lower layers have in the directory `path`.
    OpaqueWhiteout,
}

/// Compression of a layer's blob. It does not change the identity of the layer, which is its
/// DiffID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The tar as it is.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// Number of bytes that [`Encoding::detect`] needs.
    pub const MAGIC_BYTES: usize = 4;

    /// Returns the media type of a layer in this encoding.
    ///
    /// Source: OCI image-spec, `media-types.md`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Encoding::None => "application/vnd.oci.image.layer.v1.tar",
            Encoding::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Encoding::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Returns the encoding with this OCI media type; `None` for other types, such as those of
    /// docker.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        [Encoding::None, Encoding::Gzip, Encoding::Zstd]
            .into_iter()
            .find(|encoding| encoding.media_type() == media_type)
    }

    /// Detects the encoding of a file by its first bytes. Everything except gzip and zstd counts as
    /// uncompressed.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Encoding::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Zstd,
            // A skippable frame of zstd; pzstd begins with one. Source: RFC 8878, 3.1.2.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Encoding::Zstd,
            _ => Encoding::None,
        }
    }
}

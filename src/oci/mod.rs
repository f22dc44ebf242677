//! Identities, canonical JSON and image documents of the OCI image specification; references and
//! challenges of the distribution specification.
//!
//! This module does no I/O. The types of the specification's JSON come from the `oci-spec` crate.
//! This module adds a type for each kind of identity, and one byte form for the documents that
//! plywood writes.
//!
//! Source: OCI image-spec v1.1, `descriptor.md`, `config.md`, `image-layout.md`.

mod challenge;
mod config;
mod digest;
mod document;
mod hex;
mod image_type;
mod json;
mod manifest;
mod platform;
mod reference;
mod verify;

pub use challenge::{Challenge, parse_challenges};
pub use config::{
    ConfigError, ContainerSettings, ImageConfig, OtherPlatform, container_user, has_command, parse_diff_ids,
    refuse_other_platform,
};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use document::{
    DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, MANIFEST_TYPES, ManifestError, RawManifest, is_foreign,
    is_index_type,
};
pub use hex::{decode_hex, encode_hex};
pub use image_type::{NoImage, refuse_artifact};
pub use json::canonical_json;
pub use manifest::{descriptor, image_manifest};
pub use platform::{PlatformError, find_image};
pub use reference::{
    Reference, ReferenceError, Repository, Tag, TagError, TagOrDigest, is_loopback, split_port,
};
pub use verify::{BlobStream, DamagedBlob, VerifyingReader};

/// Implements the conversions for `#[serde(try_from = "String", into = "String")]`: `Display`
/// writes the value, and `FromStr` reads it.
#[macro_export]
macro_rules! serde_by_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = <$name as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// Declares a newtype of [`Digest`] for one kind of identity, so that the compiler rejects a
/// confusion of two kinds.
#[macro_export]
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            serde::Serialize,
            serde::Deserialize,
            schemars::JsonSchema,
        )]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name($crate::oci::Digest);

        impl $name {
            /// Wraps a digest of this kind.
            pub const fn new(digest: $crate::oci::Digest) -> Self {
                Self(digest)
            }

            /// Returns the plain digest.
            pub const fn digest(&self) -> &$crate::oci::Digest {
                &self.0
            }

            /// Returns the 64 hex digits, without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }

            /// Returns the first 12 hex digits, for messages.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::oci::DigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(text.parse()?))
            }
        }
    };
}

//! Derives the ids that tools draw at random.

use std::fmt;

use uuid::{Builder, Uuid};

use crate::oci::Digest;

/// Derives every UUID and id of the disk of one image, by SHA-256 of the name of the image and a
/// role.
///
/// Two images have different ids, and two builds of one image have equal ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    image: String,
}

impl Identity {
    /// Returns the identity of the image with this name.
    pub fn new(image: &str) -> Self {
        Self { image: image.to_owned() }
    }

    /// Returns the UUID of `role`, such as `partition root`.
    ///
    /// Source: RFC 9562, 5.8, "UUID Version 8", the version for custom algorithms.
    pub fn uuid(&self, role: &str) -> Uuid {
        Builder::from_custom_bytes(self.bytes(role)).into_uuid()
    }

    /// Returns the FAT volume id of `role`.
    pub fn volume_id(&self, role: &str) -> VolumeId {
        let [a, b, c, d, ..] = self.bytes(role);
        VolumeId(u32::from_be_bytes([a, b, c, d]))
    }

    /// Returns the seed for the directory hashes of an ext4 with this `role`, such as `root`. All
    /// images have the same seed: the places of files depend on it, and disks with the same files
    /// must have them in the same places.
    pub fn hash_seed(role: &str) -> Uuid {
        Self::new("").uuid(&format!("hash seed {role}"))
    }

    /// Returns the disk signature for a master boot record.
    pub fn disk_id(&self) -> u32 {
        let [a, b, c, d, ..] = self.bytes("disk signature");
        u32::from_be_bytes([a, b, c, d])
    }

    fn bytes(&self, role: &str) -> [u8; 16] {
        // Without the lengths, ("a", "bc") and ("ab", "c") could give the same text.
        let text = format!("plywood disk 1\n{}:{}\n{}:{role}\n", self.image.len(), self.image, role.len());
        let digest = Digest::of(text);
        digest.bytes()[..16].try_into().expect("16 of 32 bytes")
    }
}

/// The id of a FAT volume. `blkid` shows it as UUID: `1234-ABCD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeId(pub u32);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}-{:04X}", self.0 >> 16, self.0 & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden test: a change would change the UUIDs of every disk of every user.
    #[test]
    fn identities_are_stable() {
        let identity = Identity::new("builder");
        assert_eq!(identity.uuid("disk").to_string(), "83f2f88f-8f84-82c7-bf23-0a8487498314");
        assert_eq!(identity.volume_id("file system esp").to_string(), "6883-D7BB");
    }

    #[test]
    fn ids_depend_on_name_and_role() {
        let uuid = |image, role| Identity::new(image).uuid(role);
        assert_ne!(uuid("a", "bc"), uuid("ab", "c"));
        assert_ne!(uuid("a", "root"), uuid("a", "esp"));
        assert_eq!(uuid("a", "root").get_version_num(), 8);
    }

    #[test]
    fn a_volume_id_is_written_as_in_blkid() {
        assert_eq!(VolumeId(0x00ab_cdef).to_string(), "00AB-CDEF");
    }
}

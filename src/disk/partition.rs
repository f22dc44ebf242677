//! Entries of partition tables.

use uuid::Uuid;

use super::Extent;

/// An entry of the partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As the kernel counts: from 1; the logical ones of an MBR from 5.
    pub number: u32,
    /// The layout's name of it, also written into a GPT.
    pub name: String,
    /// What the table says of it beside its place.
    pub entry: PartitionEntry,
    /// Where it lies.
    pub extent: Extent,
}

/// What a partition table says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionEntry {
    /// In a GPT.
    Gpt {
        /// What it is for.
        kind: PartitionKind,
        /// Its own GUID.
        guid: Uuid,
    },
    /// In an MBR, or in the chain that hangs on it.
    Mbr {
        /// What it is for: `0x83` is a Linux file system.
        kind: u8,
        /// Whether a BIOS starts from it.
        boot: BootFlag,
        /// Where its extended boot record lies, for a logical partition: bytes from the start of the disk.
        record: Option<u64>,
    },
}

/// Whether an MBR marks a partition as the one to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFlag {
    /// Marked, `0x80`.
    Active,
    /// Not marked.
    Inactive,
}

impl Partition {
    /// Says whether this is a partition of a GPT for this purpose.
    pub fn is(&self, wanted: PartitionKind) -> bool {
        matches!(self.entry, PartitionEntry::Gpt { kind, .. } if kind == wanted)
    }
}

/// What a partition of a GPT is for: its type GUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionKind(pub Uuid);

impl PartitionKind {
    /// Holds GRUB's core image for the BIOS, without a file system.
    pub const BIOS_BOOT: Self = Self(Uuid::from_u128(0x21686148_6449_6e6f_744e_656564454649));
    /// What UEFI firmware reads.
    pub const EFI_SYSTEM: Self = Self(Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b));
    /// A file system of Linux.
    pub const LINUX: Self = Self(Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4));

    /// Returns the kind of a code as sgdisk writes it (`EF00`, `0x8300`), or of a GUID.
    pub fn parse(text: &str) -> Option<Self> {
        let code = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let known = CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
        known.map(|(_, kind)| *kind).or_else(|| Uuid::parse_str(text).ok().map(Self))
    }

    /// Returns the codes that [`PartitionKind::parse`] knows.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        CODES.iter().map(|(code, _)| *code)
    }
}

/// Source: UEFI 2.10, 5.3.3, table 5.7; GRUB manual, "BIOS installation"; Discoverable Partitions Specification; sgdisk(8), `-L`.
const CODES: [(&str, PartitionKind); 15] = [
    ("0700", kind(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7)),
    ("4100", kind(0x9e1a2d38_c612_4316_aa26_8b49521e5a8b)),
    ("8200", kind(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f)),
    ("8300", PartitionKind::LINUX),
    ("8301", kind(0x8da63339_0007_60c0_c436_083ac8230908)),
    ("8302", kind(0x933ac7e1_2eb4_4f13_b844_0e14e2aef915)),
    ("8303", kind(0x44479540_f297_41b2_9af7_d131d5f0458a)),
    ("8304", kind(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709)),
    ("8305", kind(0xb921b045_1df0_41c3_af44_4c6f280d3fae)),
    ("8306", kind(0x3b8f8425_20e0_4f3b_907f_1a25a76f98e8)),
    ("8307", kind(0x69dad710_2ce4_4e3c_b16c_21a1d49abed3)),
    ("8e00", kind(0xe6d6d379_f507_44c2_a23c_238f2a3df928)),
    ("ef00", PartitionKind::EFI_SYSTEM),
    ("ef02", PartitionKind::BIOS_BOOT),
    ("fd00", kind(0xa19d880f_05fc_4d3b_a006_743f0f84911e)),
];

const fn kind(guid: u128) -> PartitionKind {
    PartitionKind(Uuid::from_u128(guid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sgdisks_in_any_case_or_guids() {
        for (text, expected) in [
            ("EF00", Some(PartitionKind::EFI_SYSTEM)),
            ("ef02", Some(PartitionKind::BIOS_BOOT)),
            ("0x8300", Some(PartitionKind::LINUX)),
            ("0fc63daf-8483-4772-8e79-3d69d8477de4", Some(PartitionKind::LINUX)),
            ("83", None),
            ("linux", None),
        ] {
            assert_eq!(PartitionKind::parse(text), expected, "{text}");
        }
    }
}

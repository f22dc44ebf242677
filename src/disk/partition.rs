//! Entries of partition tables.

use uuid::Uuid;

use super::Extent;

/// An entry of the partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The number in the kernel: from 1; logical partitions of an MBR start at 5.
    pub number: u32,
    /// The name in the layout. A GPT has it too.
    pub name: String,
    /// The entry in the table, without the position.
    pub entry: PartitionEntry,
    pub extent: Extent,
}

/// The entry of a partition in its table, without the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionEntry {
    Gpt {
        kind: PartitionKind,
        guid: Uuid,
    },
    /// In an MBR, or in its chain of extended boot records.
    Mbr {
        /// The type: `0x83` is a Linux file system.
        kind: u8,
        boot: BootFlag,
        /// For a logical partition, the offset of its extended boot record in bytes from the start
        /// of the disk.
        record: Option<u64>,
    },
}

/// The flag in an MBR that marks the partition to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFlag {
    /// `0x80`
    Active,
    /// `0`
    Inactive,
}

impl Partition {
    /// Returns true if this is a partition of a GPT of this type.
    pub fn is(&self, wanted: PartitionKind) -> bool {
        matches!(self.entry, PartitionEntry::Gpt { kind, .. } if kind == wanted)
    }
}

/// The type GUID of a partition of a GPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionKind(pub Uuid);

impl PartitionKind {
    /// It holds GRUB's core image for the BIOS, without a file system.
    pub const BIOS_BOOT: Self = Self(Uuid::from_u128(0x21686148_6449_6e6f_744e_656564454649));
    /// UEFI firmware reads it.
    pub const EFI_SYSTEM: Self = Self(Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b));
    /// A file system of Linux.
    pub const LINUX: Self = Self(Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4));

    /// Parses a code of sgdisk (`EF00`, `0x8300`) or a GUID.
    pub fn parse(text: &str) -> Option<Self> {
        let code = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let known = CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
        known.map(|(_, kind)| *kind).or_else(|| Uuid::parse_str(text).ok().map(Self))
    }
}

/// Source: UEFI 2.10, 5.3.3, table 5.7; GRUB manual, "BIOS installation"; Discoverable Partitions
/// Specification; sgdisk(8), `-L`.
const CODES: [(&str, PartitionKind); 40] = [
    ("0700", kind(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7)),
    ("0c01", kind(0xe3c9e316_0b5c_4db8_817d_f92df00215ae)),
    ("2700", kind(0xde94bba4_06d1_4d40_a16a_bfd50179d6ac)),
    ("3000", kind(0x7412f7d5_a156_4b13_81dc_867174929325)),
    ("3001", kind(0xd4e6e2cd_4469_46f3_b5cb_1bff57afc149)),
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
    ("8308", kind(0x7ffec5c9_2d00_49b7_8941_3ea10a5586b7)),
    ("8309", kind(0xca7d7ccb_63ed_4c53_861c_1742536059cc)),
    ("830a", kind(0x993d8d3d_f80e_4225_855a_9daf8ed7ea97)),
    ("830b", kind(0xd13c5d3b_b5d1_422a_b29f_9454fdc89d76)),
    ("830c", kind(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5)),
    ("830d", kind(0x7386cdf2_203c_47a9_a498_f2ecce45a2d6)),
    ("830e", kind(0xdf3300ce_d69f_4c92_978c_9bfb0f38d820)),
    ("830f", kind(0x86ed10d5_b607_45bb_8957_d350f23d0571)),
    ("8310", kind(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d)),
    ("8311", kind(0x7ec6f557_3bc5_4aca_b293_16ef5df639d1)),
    ("8312", kind(0x773f91ef_66d4_49b5_bd83_d683bf40ad16)),
    ("8313", kind(0x75250d76_8cc6_458e_bd66_bd47cc81a812)),
    ("8314", kind(0x8484680c_9521_48c6_9c11_b0720656f69e)),
    ("8315", kind(0x7d0359a3_02b3_4f0a_865c_654403e70625)),
    ("8316", kind(0xb0e01050_ee5f_4390_949a_9101b17104e9)),
    ("8317", kind(0x4301d2a6_4e3b_4b2a_bb94_9e0b2c4225ea)),
    ("8318", kind(0x8f461b0d_14ee_4e81_9aa9_049b6fb97abd)),
    ("8319", kind(0x77ff5f63_e7b6_4633_acf4_1565b864c0e6)),
    ("831a", kind(0xc215d751_7bcd_4649_be90_6627490a4c05)),
    ("831b", kind(0x6e11a4e7_fbca_4ded_b9e9_e1a512bb664e)),
    ("8e00", kind(0xe6d6d379_f507_44c2_a23c_238f2a3df928)),
    ("ea00", kind(0xbc13c2ff_59e6_4262_a352_b275fd6f7172)),
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
    fn codes_of_sgdisk_and_guids_are_parsed_in_any_case() {
        for (text, expected) in [
            ("EF00", Some(PartitionKind::EFI_SYSTEM)),
            ("ef02", Some(PartitionKind::BIOS_BOOT)),
            ("0x8300", Some(PartitionKind::LINUX)),
            ("EA00", Some(kind(0xbc13c2ff_59e6_4262_a352_b275fd6f7172))),
            ("0fc63daf-8483-4772-8e79-3d69d8477de4", Some(PartitionKind::LINUX)),
            ("83", None),
            ("linux", None),
        ] {
            assert_eq!(PartitionKind::parse(text), expected, "{text}");
        }
    }
}

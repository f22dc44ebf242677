//! Names. Every entry has a short name of eight and three characters, and a long name if the short
//! one differs from the real name.

use std::collections::HashSet;

use super::record::RECORD_BYTES;

/// Characters of a long name in one record.
const PIECE: usize = 13;

const LONGEST: usize = 255;

const ATTRIBUTE_LONG: u8 = 0x0f;

/// Marks the first record, which holds the end of the name.
const LAST_PIECE: u8 = 0x40;

/// A name in a directory.
#[derive(Debug, Clone)]
pub(super) struct Name {
    short: [u8; 11],
    /// In UTF-16. Empty if the short name is the real name.
    long: Vec<u16>,
}

/// The names of one directory. Long names and short names are unique.
#[derive(Debug, Default)]
pub(super) struct Names {
    folded: HashSet<String>,
    short: HashSet<[u8; 11]>,
}

impl Names {
    /// Adds a name. The error is the reason why FAT cannot have it.
    pub(super) fn add(&mut self, name: &str) -> Result<Name, &'static str> {
        let long: Vec<u16> = name.encode_utf16().collect();
        if long.len() > LONGEST {
            return Err("has a name of more than 255 characters");
        }
        if name.chars().any(|c| c.is_control() || "\"*/:<>?\\|".contains(c)) || name.ends_with(['.', ' ']) {
            return Err("has a name with a character that FAT does not allow there");
        }
        if !self.folded.insert(name.to_uppercase()) {
            return Err("differs from another name only by case, which FAT ignores");
        }
        let short = self.free_short(name);
        self.short.insert(short);
        let same = exact(name) == Some(short) && name == name.to_ascii_uppercase();
        Ok(Name { short, long: if same { Vec::new() } else { long } })
    }

    /// Returns the name itself in capitals if it is short, else its beginning and an unused number.
    fn free_short(&self, name: &str) -> [u8; 11] {
        let numbered = (1u32..).map(|number| shortened(name, number));
        let mut candidates = exact(name).into_iter().chain(numbered);
        candidates
            .find(|short| !self.short.contains(short))
            .expect("a directory has fewer entries than numbers")
    }
}

impl Name {
    pub(super) const fn short(&self) -> [u8; 11] {
        self.short
    }

    /// Returns the number of records of the long name.
    pub(super) fn slots(&self) -> usize {
        self.long.len().div_ceil(PIECE)
    }

    /// Returns the records of the long name, last part first.
    pub(super) fn long_records(&self) -> Vec<u8> {
        let mut pieces: Vec<_> = (1..).zip(self.long.chunks(PIECE)).collect();
        if let Some((number, _)) = pieces.last_mut() {
            *number |= LAST_PIECE;
        }
        let checksum = checksum(&self.short);
        pieces.into_iter().rev().flat_map(|(number, piece)| long_record(number, piece, checksum)).collect()
    }
}

fn long_record(number: u8, piece: &[u16], checksum: u8) -> [u8; RECORD_BYTES] {
    // If there is space, the name ends with a zero, and 0xffff fills the rest.
    let mut units = [0xffff; PIECE];
    units[..piece.len()].copy_from_slice(piece);
    if let Some(end) = units.get_mut(piece.len()) {
        *end = 0;
    }
    let text: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let mut record = [0; RECORD_BYTES];
    record[0] = number;
    record[1..11].copy_from_slice(&text[..10]);
    record[11] = ATTRIBUTE_LONG;
    record[13] = checksum;
    record[14..26].copy_from_slice(&text[10..22]);
    record[28..].copy_from_slice(&text[22..]);
    record
}

/// Returns the checksum that links long records to their short record.
fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Returns the name in capitals as a short name, if it is short enough.
fn exact(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = |part: &str, limit| part.len() <= limit && part.bytes().all(is_short);
    let dotted = name.ends_with('.') || base.is_empty();
    (fits(base, 8) && fits(extension, 3) && !dotted).then(|| joined(base, extension))
}

/// Returns a short name with the beginning of a longer name: `grub-core.module` becomes
/// `GRUB-C~1.MOD`.
fn shortened(name: &str, number: u32) -> [u8; 11] {
    let (base, extension) = match name.trim_start_matches('.').rsplit_once('.') {
        Some(parts) => parts,
        None => (name, ""),
    };
    let kept = |part: &str| part.bytes().filter(|&byte| is_short(byte)).map(char::from).collect::<String>();
    let tail = format!("~{number}");
    let base: String = kept(base).chars().take(8 - tail.len().min(8)).collect();
    joined(&(base + &tail), &kept(extension))
}

fn joined(base: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    let (front, back) = short.split_at_mut(8);
    front.iter_mut().zip(base.bytes()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    back.iter_mut().zip(extension.bytes()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    short
}

/// Returns true if a short name may contain the character.
fn is_short(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_kept_and_long_names_get_numbers() {
        let mut names = Names::default();
        for (name, short, slots) in [
            ("EFI", "EFI        ", 0),
            ("BOOTX64.EFI", "BOOTX64 EFI", 0),
            ("grub.cfg", "GRUB    CFG", 1),
            ("grub-core.module", "GRUB-C~1MOD", 2),
            ("grub-core.modules", "GRUB-C~2MOD", 2),
            (".hidden", "HIDDEN~1   ", 1),
            ("a.b.c", "AB~1    C  ", 1),
            ("émigré", "MIGR~1     ", 1),
            ("exactly13char", "EXACTL~1   ", 1),
        ] {
            let added = names.add(name).unwrap();
            assert_eq!(
                (std::str::from_utf8(&added.short()).unwrap(), added.slots()),
                (short, slots),
                "{name}"
            );
            assert_eq!(added.long_records().len(), slots * RECORD_BYTES);
        }
    }

    #[test]
    fn names_that_fat_does_not_allow_are_refused() {
        let long = "x".repeat(256);
        for name in ["a:b", "a\u{1}", "dot.", "space ", "what?", &long] {
            assert!(Names::default().add(name).is_err(), "{name}");
        }
        let mut names = Names::default();
        names.add("Grub").unwrap();
        assert!(names.add("gRUB").is_err());
    }

    /// The example of the specification: "The quick brown.fox".
    #[test]
    fn long_records_are_as_in_the_specification() {
        let name = Names::default().add("The quick brown.fox").unwrap();
        assert_eq!(&name.short(), b"THEQUI~1FOX");
        let records = name.long_records();
        assert_eq!((records[0], records[32], records[11]), (0x42, 0x01, 0x0f));
        assert_eq!(records[1..11], *b"w\0n\0.\0f\0o\0");
        assert_eq!(records[14..26], *b"x\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(records[33..43], *b"T\0h\0e\0 \0q\0");
        assert_eq!(records[13], checksum(b"THEQUI~1FOX"));
    }
}

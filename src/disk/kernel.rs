//! Finds kernels by the names of the files in `/boot`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// A kernel and its initramfs, as file names within `/boot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Such as `6.1.0-18-cloud-amd64`.
    pub version: String,
    /// Such as `vmlinuz-6.1.0-18-cloud-amd64`.
    pub image: String,
    /// Such as `initrd.img-6.1.0-18-cloud-amd64`; `None` if this version has none.
    pub initrd: Option<String>,
}

impl Kernel {
    /// Finds the kernels among the names of the files in `/boot`. Newest versions come first, and
    /// rescue kernels (dracut names them `0-rescue-…`) last.
    pub fn find<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let names: BTreeSet<_> = names.into_iter().collect();
        let mut kernels: Vec<_> = names.iter().filter_map(|name| Self::named(name, &names)).collect();
        kernels.sort_by(|a, b| compare_versions(&b.version, &a.version));
        kernels
    }

    fn named(image: &str, names: &BTreeSet<&str>) -> Option<Self> {
        let version = image.strip_prefix("vmlinuz-").or_else(|| image.strip_prefix("vmlinux-"))?;
        let initrds = [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initrd-{version}"),
        ];
        let initrd = initrds.into_iter().find(|name| names.contains(name.as_str()));
        Some(Self { version: version.to_owned(), image: image.to_owned(), initrd })
    }
}

/// Compares versions as dpkg does: digits by their value, `~` before the end, the end before
/// letters, letters before everything else.
///
/// Source: Debian Policy, 5.6.12, "Version".
pub(super) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, rest_a) = split(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = split(b, |byte| !byte.is_ascii_digit());
        let (number_a, next_a) = split(rest_a, u8::is_ascii_digit);
        let (number_b, next_b) = split(rest_b, u8::is_ascii_digit);
        let order = compare_text(text_a, text_b).then_with(|| compare_numbers(number_a, number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => 0,
        None => 1,
        Some(byte) if byte.is_ascii_alphabetic() => u16::from(*byte),
        Some(byte) => 256 + u16::from(*byte),
    };
    let differ = (0..a.len().max(b.len())).map(|at| weight(a.get(at)).cmp(&weight(b.get(at))));
    differ.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Compares numbers of any length: without leading zeros, the longer one is larger.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let (_, a) = split(a, |&byte| byte == b'0');
    let (_, b) = split(b, |&byte| byte == b'0');
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "0-rescue-abc",
            "5.10.0~rc1",
            "5.10.0",
            "5.10.0+deb",
            "5.10.0-9",
            "5.10.0-10-amd64",
            "5.10.1",
            "6.1.0",
        ];
        for (index, older) in ascending.iter().enumerate() {
            assert_eq!(compare_versions(older, older), Ordering::Equal);
            for newer in &ascending[index + 1..] {
                assert_eq!(compare_versions(older, newer), Ordering::Less, "{older} {newer}");
                assert_eq!(compare_versions(newer, older), Ordering::Greater, "{newer} {older}");
            }
        }
    }

    #[test]
    fn kernels_are_found_newest_first_with_their_initramfs() {
        let kernels = Kernel::find([
            "grub",
            "config-6.1.0-9-amd64",
            "vmlinuz-6.1.0-9-amd64",
            "initrd.img-6.1.0-9-amd64",
            "vmlinuz-6.1.0-10-amd64",
            "vmlinuz-5.14.0-1.el9.x86_64",
            "initramfs-5.14.0-1.el9.x86_64.img",
            "vmlinuz-0-rescue-0123",
            "vmlinuz",
        ]);
        let found: Vec<_> = kernels.iter().map(|k| (k.version.as_str(), k.initrd.as_deref())).collect();
        assert_eq!(
            found,
            [
                ("6.1.0-10-amd64", None),
                ("6.1.0-9-amd64", Some("initrd.img-6.1.0-9-amd64")),
                ("5.14.0-1.el9.x86_64", Some("initramfs-5.14.0-1.el9.x86_64.img")),
                ("0-rescue-0123", None),
            ]
        );
    }
}

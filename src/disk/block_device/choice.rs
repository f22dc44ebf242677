//! Chooses the block-device file of an image.

use std::collections::BTreeMap;

/// The source of the description of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSource<'a> {
    /// The text of a variable.
    Text(&'a str),
    /// A file of the build host.
    File(&'a str),
    /// A file of an element.
    Element {
        element: &'a str,
        /// Relative to the directory of the element.
        file: &'static str,
    },
    /// No description.
    Bare,
}

impl<'a> DiskSource<'a> {
    /// This variable names a block-device file, or holds its text.
    pub const VARIABLE: &'static str = "DIB_BLOCK_DEVICE_CONFIG";

    /// The disk of images without a description: one file system without a partition table.
    pub const BARE: &'static str = "\
- local_loop:
    name: image0
    mkfs:
      name: mkfs_root
      mount:
        mount_point: /
        fstab: { options: defaults, fsck-passno: 1 }
";

    /// Chooses `DIB_BLOCK_DEVICE_CONFIG`, which is a text or `file://` and a path; else the file of
    /// the first of `elements` that has one for this architecture or for all; else the bare disk.
    /// `has_file` returns true if an element has a file.
    pub fn choose(
        variables: &'a BTreeMap<String, String>,
        elements: impl IntoIterator<Item = &'a str>,
        has_file: impl Fn(&str, &str) -> bool,
    ) -> Self {
        match variables.get(Self::VARIABLE).map(String::as_str) {
            Some(text) if !text.is_empty() => {
                return text.strip_prefix("file://").map_or(DiskSource::Text(text), DiskSource::File);
            }
            _ => {}
        }
        let files = files(variables.get("ARCH").map_or("", String::as_str));
        let file_of = |element| files.into_iter().find(|file| has_file(element, file));
        let chosen = elements.into_iter().find_map(|element| Some((element, file_of(element)?)));
        chosen.map_or(DiskSource::Bare, |(element, file)| DiskSource::Element { element, file })
    }
}

/// Returns the file names for an architecture, most specific first.
fn files(architecture: &str) -> [&'static str; 2] {
    let special = match architecture {
        "amd64" => "block-device-amd64.yaml",
        "x86_64" => "block-device-x86_64.yaml",
        "arm64" => "block-device-arm64.yaml",
        "aarch64" => "block-device-aarch64.yaml",
        "armel" => "block-device-armel.yaml",
        "armhf" => "block-device-armhf.yaml",
        "i386" => "block-device-i386.yaml",
        "riscv64" => "block-device-riscv64.yaml",
        "s390x" => "block-device-s390x.yaml",
        // Distributions have different names for this architecture.
        ppc if ppc.starts_with("ppc64") => "block-device-ppc64el.yaml",
        _ => "block-device-default.yaml",
    };
    [special, "block-device-default.yaml"]
}

/// Returns the element that describes the disk of a virtual machine, if the request has `vm` and no
/// element for a disk.
///
/// Source: diskimage-builder, `lib/common-functions`.
pub fn implied_block_device<'a>(
    requested: impl IntoIterator<Item = &'a str>,
    architecture: &str,
) -> Option<&'static str> {
    let (mut is_vm, mut has_disk) = (false, false);
    for name in requested {
        is_vm |= name == "vm";
        has_disk |= name.starts_with("block-device-");
    }
    let element = match architecture {
        "arm64" | "aarch64" => "block-device-efi",
        _ => "block-device-mbr",
    };
    (is_vm && !has_disk).then_some(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_variable_overrides_elements_and_the_first_element_wins() {
        let has = |element: &str, file: &str| match element {
            "block-device-mbr" => ["block-device-default.yaml", "block-device-ppc64el.yaml"].contains(&file),
            "mine" => ["block-device-arm64.yaml", "block-device-riscv64.yaml"].contains(&file),
            _ => false,
        };
        let elements = ["base", "mine", "block-device-mbr"];
        let of = |element, file| DiskSource::Element { element, file };
        for (pairs, expected) in [
            (&[("ARCH", "amd64")][..], of("block-device-mbr", "block-device-default.yaml")),
            (&[("ARCH", "arm64")], of("mine", "block-device-arm64.yaml")),
            (&[("ARCH", "riscv64")], of("mine", "block-device-riscv64.yaml")),
            (&[("ARCH", "ppc64le")], of("block-device-mbr", "block-device-ppc64el.yaml")),
            (&[("ARCH", "ppc64")], of("block-device-mbr", "block-device-ppc64el.yaml")),
            (&[(DiskSource::VARIABLE, "file:///etc/disk.yaml")], DiskSource::File("/etc/disk.yaml")),
            (&[(DiskSource::VARIABLE, "- local_loop: {}")], DiskSource::Text("- local_loop: {}")),
            (&[(DiskSource::VARIABLE, "")], of("block-device-mbr", "block-device-default.yaml")),
        ] {
            let variables = variables(pairs);
            assert_eq!(DiskSource::choose(&variables, elements, has), expected, "{pairs:?}");
        }
        let nothing = variables(&[]);
        assert_eq!(DiskSource::choose(&nothing, ["base"], has), DiskSource::Bare);
    }

    #[test]
    fn a_virtual_machine_has_an_mbr_by_default() {
        for (requested, architecture, expected) in [
            (&["debian", "vm"][..], "amd64", Some("block-device-mbr")),
            (&["debian", "vm"], "arm64", Some("block-device-efi")),
            (&["vm", "block-device-gpt"], "amd64", None),
            (&["debian"], "amd64", None),
        ] {
            assert_eq!(implied_block_device(requested.iter().copied(), architecture), expected);
        }
    }
}

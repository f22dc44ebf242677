//! Reads the names and digests of packages from package indices.
//!
//! Source: Debian's repository format, "Packages" indices; apt, `pkgAcqArchive` (names of
//! downloaded files).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use memchr::memmem;

use super::cache::failed;
use crate::oci::Digest;
use crate::port::PackageError;

/// Digests by apt's name of the file of a package. There can be several, because repositories may
/// disagree.
pub(super) type Archives = BTreeMap<String, BTreeSet<Digest>>;

/// Returns the files of `packages` that the indices in the directory `lists` name.
pub(super) fn archives(lists: &Path, packages: &BTreeSet<&str>) -> Result<Archives, PackageError> {
    let mut found = Archives::new();
    let entries = match fs::read_dir(lists) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(failed("read", lists))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", lists))?;
        // Links are skipped: their targets are in a root, and plywood would follow them on the
        // build host.
        let is_index = entry.file_name().as_encoded_bytes().ends_with(b"Packages");
        if is_index && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let text = fs::read(entry.path()).map_err(failed("read", &entry.path()))?;
            add_archives(&text, packages, &mut found);
        }
    }
    Ok(found)
}

fn add_archives(text: &[u8], packages: &BTreeSet<&str>, found: &mut Archives) {
    let mut start = 0;
    // An index has tens of thousands of stanzas, and few are needed. Parsing all fields would take
    // seconds.
    for end in memmem::find_iter(text, b"\n\n").chain([text.len()]) {
        let stanza = &text[start..end];
        start = end;
        let Some(package) = field(stanza, b"\nPackage: ").filter(|name| packages.contains(name)) else {
            continue;
        };
        let [version, architecture, digest] =
            [&b"\nVersion: "[..], b"\nArchitecture: ", b"\nSHA256: "].map(|name| field(stanza, name));
        if let (Some(version), Some(architecture)) = (version, architecture)
            && let Some(digest) = digest.and_then(|digest| format!("sha256:{digest}").parse().ok())
        {
            found.entry(file_name(package, version, architecture)).or_default().insert(digest);
        }
    }
}

/// Returns the value of a one-line field. `name` starts with a line feed.
fn field<'a>(stanza: &'a [u8], name: &[u8]) -> Option<&'a str> {
    // The first field of a file has no line feed before it.
    let start = match stanza.strip_prefix(&name[1..]) {
        Some(_) => name.len() - 1,
        None => memmem::find(stanza, name)? + name.len(),
    };
    let rest = &stanza[start..];
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok().map(str::trim)
}

/// Returns the name under which apt keeps the file of a package.
fn file_name(package: &str, version: &str, architecture: &str) -> String {
    let [package, version] = [package, version].map(|text| quoted(text, "_:"));
    format!("{package}_{version}_{}.deb", quoted(architecture, "_:."))
}

/// Escapes bytes that names must not have, as apt does.
fn quoted(text: &str, special: &str) -> String {
    let quote = |byte: u8| match byte {
        b'!'..=b'~' if byte != b'%' && !special.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(quote).collect()
}

/// Returns the name of the package in a file that apt has downloaded.
pub(super) fn package_of(file_name: &str) -> &str {
    file_name.split('_').next().unwrap_or(file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_by_apts_names() {
        let [a, b, c] = ["a", "b", "c"].map(Digest::of);
        let lists = tempfile::tempdir().unwrap();
        let stanza = |package: &str, version: &str, digest: Digest| {
            format!(
                "Package: {package}\nArchitecture: amd64\nVersion: {version}\nSize: 1\nSHA256: {}\n\n",
                digest.hex()
            )
        };
        let main = [stanza("toy", "1:2_3~rc%", a), stanza("other", "1", b)].concat();
        let rest =
            format!("Origin: x\n{}Package: toy\nVersion: 9\nArchitecture: all\n", stanza("toy", "4", b));
        fs::write(lists.path().join("mirror_main_binary-amd64_Packages"), main).unwrap();
        fs::write(lists.path().join("other_Packages"), rest + "\n" + &stanza("toy", "4", c)).unwrap();
        fs::write(lists.path().join("mirror_InRelease"), stanza("toy", "5", a)).unwrap();
        let found = archives(lists.path(), &["toy", "absent"].into()).unwrap();
        let expected = [
            ("toy_1%3a2%5f3~rc%25_amd64.deb".to_owned(), [a].into()),
            ("toy_4_amd64.deb".to_owned(), [b, c].into()),
        ];
        assert_eq!(found, expected.into());
        assert!(found.keys().all(|name| package_of(name) == "toy"));
        assert_eq!(archives(&lists.path().join("absent"), &["toy"].into()).unwrap(), Archives::new());
    }
}

//! Reads the names and digests of packages from indices of rpm repositories.
//!
//! Source: createrepo_c, `primary.xml`; <http://linux.duke.edu/metadata/common>.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem;

use super::cache::failed;
use super::index::Archives;
use crate::oci::Digest;
use crate::port::PackageError;

/// Returns the files that the index in the directory `repodata` names.
///
/// An index in a compression that is not known here names none: its packages are downloaded again
/// each time.
pub(super) fn archives(repodata: &Path) -> Result<Archives, PackageError> {
    let mut found = Archives::new();
    for entry in fs::read_dir(repodata).map_err(failed("read", repodata))? {
        let entry = entry.map_err(failed("read", repodata))?;
        let (name, path) = (entry.file_name(), entry.path());
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = name.to_string_lossy();
        if let Some((_, compression)) = name.split_once("primary.xml").filter(|_| is_file)
            && let Some(text) = decompress(&path, compression).map_err(failed("read", &path))?
        {
            add_archives(&text, &mut found);
        }
    }
    Ok(found)
}

fn decompress(path: &Path, compression: &str) -> io::Result<Option<Vec<u8>>> {
    let (file, mut text) = (File::open(path)?, Vec::new());
    match compression {
        "" => (&file).read_to_end(&mut text)?,
        ".gz" => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text)?,
        ".zst" => zstd::stream::read::Decoder::new(file)?.read_to_end(&mut text)?,
        _ => return Ok(None),
    };
    Ok(Some(text))
}

fn add_archives(text: &[u8], found: &mut Archives) {
    // An index has tens of thousands of packages, and two elements of each count.
    let mut start = 0;
    for end in memmem::find_iter(text, b"</package>") {
        let package = &text[start..end];
        start = end;
        let digest = between(package, b"<checksum type=\"sha256\"", b"</checksum>");
        let digest = digest.and_then(|rest| Some(rest.split_once('>')?.1));
        let digest = digest.and_then(|digest| format!("sha256:{}", digest.trim()).parse::<Digest>().ok());
        let place =
            between(package, b"<location ", b"/>").and_then(|location| attribute(location, "href=\""));
        if let (Some(digest), Some(place)) = (digest, place) {
            let name = place.rsplit('/').next().unwrap_or(place);
            found.entry(name.to_owned()).or_default().insert(digest);
        }
    }
}

fn between<'a>(text: &'a [u8], start: &[u8], end: &[u8]) -> Option<&'a str> {
    let rest = &text[memmem::find(text, start)? + start.len()..];
    std::str::from_utf8(&rest[..memmem::find(rest, end)?]).ok()
}

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn package(name: &str, digest: Digest) -> String {
        format!(
            "<package type=\"rpm\">\n  <name>{name}</name>\n  <checksum type=\"sha256\" pkgid=\"YES\">{}</checksum>\n  \
             <location href=\"Packages/t/{name}-1-1.noarch.rpm\"/>\n</package>\n",
            digest.hex()
        )
    }

    #[test]
    fn digests_are_found_by_the_names_of_files() {
        let [a, b] = ["a", "b"].map(Digest::of);
        let text = format!("<metadata>\n{}{}</metadata>", package("toy", a), package("other", b));
        let md5 = "<package><checksum type=\"md5\">0</checksum><location href=\"x.rpm\"/></package>";
        let directory = tempfile::tempdir().unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let zst = zstd::encode_all(md5.as_bytes(), 1).unwrap();
        for (name, content) in [
            ("0-primary.xml.gz", gz.finish().unwrap()),
            ("1-primary.xml.zst", zst),
            ("2-primary.xml.xz", b"unknown".to_vec()),
            ("3-filelists.xml", text.into_bytes()),
        ] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let expected =
            [("toy-1-1.noarch.rpm".to_owned(), [a].into()), ("other-1-1.noarch.rpm".to_owned(), [b].into())];
        assert_eq!(archives(directory.path()).unwrap(), expected.into());
    }
}

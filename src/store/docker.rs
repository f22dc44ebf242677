//! Archives of `docker save`.
//!
//! ```text
//! manifest.json            [{"Config": "<name>", "RepoTags": ["name:tag"], "Layers": ["<name>", …]}]
//! <config>.json
//! <layer>/layer.tar        or a link to one that came before
//! ```
//!
//! Members have no fixed order, so the archive is read twice: first the documents and the links,
//! then the layers.
//!
//! Source: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use serde::Deserialize;

use super::document::{expected_diff_ids, invalid, parse, verify_diff_id};
use super::file::failed;
use super::import::{Imported, cannot_import};
use super::{Bases, Store, encoding};
use crate::layer::{Decoder, Encoding, Entry, Kind, LayerError};
use crate::oci::{DiffId, refuse_other_platform};
use crate::port::StoreError;

/// The largest document of an archive. Real ones are a few kilobytes; larger files are layers.
const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;
/// The limit for all documents and links of an archive, which are in memory at once. Real images
/// have a few kilobytes of them.
const CONTENTS_LIMIT_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Bases<'_> {
    /// Imports an image for Linux on `architecture` (a name of Go, such as `amd64`) from an archive
    /// of `docker save`, compressed or not: the image with the tag `reference`, or the only image.
    ///
    /// # Errors
    /// [`StoreError::Import`] with the cause.
    pub fn import_docker_archive(
        &self,
        file: &Path,
        reference: Option<&str>,
        architecture: &str,
    ) -> Result<Imported, StoreError> {
        DockerArchive { path: file, architecture }.import(self.store, reference).map_err(cannot_import(file))
    }
}

struct DockerArchive<'a> {
    path: &'a Path,
    architecture: &'a str,
}

/// Documents and links that the first pass over the archive collects.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names of links, and the names to which they lead.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of all documents and links.
    bytes: u64,
}

impl DockerArchive<'_> {
    fn import(&self, store: &Store, reference: Option<&str>) -> Result<Imported, StoreError> {
        let contents = self.read_documents()?;
        let images: Vec<Image> = parse(self.path, self.document(&contents, "manifest.json")?)?;
        let image = self.choose(&images, reference)?;
        let config = self.document(&contents, &image.config)?.to_vec();
        refuse_other_platform(&config, self.architecture)
            .map_err(|error| invalid(self.path, error.to_string()))?;
        let diff_ids = expected_diff_ids(self.path, &config, image.layers.len())?;
        let names = image.layers.iter().map(|name| contents.resolve(name.as_bytes()));
        self.import_layers(store, names.zip(diff_ids.iter().copied()).collect())?;
        Ok(Imported { diff_ids, config: Some(config), manifest: None })
    }

    fn document<'c>(&self, contents: &'c Contents, name: &str) -> Result<&'c [u8], StoreError> {
        let found = contents.documents.get(&contents.resolve(name.as_bytes()));
        found.map(Vec::as_slice).ok_or_else(|| {
            invalid(self.path, format!("it has no `{name}`: is it an archive of `docker save`?"))
        })
    }

    fn choose<'i>(&self, images: &'i [Image], reference: Option<&str>) -> Result<&'i Image, StoreError> {
        let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
        let all = || images.iter().flat_map(tags).collect::<Vec<_>>().join("`, `");
        match (reference, images) {
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(invalid(self.path, format!("it holds several images (choose one of `{}`)", all())))
            }
            (Some(reference), _) => {
                let is_it = |tag: &String| familiar(tag) == familiar(reference);
                let found = images.iter().find(|image| tags(image).iter().any(is_it));
                found.ok_or_else(|| {
                    invalid(self.path, format!("it has no image `{reference}` (but `{}`)", all()))
                })
            }
        }
    }

    fn read_documents(&self) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        self.each_member(|entry, content| {
            match &entry.kind {
                Kind::File(bytes) if *bytes <= DOCUMENT_LIMIT_BYTES => {
                    let mut document = Vec::new();
                    content.read_to_end(&mut document).map_err(LayerError::Read)?;
                    // A small layer is not larger than a document, so the size does not tell them
                    // apart. Only JSON is kept.
                    if matches!(document.first(), Some(b'{' | b'[')) {
                        self.admit(&mut contents, &entry.path, &document)?;
                        contents.documents.insert(entry.path.clone(), document);
                    }
                }
                Kind::Symlink(target) => {
                    self.admit(&mut contents, &entry.path, target)?;
                    contents.links.insert(entry.path.clone(), target_path(&entry.path, target));
                }
                Kind::Hardlink(target) => {
                    self.admit(&mut contents, &entry.path, target)?;
                    contents.links.insert(entry.path.clone(), target.clone());
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(contents)
    }

    /// Counts the bytes of a member that stays in memory. Fails beyond [`CONTENTS_LIMIT_BYTES`].
    fn admit(&self, contents: &mut Contents, path: &[u8], content: &[u8]) -> Result<(), StoreError> {
        contents.bytes += (path.len() + content.len()) as u64;
        if contents.bytes > CONTENTS_LIMIT_BYTES {
            let reason = format!("its documents and links have more than {CONTENTS_LIMIT_BYTES} bytes");
            return Err(invalid(self.path, reason));
        }
        Ok(())
    }

    fn import_layers(&self, store: &Store, layers: Vec<(Vec<u8>, DiffId)>) -> Result<(), StoreError> {
        let mut missing: BTreeSet<_> = layers.iter().map(|(name, _)| name.clone()).collect();
        self.each_member(|entry, content| {
            if !matches!(entry.kind, Kind::File(_)) || !missing.remove(&entry.path) {
                return Ok(());
            }
            let layer = store.layers().import_unknown(content, self.path)?;
            let mut expected = layers.iter().filter(|(name, _)| *name == entry.path);
            expected.try_for_each(|(_, diff_id)| verify_diff_id(diff_id, *layer.diff_id.digest()))
        })?;
        match missing.first() {
            None => Ok(()),
            Some(name) => {
                Err(invalid(self.path, format!("its layer `{}` is missing", String::from_utf8_lossy(name))))
            }
        }
    }

    fn each_member(
        &self,
        mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut file = File::open(self.path).map_err(failed("open", self.path))?;
        let mut start = Vec::new();
        (&mut file)
            .take(Encoding::MAGIC_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(failed("read", self.path))?;
        file.rewind().map_err(failed("read", self.path))?;
        let archive = encoding::decoder(Encoding::detect(&start), file).map_err(failed("read", self.path))?;
        let mut decoder = Decoder::new(BufReader::with_capacity(128 * 1024, archive));
        while let Some((entry, mut content)) = decoder.next_entry()? {
            visit(&entry, &mut content)?;
        }
        Ok(())
    }
}

impl Contents {
    /// Follows links.
    fn resolve(&self, name: &[u8]) -> Vec<u8> {
        let mut name = name.to_vec();
        // A chain without a loop has at most as many links as the archive.
        for _ in 0..self.links.len() {
            match self.links.get(&name) {
                Some(target) => name = target.clone(),
                None => break,
            }
        }
        name
    }
}

/// Returns the short form of a reference: skopeo writes `docker.io/library/name:tag`, and docker
/// `name:tag`.
fn familiar(reference: &str) -> &str {
    let reference = reference.strip_prefix("docker.io/").unwrap_or(reference);
    reference.strip_prefix("library/").unwrap_or(reference)
}

/// Returns the name to which a symbolic link at `path` leads: `../a/layer.tar` at `b/layer.tar`
/// leads to `a/layer.tar`.
fn target_path(path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    parts.pop();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Meta};
    use crate::store::document::chain;

    #[test]
    fn the_memory_for_documents_is_limited() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let document = [b"{".as_slice(), &vec![b' '; DOCUMENT_LIMIT_BYTES as usize - 1]].concat();
        let mut encoder = Encoder::new(Vec::new());
        for number in 0..=CONTENTS_LIMIT_BYTES / DOCUMENT_LIMIT_BYTES {
            let kind = Kind::File(document.len() as u64);
            let entry = Entry { path: number.to_string().into(), kind, meta: Meta::IMPLIED_DIRECTORY };
            encoder.append_file(&entry, &mut document.as_slice()).unwrap();
        }
        let file = directory.path().join("saved.tar");
        std::fs::write(&file, encoder.finish().unwrap().0).unwrap();
        let error = chain(&store.bases().import_docker_archive(&file, None, "amd64").unwrap_err());
        assert!(error.contains("its documents and links have more than"), "{error}");
    }
}

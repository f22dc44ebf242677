//! The verb `pull`: fetches an image into the store, or the files of an artifact into a directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifest};

use super::failure::{Failure, Hint, Message};
use super::fetch::{Fetch, blob_of, manifest, parse, unusable};
use super::place::{cannot_use, refuse_own_store};
use super::registry::{client, tables};
use super::session::{Session, open_store};
use crate::directory::Directory;
use crate::oci::{BlobStream, Digest, Reference};
use crate::output::{Destination, write_stream};
use crate::port::{Blob, Direction, Events};
use crate::registry::{Access, Remote, Transfers};

/// Fetches an image into the store, and names it there by its reference. Returns the number of its
/// layers, and its manifest's digest.
pub(crate) fn pull(
    session: &Session<'_>,
    reference: &Reference,
    events: &dyn Events,
) -> Result<(usize, Digest), Failure> {
    let client = client(session, &tables(session)?)?;
    let store = open_store(session)?;
    let fetched = Fetch { client: &client, store: &store, events }.image(reference)?;
    // After all blobs: an interrupted pull leaves blobs without a name, which garbage collection
    // removes.
    let digest = store.images().put(&reference.to_string(), &fetched.manifest.bytes)?;
    Ok((fetched.layers.len(), digest))
}

/// Writes the files of an artifact into a directory; returns their paths.
pub(crate) fn pull_files(
    session: &Session<'_>,
    reference: &Reference,
    directory: &Path,
    events: &dyn Events,
) -> Result<Vec<PathBuf>, Failure> {
    refuse_own_store(session, directory)?;
    let client = client(session, &tables(session)?)?;
    let remote = client.remote(&reference.repository, Access::Pull);
    let artifact: ImageManifest = parse(&remote, &manifest(&remote, &reference.target())?)?;
    let files = artifact.layers().iter().filter_map(|layer| Some((layer, title(layer)?)));
    let files = files.map(|(layer, title)| File::new(&remote, layer, title));
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    if files.is_empty() {
        return Err(Message::with_hint(
            format!("cannot write files of `{reference}`: it is an image, whose layers have no file names"),
            Hint::call(["pull".to_owned(), reference.to_string()]),
        ));
    }
    if let Some(title) = first_repeated(files.iter().map(|file| file.title.as_str())) {
        let reason = format!("it contains two files called `{title}`");
        return Err(unusable(&remote, reason));
    }
    let directory = Directory::create(directory).map_err(|error| cannot_use(directory, &error))?;
    let sizes = files.iter().map(|file| file.blob.bytes);
    let transfers = Transfers::start(events, remote.repository(), Direction::Pull, sizes);
    transfers.each(remote.jobs(), &files, |file| {
        let write = |source: &mut BlobStream<'_>| write_stream(source, &file.destination(&directory));
        remote.pull_blob(&file.blob.digest, file.blob.bytes, &transfers, write)
    })?;
    transfers.finish();
    Ok(files.iter().map(|file| file.destination(&directory).path().to_owned()).collect())
}

/// A file of an artifact.
struct File {
    blob: Blob,
    title: String,
}

impl File {
    /// Rejects a name that leads out of the directory, hides the file or contains control
    /// characters, because names come from the registry.
    fn new(remote: &Remote, layer: &Descriptor, title: &str) -> Result<Self, Failure> {
        let is_unsafe = |c: char| c == '/' || c.is_control();
        if title.is_empty() || title.starts_with('.') || title.contains(is_unsafe) {
            return Err(unusable(remote, format!("`{}` is not a valid file name", title.escape_debug())));
        }
        Ok(Self { blob: blob_of(remote, layer)?, title: title.to_owned() })
    }

    fn destination(&self, directory: &Directory) -> Destination {
        Destination::new(directory, self.title.as_ref())
    }
}

/// Source: OCI image-spec, `annotations.md`.
fn title(layer: &Descriptor) -> Option<&str> {
    layer.annotations().as_ref()?.get("org.opencontainers.image.title").map(String::as_str)
}

/// Returns the first duplicate title. Files are written in parallel, so chance would decide which
/// of two files remains.
fn first_repeated<'a>(titles: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut known = BTreeSet::new();
    titles.into_iter().find(|title| !known.insert(*title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_title_is_found() {
        assert_eq!(first_repeated(["a", "b", "a", "b"]), Some("a"));
        assert_eq!(first_repeated(["a", "A", "ab"]), None);
        assert_eq!(first_repeated([]), None);
    }
}

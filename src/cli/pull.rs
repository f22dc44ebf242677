//! `plywood pull`: an image of a registry in the store, or the files of an artifact in a directory.

use std::path::Path;
use std::process::ExitCode;

use oci_spec::image::{Descriptor, ImageManifest};

use super::answer::say;
use super::args::{Global, Pull};
use super::progress::{Detail, renderer};
use super::report::{Failure, Message};
use crate::directory::Directory;
use crate::engine::Session;
use crate::engine::cannot_use;
use crate::engine::client;
use crate::engine::open_store;
use crate::engine::{Fetch, blob_of, manifest, parse, unusable};
use crate::oci::{BlobStream, Reference};
use crate::output::{Destination, write_stream};
use crate::port::{Blob, Direction, Events};
use crate::registry::{Access, Client, Remote, Transfers};
use crate::store::Store;

/// Fetches what the reference names.
pub(super) fn run(global: &Global, args: &Pull, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    let client = client(session)?;
    let events = renderer(args.progress, Detail::of(global));
    let said = match &args.output {
        Some(directory) => files(&client, &reference, directory, events.as_ref())?,
        None => image(&open_store(session)?, &client, &reference, events.as_ref())?,
    };
    drop(events);
    said.iter().try_for_each(|line| say!("{line}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Fetches an image and gives it its reference as name in the store's index; returns what to say.
fn image(
    store: &Store,
    client: &Client,
    reference: &Reference,
    events: &dyn Events,
) -> Result<Vec<String>, Failure> {
    let fetched = Fetch { client, store, events }.image(reference)?;
    let digest = store.save_image(&reference.to_string(), &fetched.manifest.bytes)?;
    Ok(vec![
        format!("{reference}: {} layers, manifest {digest}", fetched.layers.len()),
        format!(
            "it is in the store now: `plywood push {reference} REF` sends it on, \
             `plywood import {reference} NAME` makes it a base"
        ),
    ])
}

/// Writes the files of an artifact; returns their paths.
fn files(
    client: &Client,
    reference: &Reference,
    directory: &Path,
    events: &dyn Events,
) -> Result<Vec<String>, Failure> {
    let remote = client.remote(&reference.repository, Access::Pull);
    let artifact: ImageManifest = parse(&remote, &manifest(&remote, &reference.target())?)?;
    let files = artifact.layers().iter().filter_map(|layer| Some((layer, title(layer)?)));
    let files = files.map(|(layer, title)| File::new(&remote, layer, title));
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    if files.is_empty() {
        return Err(Message::with_hint(
            format!("`{reference}` holds no files that have names: it is an image"),
            format!("plywood pull {reference}"),
        ));
    }
    let directory = Directory::create(directory).map_err(|error| cannot_use(directory, &error))?;
    let sizes = files.iter().map(|file| file.blob.bytes);
    let transfers = Transfers::start(events, remote.repository(), Direction::Pull, sizes);
    transfers.each(remote.jobs(), &files, |file| {
        let write = |source: &mut BlobStream<'_>| write_stream(source, &file.destination(&directory));
        remote.pull_blob(&file.blob.digest, file.blob.bytes, &transfers, write)
    })?;
    transfers.finish();
    Ok(files.iter().map(|file| file.destination(&directory).path().display().to_string()).collect())
}

/// A file of an artifact.
struct File {
    blob: Blob,
    title: String,
}

impl File {
    /// Refuses a name that leads out of the directory, hides the file or commands the terminal: it is the registry's.
    fn new(remote: &Remote, layer: &Descriptor, title: &str) -> Result<Self, Failure> {
        let is_unsafe = |c: char| c == '/' || c.is_control();
        if title.is_empty() || title.starts_with('.') || title.contains(is_unsafe) {
            return Err(unusable(remote, format!("`{}` is no name for a file", title.escape_debug())));
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

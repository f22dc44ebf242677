//! `plywood push`: an image to a registry.

use std::process::ExitCode;

use super::Process;
use super::args::{Global, Push};
use super::build::detail;
use super::context::open_store;
use super::progress::renderer;
use super::registry::client;
use super::report::{Failure, Message};
use crate::oci::Reference;
use crate::registry::{Access, Upload};
use crate::store::{Store, StoredImage};

/// Sends what the registry does not have of the image, then its manifest.
pub(super) fn run(global: &Global, args: &Push, process: &Process) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    let store = open_store(global)?;
    let image = stored_image(&store, &args.image)?;
    let events = renderer(args.progress, detail(global));
    let remote = client(global, process)?.remote(&reference.repository, Access::Push);
    let uploads: Vec<_> = image
        .blobs
        .iter()
        .map(|blob| Upload { digest: blob.digest, bytes: blob.bytes, source: blob, mount_from: None })
        .collect();
    let digest = remote.push_image(&reference.target(), &image.manifest, &uploads, events.as_ref())?;
    drop(events);
    println!("{}@{digest}", reference.repository);
    Ok(ExitCode::SUCCESS)
}

/// Returns the container of the image's last build, or a pulled image of that name.
fn stored_image(store: &Store, name: &str) -> Result<StoredImage, Failure> {
    let pulled = name.parse::<Reference>().map(|reference| reference.to_string());
    let names = [Store::container_name(name)].into_iter().chain(pulled.ok());
    for name in names {
        if let Some(image) = store.image(&name)? {
            return Ok(image);
        }
    }
    Err(Message::with_hint(
        format!("the store has no container image `{name}`"),
        format!("plywood build {name} -f oci"),
    ))
}

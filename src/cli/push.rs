//! `plywood push`: an image to a registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::answer::say;
use super::args::{Global, Push, PushFormat};
use super::progress::{Detail, renderer};
use super::report::{Failure, Message};
use crate::build::ImageManifest;
use crate::engine::Assembly;
use crate::engine::Origins;
use crate::engine::Session;
use crate::engine::client;
use crate::engine::{Context, machine_architecture, open_store};
use crate::load::{self, LoadError};
use crate::oci::{Digest, Reference};
use crate::output::Shipment;
use crate::port::Events;
use crate::registry::{Access, Remote, Upload};
use crate::store::{Store, StoredImage};

/// Sends what the registry does not have of the image, then its manifest.
pub(super) fn run(global: &Global, args: &Push, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    if reference.digest.is_some() {
        return Err(Message::with_hint(
            format!("`{reference}` has a digest, which an image gets by being what it is"),
            "name a tag, or nothing after the repository",
        ));
    }
    let store = open_store(session)?;
    let remote = client(session)?.remote(&reference.repository, Access::Push);
    let events = renderer(args.progress, Detail::of(global));
    let directory = global.output_directory(args.output.as_deref());
    let push = Destination { remote: &remote, reference: &reference, events: events.as_ref() };
    let digest = match args.format {
        PushFormat::Oci => {
            let origins = Origins::near(&reference.repository, session, &store)?;
            push.container(&image(global, args, session, &store, events.as_ref())?, &origins)?
        }
        PushFormat::Qcow2 => push.shipment(&built_disk(&store, args, &directory)?.artifact)?,
        PushFormat::Containerdisk => push.shipment(&built_disk(&store, args, &directory)?.container()?)?,
    };
    drop(events);
    say!("{}@{digest}", reference.repository)?;
    Ok(ExitCode::SUCCESS)
}

struct Destination<'a> {
    remote: &'a Remote,
    reference: &'a Reference,
    events: &'a dyn Events,
}

impl Destination<'_> {
    fn container(&self, image: &StoredImage, origins: &Origins) -> Result<Digest, Failure> {
        let uploads = image.blobs.iter().map(|blob| Upload {
            digest: blob.digest,
            bytes: blob.bytes,
            source: blob,
            mount_from: origins.of(&blob.digest),
        });
        let uploads: Vec<_> = uploads.collect();
        Ok(self.remote.push_image(&self.reference.target(), &image.manifest, &uploads, self.events)?)
    }

    fn shipment(&self, disk: &Shipment) -> Result<Digest, Failure> {
        let config = disk.config.as_slice();
        let (digest, bytes) = (Digest::of(config), config.len() as u64);
        let uploads = [
            Upload { digest, bytes, source: &config, mount_from: None },
            Upload { digest: disk.digest, bytes: disk.layer.len(), source: &disk.layer, mount_from: None },
        ];
        Ok(self.remote.push_image(&self.reference.target(), &disk.manifest, &uploads, self.events)?)
    }
}

/// Returns the container of the image's last build, a pulled image of that name, or what the layers of the image give.
fn image(
    global: &Global,
    args: &Push,
    session: &Session<'_>,
    store: &Store,
    events: &dyn Events,
) -> Result<StoredImage, Failure> {
    let name = &args.image;
    let pulled = name.parse::<Reference>().map(|reference| reference.to_string());
    let names = [Store::container_name(name)].into_iter().chain(pulled.ok());
    for name in names {
        if let Some(image) = store.image(&name)? {
            return Ok(image);
        }
    }
    if !is_defined(global, name)? {
        return Err(Message::with_hint(
            format!("`{name}` is no image of the project, and none that was pulled"),
            format!("plywood pull {name}"),
        ));
    }
    let context = Context::load(session)?;
    let (name, image) = context.image(name)?;
    Assembly { session, context: &context, store, events }.container(name, image)
}

fn is_defined(global: &Global, image: &str) -> Result<bool, LoadError> {
    match load::load_project(&global.project) {
        Err(LoadError::NoProject { .. }) => Ok(false),
        project => Ok(project?.image.contains_key(image)),
    }
}

/// The disk of an image's last build.
struct BuiltDisk {
    path: PathBuf,
    source_date_epoch: i64,
    artifact: Shipment,
}

impl BuiltDisk {
    fn container(&self) -> Result<Shipment, Failure> {
        let (architecture, _) = machine_architecture()?.oci();
        Ok(Shipment::container_disk(&self.path, architecture, self.source_date_epoch)?)
    }
}

/// Finds the disk of the image's last build where it was written, and verifies that it is that.
fn built_disk(store: &Store, args: &Push, directory: &Path) -> Result<BuiltDisk, Failure> {
    let image = &args.image;
    let failure = |message| {
        let hint = format!("plywood build {image} -f qcow2 -o {}", directory.display());
        Message::with_hint(message, hint)
    };
    let unbuilt = || failure(format!("the last build of `{image}` wrote no qcow2"));
    let manifest: ImageManifest = serde_json::from_slice(&store.last_build(image)?.ok_or_else(unbuilt)?)?;
    let output = manifest.outputs.iter().find(|output| output.format == "qcow2").ok_or_else(unbuilt)?;
    let path = directory.join(&output.file);
    if !path.is_file() {
        return Err(failure(format!("`{}` is not there", path.display())));
    }
    let artifact = Shipment::artifact(&path)?;
    match artifact.digest == output.digest {
        true => Ok(BuiltDisk { path, source_date_epoch: manifest.source_date_epoch, artifact }),
        false => Err(failure(format!(
            "`{}` is another disk than the last build of `{image}` wrote",
            path.display()
        ))),
    }
}

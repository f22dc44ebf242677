//! The verb `push`: uploads an image to a registry.

use std::path::{Path, PathBuf};

use super::container::container;
use super::failure::{Failure, Hint, Message};
use super::origin::Origins;
use super::project::{Project, load_file, machine_architecture};
use super::registry::client;
use super::session::{Session, open_store};
use crate::build::BuildManifest;
use crate::image::Project as ProjectFile;
use crate::oci::{Digest, Reference};
use crate::output::Shipment;
use crate::port::Events;
use crate::registry::{Access, Remote, Upload};
use crate::store::{Builds, Store, StoredImage};

/// The part of an image to upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Container,
    /// The qcow2 disk, as an artifact.
    Disk,
    /// The qcow2 disk, in the form of KubeVirt's `containerDisk` volumes.
    ContainerDisk,
}

/// An upload, and its destination.
pub(crate) struct Push<'a> {
    pub(crate) session: &'a Session<'a>,
    /// An image of the project, or a pulled image.
    pub(crate) image: &'a str,
    pub(crate) what: Pushed,
    pub(crate) reference: &'a Reference,
    /// The directory with the disk of the build.
    pub(crate) directory: &'a Path,
    pub(crate) events: &'a dyn Events,
}

impl Push<'_> {
    /// Uploads the blobs of the image that the registry lacks, then its manifest. Returns the
    /// manifest's digest.
    pub(crate) fn run(&self) -> Result<Digest, Failure> {
        let Self { session, reference, events, .. } = *self;
        if reference.digest.is_some() {
            return Err(Message::with_hint(
                format!("cannot push to `{reference}`: the content of an image decides its digest"),
                "name a tag in place of the digest, or the repository alone",
            ));
        }
        let store = open_store(session)?;
        let file = load_file(session)?;
        let tables = file.as_ref().map(|file| file.registry.clone()).unwrap_or_default();
        let remote = client(session, &tables)?.remote(&reference.repository, Access::Push);
        let to = Destination { remote: &remote, reference, events };
        match self.what {
            Pushed::Container => {
                let origins = Origins::near(&reference.repository, session, file.as_ref(), &store)?;
                to.container(&self.stored(&store, file)?, &origins)
            }
            Pushed::Disk => to.shipment(&self.built_disk(&store)?.artifact),
            Pushed::ContainerDisk => to.shipment(&self.built_disk(&store)?.container()?),
        }
    }

    /// Returns the container of the image's last build. Otherwise returns a pulled image of that
    /// name, or a container of the stored layers.
    fn stored(&self, store: &Store, file: Option<ProjectFile>) -> Result<StoredImage, Failure> {
        let name = self.image;
        let pulled = name.parse::<Reference>().map(|reference| reference.to_string());
        for name in [Builds::container_name(name)].into_iter().chain(pulled.ok()) {
            if let Some(image) = store.images().get(&name)? {
                return Ok(image);
            }
        }
        let Some(file) = file.filter(|file| file.image.contains_key(name)) else {
            return Err(Message::with_hint(
                format!("image `{name}` is neither defined in the project nor pulled"),
                Hint::call(["pull", name]),
            ));
        };
        container(self.session, &Project::of(self.session, file)?, name, store, self.events)
    }

    /// Finds the disk of the image's last build in the output directory, and verifies its digest.
    fn built_disk(&self, store: &Store) -> Result<BuiltDisk, Failure> {
        let Self { image, directory, .. } = *self;
        let failure = |message| {
            let hint = Hint::call(["build", image, "-f", "qcow2", "-o", &directory.display().to_string()]);
            Message::with_hint(message, hint)
        };
        let unbuilt = || failure(format!("cannot push the disk of `{image}`: its last build wrote no qcow2"));
        let manifest: BuildManifest =
            serde_json::from_slice(&store.builds().get(image)?.ok_or_else(unbuilt)?)?;
        let output = manifest.outputs.iter().find(|output| output.format == "qcow2").ok_or_else(unbuilt)?;
        let path = directory.join(&output.file);
        if !path.is_file() {
            return Err(failure(format!("cannot push `{}`: the file does not exist", path.display())));
        }
        // The file may come from another build or have changed, so its digest decides.
        let artifact = Shipment::artifact(&path)?;
        match artifact.digest == output.digest {
            true => Ok(BuiltDisk { path, source_date_epoch: manifest.source_date_epoch, artifact }),
            false => Err(failure(format!(
                "`{}` differs from the disk that the last build of `{image}` wrote",
                path.display()
            ))),
        }
    }
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

/// The disk of an image's last build.
struct BuiltDisk {
    path: PathBuf,
    source_date_epoch: i64,
    artifact: Shipment,
}

impl BuiltDisk {
    fn container(&self) -> Result<Shipment, Failure> {
        let (architecture, _) = machine_architecture()?.oci();
        Ok(Shipment::container_disk(&self.path, &self.artifact.digest, architecture, self.source_date_epoch)?)
    }
}

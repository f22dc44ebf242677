//! Writes outputs to files: connects the edge `output` to [`super::outputs`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failure::Failure;
use crate::block::LoopWriter;
use crate::disk::Identity;
use crate::element::Environment;
use crate::layer::{Clamp, Encoding};
use crate::output::{
    ClusterCache, ContainerImage, Converter, Destination, DiskFormat, KnownBlobs, Qcow2Options, QemuFormat,
    TarForm, Written, load_into_docker, write_docker_archive, write_oci_layout, write_squashfs, write_tar,
};
use crate::port::{DiskWriter, LayerBlobs};

/// Writes outputs.
pub(crate) trait Writer {
    /// Returns the writer of disks that mounts them at `mount`.
    fn disks(&self, mount: PathBuf) -> Box<dyn DiskWriter + '_>;

    /// Writes the complete disk `raw` in another format.
    fn convert(
        &self,
        raw: &Path,
        to: &Destination,
        conversion: Conversion<'_>,
        identity: &DiskIdentity<'_>,
    ) -> Result<Written, Failure>;

    /// Writes an archive of the root file system at `root`, with clamped times.
    fn archive(
        &self,
        root: &Path,
        to: &Destination,
        archive: Archive<'_>,
        clamp: &Clamp,
    ) -> Result<Written, Failure>;

    /// Writes a container, whose layers are in `blobs`.
    fn container(
        &self,
        image: &ContainerImage<'_>,
        blobs: &dyn LayerBlobs,
        container: Container<'_>,
    ) -> Result<Written, Failure>;
}

/// The program that writes a disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Conversion<'a> {
    Own(DiskFormat, Qcow2Options),
    /// qemu-img, with the user's options.
    Qemu(QemuFormat<'a>),
}

/// Values that decide the bytes of a disk's file, besides its content.
pub(crate) struct DiskIdentity<'a> {
    pub(crate) image: &'a str,
    pub(crate) source_date_epoch: i64,
    /// The directory of compressed clusters of earlier disks, if they may be used.
    pub(crate) clusters: Option<PathBuf>,
}

/// The format of an archive.
pub(crate) enum Archive<'a> {
    Squashfs,
    Tar(TarForm<'a>),
}

/// The format of a container, and its destination.
pub(crate) enum Container<'a> {
    /// Reads only those blobs of the layout in its place that are not noted as known.
    OciLayout(Encoding, &'a Destination, Option<KnownBlobs>),
    DockerArchive(&'a Destination),
    /// Loads the container into the Docker engine that these variables name, through an archive.
    Docker(&'a Path, &'a Environment),
}

/// Writes files, with the host's loop devices and programs.
pub(crate) struct FileWriter {
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Writer for FileWriter {
    fn disks(&self, mount: PathBuf) -> Box<dyn DiskWriter + '_> {
        Box::new(LoopWriter::new(mount, self.interrupted.clone()))
    }

    fn convert(
        &self,
        raw: &Path,
        to: &Destination,
        conversion: Conversion<'_>,
        identity: &DiskIdentity<'_>,
    ) -> Result<Written, Failure> {
        Ok(match conversion {
            Conversion::Own(format, qcow2) => self.converter(identity, qcow2).convert(raw, to, format)?,
            Conversion::Qemu(format) => {
                self.converter(identity, Qcow2Options::default()).convert_for_qemu(raw, to, format)?
            }
        })
    }

    fn archive(
        &self,
        root: &Path,
        to: &Destination,
        archive: Archive<'_>,
        clamp: &Clamp,
    ) -> Result<Written, Failure> {
        Ok(match archive {
            Archive::Squashfs => write_squashfs(root, to, clamp.epoch)?,
            Archive::Tar(form) => write_tar(root, to, form, clamp, &self.interrupted)?,
        })
    }

    fn container(
        &self,
        image: &ContainerImage<'_>,
        blobs: &dyn LayerBlobs,
        container: Container<'_>,
    ) -> Result<Written, Failure> {
        Ok(match container {
            Container::OciLayout(encoding, to, known) => {
                write_oci_layout(image, encoding, blobs, to, known.as_ref())?
            }
            Container::DockerArchive(to) => write_docker_archive(image, blobs, to)?,
            Container::Docker(archive, environment) => {
                let written = write_docker_archive(image, blobs, &Destination::at(archive)?)?;
                load_into_docker(archive, environment)?;
                // The archive is temporary: the output is the name in the engine.
                Written { path: PathBuf::from(image.name), ..written }
            }
        })
    }
}

impl FileWriter {
    fn converter(&self, identity: &DiskIdentity<'_>, qcow2: Qcow2Options) -> Converter {
        let clusters = identity.clusters.clone();
        Converter {
            identity: Identity::new(identity.image),
            source_date_epoch: identity.source_date_epoch,
            qcow2,
            clusters: clusters.map(|directory| ClusterCache::new(directory, identity.image)),
            interrupt: self.interrupted.clone(),
        }
    }
}

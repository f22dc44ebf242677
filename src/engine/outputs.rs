//! The outputs of one image: some come from its disk and others from its layers, and the final
//! stage runs there.

use std::path::{Path, PathBuf};

use super::account::ContainerUser;
use super::failure::Failure;
use super::images::Images;
use super::place::Place;
use super::writer::{Archive, Container, Conversion, DiskIdentity, Writer};
use crate::build::{
    BuildManifest, Builder, BuiltStep, OutputEntry, Reuse, Stage, container_config, hooks_look_at_disk,
};
use crate::disk::DiskRequest;
use crate::dropin::OutputType;
use crate::element::Environment;
use crate::image::{Compression, ImageDefinition, OutputFormat, Qcow2Compression};
use crate::layer::{Clamp, Encoding};
use crate::oci::DiffId;
use crate::output::{
    Compatibility, ContainerImage, Destination, DiskFormat, KnownBlobs, Qcow2Options, QemuFormat, TarForm,
    Written, app_container_manifest,
};
use crate::plan::Plan;
use crate::port::Event;

/// Writes the outputs of one image.
pub(super) struct Outputs<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) images: &'a dyn Images,
    pub(super) writer: &'a dyn Writer,
    pub(super) plan: &'a Plan,
    /// The steps of the plan, without the final stage.
    pub(super) steps: &'a [BuiltStep],
    pub(super) image: &'a ImageDefinition,
    /// The directory of the project that defines it.
    pub(super) project: &'a Path,
    pub(super) disk: DiskRequest<'a>,
    pub(super) place: &'a dyn Place,
    pub(super) extras: &'a Extras,
}

/// Settings of outputs outside of an image's definition.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Options for `qemu-img convert -o`: for the qcow2 if there is one, otherwise for the outputs
    /// of qemu-img.
    pub(crate) qemu_img_options: Option<String>,
    /// Repository and tag in the Docker engine.
    pub(crate) docker_target: String,
    /// The manifest of an App Container Image.
    pub(crate) aci_manifest: Option<Vec<u8>>,
    /// Variables such as `DOCKER_HOST`, which name the Docker engine.
    pub(crate) environment: Environment,
}

impl Outputs<'_> {
    /// Writes all `outputs` and records them in the manifest. Returns all steps that were built for
    /// them.
    pub(super) fn write(
        &self,
        manifest: &mut BuildManifest,
        outputs: &[OutputType],
    ) -> Result<Vec<BuiltStep>, Failure> {
        let mut steps = self.steps.to_vec();
        let stack = manifest.stack();
        let (disks, others): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.is_disk());
        let is_of_disk = |output: &&OutputType| self.archives_are_of(&disks) && output.is_archive();
        let (archives, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_of_disk);
        if !disks.is_empty() || !archives.is_empty() {
            self.write_disks(manifest, &stack, &disks, &archives)?;
        }
        if !others.is_empty() {
            // One final stage for all of them, above the layers.
            steps.push(self.builder.finish(self.plan, &stack)?);
            for output in others {
                self.write_layers(manifest, &steps, output)?;
            }
        }
        // Even if no container was written: `push` must not upload a container whose layers differ
        // from the disk's.
        self.images.forget_old_container(&self.plan.image, &stack)?;
        Ok(steps)
    }

    /// Returns true if archives are made from the disk: if hooks of the final stage use a disk, or
    /// if a disk is written anyway and these hooks write to the caller's directories, which must
    /// happen once. Other archives do not depend on a disk.
    fn archives_are_of(&self, disks: &[&OutputType]) -> bool {
        let leave_things = self.builder.surroundings.is_some();
        hooks_look_at_disk(self.plan) || (leave_things && !disks.is_empty())
    }

    /// Writes one raw disk, `archives` of its content, and converts it to each of the formats.
    fn write_disks(
        &self,
        manifest: &mut BuildManifest,
        stack: &[DiffId],
        outputs: &[&OutputType],
        archives: &[&OutputType],
    ) -> Result<(), Failure> {
        let workspace = self.builder.ports.store.workspace(&[])?;
        let raw = workspace.scratch("disk", 0o755)?.join("disk.raw");
        let disks = self.writer.disks(workspace.scratch("mount", 0o755)?);
        let disk = self.builder.disk(self.plan, stack, &self.disk, disks.as_ref(), &raw)?;
        // Archives while the disk is mounted; conversions after it is closed and complete.
        for output in archives {
            let stage = self.stage(output);
            let written = self.write_archive(disk.root(), output)?;
            stage.end();
            self.note(manifest, output, written, stack.to_vec());
        }
        disk.close()?;
        let has_qcow2 = outputs.contains(&&OutputType::File(OutputFormat::Qcow2));
        for output in outputs {
            let stage = self.stage(output);
            // Options for one format mean nothing for another.
            let is_meant = !has_qcow2 || **output == OutputType::File(OutputFormat::Qcow2);
            let options = self.extras.qemu_img_options.as_deref().filter(|_| is_meant);
            let written = self.convert(&raw, output, options)?;
            stage.end();
            self.note(manifest, output, written, stack.to_vec());
        }
        Ok(())
    }

    fn convert(&self, raw: &Path, output: &OutputType, options: Option<&str>) -> Result<Written, Failure> {
        let conversion = self.conversion(output, options);
        self.writer.convert(raw, &self.destination(output), conversion, &self.disk_identity()?)
    }

    fn disk_identity(&self) -> Result<DiskIdentity<'_>, Failure> {
        let clusters = self.cache("clusters")?;
        let Plan { image, source_date_epoch, .. } = self.plan;
        Ok(DiskIdentity { image, source_date_epoch: *source_date_epoch, clusters })
    }

    /// Returns the directory of a cache of the store, if earlier work may be used.
    fn cache(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        Ok(match self.builder.reuse {
            Reuse::Allowed => Some(self.builder.ports.store.cache(name)?),
            Reuse::Refused => None,
        })
    }

    /// Returns the converter of a disk: plywood itself, or qemu-img for formats and options that
    /// only qemu-img supports.
    fn conversion<'b>(&self, output: &'b OutputType, options: Option<&'b str>) -> Conversion<'b> {
        let compression = self.image.qcow2.compression;
        let qcow2 = Qcow2Options { compression, compatibility: Compatibility::V3 };
        let extension = output.extension().unwrap_or_default();
        let by_qemu = |name, compressed| Conversion::Qemu(QemuFormat { name, compressed, options });
        match (DiskFormat::from_extension(extension), options) {
            (None, _) => by_qemu(extension, false),
            (Some(DiskFormat::Qcow2), Some(options)) => match qcow2.changed(options) {
                Some(changed) => Conversion::Own(DiskFormat::Qcow2, changed),
                None => by_qemu("qcow2", compression != Qcow2Compression::None),
            },
            // No option of qemu-img changes the bytes of a raw disk.
            (Some(format), None) | (Some(format @ DiskFormat::Raw), _) => Conversion::Own(format, qcow2),
            (Some(format), Some(_)) => by_qemu(format.qemu_name(), false),
        }
    }

    /// Writes one output from the layers of all `steps`, including the final stage.
    fn write_layers(
        &self,
        manifest: &mut BuildManifest,
        steps: &[BuiltStep],
        output: &OutputType,
    ) -> Result<(), Failure> {
        let stage = self.stage(output);
        let layers: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        let written = match is_container(output) {
            true => self.write_container(steps, &layers, output)?,
            false => self.builder.on_merged(&layers, |root| self.write_archive(root.path(), output))??,
        };
        stage.end();
        self.note(manifest, output, written, layers);
        Ok(())
    }

    fn write_container(
        &self,
        steps: &[BuiltStep],
        layers: &[DiffId],
        output: &OutputType,
    ) -> Result<Written, Failure> {
        let settings = &self.image.container;
        let config = container_config(self.plan, steps, settings, self.builder.ports.store)?;
        if let Some(user) = ContainerUser::of(&self.plan.image, &config, settings, self.project) {
            self.builder.on_merged(layers, |root| user.check(root))??;
        }
        let image = ContainerImage { name: &self.plan.image, config: &config, diff_ids: layers };
        let encoding = encoding(self.image.container.compression);
        let blobs = &*self.images.layer_blobs();
        let destination = self.destination(output);
        match output {
            OutputType::Docker => self.load_into_docker(&image),
            OutputType::File(OutputFormat::DockerArchive) => {
                self.writer.container(&image, blobs, Container::DockerArchive(&destination))
            }
            _ => {
                self.keep_container(&image, encoding)?;
                let known = self.cache("layouts")?.map(KnownBlobs::new);
                self.writer.container(&image, blobs, Container::OciLayout(encoding, &destination, known))
            }
        }
    }

    /// Keeps the container in the store, for `plywood push`: the same manifest as in the layout.
    fn keep_container(&self, image: &ContainerImage<'_>, encoding: Encoding) -> Result<(), Failure> {
        let blobs = self.images.layer_blobs();
        let layers = image.diff_ids.iter().map(|diff_id| blobs.encoded(diff_id, encoding));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        Ok(self.images.save_container(&self.plan.image, image.config, &layers)?)
    }

    fn load_into_docker(&self, image: &ContainerImage<'_>) -> Result<Written, Failure> {
        let workspace = self.builder.ports.store.workspace(&[])?;
        // In the store and not in `/tmp`, which may be in memory: the archive is as large as the
        // image.
        let archive = workspace.scratch("docker", 0o755)?.join("image.tar");
        let image = ContainerImage { name: &self.extras.docker_target, ..image.clone() };
        let container = Container::Docker(&archive, &self.extras.environment);
        self.writer.container(&image, &*self.images.layer_blobs(), container)
    }

    /// Writes one archive of the root file system at `root`.
    fn write_archive(&self, root: &Path, output: &OutputType) -> Result<Written, Failure> {
        let members = self.place.members();
        let of_aci = match output {
            OutputType::File(OutputFormat::Aci) => self.app_container_manifest(),
            _ => Vec::new(),
        };
        let archive = match output {
            OutputType::File(OutputFormat::Squashfs) => Archive::Squashfs,
            OutputType::File(OutputFormat::Aci) => Archive::Tar(TarForm::AppContainer { manifest: &of_aci }),
            OutputType::File(OutputFormat::Tgz) => Archive::Tar(TarForm::Gzip(members)),
            _ => Archive::Tar(TarForm::Plain(members)),
        };
        self.writer.archive(root, &self.destination(output), archive, &self.clamp())
    }

    /// Returns the limit of times in archives. Layers of the rpm family have later times, those of
    /// packages.
    fn clamp(&self) -> Clamp {
        let clamp = Clamp::to(self.plan.source_date_epoch);
        if self.plan.tools.is_some() { clamp.keeping_all() } else { clamp }
    }

    fn app_container_manifest(&self) -> Vec<u8> {
        let architecture = self.plan.architecture.oci().0;
        let given = self.extras.aci_manifest.clone();
        given.unwrap_or_else(|| app_container_manifest(&self.plan.image, architecture))
    }

    fn destination(&self, output: &OutputType) -> Destination {
        self.place.destination(output, output.extension().unwrap_or_default())
    }

    fn stage(&self, output: &OutputType) -> Stage<'_> {
        Stage::start(self.builder.ports.events, &self.plan.image, format!("write {output}"))
    }

    fn note(&self, manifest: &mut BuildManifest, output: &OutputType, written: Written, layers: Vec<DiffId>) {
        self.builder.ports.events.emit(Event::OutputWritten {
            image: &self.plan.image,
            format: &output.to_string(),
            path: &written.path,
            bytes: written.bytes,
        });
        manifest.outputs.push(OutputEntry {
            format: output.to_string(),
            file: written.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            digest: written.digest,
            bytes: written.bytes,
            diff_ids: layers,
        });
    }
}

/// Returns true if an output is a container, whose config continues that of the base.
pub(super) fn is_container(output: &OutputType) -> bool {
    matches!(output, OutputType::Docker | OutputType::File(OutputFormat::Oci | OutputFormat::DockerArchive))
}

/// Returns the encoding of layers with this compression.
pub(super) const fn encoding(compression: Compression) -> Encoding {
    match compression {
        Compression::Gzip => Encoding::Gzip,
        Compression::Zstd => Encoding::Zstd,
    }
}

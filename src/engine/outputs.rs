//! The outputs of one image, from its stack of layers.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failure::{Failure, Message};
use crate::block::LoopWriter;
use crate::build::{
    Builder, BuiltStep, ImageManifest, OutputEntry, Reuse, Stage, container_config, hooks_look_at_disk,
};
use crate::directory::Directory;
use crate::disk::{DiskRequest, Identity};
use crate::dropin::{Environment, OutputType};
use crate::image::{Compression, ImageDefinition, OutputFormat, Qcow2Compression};
use crate::layer::Encoding;
use crate::oci::DiffId;
use crate::output::{
    ClusterCache, Compatibility, ContainerImage, Converter, Destination, DiskFormat, MemberNames,
    Qcow2Options, QemuFormat, TarForm, Written, app_container_manifest, load_into_docker,
    write_docker_archive, write_oci_layout, write_squashfs, write_tar,
};
use crate::plan::Plan;
use crate::port::{Event, LayerStore};
use crate::store::Store;

/// Writes the outputs of one image.
pub(crate) struct Outputs<'a> {
    pub(crate) builder: &'a Builder<'a>,
    pub(crate) store: &'a Store,
    pub(crate) plan: &'a Plan,
    /// The steps of the plan, without the final stage.
    pub(crate) steps: &'a [BuiltStep],
    pub(crate) image: &'a ImageDefinition,
    pub(crate) disk: DiskRequest<'a>,
    pub(crate) naming: &'a dyn Naming,
    pub(crate) extras: &'a Extras,
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// Says where outputs go.
pub(crate) trait Naming {
    /// Returns the place of an output whose name ends in a dot and `extension`.
    fn destination(&self, output: &OutputType, extension: &str) -> Destination;

    /// Returns how members of archives are named.
    fn members(&self) -> MemberNames;
}

/// What can be said of outputs beside an image's definition.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Of `qemu-img convert -o`: for the qcow2, if there is one, else for what qemu-img writes.
    pub(crate) qemu_img_options: Option<String>,
    /// Repository and tag in the Docker engine.
    pub(crate) docker_target: String,
    /// The manifest of an App Container Image.
    pub(crate) aci_manifest: Option<Vec<u8>>,
    /// Where the Docker engine is.
    pub(crate) environment: Environment,
}

/// Who writes a disk.
enum Conversion<'a> {
    /// plywood's converter.
    Own(DiskFormat, Qcow2Options),
    /// qemu-img, as the user says.
    Qemu(QemuFormat<'a>),
}

impl Outputs<'_> {
    /// Writes all `outputs` and notes them in the manifest; returns all steps that were made for them.
    pub(crate) fn write(
        &self,
        manifest: &mut ImageManifest,
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
            steps.push(self.builder.finish(self.plan, &stack)?);
            for output in others {
                self.write_layers(manifest, &steps, output)?;
            }
        }
        self.store.forget_old_container(&self.plan.image, &stack)?;
        Ok(steps)
    }

    /// Says whether archives are made of what is on a disk: if hooks want one, or there is one beside them and hooks of the final
    /// stage leave things with the caller, which they do once. Else archives are the same with and without a disk.
    fn archives_are_of(&self, disks: &[&OutputType]) -> bool {
        let leave_things = self.builder.surroundings.is_some();
        hooks_look_at_disk(self.plan) || (leave_things && !disks.is_empty())
    }

    /// Writes one raw disk, `archives` of what is on it, and converts it to each of the formats.
    fn write_disks(
        &self,
        manifest: &mut ImageManifest,
        stack: &[DiffId],
        outputs: &[&OutputType],
        archives: &[&OutputType],
    ) -> Result<(), Failure> {
        let workspace = self.store.workspace(&[])?;
        let raw = workspace.scratch("disk", 0o755)?.join("disk.raw");
        let writer = LoopWriter::new(workspace.scratch("mount", 0o755)?, self.interrupted.clone());
        let disk = self.builder.disk(self.plan, stack, &self.disk, &writer, &raw)?;
        for output in archives {
            let stage = self.stage(output);
            let written = self.write_archive(disk.root(), output)?;
            stage.end();
            self.note(manifest, output, written, stack.to_vec())?;
        }
        disk.close()?;
        let has_qcow2 = outputs.contains(&&OutputType::File(OutputFormat::Qcow2));
        for output in outputs {
            let stage = self.stage(output);
            // What is said of one format means nothing to another.
            let is_meant = !has_qcow2 || **output == OutputType::File(OutputFormat::Qcow2);
            let options = self.extras.qemu_img_options.as_deref().filter(|_| is_meant);
            let written = self.convert(&raw, output, options)?;
            stage.end();
            self.note(manifest, output, written, stack.to_vec())?;
        }
        Ok(())
    }

    fn convert(&self, raw: &Path, output: &OutputType, options: Option<&str>) -> Result<Written, Failure> {
        let destination = self.destination(output);
        Ok(match self.conversion(output, options) {
            Conversion::Own(format, qcow2) => self.converter(qcow2)?.convert(raw, &destination, format)?,
            Conversion::Qemu(format) => {
                self.converter(Qcow2Options::default())?.convert_for_qemu(raw, &destination, format)?
            }
        })
    }

    /// Returns who writes a disk: plywood itself, unless that is beyond it.
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
            (Some(format), None) | (Some(format @ DiskFormat::Raw), _) => Conversion::Own(format, qcow2),
            (Some(format), Some(_)) => by_qemu(format.qemu_name(), false),
        }
    }

    fn converter(&self, qcow2: Qcow2Options) -> Result<Converter, Failure> {
        let clusters = match self.builder.reuse {
            Reuse::Allowed => Some(ClusterCache::new(self.store.cache("clusters")?, &self.plan.image)),
            Reuse::Refused => None,
        };
        Ok(Converter {
            identity: Identity::new(&self.plan.image),
            source_date_epoch: self.plan.source_date_epoch,
            qcow2,
            clusters,
            interrupt: self.interrupted.clone(),
        })
    }

    /// Writes one output that is made of layers, not of a disk: those of all `steps`, the final stage's included.
    fn write_layers(
        &self,
        manifest: &mut ImageManifest,
        steps: &[BuiltStep],
        output: &OutputType,
    ) -> Result<(), Failure> {
        let stage = self.stage(output);
        let layers: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        let written = match output {
            OutputType::File(OutputFormat::Oci | OutputFormat::DockerArchive) | OutputType::Docker => {
                self.write_container(steps, &layers, output)?
            }
            archive => self.builder.on_merged(&layers, |root| self.write_archive(root, archive))??,
        };
        stage.end();
        self.note(manifest, output, written, layers)
    }

    fn write_container(
        &self,
        steps: &[BuiltStep],
        layers: &[DiffId],
        output: &OutputType,
    ) -> Result<Written, Failure> {
        let config = container_config(self.plan, steps, &self.image.container, self.store)?;
        let image = ContainerImage { name: &self.plan.image, config: &config, diff_ids: layers };
        let encoding = encoding(self.image.container.compression);
        Ok(match output {
            OutputType::Docker => self.load_into_docker(&image)?,
            OutputType::File(OutputFormat::DockerArchive) => {
                write_docker_archive(&image, self.store, &self.destination(output))?
            }
            _ => {
                self.keep_container(&image, encoding)?;
                write_oci_layout(&image, encoding, self.store, &self.destination(output))?
            }
        })
    }

    /// Keeps the container in the store, for `plywood push`: the same manifest as in the layout.
    fn keep_container(&self, image: &ContainerImage<'_>, encoding: Encoding) -> Result<(), Failure> {
        let layers = image.diff_ids.iter().map(|diff_id| self.store.encoded(diff_id, encoding));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        self.store.save_container(&self.plan.image, image.config, &layers)?;
        Ok(())
    }

    fn load_into_docker(&self, image: &ContainerImage<'_>) -> Result<Written, Failure> {
        let workspace = self.store.workspace(&[])?;
        let archive = workspace.scratch("docker", 0o755)?.join("image.tar");
        let image = ContainerImage { name: &self.extras.docker_target, ..image.clone() };
        let written = write_docker_archive(&image, self.store, &Destination::at(&archive)?)?;
        load_into_docker(&archive, &self.extras.environment)?;
        Ok(Written { path: PathBuf::from(&self.extras.docker_target), ..written })
    }

    /// Writes one archive of the root file system at `root`.
    fn write_archive(&self, root: &Path, output: &OutputType) -> Result<Written, Failure> {
        let names = self.naming.members();
        match output {
            OutputType::File(OutputFormat::Squashfs) => {
                Ok(write_squashfs(root, &self.destination(output), self.plan.source_date_epoch)?)
            }
            OutputType::File(OutputFormat::Aci) => self.write_app_container(root, output),
            OutputType::File(OutputFormat::Tgz) => self.write_tar(root, output, TarForm::Gzip(names)),
            _ => self.write_tar(root, output, TarForm::Plain(names)),
        }
    }

    fn write_app_container(&self, root: &Path, output: &OutputType) -> Result<Written, Failure> {
        let architecture = self.plan.architecture.oci().0;
        let manifest = self.extras.aci_manifest.clone();
        let manifest = manifest.unwrap_or_else(|| app_container_manifest(&self.plan.image, architecture));
        self.write_tar(root, output, TarForm::AppContainer { manifest: &manifest })
    }

    fn write_tar(&self, root: &Path, output: &OutputType, form: TarForm<'_>) -> Result<Written, Failure> {
        let (destination, latest) = (self.destination(output), self.plan.source_date_epoch);
        Ok(write_tar(root, &destination, form, latest, &self.interrupted)?)
    }

    fn destination(&self, output: &OutputType) -> Destination {
        self.naming.destination(output, output.extension().unwrap_or_default())
    }

    fn stage(&self, output: &OutputType) -> Stage<'_> {
        Stage::start(self.builder.ports.events, &self.plan.image, format!("write {output}"))
    }

    fn note(
        &self,
        manifest: &mut ImageManifest,
        output: &OutputType,
        written: Written,
        layers: Vec<DiffId>,
    ) -> Result<(), Failure> {
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
        Ok(())
    }
}

/// As plywood's own commands have it: `<image>.<extension>` in one directory.
pub(crate) struct InDirectory<'a> {
    directory: Directory,
    image: &'a str,
}

impl<'a> InDirectory<'a> {
    /// Opens the directory; makes it if it is missing.
    pub(crate) fn new(path: &Path, image: &'a str) -> Result<Self, Failure> {
        let directory = Directory::create(path);
        let directory = directory.map_err(|error| cannot_use(path, &error))?;
        Ok(Self { directory, image })
    }

    /// Returns the directory.
    pub(crate) const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the name of the file with this ending.
    pub(crate) fn file(&self, extension: &str) -> OsString {
        format!("{}.{extension}", self.image).into()
    }
}

/// Says that a directory cannot be made or opened.
pub(crate) fn cannot_use(directory: &Path, error: &io::Error) -> Failure {
    Message::plain(format!("cannot make or open the directory `{}`: {error}", directory.display()))
}

impl Naming for InDirectory<'_> {
    fn destination(&self, _: &OutputType, extension: &str) -> Destination {
        Destination::new(&self.directory, &self.file(extension))
    }

    fn members(&self) -> MemberNames {
        MemberNames::Bare
    }
}

/// Returns the encoding of layers that are compressed so.
pub(crate) const fn encoding(compression: Compression) -> Encoding {
    match compression {
        Compression::Gzip => Encoding::Gzip,
        Compression::Zstd => Encoding::Zstd,
    }
}

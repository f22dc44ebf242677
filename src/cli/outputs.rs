//! The outputs of one image, from its stack of layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::report::{Failure, Message};
use crate::block::LoopWriter;
use crate::build::{Builder, BuiltStep, ImageManifest, OutputEntry, Package, Stage};
use crate::disk::{FsName, Identity, Request};
use crate::image::{Compression, ImageDefinition, OutputFormat};
use crate::layer::Encoding;
use crate::oci::DiffId;
use crate::output::{
    Compatibility, ContainerImage, Converter, DiskFormat, Qcow2Options, TarForm, Written,
    app_container_manifest, write_docker_archive, write_file, write_oci_layout, write_squashfs, write_tar,
};
use crate::plan::Plan;
use crate::port::{Event, LayerStore};
use crate::store::Store;

/// Writes the outputs of one image.
pub(super) struct Outputs<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) store: &'a Store,
    pub(super) plan: &'a Plan,
    /// The steps of the plan, without the final stage.
    pub(super) steps: &'a [BuiltStep],
    pub(super) image: &'a ImageDefinition,
    pub(super) directory: PathBuf,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl Outputs<'_> {
    /// Writes all `formats`, then the manifest, which the store keeps, too.
    pub(super) fn write(&self, packages: Vec<Package>, formats: &[OutputFormat]) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory).map_err(|error| {
            Message::plain(format!("cannot make directory `{}`: {error}", self.directory.display()))
        })?;
        let mut manifest = ImageManifest::new(self.plan, self.steps, packages);
        let mut steps = self.steps.to_vec();
        let stack = manifest.stack();
        let (disks, others): (Vec<_>, Vec<_>) =
            formats.iter().copied().partition(|format| disk_format(*format).is_some());
        if !disks.is_empty() {
            self.write_disks(&mut manifest, &stack, &disks)?;
        }
        if !others.is_empty() {
            steps.push(self.builder.finish(self.plan, &stack)?);
            for format in others {
                self.write_layers(&mut manifest, &steps, format)?;
            }
        }
        let document = serde_json::to_vec_pretty(&manifest)?;
        write_file(&self.directory.join(format!("{}.manifest.json", self.plan.image)), &document)?;
        let keys = steps.iter().map(|step| step.input_key);
        self.store.save_build(&self.plan.image, document, keys)?;
        Ok(())
    }

    /// Writes one raw disk and converts it to each of the formats.
    fn write_disks(
        &self,
        manifest: &mut ImageManifest,
        stack: &[DiffId],
        formats: &[OutputFormat],
    ) -> Result<(), Failure> {
        let workspace = self.store.workspace(&[])?;
        let raw = workspace.scratch("disk")?.join("disk.raw");
        let writer = LoopWriter::new(workspace.scratch("mount")?, self.interrupted.clone());
        self.builder.disk(self.plan, stack, &self.disk_request(), &writer, &raw)?;
        for format in formats {
            if let Some(disk_format) = disk_format(*format) {
                let stage = self.stage(*format);
                let written = self.converter().convert(&raw, &self.target(*format), disk_format)?;
                stage.end();
                self.note(manifest, *format, written, stack.to_vec());
            }
        }
        Ok(())
    }

    fn disk_request(&self) -> Request<'_> {
        let settings = &self.image.disk;
        Request {
            image: &self.plan.image,
            size: settings.size,
            firmware: settings.firmware.clone(),
            root: settings.filesystem,
            label: None,
            by: FsName::Uuid,
            source_date_epoch: self.plan.source_date_epoch,
        }
    }

    fn converter(&self) -> Converter {
        Converter {
            identity: Identity::new(&self.plan.image),
            source_date_epoch: self.plan.source_date_epoch,
            qcow2: Qcow2Options {
                compression: self.image.qcow2.compression,
                compatibility: Compatibility::V3,
            },
            interrupt: self.interrupted.clone(),
        }
    }

    /// Writes one output that is made of layers, not of a disk: those of all `steps`, the final stage's included.
    fn write_layers(
        &self,
        manifest: &mut ImageManifest,
        steps: &[BuiltStep],
        format: OutputFormat,
    ) -> Result<(), Failure> {
        let stage = self.stage(format);
        let layers: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        let target = self.target(format);
        let written = match format {
            OutputFormat::Oci | OutputFormat::DockerArchive => {
                let config = self.builder.container_config(self.plan, steps, &self.image.container)?;
                let image = ContainerImage { name: &self.plan.image, config: &config, diff_ids: &layers };
                self.write_container(&image, format, &target)?
            }
            OutputFormat::Squashfs => self.write_squashfs(&layers, &target)?,
            OutputFormat::Aci => {
                let name = self.plan.architecture.oci().0;
                let manifest = app_container_manifest(&self.plan.image, name);
                let time = self.plan.source_date_epoch;
                self.write_tar(&layers, &target, TarForm::AppContainer { manifest: &manifest, time })?
            }
            OutputFormat::Tgz => self.write_tar(&layers, &target, TarForm::Gzip)?,
            _ => self.write_tar(&layers, &target, TarForm::Plain)?,
        };
        stage.end();
        self.note(manifest, format, written, layers);
        Ok(())
    }

    fn write_container(
        &self,
        image: &ContainerImage<'_>,
        format: OutputFormat,
        target: &Path,
    ) -> Result<Written, Failure> {
        let encoding = match self.image.container.compression {
            Compression::Gzip => Encoding::Gzip,
            Compression::Zstd => Encoding::Zstd,
        };
        Ok(match format {
            OutputFormat::DockerArchive => write_docker_archive(image, self.store, target)?,
            _ => write_oci_layout(image, encoding, self.store, target)?,
        })
    }

    fn write_tar(&self, layers: &[DiffId], target: &Path, form: TarForm<'_>) -> Result<Written, Failure> {
        let written =
            self.builder.on_merged(layers, |root| write_tar(root, target, form, &self.interrupted))?;
        Ok(written?)
    }

    fn write_squashfs(&self, layers: &[DiffId], target: &Path) -> Result<Written, Failure> {
        let time = self.plan.source_date_epoch;
        Ok(self.builder.on_merged(layers, |root| write_squashfs(root, &target.into(), time))??)
    }

    fn target(&self, format: OutputFormat) -> PathBuf {
        self.directory.join(format!("{}.{}", self.plan.image, format.extension()))
    }

    fn stage(&self, format: OutputFormat) -> Stage<'_> {
        Stage::start(self.builder.ports.events, &self.plan.image, format!("write {format}"))
    }

    fn note(
        &self,
        manifest: &mut ImageManifest,
        format: OutputFormat,
        written: Written,
        layers: Vec<DiffId>,
    ) {
        self.builder.ports.events.emit(Event::OutputWritten {
            image: &self.plan.image,
            format: format.as_str(),
            path: &written.path,
            bytes: written.bytes,
        });
        manifest.outputs.push(OutputEntry {
            format: format.to_string(),
            file: written.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            digest: written.digest,
            bytes: written.bytes,
            diff_ids: layers,
        });
    }
}

fn disk_format(format: OutputFormat) -> Option<DiskFormat> {
    match format {
        OutputFormat::Qcow2 => Some(DiskFormat::Qcow2),
        OutputFormat::Raw => Some(DiskFormat::Raw),
        OutputFormat::Vhd => Some(DiskFormat::Vhd),
        OutputFormat::Vmdk => Some(DiskFormat::Vmdk),
        OutputFormat::Vdi => Some(DiskFormat::Vdi),
        _ => None,
    }
}

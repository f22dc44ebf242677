//! The outputs of one image, from its stack of layers.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::report::{Failure, Message};
use crate::block::LoopWriter;
use crate::build::{Builder, ImageManifest, OutputEntry, Stage};
use crate::disk::{FsName, Identity, Request};
use crate::image::{Compression, ImageDefinition, OutputFormat};
use crate::layer::Encoding;
use crate::oci::{ContainerSettings, DiffId, ImageConfig};
use crate::output::{
    Compatibility, ContainerImage, Converter, DiskFormat, Qcow2Options, TarCompression, Written,
    write_docker_archive, write_file, write_oci_layout, write_tar,
};
use crate::plan::Plan;
use crate::port::{Event, LayerStore};
use crate::store::Store;

/// Writes the outputs of one image.
pub(super) struct Outputs<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) store: &'a Store,
    pub(super) plan: &'a Plan,
    pub(super) image: &'a ImageDefinition,
    pub(super) directory: PathBuf,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl Outputs<'_> {
    /// Writes all `formats`, and the manifest last.
    pub(super) fn write(&self, mut manifest: ImageManifest, formats: &[OutputFormat]) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory).map_err(|error| {
            Message::plain(format!("cannot make directory `{}`: {error}", self.directory.display()))
        })?;
        let stack = manifest.stack();
        let (disks, others): (Vec<_>, Vec<_>) =
            formats.iter().copied().partition(|format| disk_format(*format).is_some());
        if !disks.is_empty() {
            self.write_disks(&mut manifest, &stack, &disks)?;
        }
        if !others.is_empty() {
            let finish = self.builder.finish(self.plan, &stack)?;
            let layers: Vec<_> = stack.iter().chain(&finish.diff_ids).copied().collect();
            for format in others {
                self.write_layers(&mut manifest, &layers, &finish.diff_ids, format)?;
            }
        }
        let document = serde_json::to_vec_pretty(&manifest)?;
        write_file(&self.directory.join(format!("{}.manifest.json", self.plan.image)), &document)?;
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
                self.note(manifest, *format, written, stack);
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

    /// Writes one output that is made of layers, not of a disk. `finish` are those of `layers` that the final stage made.
    fn write_layers(
        &self,
        manifest: &mut ImageManifest,
        layers: &[DiffId],
        finish: &[DiffId],
        format: OutputFormat,
    ) -> Result<(), Failure> {
        let stage = self.stage(format);
        let target = self.target(format);
        let config = self.config(manifest, finish)?;
        let image = ContainerImage { name: &self.plan.image, config: &config, diff_ids: layers };
        let written = match format {
            OutputFormat::Oci => {
                let encoding = match self.image.container.compression {
                    Compression::Gzip => Encoding::Gzip,
                    Compression::Zstd => Encoding::Zstd,
                };
                write_oci_layout(&image, encoding, self.store, &target)?
            }
            OutputFormat::DockerArchive => write_docker_archive(&image, self.store, &target)?,
            OutputFormat::Tgz => self.write_tar(layers, &target, TarCompression::Gzip)?,
            _ => self.write_tar(layers, &target, TarCompression::None)?,
        };
        stage.end();
        self.note(manifest, format, written, layers);
        Ok(())
    }

    fn write_tar(
        &self,
        layers: &[DiffId],
        target: &std::path::Path,
        compression: TarCompression,
    ) -> Result<Written, Failure> {
        let written =
            self.builder.on_merged(layers, |root| write_tar(root, target, compression, &self.interrupted))?;
        Ok(written?)
    }

    /// Returns the config of the container: what the base says, one entry of history a step, and the image's settings.
    fn config(&self, manifest: &ImageManifest, finish: &[DiffId]) -> Result<Vec<u8>, Failure> {
        let epoch = self.plan.source_date_epoch;
        let (architecture, _) = self.plan.architecture.oci();
        let mut config = ImageConfig::new(architecture, epoch)?;
        for step in self.plan.steps.iter() {
            let diff_ids: Vec<_> = manifest
                .layers
                .iter()
                .filter(|layer| layer.step == step.name)
                .map(|layer| layer.diff_id)
                .collect();
            config.push_step(&step.describe(), &diff_ids);
        }
        if !finish.is_empty() {
            config.push_step(&self.plan.finish.describe(), finish);
        }
        let settings = &self.image.container;
        let words = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
        config.apply(&ContainerSettings {
            env: settings.env.clone(),
            entrypoint: words(&settings.entrypoint),
            cmd: words(&settings.cmd),
            user: settings.user.clone(),
            working_dir: settings.workdir.clone(),
            labels: settings.labels.clone(),
        });
        Ok(config.to_bytes())
    }

    fn target(&self, format: OutputFormat) -> PathBuf {
        self.directory.join(format!("{}.{}", self.plan.image, format.extension()))
    }

    fn stage(&self, format: OutputFormat) -> Stage<'_> {
        Stage::start(self.builder.ports.events, &self.plan.image, &format!("write {format}"))
    }

    fn note(&self, manifest: &mut ImageManifest, format: OutputFormat, written: Written, layers: &[DiffId]) {
        self.builder.ports.events.emit(Event::OutputWritten {
            image: self.plan.image.clone(),
            format: format.to_string(),
            path: written.path.clone(),
            bytes: written.bytes,
        });
        manifest.outputs.push(OutputEntry {
            format: format.to_string(),
            file: written.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            digest: written.digest,
            bytes: written.bytes,
            diff_ids: layers.to_vec(),
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
        OutputFormat::Tar | OutputFormat::Tgz | OutputFormat::Oci | OutputFormat::DockerArchive => None,
    }
}

//! From a stack of layers to a raw disk: fill, final stage, boot code.

use std::path::Path;

use super::boot::BootStage;
use super::stack::commit;
use super::stage::Stage;
use super::step::StepRun;
use super::{BuildError, Builder};
use crate::disk::{DiskRequest, Layout};
use crate::element::Environment;
use crate::oci::DiffId;
use crate::plan::{Plan, Tasks, Work};
use crate::port::{Access, Bind, BootImages, DiskDevice, DiskWriter, Events, OpenDisk, RootSpec, Workspace};

/// What hooks of the final stage know of the disk that they run on.
pub(super) struct DiskUnderHooks<'a> {
    pub(super) layout: &'a Layout,
    /// Empty if no hook asks for them.
    pub(super) devices: Vec<DiskDevice>,
}

impl DiskUnderHooks<'_> {
    /// What hooks mention that look for its devices: also the beginnings of `IMAGE_BLOCK_DEVICES`, and of what `dib-block-device`
    /// calls it.
    const WANTING: [&'static str; 2] = ["IMAGE_BLOCK_DEVICE", "image-block-device"];

    /// Returns what diskimage-builder tells of a disk that is there: its size in KiB, its devices.
    ///
    /// Source: diskimage-builder, `lib/disk-image-create`; `block_device/blockdevice.py`, `cmd_getval`.
    pub(super) fn variables(&self) -> Environment {
        let size = ("DIB_IMAGE_SIZE", (self.layout.bytes >> 10).to_string());
        let whole = self.devices.first();
        let whole = whole.map(|device| ("IMAGE_BLOCK_DEVICE", device.path.display().to_string()));
        let pair = |device: &DiskDevice| format!(" [{}]={} ", device.name, device.path.display());
        let all = whole.is_some().then(|| ("IMAGE_BLOCK_DEVICES", self.devices.iter().map(pair).collect()));
        [size].into_iter().chain(whole).chain(all).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns what a job needs to reach the devices, each at its own path.
    pub(super) fn binds(&self) -> impl Iterator<Item = Bind> {
        self.devices.iter().map(|DiskDevice { path, .. }| Bind {
            source: path.clone(),
            target: path.to_string_lossy().into_owned(),
            access: Access::ReadWrite,
        })
    }
}

/// A disk with all its content, still mounted.
pub struct FinishedDisk<'a> {
    events: &'a dyn Events,
    image: &'a str,
    disk: Box<dyn OpenDisk>,
    boot: BootImages,
}

impl FinishedDisk<'_> {
    /// Returns where its root file system is mounted, with the others below.
    pub fn root(&self) -> &Path {
        self.disk.root()
    }

    /// Unmounts it and writes its boot code. Then its file is complete.
    pub fn close(self) -> Result<(), BuildError> {
        let stage = Stage::start(self.events, self.image, "close disk");
        self.disk.finish(&self.boot)?;
        stage.end();
        Ok(())
    }
}

impl Builder<'_> {
    /// Writes the disk of `plan`, whose layers are `stack` (lowest first), to the file `raw`, which must not exist, and runs the
    /// final stage on it.
    pub fn disk<'b>(
        &'b self,
        plan: &'b Plan,
        stack: &[DiffId],
        request: &DiskRequest<'_>,
        writer: &dyn DiskWriter,
        raw: &Path,
    ) -> Result<FinishedDisk<'b>, BuildError> {
        let workspace = self.workspace(stack)?;
        let (mut disk, layout) = self.filled_disk(plan, workspace.as_ref(), request, writer, raw)?;
        let boot = self.finalise_disk(plan, workspace.as_ref(), request, &layout, disk.as_mut())?;
        Ok(FinishedDisk { events: self.ports.events, image: &plan.image, disk, boot })
    }

    fn filled_disk(
        &self,
        plan: &Plan,
        workspace: &dyn Workspace,
        request: &DiskRequest<'_>,
        writer: &dyn DiskWriter,
        raw: &Path,
    ) -> Result<(Box<dyn OpenDisk>, Layout), BuildError> {
        let stage = Stage::start(self.ports.events, &plan.image, "fill disk");
        let source = self.ports.sandbox.open(&RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() })?;
        let content = writer.measure(source.path())?;
        let layout = request.layout(content)?;
        writer.ask_for_space(content, raw)?;
        let mut disk = writer.create(&layout, raw)?;
        disk.fill(source.path())?;
        source.close()?;
        stage.end();
        Ok((disk, layout))
    }

    fn finalise_disk(
        &self,
        plan: &Plan,
        workspace: &dyn Workspace,
        request: &DiskRequest<'_>,
        layout: &Layout,
        disk: &mut dyn OpenDisk,
    ) -> Result<BootImages, BuildError> {
        let stage = Stage::start(self.ports.events, &plan.image, "final stage");
        let observed = self.ports.store.observe(disk.root())?;
        let root = self.ports.sandbox.open(&RootSpec::Directory(disk.root().to_owned()))?;
        let run = self.prepare(plan, &plan.finish, final_tasks(plan), workspace, root.as_ref())?;
        let devices = if hooks_look_at_disk(plan) { disk.devices()? } else { Vec::new() };
        let run = StepRun { disk: Some(DiskUnderHooks { layout, devices }), ..run };
        let boot = BootStage { run: &run, root: root.as_ref(), layout };
        boot.write_fstab()?;
        run.run(root.as_ref())?;
        let images = boot.install(request)?;
        run.close()?;
        root.close()?;
        let below = self.ports.sandbox.open(&RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() })?;
        observed.normalize(below.path(), &commit(plan))?;
        below.close()?;
        stage.end();
        Ok(images)
    }
}

/// Returns true if hooks of the final stage look for the devices of a disk: they do not go without one.
pub fn hooks_look_at_disk(plan: &Plan) -> bool {
    DiskUnderHooks::WANTING.iter().any(|word| final_tasks(plan).mention(word))
}

fn final_tasks(plan: &Plan) -> &Tasks {
    match &plan.finish.work {
        Work::Tasks(tasks) => tasks,
        Work::Base(_) => unreachable!("the final stage of a plan is tasks"),
    }
}

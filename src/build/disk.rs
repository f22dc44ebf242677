//! From a stack of layers to a raw disk: fill, final stage, boot code.

use std::path::Path;

use super::boot::BootStage;
use super::boot_files::BootFiles;
use super::builder::commit;
use super::disk_under_hooks::DiskUnderHooks;
use super::stack::has_hooks_on_host;
use super::stage::Stage;
use super::step::StepRun;
use super::{BuildError, Builder};
use crate::disk::{DiskRequest, Layout, Request};
use crate::oci::DiffId;
use crate::plan::{Action, Plan, Task, Tasks, Work};
use crate::port::{BootImages, DiskWriter, Events, OpenDisk, Root, RootSpec, Workspace};

/// A disk with all its content, still mounted.
pub struct FinishedDisk<'a> {
    events: &'a dyn Events,
    image: &'a str,
    disk: Box<dyn OpenDisk>,
    boot: BootImages,
}

impl FinishedDisk<'_> {
    /// Returns the mount point of the root file system, with the others below.
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
    /// Writes the disk of `plan`, whose layers are `stack` (lowest first), to the file `raw`, which
    /// must not exist, and runs the final stage on it.
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
        require_boot_loader(plan, request, source.as_ref())?;
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
        let kept = self.carry_out(plan, &run, root.as_ref())?;
        let images = boot.install(request)?;
        run.close()?;
        root.close()?;
        let below = self.ports.sandbox.open(&RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() })?;
        observed.normalize(below.path(), &commit(plan, kept))?;
        below.close()?;
        stage.end();
        Ok(images)
    }
}

/// Fails before the disk is filled if the layers have a kernel and no boot loader, and no hook of
/// the final stage can add one.
fn require_boot_loader(plan: &Plan, request: &DiskRequest<'_>, layers: &dyn Root) -> Result<(), BuildError> {
    let DiskRequest::Standard(Request { firmware, .. }) = request else { return Ok(()) };
    let tasks = final_tasks(plan);
    let may_bring_one = |task: &Task| matches!(task.action, Action::Hook | Action::InstallBootLoader);
    // Hooks on the host may add hooks to the final stage.
    if tasks.list.iter().any(may_bring_one) || plan.steps.iter().any(has_hooks_on_host) {
        return Ok(());
    }
    let files = BootFiles { image: &plan.image, root: layers, variables: &tasks.environment };
    if files.kernels()?.is_empty() { Ok(()) } else { files.require(firmware) }
}

/// Returns true if hooks of the final stage use the devices of a disk, and so need a disk.
pub fn hooks_look_at_disk(plan: &Plan) -> bool {
    DiskUnderHooks::is_wanted(final_tasks(plan))
}

fn final_tasks(plan: &Plan) -> &Tasks {
    match &plan.finish.work {
        Work::Tasks(tasks) => tasks,
        Work::Base(_) => unreachable!("the final stage of a plan is tasks"),
    }
}

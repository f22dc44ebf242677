//! From a stack of layers to a raw disk: fill, final stage, boot code.

use std::path::Path;

use super::boot::BootStage;
use super::stage::Stage;
use super::step::StepRun;
use super::{BuildError, Builder};
use crate::disk::{DiskRequest, Layout};
use crate::oci::DiffId;
use crate::plan::{Plan, Tasks, Work};
use crate::port::{BootImages, DiskWriter, Events, OpenDisk, RootSpec, Workspace};

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
        let workspace = self.ports.store.workspace(stack)?;
        let (disk, layout) = self.filled_disk(plan, workspace.as_ref(), request, writer, raw)?;
        let boot = self.finalise_disk(plan, workspace.as_ref(), request, &layout, disk.as_ref())?;
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
        let layout = request.layout(writer.measure(source.path())?)?;
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
        disk: &dyn OpenDisk,
    ) -> Result<BootImages, BuildError> {
        let stage = Stage::start(self.ports.events, &plan.image, "final stage");
        let root = self.ports.sandbox.open(&RootSpec::Directory(disk.root().to_owned()))?;
        let run = self.prepare(plan, &plan.finish, final_tasks(plan), workspace, root.as_ref())?;
        let run = StepRun { layout: Some(layout), ..run };
        let boot = BootStage { run: &run, root: root.as_ref(), layout };
        boot.write_fstab()?;
        run.run(root.as_ref())?;
        let images = boot.install(request)?;
        run.close()?;
        root.close()?;
        stage.end();
        Ok(images)
    }
}

fn final_tasks(plan: &Plan) -> &Tasks {
    match &plan.finish.work {
        Work::Tasks(tasks) => tasks,
        Work::Base(_) => unreachable!("the final stage of a plan is tasks"),
    }
}

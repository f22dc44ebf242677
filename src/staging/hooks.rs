//! The hooks directory of a step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::copy::copy_element;
use super::input::copy_input;
use super::{handover, io_error};
use crate::element::{Element, Phase};
use crate::plan::{DISK_PARAMETERS, INSTALL_TYPE_FRAGMENT, Tasks};
use crate::port::{CacheMount, HookFiles, HookFilesError, HostDirs, LeftState, View};

/// The program with which hooks run the programs of a directory. diskimage-builder puts it into the
/// hooks directory.
const RUN_PARTS: &str = include_str!("dib-run-parts");

/// Lays out hooks directories from the elements' own directories.
#[derive(Debug, Clone, Copy)]
pub struct HookLayout;

impl HookFiles for HookLayout {
    fn lay_out(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError> {
        for (element, paths) in by_element(tasks) {
            copy_element(&element, |path| paths.contains(&path).then_some(path), dir)?;
        }
        // A hook of a host phase may add hooks to any phase, also to one without hooks so far.
        Phase::ALL.into_iter().try_for_each(|phase| make_directory(&dir.join(phase.dir())))?;
        write_install_type(dir)?;
        let files = dir.join("files");
        make_directory(&files)?;
        for (name, file) in &tasks.files {
            copy_input(file, &files.join(name))?;
        }
        for (path, target) in &tasks.links {
            let link = dir.join(path);
            symlink(target, &link).map_err(io_error("make symlink", &link))?;
        }
        write_program(RUN_PARTS, &dir.join("dib-run-parts"))
    }

    fn left_states(&self, left: HostDirs<'_>) -> BTreeSet<LeftState> {
        handover::left_states(left)
    }

    fn show_elements(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError> {
        for element in &tasks.shown {
            let dir = dir.join(element.name.as_str());
            copy_element(element, Some, &dir)?;
            make_directory(&dir)?;
            for (name, text) in element.declarations() {
                let path = dir.join(name);
                fs::write(&path, text).map_err(io_error("write", &path))?;
            }
        }
        Ok(())
    }

    fn show_machine_files(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError> {
        for (number, file) in tasks.machine.values().enumerate() {
            copy_input(file, &dir.join(number.to_string()))?;
        }
        Ok(())
    }

    fn lay_out_build(&self, parameters: &str, dir: &Path) -> Result<(), HookFilesError> {
        for (name, target) in [("hooks", View::Host.hooks()), ("mnt", View::HOST_MOUNT)] {
            let link = dir.join(name);
            symlink(target, &link).map_err(io_error("make symlink", &link))?;
        }
        let file = dir.join(DISK_PARAMETERS);
        make_directory(file.parent().unwrap_or(dir))?;
        fs::write(&file, parameters).map_err(io_error("write", &file))
    }

    fn hand_over(
        &self,
        tasks: &Tasks,
        mounts: &[CacheMount],
        left: HostDirs<'_>,
        root: &Path,
    ) -> Result<(), HookFilesError> {
        handover::keep(tasks, mounts, left, root)
    }

    fn take_over(&self, dirs: HostDirs<'_>, root: &Path) -> Result<Vec<CacheMount>, HookFilesError> {
        handover::restore(dirs, root)
    }

    fn added_hooks(&self, tasks: &Tasks, phase: Phase, dir: &Path) -> Result<Vec<String>, HookFilesError> {
        handover::added_hooks(tasks, phase, dir)
    }

    fn added_fragments(&self, tasks: &Tasks, dir: &Path) -> Result<Vec<String>, HookFilesError> {
        handover::added_fragments(tasks, dir)
    }

    fn added_data(&self, tasks: &Tasks, dir: &Path, root: &Path) -> Result<Vec<String>, HookFilesError> {
        handover::added_data(tasks, dir, root)
    }

    fn note_acted(&self, paths: &[String], root: &Path) -> Result<(), HookFilesError> {
        handover::note_acted(paths, root)
    }

    fn forget_hooks(&self, phase: Phase, names: &[String], root: &Path) -> Result<(), HookFilesError> {
        handover::forget_hooks(phase, names, root)
    }
}

/// Writes the fragment that sets the default install type, for elements that do not set one.
///
/// Source: diskimage-builder, `lib/disk-image-create`.
fn write_install_type(dir: &Path) -> Result<(), HookFilesError> {
    const TEXT: &str = "export DIB_DEFAULT_INSTALLTYPE=${DIB_DEFAULT_INSTALLTYPE:-source}\n";
    let fragments = dir.join("environment.d");
    make_directory(&fragments)?;
    let path = fragments.join(INSTALL_TYPE_FRAGMENT);
    fs::write(&path, TEXT).map_err(io_error("write", &path))
}

/// Returns each element with its files in the hooks directory.
fn by_element(tasks: &Tasks) -> Vec<(Arc<Element>, Vec<&str>)> {
    let mut elements: BTreeMap<&str, (Arc<Element>, Vec<&str>)> = BTreeMap::new();
    for (path, element) in &tasks.hooks {
        let (_, paths) =
            elements.entry(element.name.as_str()).or_insert_with(|| (element.clone(), Vec::new()));
        paths.push(path);
    }
    elements.into_values().collect()
}

fn write_program(text: &str, path: &Path) -> Result<(), HookFilesError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(io_error("write", path))
}

fn make_directory(path: &Path) -> Result<(), HookFilesError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(io_error("make directory", path))
}

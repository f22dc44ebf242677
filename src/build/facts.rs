//! Variables with which diskimage-builder describes a build to hooks, and which are the same in
//! every build.
//!
//! Variables that differ between images (`IMAGE_ELEMENT`), or that the caller can set
//! (`DIB_RELEASE`), are in the step's key, and override these.

use crate::distro::{HOST_TOOLS, IMAGE_TOOLS, LIBRARY, PackageManager, search_path};
use crate::element::{Environment, Phase, Place};
use crate::plan::{DISK_PARAMETERS, ELEMENTS_ON_HOST};
use crate::port::View;

/// Where hooks on the host find the hooks directory: `TMP_HOOKS_PATH`.
pub(super) const HOOKS_ON_HOST: &str = View::Host.hooks();

/// Where hooks in the target find it.
pub(super) const HOOKS_IN_TARGET: &str = View::Target.hooks();

/// Where hooks on the host leave files for each other: `TMP_BUILD_DIR`.
pub(super) const BUILD_DIR_ON_HOST: &str = "/tmp/plywood/build";

/// Where hooks on the host may leave files that belong neither to the image nor to a cache:
/// `TMP_IMAGE_DIR`.
pub(super) const IMAGE_DIR_ON_HOST: &str = "/tmp/plywood/image";

/// Where hooks on the host find files to lock: `DIB_LOCKFILES`. All builds with the same store
/// share these files.
pub(super) const LOCKS_ON_HOST: &str = "/tmp/plywood/lockfiles";

/// The function that hooks on the host end with, as bash exports it.
const DIE: &str = "() {  echo \"$*\" >&2\n exit 1\n}";

/// The function that says where a traced command is, as bash exports it: `PS4='+ $(_ps4): '`.
///
/// Source: diskimage-builder, `lib/disk-image-create`.
const PS4: &str = "() {  local IFS=' '\n local called=($(caller 0))\n local f=$(readlink -f \"${called[2]}\")\n \
                   printf '%-80s ' \"${f##*site-packages/}:${called[1]}:${called[0]}\"\n}";

/// Returns the variables of the phases on the host that come before anything is installed.
pub fn host_facts() -> Environment {
    facts(Phase::ExtraData, PackageManager::OfElements)
}

/// Returns the variables of a phase.
///
/// Source: diskimage-builder, `lib/common-defaults`, `lib/img-defaults`, `lib/disk-image-create`.
pub(super) fn facts(phase: Phase, manager: PackageManager) -> Environment {
    let mut facts = vec![
        ("DIB_ARGS", ""),
        ("DIB_CHECKSUM", "0"),
        ("DIB_DEBUG_TRACE", "0"),
        ("DIB_ENV", ""),
        ("DIB_IMAGE_CACHE", View::CACHE),
        ("DIB_LOCKFILES", LOCKS_ON_HOST),
        ("DIB_MIN_TMPFS", "2"),
        ("DIB_NO_TMPFS", "0"),
        ("DIB_OFFLINE", ""),
        ("DIB_PYTHON_EXEC", "/usr/bin/python3"),
        ("ELEMENTS_PATH", ELEMENTS_ON_HOST),
        ("FS_TYPE", "ext4"),
        ("IMAGE_NAME", "image"),
        ("IMAGE_TYPE", "qcow2"),
        ("OUT_IMAGE_PATH", ""),
        ("TMP_BUILD_DIR", BUILD_DIR_ON_HOST),
        ("TMP_HOOKS_PATH", HOOKS_ON_HOST),
        ("TMP_IMAGE_DIR", IMAGE_DIR_ON_HOST),
        ("TMP_MOUNT_PATH", View::HOST_MOUNT),
        ("_LIB", LIBRARY),
    ];
    if matches!(phase, Phase::Root | Phase::Cleanup) {
        facts.push(("TARGET_ROOT", View::HOST_MOUNT));
    }
    let parameters = format!("{BUILD_DIR_ON_HOST}/{DISK_PARAMETERS}");
    facts.push(("DIB_BLOCK_DEVICE_PARAMS_YAML", &parameters));
    if phase.place() == Place::Host {
        facts.push(("BASH_FUNC_die%%", DIE));
        facts.push(("BASH_FUNC__ps4%%", PS4));
        // Programs of hooks import modules of diskimage-builder.
        facts.push(("PYTHONPATH", LIBRARY));
    }
    let owned = facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let path = first_in_path(phase.place(), manager).map(|tools| ("PATH".to_owned(), search_path(tools)));
    owned.chain(path).collect()
}

/// Returns the file that `DIB_BLOCK_DEVICE_PARAMS_YAML` names, by the variables of a step.
///
/// Source: diskimage-builder, `lib/disk-image-create`.
pub(super) fn disk_parameters(variables: &Environment) -> String {
    let variable = |name: &str| variables.get(name).map_or("", String::as_str);
    let root_type = Some(variable("FS_TYPE")).filter(|name| !name.is_empty()).unwrap_or("ext4");
    let lines = [
        ("image-dir", IMAGE_DIR_ON_HOST),
        ("root-fs-type", root_type),
        ("root-label", variable("ROOT_LABEL")),
        ("mount-base", View::HOST_MOUNT),
        ("build-dir", BUILD_DIR_ON_HOST),
    ];
    lines.map(|(key, value)| format!("{key}: {value}\n")).concat()
}

/// Returns the directory of plywood's own commands for a phase, where it is not the usual one.
fn first_in_path(place: Place, manager: PackageManager) -> Option<&'static str> {
    match (place, manager) {
        (Place::Host, _) => Some(HOST_TOOLS),
        (Place::Target, PackageManager::OfElements) => Some(IMAGE_TOOLS),
        (Place::Target, PackageManager::Apt | PackageManager::Dnf) => None,
    }
}

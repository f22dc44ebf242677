//! What can be known to fail before the long work starts.

use std::path::Path;

use super::disk::Disk;
use super::report::{Failure, Message};
use crate::block::require_device_mapper;
use crate::build::{Prospect, Registries, forecast};
use crate::distro::BaseSource;
use crate::image::OutputFormat;
use crate::plan::Plan;
use crate::store::Store;

/// Checks that the machine has the programs that the build will need, and that its clock is right.
pub(super) fn check(
    store: &Store,
    plan: &Plan,
    disk: &Disk,
    formats: &[OutputFormat],
    registries: &Registries<'_>,
) -> Result<(), Failure> {
    check_clock(plan)?;
    let forecasts = forecast(plan, store, registries)?;
    let has_base = forecasts.first().is_some_and(|base| matches!(base.outcome, Prospect::Hit { .. }));
    if let Some(base) = plan.foundation.base().filter(|_| !has_base) {
        check_base_source(&base.source)?;
    }
    for (program, package) in output_programs(disk, formats) {
        require(program, package)?;
    }
    match disk.has_volumes() && formats.iter().copied().any(is_disk) {
        true => Ok(require_device_mapper()?),
        false => Ok(()),
    }
}

/// Checks that what the base is made from is there.
fn check_base_source(source: &BaseSource) -> Result<(), Failure> {
    match source {
        BaseSource::Mmdebstrap(_) => require("mmdebstrap", "mmdebstrap"),
        BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
            std::fs::metadata(&file.path).map(drop).map_err(|error| {
                Message::with_hint(
                    format!("the base cannot be made from `{}`: {error}", file.path.display()),
                    "its path counts from the file in `layers/` that names it",
                )
            })
        }
        BaseSource::Stored { .. } => Ok(()),
    }
}

/// Refuses a source date epoch that files made now could not be clamped to.
fn check_clock(plan: &Plan) -> Result<(), Failure> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    match u64::try_from(plan.source_date_epoch) {
        Ok(epoch) if epoch > now => Err(Message::with_hint(
            format!(
                "source-date-epoch {epoch} lies in the future: files made by hooks would keep their own times"
            ),
            "set an earlier `source-date-epoch` in `[project]`, or this machine's clock",
        )),
        _ => Ok(()),
    }
}

/// Returns the programs that these formats need, and the Debian packages that have them.
fn output_programs(disk: &Disk, formats: &[OutputFormat]) -> Vec<(&'static str, &'static str)> {
    use OutputFormat::{Squashfs, Vdi, Vhd, Vmdk};
    let mut programs = Vec::new();
    for format in formats {
        if is_disk(*format) {
            programs.extend(disk.programs());
        }
        if *format == Squashfs {
            programs.push(("mksquashfs", "squashfs-tools"));
        }
        if matches!(format, Vhd | Vmdk | Vdi) {
            programs.push(("qemu-img", "qemu-utils"));
        }
    }
    programs
}

fn is_disk(format: OutputFormat) -> bool {
    use OutputFormat::{Qcow2, Raw, Vdi, Vhd, Vmdk};
    matches!(format, Qcow2 | Raw | Vhd | Vmdk | Vdi)
}

fn require(program: &str, package: &str) -> Result<(), Failure> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin"]);
    match directories.map(|dir| Path::new(dir).join(program)).any(|path| path.is_file()) {
        true => Ok(()),
        false => Err(Message::with_hint(
            format!("program `{program}` is needed and not installed"),
            format!("apt-get install {package}"),
        )),
    }
}

//! What can be known to fail before the long work starts.

use super::disk::Disk;
use super::host::{Host, require, require_whole, tool};
use super::report::{Failure, Message};
use super::sharing::now;
use crate::build::{Prospect, Registries, forecast, hooks_look_at_disk};
use crate::distro::BaseSource;
use crate::dropin::OutputType;
use crate::host::{space, tool_named};
use crate::image::OutputFormat;
use crate::output::qemu_formats;
use crate::plan::Plan;
use crate::store::Store;

/// Checks that the host has what the build will need, and that its clock is right.
pub(super) fn check(
    host: &Host<'_>,
    store: &Store,
    plan: &Plan,
    disk: &Disk,
    outputs: &[OutputType],
    registries: &Registries<'_>,
) -> Result<(), Failure> {
    check_clock(plan)?;
    let forecasts = forecast(plan, store, registries)?;
    let is_built = !forecasts.iter().all(|step| matches!(step.outcome, Prospect::Hit { .. }));
    let has_base = forecasts.first().is_some_and(|base| matches!(base.outcome, Prospect::Hit { .. }));
    if let Some(base) = plan.foundation.base().filter(|_| !has_base) {
        check_base_source(&base.source)?;
    }
    for program in output_programs(outputs) {
        require_tool(program)?;
    }
    let for_archive = hooks_look_at_disk(plan) && outputs.iter().any(OutputType::is_archive);
    let makes_disk = for_archive || outputs.iter().any(OutputType::is_disk);
    if makes_disk {
        disk.programs().into_iter().try_for_each(|(program, _)| require_tool(program))?;
    }
    if makes_disk && disk.has_volumes() {
        require_whole(host.device_mapper())?;
    }
    if is_built {
        check_store(host, store)?;
    }
    if makes_disk {
        require_whole(host.loop_devices(store)?)?;
    }
    outputs.iter().try_for_each(check_format)
}

/// Checks that layers can be made in the store.
fn check_store(host: &Host<'_>, store: &Store) -> Result<(), Failure> {
    let facts = host.store_facts(store)?;
    require(host.store(&facts))?;
    require(space(&facts))?;
    require(host.overlay(store, &facts)?)
}

/// Checks that what the base is made from is there.
fn check_base_source(source: &BaseSource) -> Result<(), Failure> {
    match source {
        BaseSource::Mmdebstrap(_) => require_tool("mmdebstrap"),
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
    let epoch = plan.source_date_epoch;
    if epoch <= now()? {
        return Ok(());
    }
    Err(Message::with_hint(
        format!(
            "source-date-epoch {epoch} lies in the future: files made by hooks would keep their own times"
        ),
        "set an earlier `source-date-epoch` in `[project]`, or this machine's clock",
    ))
}

/// Returns the programs that these outputs need beside those for a disk.
fn output_programs(outputs: &[OutputType]) -> impl Iterator<Item = &'static str> {
    use OutputFormat::{Squashfs, Vdi, Vhd, Vmdk};
    outputs.iter().filter_map(|output| match output {
        OutputType::File(Vhd | Vmdk | Vdi) | OutputType::Qemu(_) => Some("qemu-img"),
        OutputType::File(Squashfs) => Some("mksquashfs"),
        OutputType::Docker => Some("docker"),
        OutputType::File(_) => None,
    })
}

/// Refuses a format that nobody knows, before it would turn out at the very end.
fn check_format(output: &OutputType) -> Result<(), Failure> {
    let OutputType::Qemu(name) = output else { return Ok(()) };
    let known = qemu_formats()?;
    match known.contains(name) {
        true => Ok(()),
        false => Err(Message::with_hint(
            format!("image type `{name}` is neither plywood's nor a format of this machine's qemu-img"),
            format!("qemu-img knows {}", known.join(", ")),
        )),
    }
}

fn require_tool(name: &str) -> Result<(), Failure> {
    require_whole(tool(&tool_named(name)))
}

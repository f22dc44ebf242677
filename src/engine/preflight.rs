//! What can be known to fail before the long work starts.

use super::disk::Disk;
use super::failure::{Failure, Message};
use super::host::{Host, require, require_whole, tool};
use super::sharing::now;
use crate::build::{Forecast, Prospect, Registries, forecast, hooks_look_at_disk};
use crate::distro::BaseSource;
use crate::dropin::OutputType;
use crate::host::{space, tool_named};
use crate::image::OutputFormat;
use crate::load::HostFileSystem;
use crate::output::qemu_formats;
use crate::plan::Plan;
use crate::store::Store;

/// The most layers of an image that Docker engines load (`max depth exceeded`).
///
/// Source: moby, `layer/layer_store.go`, `maxLayerDepth`; tried with Docker 28.
const DOCKER_LAYERS: usize = 125;

/// Checks that the host has what the build will need, and that its clock is right. Returns warnings.
pub(crate) fn check(
    host: &Host<'_>,
    store: &Store,
    files: &HostFileSystem,
    plan: &Plan,
    disk: &Disk,
    outputs: &[OutputType],
    registries: &Registries<'_>,
) -> Result<Vec<String>, Failure> {
    // The cheap checks first: the store and a loop device are tried only for a build that could succeed.
    check_clock(plan)?;
    let forecasts = forecast(plan, store, files, registries)?;
    let is_built = !forecasts.iter().all(|step| matches!(step.outcome, Prospect::Hit { .. }));
    let has_base = forecasts.first().is_some_and(|base| matches!(base.outcome, Prospect::Hit { .. }));
    if let Some(base) = plan.foundation.base().filter(|_| !has_base) {
        check_base_source(&base.source)?;
    }
    for program in output_programs(outputs) {
        require_tool(program)?;
    }
    // Hooks of the final stage that ask for the disk get one, also where only an archive is written.
    let for_archive = hooks_look_at_disk(plan) && outputs.iter().any(OutputType::is_archive);
    let makes_disk = for_archive || outputs.iter().any(OutputType::is_disk);
    // Before the programs: nobody installs lvm2 for a kernel that cannot use it.
    if makes_disk && disk.has_volumes() {
        require_whole(host.device_mapper())?;
    }
    if makes_disk {
        disk.programs().into_iter().try_for_each(|(program, _)| require_tool(program))?;
    }
    // Where all layers are there, the store need not have space for more.
    if is_built {
        check_store(host, store)?;
    }
    if makes_disk {
        require_whole(host.loop_devices(store)?)?;
    }
    outputs.iter().try_for_each(check_format)?;
    let is_container = outputs.iter().any(is_container);
    Ok(too_many_layers(&forecasts, base_layers(store, plan), is_container).into_iter().collect())
}

/// Returns true for the output formats that Docker engines load.
pub(crate) fn is_container(output: &OutputType) -> bool {
    matches!(output, OutputType::Docker | OutputType::File(OutputFormat::Oci | OutputFormat::DockerArchive))
}

/// Returns how many layers the base has, if it was imported and its step was not built yet.
pub(crate) fn base_layers(store: &Store, plan: &Plan) -> Option<usize> {
    let BaseSource::Stored { digest, .. } = &plan.foundation.base()?.source else { return None };
    // A base that is missing or damaged fails the build with its own message.
    let image = store.base(digest).ok().flatten()?;
    // One blob is the config.
    Some(image.blobs.len().saturating_sub(1))
}

/// Warns of a container image that Docker engines will not load. Layers that are not made yet are counted as one for each step, for
/// an imported base as `base_layers`.
pub(crate) fn too_many_layers(
    forecasts: &[Forecast],
    base_layers: Option<usize>,
    is_container: bool,
) -> Option<String> {
    let made = forecasts.iter().enumerate().map(|(place, forecast)| match &forecast.outcome {
        Prospect::Hit { diff_ids, .. } => diff_ids.len(),
        _ if place == 0 => base_layers.unwrap_or(1),
        _ => 1,
    });
    // One more is the final stage's.
    let layers = made.sum::<usize>() + 1;
    (layers > DOCKER_LAYERS && is_container).then(|| {
        format!(
            "the container image has up to {layers} layers, and Docker engines load no more than {DOCKER_LAYERS}: \
             join elements, or squash the base"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DiffId, Digest};
    use crate::plan::InputKey;

    #[test]
    fn containers_with_more_layers_than_engines_load_are_warned_of() {
        let forecasts = |layers: usize| {
            let key = Digest::of("key");
            let outcome = Prospect::Hit { diff_ids: vec![DiffId::new(key); layers - 1], registry: None };
            let base = Forecast { step: "base".to_owned(), input_key: InputKey::new(key), outcome };
            let outcome = Prospect::Depends { on: "base".to_owned() };
            vec![base, Forecast { step: "a".to_owned(), input_key: InputKey::new(key), outcome }]
        };
        assert_eq!(too_many_layers(&forecasts(124), None, true), None);
        assert_eq!(too_many_layers(&forecasts(140), None, false), None);
        let warning = too_many_layers(&forecasts(125), None, true).unwrap();
        assert!(warning.contains("up to 126 layers"), "{warning}");
        // A base that was imported a moment ago.
        let outcome = || Prospect::Depends { on: "base".to_owned() };
        let unbuilt: Vec<_> =
            forecasts(1).into_iter().map(|step| Forecast { outcome: outcome(), ..step }).collect();
        assert_eq!(too_many_layers(&unbuilt, Some(123), true), None);
        assert!(too_many_layers(&unbuilt, Some(124), true).is_some());
        let (oci, tar) = (OutputType::File(OutputFormat::Oci), OutputType::File(OutputFormat::Tar));
        assert_eq!([oci, OutputType::Docker, tar].map(|output| is_container(&output)), [true, true, false]);
    }
}

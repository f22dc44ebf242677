//! Checks that find a failure before the long work starts.

use super::checks::{Checks, require_whole};
use super::disk::Disk;
use super::failure::{Failure, Message};
use super::outputs::is_container;
use crate::build::{Forecast, Ports, Prospect, Registries, forecast, hooks_look_at_disk};
use crate::disk::ByteSize;
use crate::distro::BaseSource;
use crate::dropin::OutputType;
use crate::image::{ContainerSettings, OutputFormat};
use crate::oci::has_command;
use crate::plan::Plan;
use crate::port::LayerStore;

/// The maximum number of layers that Docker engines load (`max depth exceeded`).
///
/// Source: moby, `layer/layer_store.go`, `maxLayerDepth`; tried with Docker 28.
const DOCKER_LAYERS: usize = 125;

/// The largest disk that a VHD holds.
///
/// Source: Microsoft, "Features Description: Virtual Hard Disk Limits"; QEMU, `block/vpc.c`,
/// `VHD_MAX_SECTORS`.
const LARGEST_VHD: ByteSize = ByteSize::from_mebibytes(2040 << 10);

/// An image and the outputs that a build writes.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) plan: &'a Plan,
    pub(super) disk: &'a Disk,
    pub(super) container: &'a ContainerSettings,
    pub(super) outputs: &'a [OutputType],
}

/// Findings of checks that passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) warnings: Vec<String>,
    /// Whether the layers of the lowest step are cached.
    pub(super) has_base: bool,
}

/// Checks that the host has everything that the build of an image needs, and that its clock is
/// right.
pub(super) fn check(
    checks: &dyn Checks,
    ports: &Ports<'_>,
    registries: &Registries<'_>,
    request: Request<'_>,
) -> Result<Findings, Failure> {
    let Request { plan, disk, outputs, .. } = request;
    // The cheap checks first: the store and a loop device are tried only for a build that could
    // succeed.
    check_clock(plan, checks.now()?)?;
    check_sizes(request)?;
    let forecasts = forecast(plan, ports.store, ports.host, registries)?;
    let has_base = forecasts.first().is_some_and(is_hit);
    if let Some(base) = plan.foundation.base().filter(|_| !has_base) {
        check_base_source(checks, &base.source)?;
    }
    output_programs(outputs).try_for_each(|program| require_whole(checks.tool(program)))?;
    let makes_disk = request.makes_disk();
    // Before the programs: on a kernel without a device mapper, installing lvm2 would not help.
    if makes_disk && disk.has_volumes() {
        require_whole(checks.device_mapper())?;
    }
    if makes_disk {
        disk.programs().into_iter().try_for_each(|(program, _)| require_whole(checks.tool(program)))?;
    }
    // If all layers are cached, the store needs no space for more.
    if !forecasts.iter().all(is_hit) {
        checks.store()?;
    }
    if makes_disk {
        require_whole(checks.loop_devices()?)?;
    }
    outputs.iter().try_for_each(|output| check_format(checks, output))?;
    Ok(Findings { warnings: warnings(request, &forecasts, ports.store), has_base })
}

impl Request<'_> {
    fn makes_disk(&self) -> bool {
        // Hooks of the final stage that use the disk get one, even if only an archive is written.
        let for_archive = hooks_look_at_disk(self.plan) && self.outputs.iter().any(OutputType::is_archive);
        for_archive || self.outputs.iter().any(OutputType::is_disk)
    }
}

fn is_hit(forecast: &Forecast) -> bool {
    matches!(forecast.outcome, Prospect::Hit { .. })
}

/// Returns what a user should know of an image before its outputs are made.
pub(super) fn warnings(request: Request<'_>, forecasts: &[Forecast], store: &dyn LayerStore) -> Vec<String> {
    let mut warnings: Vec<_> = no_boot_loader(request).into_iter().collect();
    if request.outputs.iter().any(is_container) {
        warnings.extend(too_many_layers(forecasts, request.plan, store));
        warnings.extend(no_command(request, store));
    }
    warnings
}

/// Warns of a container that engines start only with a command. Callers of diskimage-builder's
/// `docker` have no way to name one.
fn no_command(request: Request<'_>, store: &dyn LayerStore) -> Option<String> {
    let Request { plan, container, outputs, .. } = request;
    let is_ours = |output: &OutputType| is_container(output) && *output != OutputType::Docker;
    let has_command = !container.cmd.is_empty() || !container.entrypoint.is_empty();
    if has_command || !outputs.iter().any(is_ours) || base_has_command(plan, store) {
        return None;
    }
    Some(format!(
        "the container of image `{0}` has no command, so that `docker run` needs one each time: set `cmd` or `entrypoint` \
         in `[image.{0}.container]`",
        plan.image
    ))
}

/// Returns true if the base's own config names a command, or is not known yet.
fn base_has_command(plan: &Plan, store: &dyn LayerStore) -> bool {
    match plan.foundation.base().map(|base| &base.source) {
        None | Some(BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_)) => false,
        Some(source) => {
            store.base_image(source, plan.architecture).map_or(true, |base| has_command(&base.config))
        }
    }
}

/// Warns of an image with a container output that Docker engines will not load.
fn too_many_layers(forecasts: &[Forecast], plan: &Plan, store: &dyn LayerStore) -> Option<String> {
    let layers = count_layers(forecasts, base_layers(store, plan));
    (layers > DOCKER_LAYERS).then(|| {
        format!(
            "the container image has up to {layers} layers, but Docker engines load at most {DOCKER_LAYERS}: \
             join elements, or squash the base"
        )
    })
}

/// Warns of a disk that nothing will boot: no element of its image and no package has to do with
/// GRUB. The build fails only when it finds a kernel in the layers, without one.
fn no_boot_loader(request: Request<'_>) -> Option<String> {
    let Request { plan, disk, outputs, .. } = request;
    let is_bootable = disk.standard_firmware().is_empty() || plan.may_bring("grub");
    (outputs.iter().any(OutputType::is_disk) && !is_bootable).then(|| {
        format!(
            "image `{}` seems to have no boot loader, as none of its elements and packages mentions GRUB: its disk will not boot \
             (element `bootloader` installs GRUB; `firmware = []` under `disk` says that nothing boots from it)",
            plan.image
        )
    })
}

/// Returns how many layers the base has, if it was imported.
fn base_layers(store: &dyn LayerStore, plan: &Plan) -> Option<usize> {
    let source @ BaseSource::Stored { .. } = &plan.foundation.base()?.source else { return None };
    // A base that is missing or damaged fails the build with its own message.
    Some(store.base_image(source, plan.architecture).ok()?.layers.len())
}

/// Returns the maximum number of layers of a container. A step that is not built yet counts as one
/// layer, an imported base as `base_layers`.
fn count_layers(forecasts: &[Forecast], base_layers: Option<usize>) -> usize {
    let made = forecasts.iter().enumerate().map(|(place, forecast)| match &forecast.outcome {
        Prospect::Hit { diff_ids, .. } => diff_ids.len(),
        _ if place == 0 => base_layers.unwrap_or(1),
        _ => 1,
    });
    // One more for the final stage.
    made.sum::<usize>() + 1
}

/// Refuses a disk that cannot be laid out whatever it holds, or that one of these formats cannot
/// hold.
pub(super) fn check_sizes(request: Request<'_>) -> Result<(), Failure> {
    let Request { plan, disk, outputs, .. } = request;
    if !request.makes_disk() {
        return Ok(());
    }
    let least = disk.least_size(&plan.image)?;
    outputs.iter().try_for_each(|output| check_size(plan, least, output))
}

fn check_size(plan: &Plan, size: ByteSize, output: &OutputType) -> Result<(), Failure> {
    let is_vhd = match output {
        OutputType::File(format) => *format == OutputFormat::Vhd,
        OutputType::Qemu(name) => name == "vpc",
        OutputType::Docker => false,
    };
    if !is_vhd || size <= LARGEST_VHD {
        return Ok(());
    }
    Err(Message::with_hint(
        format!(
            "image `{}`: a disk of {size} is too large for {output}, which holds at most {LARGEST_VHD}",
            plan.image
        ),
        format!(
            "set a smaller `size` in `[image.{}.disk]` or in its block-device file, or choose another format",
            plan.image
        ),
    ))
}

/// Checks that the source of the base exists.
fn check_base_source(checks: &dyn Checks, source: &BaseSource) -> Result<(), Failure> {
    match source {
        // The root with dnf is made by mmdebstrap.
        BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) => require_whole(checks.tool("mmdebstrap")),
        BaseSource::OciLayout(file) | BaseSource::DockerArchive(file) | BaseSource::RootfsTar(file) => {
            checks.file(&file.path).map_err(|error| {
                Message::with_hint(
                    format!("cannot build the base from `{}`: {error}", file.path.display()),
                    "correct its path, which is relative to the file in `layers/` that names it",
                )
            })
        }
        // The build fetches it from its registry, or reports that it is missing.
        BaseSource::Stored { .. } => Ok(()),
    }
}

/// Refuses a source date epoch in the future, because times of new files could not be clamped to
/// it.
fn check_clock(plan: &Plan, now: i64) -> Result<(), Failure> {
    let epoch = plan.source_date_epoch;
    if epoch <= now {
        return Ok(());
    }
    Err(Message::with_hint(
        format!(
            "source-date-epoch {epoch} lies in the future: files made by hooks would keep their own times"
        ),
        "set an earlier `source-date-epoch` in `[project]`, or correct this host's clock",
    ))
}

/// Returns the programs that these outputs need besides those for a disk.
fn output_programs(outputs: &[OutputType]) -> impl Iterator<Item = &'static str> {
    use OutputFormat::{Squashfs, Vdi, Vhd, Vmdk};
    outputs.iter().filter_map(|output| match output {
        OutputType::File(Vhd | Vmdk | Vdi) | OutputType::Qemu(_) => Some("qemu-img"),
        OutputType::File(Squashfs) => Some("mksquashfs"),
        OutputType::Docker => Some("docker"),
        OutputType::File(_) => None,
    })
}

/// Refuses an unknown format here, before the layers are built.
fn check_format(checks: &dyn Checks, output: &OutputType) -> Result<(), Failure> {
    let OutputType::Qemu(name) = output else { return Ok(()) };
    let known = checks.qemu_formats()?;
    match known.contains(name) {
        true => Ok(()),
        false => Err(Message::with_hint(
            format!("unknown image type `{name}`: neither plywood nor qemu-img on this host supports it"),
            format!("formats of qemu-img: {}", known.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Registries;
    use std::collections::BTreeMap;

    use crate::distro::StoredFile;
    use crate::engine::disk::DiskRules;
    use crate::engine::fake::{Machine, defined, image, outputs};
    use crate::image::{DiskSettings, ImageDefinition};
    use crate::oci::{DiffId, Digest};
    use crate::plan::InputKey;
    use crate::plan::fixture::Image;

    /// Checks an image with these outputs; returns the calls, and the message if a check fails.
    fn checked(machine: &Machine, planned: &Image, names: &[&str]) -> (Vec<String>, Option<String>) {
        let (name, definition) = defined("web");
        let image = image(planned, (&name, &definition), &outputs(names));
        let request = Request {
            plan: &image.resolved.plan,
            disk: &image.resolved.disk,
            container: &definition.container,
            outputs: &image.outputs,
        };
        let registries = Registries::none(&machine.world);
        let found = check(machine, &machine.world.ports(), &registries, request);
        (machine.take_calls(), found.err().map(|failure| failure.to_string()))
    }

    /// A trial in the store takes longer than a look at `PATH`.
    #[test]
    fn cheap_checks_come_first() {
        let (calls, failure) = checked(&Machine::default(), &Image::bare(), &["qcow2", "squashfs", "vhdx"]);
        let expected =
            ["clock", "mmdebstrap", "mksquashfs", "qemu-img", "mke2fs", "store", "loop devices", "formats"];
        assert_eq!((calls, failure), (expected.map(str::to_owned).to_vec(), None));
    }

    #[test]
    fn a_failed_check_is_the_last_and_names_the_problem() {
        for lacking in ["mmdebstrap", "mksquashfs", "qemu-img", "mke2fs", "store", "loop devices"] {
            let machine = Machine::without(&[lacking]);
            let (calls, failure) = checked(&machine, &Image::bare(), &["qcow2", "squashfs", "vmdk"]);
            assert_eq!(calls.last().unwrap(), lacking);
            assert_eq!(failure.unwrap(), format!("{lacking} is lacking"));
        }
    }

    #[test]
    fn only_requirements_of_the_outputs_are_checked() {
        let (calls, _) = checked(&Machine::default(), &Image::bare(), &["oci", "tar"]);
        assert_eq!(calls, ["clock", "mmdebstrap", "store"]);
        let (calls, _) = checked(&Machine::default(), &Image::bare(), &["docker"]);
        assert_eq!(calls, ["clock", "mmdebstrap", "docker", "store"]);
    }

    #[test]
    fn with_cached_layers_neither_base_nor_store_is_checked() {
        let (machine, planned) = (Machine::default(), Image::bare());
        machine.world.stack(&Image { name: "web".to_owned(), ..planned.clone() }.plan()).unwrap();
        assert_eq!(checked(&machine, &planned, &["tar"]), (vec!["clock".to_owned()], None));
    }

    #[test]
    fn the_file_of_a_base_has_to_be_there() {
        let mut planned = Image::bare();
        let file = StoredFile { path: "rootfs.tar".into(), digest: Digest::of("") };
        planned.base_mut().source = BaseSource::RootfsTar(file);
        let (calls, failure) = checked(&Machine::without(&["rootfs.tar"]), &planned, &["tar"]);
        assert_eq!(calls.last().unwrap(), "file rootfs.tar");
        assert!(failure.unwrap().starts_with("cannot build the base from `rootfs.tar`: "));
    }

    #[test]
    fn an_unknown_format_is_refused_with_a_list_of_formats() {
        let (_, failure) = checked(&Machine::default(), &Image::bare(), &["vdx"]);
        assert_eq!(
            failure.unwrap(),
            "unknown image type `vdx`: neither plywood nor qemu-img on this host supports it"
        );
    }

    /// Checks the sizes of a disk of this size, described by this block-device file if there is
    /// one; returns the message if it is refused.
    fn size_checked(size: &str, layout: Option<&str>, names: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk.yaml"), layout.unwrap_or_default()).unwrap();
        let layout = layout.map(|_| "disk.yaml".into());
        let settings =
            DiskSettings { size: size.to_owned().try_into().unwrap(), layout, ..Default::default() };
        let disk = Disk::load(&settings, dir.path(), &[], &BTreeMap::new(), DiskRules::Plywood).unwrap();
        let (plan, outputs, container) = (Image::bare().plan(), outputs(names), ContainerSettings::default());
        let request = Request { plan: &plan, disk: &disk, container: &container, outputs: &outputs };
        check_sizes(request).err().map(|failure| failure.to_string())
    }

    #[test]
    fn a_disk_that_a_vhd_cannot_hold_is_refused() {
        const OF_FILE: &str = "- local_loop: { name: image0, size: 3TiB }\n\
                               - mkfs: { base: image0, name: mkfs_root, mount: { mount_point: / } }\n";
        let grows = "- local_loop: { name: image0 }\n\
                     - partitioning: { base: image0, label: gpt, partitions: [\
                         { name: data, type: '8300', size: 3TiB }, { name: root, type: '8300', size: 100% }] }\n\
                     - mkfs: { base: root, name: mkfs_root, mount: { mount_point: / } }\n";
        for (size, layout, format, is_refused) in [
            ("2040G", None, "vhd", false),
            ("2041G", None, "vhd", true),
            ("2041G", None, "vpc", true),
            ("2041G", None, "qcow2", false),
            ("auto", None, "vhd", false),
            ("auto", Some(OF_FILE), "vhd", true),
            ("auto", Some(OF_FILE), "qcow2", false),
            ("auto", Some(grows), "vhd", true),
            ("auto", Some(grows), "qcow2", false),
        ] {
            let message = size_checked(size, layout, &["raw", format]);
            assert_eq!(message.is_some(), is_refused, "{size} {layout:?} {format}: {message:?}");
            assert!(message.is_none_or(|text| text.contains("is too large for") && text.contains("2040G")));
        }
    }

    #[test]
    fn a_disk_that_cannot_be_laid_out_is_refused_before_anything_runs() {
        let of = |kind: &str| {
            format!(
                "- local_loop: {{ name: image0, size: 17TiB }}\n\
                 - mkfs: {{ base: image0, name: mkfs_root, type: {kind}, mount: {{ mount_point: / }} }}\n"
            )
        };
        let message = |kind| size_checked("auto", Some(&of(kind)), &["qcow2"]);
        for kind in ["ext2", "ext3"] {
            let found = message(kind).unwrap();
            let expected = format!("disk.yaml:2:31: file system `mkfs_root` is too large for {kind}, which");
            assert!(found.contains(&expected), "{found}");
        }
        assert_eq!([message("ext4"), message("xfs")], [None, None]);
        assert!(size_checked("2M", None, &["qcow2"]).unwrap().contains("is too small"));
        assert_eq!(size_checked("2M", None, &["tar"]), None, "it has no disk");
    }

    #[test]
    fn a_container_without_a_command_is_warned_of() {
        let machine = Machine::default();
        let (name, mut definition) = defined("web");
        let planned = Image::bare();
        let warned = |definition: &ImageDefinition, names: &[&str]| {
            let image = image(&planned, (&name, definition), &outputs(names));
            let (plan, disk) = (&image.resolved.plan, &image.resolved.disk);
            let request = Request { plan, disk, container: &definition.container, outputs: &image.outputs };
            warnings(request, &[], &machine.world).join("")
        };
        assert!(warned(&definition, &["oci"]).contains("has no command"));
        assert_eq!([warned(&definition, &["tar"]), warned(&definition, &["docker"])], ["", ""]);
        definition.container.cmd = vec!["/bin/sh".to_owned()];
        assert_eq!(warned(&definition, &["oci"]), "");
    }

    #[test]
    fn containers_with_more_layers_than_engines_load_are_warned_of() {
        let key = InputKey::new(Digest::of("key"));
        let forecast =
            |step: &str, outcome| Forecast { step: step.parse().unwrap(), input_key: key, outcome };
        let unbuilt = |step| forecast(step, Prospect::Depends { on: "base".parse().unwrap() });
        let hit =
            |layers| Prospect::Hit { diff_ids: vec![DiffId::new(Digest::of("key")); layers], registry: None };
        let counted = |layers| count_layers(&[forecast("base", hit(layers)), unbuilt("a")], None);
        assert_eq!((counted(123), counted(124)), (125, 126));
        // A base that was imported a moment ago.
        assert_eq!(count_layers(&[unbuilt("base"), unbuilt("a")], Some(124)), 126);

        let machine = Machine::default();
        let plan = Image::bare().plan();
        let (name, mut definition) = defined("web");
        definition.container.cmd = vec!["/bin/sh".to_owned()];
        let image = image(&Image::bare(), (&name, &definition), &[]);
        let warned = |names: &[&str]| {
            let (container, outputs) = (&definition.container, outputs(names));
            let request = Request { plan: &plan, disk: &image.resolved.disk, container, outputs: &outputs };
            warnings(request, &[forecast("base", hit(140))], &machine.world).join("")
        };
        assert_eq!(warned(&["tar", "squashfs"]), "");
        for name in ["oci", "docker-archive", "docker"] {
            assert!(warned(&["tar", name]).contains("up to 141 layers"));
        }
    }
}

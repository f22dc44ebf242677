//! Tests of the verb `build`: the stage that each output comes from, and the order of checks,
//! downloads, records and uploads.

use super::build::Unpublished;
use super::fake::{Front, Machine, NOW, defined, image, outputs};
use super::sharing::{NotPublished, Target};
use crate::build::Reuse;
use crate::build::fake_registry::Shelf;
use crate::distro::BaseSource;
use crate::element::fixture::element;
use crate::image::{ImageDefinition, ImageName};
use crate::oci::{Digest, ImageConfig};
use crate::plan::fixture::Image as PlannedImage;
use crate::port::BaseImage;
use crate::trust::Policy;

/// Returns an image with one layer above its base, and a hook of the final stage with this text.
fn planned(last: &str) -> PlannedImage {
    let web = element("web").hook("install.d/50-web", "").hook("finalise.d/90-web", last).build();
    PlannedImage { elements: vec![web], ..PlannedImage::bare() }
}

/// Builds one image with these outputs.
fn build(machine: &Machine, planned: &PlannedImage, names: &[&str], front: &Front<'_>) -> Result<(), String> {
    let (name, definition) = defined("web");
    let image = image(planned, (&name, &definition), &outputs(names));
    machine.build(&[image], front).map_err(|failure| failure.to_string())
}

/// Returns the written outputs.
fn written(planned: &PlannedImage, names: &[&str], front: &Front<'_>) -> Vec<String> {
    let machine = Machine::default();
    build(&machine, planned, names, front).unwrap();
    let calls = machine.take_calls().into_iter();
    calls
        .filter(|call| call.starts_with("web.") || call.contains("docker load") || call.contains("lay out"))
        .collect()
}

/// Returns the stages and steps that a final stage ran in: on a disk, or above the layers.
fn final_stages(machine: &Machine) -> Vec<&'static str> {
    let on_disk = machine.world.events("stage-started");
    let on_disk = on_disk.iter().filter(|event| event["stage"] == "final stage").map(|_| "disk");
    let above = machine.world.events("step-started");
    let above = above.iter().filter(|event| event["step"] == "image:final").map(|_| "layers");
    on_disk.chain(above).collect()
}

const DISK: &str = "lay out a disk";

#[test]
fn all_disk_formats_come_from_one_disk() {
    let found = written(&planned(""), &["qcow2", "vhdx", "raw"], &Front::PLYWOOD);
    let expected = [
        DISK,
        "web.qcow2 of the disk, by plywood",
        "web.vhdx of the disk, by qemu-img",
        "web.raw of the disk, by plywood",
    ];
    assert_eq!(found, expected);
}

#[test]
fn archives_and_containers_are_made_of_layers() {
    let found = written(&planned(""), &["tar", "oci", "docker-archive", "docker"], &Front::PLYWOOD);
    let expected = [
        "web.tar (tar) of merged",
        "web.oci (layout) of 3 layers",
        "web.docker.tar (archive) of 3 layers",
        "docker load of 3 layers",
    ];
    assert_eq!(found, expected, "the base, the element, the final stage");
}

#[test]
fn an_archive_beside_a_disk_is_the_same_as_without() {
    let found = written(&planned(""), &["tar", "qcow2"], &Front::PLYWOOD);
    assert_eq!(found, [DISK, "web.qcow2 of the disk, by plywood", "web.tar (tar) of merged"]);
}

#[test]
fn an_archive_is_made_from_a_disk_if_hooks_use_one() {
    let planned = planned("grub-install $IMAGE_BLOCK_DEVICE");
    let found = written(&planned, &["tar"], &Front::PLYWOOD);
    assert_eq!(found, [DISK, "web.tar (tar) of disk"]);
    let found = written(&planned, &["tgz", "oci"], &Front::PLYWOOD);
    assert_eq!(found, [DISK, "web.tgz (gzip) of disk", "web.oci (layout) of 3 layers"]);
}

/// Hooks of the final stage write to the caller's directories, which must happen once.
#[test]
fn a_drop_in_takes_archives_from_the_disk_beside_them() {
    let found = written(&planned(""), &["tar", "qcow2"], &Front::DROP_IN);
    assert_eq!(found, [DISK, "web.tar (tar) of disk", "web.qcow2 of the disk, by plywood"]);
    assert_eq!(written(&planned(""), &["tar"], &Front::DROP_IN), ["web.tar (tar) of merged"]);
}

#[test]
fn the_final_stage_runs_on_the_disk_for_disks_and_above_the_layers_otherwise() {
    let cases: [(&[&str], &Front<'_>, &[&str]); 7] = [
        (&["qcow2", "raw"], &Front::PLYWOOD, &["disk"]),
        (&["tar", "oci"], &Front::PLYWOOD, &["layers"]),
        (&["qcow2", "tar"], &Front::PLYWOOD, &["disk", "layers"]),
        (&["qcow2", "tar"], &Front::DROP_IN, &["disk"]),
        (&["tar"], &Front::DROP_IN, &["layers"]),
        // Elements that write the image themselves: the result is what their hooks write.
        (&[], &Front::DROP_IN, &["layers"]),
        (&[], &Front::PLYWOOD, &[]),
    ];
    for (names, front, expected) in cases {
        let machine = Machine::default();
        build(&machine, &planned(""), names, front).unwrap();
        assert_eq!(final_stages(&machine), expected, "{names:?}");
    }
}

#[test]
fn a_build_is_kept_when_its_outputs_are_written() {
    let machine = Machine::default();
    build(&machine, &planned(""), &["oci"], &Front::PLYWOOD).unwrap();
    let calls = machine.take_calls();
    let expected = [
        "keep the container of web: 3 layers",
        "web.oci (layout) of 3 layers",
        "hand over web",
        "keep the build of web: 3 steps",
        "forget the failure of web",
    ];
    assert_eq!(calls[calls.len() - expected.len()..], expected);
}

/// The package manager is asked in a sandbox on all layers.
#[test]
fn the_package_list_of_the_last_build_of_the_same_layers_is_reused() {
    let machine = Machine::default();
    let asked = |reuse: Reuse| {
        build(&machine, &planned(""), &["tar"], &Front { reuse, ..Front::PLYWOOD }).unwrap();
        machine.world.take_jobs().iter().filter(|job| *job == "sh -euc").count()
    };
    assert_eq!([Reuse::Allowed, Reuse::Allowed, Reuse::Refused].map(asked), [1, 0, 1]);
}

#[test]
fn a_drop_in_keeps_no_build() {
    let machine = Machine::default();
    build(&machine, &planned(""), &["tar"], &Front::DROP_IN).unwrap();
    assert_eq!(machine.take_calls().last().unwrap(), "hand over web");
}

#[test]
fn files_are_handed_over_even_if_an_output_fails() {
    let machine = Machine { unwritable: Some("web.tgz"), ..Machine::default() };
    let error = build(&machine, &planned(""), &["tar", "tgz"], &Front::DROP_IN).unwrap_err();
    assert_eq!(error, "cannot write `web.tgz`");
    assert_eq!(machine.take_calls().last().unwrap(), "hand over web");
}

/// Returns an image on a base that was imported from a registry, and that base.
fn on_imported_base(machine: &Machine) -> (PlannedImage, BaseImage) {
    let mut config = ImageConfig::new("amd64", 0).unwrap();
    let layer = machine.world.import("base layer", Vec::new());
    config.push_step("somebody", &[layer]);
    let diff_id = machine.world.import("base layer", config.to_bytes());
    let layer = crate::port::LayerStore::layer(&machine.world, &diff_id).unwrap().unwrap();
    machine.world.lose_base();
    let mut planned = planned("");
    let reference = Some("registry.example/base:1".to_owned());
    planned.base_mut().source = BaseSource::Stored { digest: Digest::of("manifest"), reference };
    (planned, BaseImage { layers: vec![layer], config: config.to_bytes() })
}

const FETCH: &str = "fetch registry.example/base:1";

#[test]
fn a_base_that_the_store_lacks_is_fetched_before_the_build_once() {
    let mut machine = Machine::default();
    let (planned, base) = on_imported_base(&machine);
    machine.remote_base = Some(base);
    build(&machine, &planned, &["oci"], &Front::PLYWOOD).unwrap();
    let calls = machine.take_calls();
    let place = |call: &str| calls.iter().position(|found| found.starts_with(call)).unwrap();
    assert!(place("store") < place(FETCH) && place(FETCH) < place("web.oci"), "{calls:?}");
    assert_eq!(machine.warnings(), ["the store does not have the base: fetching `registry.example/base:1`"]);
    assert_eq!(machine.world.events("image-started").len(), 1, "nothing is built twice");
    build(&machine, &planned, &["oci"], &Front::PLYWOOD).unwrap();
    assert!(!machine.take_calls().contains(&FETCH.to_owned()));
}

#[test]
fn a_base_that_cannot_be_fetched_fails_before_anything_is_built() {
    let machine = Machine::default();
    let (planned, _) = on_imported_base(&machine);
    let error = build(&machine, &planned, &["oci"], &Front::PLYWOOD).unwrap_err();
    assert_eq!(error, "the registry does not answer");
    assert!(machine.world.events("image-started").is_empty());
}

#[test]
fn an_offline_build_reports_a_missing_base_and_does_not_fetch_it() {
    let machine = Machine::default();
    let (planned, _) = on_imported_base(&machine);
    let front = Front { online: false, ..Front::PLYWOOD };
    let error = build(&machine, &planned, &["tar"], &front).unwrap_err();
    assert!(error.contains("is not in the store"), "{error}");
    assert!(!machine.take_calls().contains(&FETCH.to_owned()));
}

/// The layers are found by their key; only the config of a container continues that of the base.
#[test]
fn a_base_with_cached_layers_is_fetched_only_for_its_config_or_a_rebuild() {
    let mut machine = Machine::default();
    let (planned, base) = on_imported_base(&machine);
    machine.remote_base = Some(base);
    build(&machine, &planned, &["tar"], &Front::PLYWOOD).unwrap();
    machine.take_calls();
    machine.world.lose_base();
    build(&machine, &planned, &["tar"], &Front::PLYWOOD).unwrap();
    assert!(!machine.take_calls().contains(&FETCH.to_owned()), "no output asks for it");
    build(&machine, &planned, &["oci"], &Front::PLYWOOD).unwrap();
    assert!(machine.take_calls().contains(&FETCH.to_owned()));
    machine.world.lose_base();
    build(&machine, &planned, &["tar"], &Front { reuse: Reuse::Refused, ..Front::PLYWOOD }).unwrap();
    assert!(machine.take_calls().contains(&FETCH.to_owned()), "the step is made again");
}

fn two() -> [(ImageName, ImageDefinition); 2] {
    [defined("first"), defined("second")]
}

/// Builds two images that differ in their names.
fn build_two(
    machine: &Machine,
    shelf: &Shelf,
    unpublished: Unpublished,
) -> Result<(), crate::engine::Failure> {
    let repository = Box::new(shelf.clone());
    let target = Target { repository, policy: Policy::default(), key: None };
    let defined = two();
    let images = defined
        .each_ref()
        .map(|(name, definition)| image(&planned(""), (name, definition), &outputs(&["tar"])));
    machine.build(&images, &Front { target: Some(&target), unpublished, ..Front::PLYWOOD })
}

#[test]
fn images_that_cannot_be_published_are_still_built_and_the_first_is_named() {
    let (machine, shelf) = (Machine::default(), Shelf::default());
    shelf.go_down();
    let failure = build_two(&machine, &shelf, Unpublished::IsFailure).unwrap_err();
    let NotPublished { image, .. } = failure.downcast_ref().unwrap();
    assert_eq!(image, "first");
    let calls = machine.take_calls();
    assert!(calls.contains(&"forget the failure of second".to_owned()), "{calls:?}");
}

#[test]
fn a_drop_in_warns_of_steps_that_are_not_published() {
    let (machine, shelf) = (Machine::default(), Shelf::default());
    shelf.go_down();
    build_two(&machine, &shelf, Unpublished::IsWarning).unwrap();
    let warnings = machine.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with(
            "image `first` is built and its outputs are written, but its steps are not published: "
        ),
        "{warnings:?}"
    );
}

#[test]
fn steps_are_published_when_the_outputs_are_written() {
    let (machine, shelf) = (Machine::default(), Shelf::default());
    build_two(&machine, &shelf, Unpublished::IsFailure).unwrap();
    let published = machine.world.events("steps-published");
    let images: Vec<_> = published.iter().map(|event| event["image"].as_str().unwrap()).collect();
    assert_eq!(images, ["first", "second"]);
    assert!(!shelf.all_tags().is_empty());
}

#[test]
fn a_container_with_an_unknown_user_is_refused_before_it_is_written() {
    let machine = Machine::default();
    machine.world.merge(&[("/etc/passwd", "joe:x:7:7::/:/bin/sh\n")]);
    let (name, mut definition) = defined("web");
    for (user, refused) in [("joe", false), ("jo", true)] {
        definition.container.user = Some(user.to_owned());
        let image = image(&planned(""), (&name, &definition), &outputs(&["oci"]));
        let message = machine.build(&[image], &Front::PLYWOOD).err().map(|failure| failure.to_string());
        let is_named = message.is_some_and(|text| text.contains("user `jo`, which `/etc/passwd`"));
        assert_eq!(is_named, refused, "{user}");
        let is_written = machine.take_calls().iter().any(|call| call.starts_with("web."));
        assert_eq!(is_written, !refused, "{user}");
    }
}

#[test]
fn unreadable_records_are_one_warning() {
    let machine = Machine { set_aside: 40, ..Machine::default() };
    build(&machine, &planned(""), &["oci"], &Front::PLYWOOD).unwrap();
    let mut warnings = machine.warnings();
    warnings
        .retain(|warning| warning.starts_with("40 records or other documents in the store cannot be read"));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn warnings_come_once_and_before_the_checks_of_the_host() {
    let machine = Machine::without(&["store"]);
    let defined = two();
    let images = defined.each_ref().map(|(name, definition)| {
        let mut image = image(&planned(""), (name, definition), &outputs(&["tar"]));
        image.resolved.warnings.push(format!("a file of {name} is ignored"));
        image
    });
    machine.build(&images, &Front::PLYWOOD).unwrap_err();
    assert_eq!(machine.warnings(), ["a file of first is ignored", "a file of second is ignored"]);
    let machine = Machine::default();
    machine.build(&images, &Front::PLYWOOD).unwrap();
    assert_eq!(machine.warnings().len(), 2);
}

#[test]
fn all_images_are_checked_before_the_first_is_built() {
    let machine = Machine::without(&["qemu-img"]);
    let defined = two();
    let [(first, a), (second, b)] = &defined;
    let images = [
        image(&planned(""), (first, a), &outputs(&["tar"])),
        image(&planned(""), (second, b), &outputs(&["vmdk"])),
    ];
    let error = machine.build(&images, &Front::PLYWOOD).unwrap_err();
    assert_eq!(error.to_string(), "qemu-img is lacking");
    assert!(machine.world.events("image-started").is_empty());
}

#[test]
fn a_source_date_epoch_in_the_future_is_refused_first() {
    let machine = Machine::default();
    let planned = PlannedImage { epoch: NOW + 1, ..planned("") };
    let error = build(&machine, &planned, &["qcow2"], &Front::PLYWOOD).unwrap_err();
    assert!(error.contains("lies in the future"), "{error}");
    assert_eq!(machine.take_calls(), ["place of web", "clock"]);
}

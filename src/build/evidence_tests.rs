//! Tests of host evidence: the host files that hooks read decide whether a step is found.

use super::fake::{Effect, UNREADABLE, World, usual};
use super::fake_registry::Shelf;
use super::*;
use crate::element::fixture::element;
use crate::layer::Encoding;
use crate::plan::Plan;
use crate::plan::fixture::Image;
use crate::port::Job;
use crate::trust::Policy;

/// Returns an image of an element whose hook on the host has this text, and of an element above it.
fn image(text: &str) -> Plan {
    let low = element("low").hook("extra-data.d/50-low", text).build();
    let top = element("top").hook("install.d/50-top", "").build();
    Image { elements: vec![low, top], ..Image::bare() }.plan()
}

const HOOK: &str = "/tmp/plywood/hooks/extra-data.d/50-low";

/// Returns a world whose hook on the host opens these files and writes them into the layer.
fn world(opens: &'static [&'static str]) -> World {
    let world = World::default();
    world.behave(copying(opens));
    world
}

fn copying(opens: &'static [&'static str]) -> impl Fn(&Job) -> Effect + Send {
    move |job| match job.argv.first().map(String::as_str) {
        Some(HOOK) => Effect { opens: opens.to_vec(), ..usual(job) },
        _ => usual(job),
    }
}

/// Builds all steps. Returns the names of the steps that were not found.
fn made(world: &World, plan: &Plan) -> Vec<String> {
    let steps = world.stack(plan).unwrap();
    steps.into_iter().filter(|step| step.found.is_none()).map(|step| step.name.to_string()).collect()
}

/// Returns the reasons for which `low` would be built. A hit has no reasons.
fn reasons(world: &World, plan: &Plan) -> Vec<String> {
    let registries = Registries::none(world);
    let forecasts = forecast(plan, world, world, &registries).unwrap();
    match &forecasts[1].outcome {
        Prospect::Miss { reasons, .. } => reasons.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_step_is_found_until_a_host_file_that_its_hooks_read_changes() {
    let (world, plan) = (world(&["/srv/a"]), image("[ -e /srv/mentioned ]"));
    world.host(&[("/srv/a", "1"), ("/etc/x", ""), ("/srv/other", "1")]);
    assert_eq!(made(&world, &plan), ["base:debian-bookworm", "low", "top"]);
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);
    let table: [Case; 7] = [
        (&[("/srv/a", "1"), ("/etc/x", ""), ("/srv/other", "2")], &[]),
        (
            &[("/srv/a", "2"), ("/etc/x", "")],
            &["host file `/srv/a`, which `extra-data.d/50-low` read, has changed"],
        ),
        (
            &[("/srv/a", UNREADABLE), ("/etc/x", "")],
            &[
                "the evidence of host files that its hooks read is incomplete: this user may not read `/srv/a`, so it \
               cannot be compared",
            ],
        ),
        (&[("/etc/x", "")], &["host file `/srv/a`, which `extra-data.d/50-low` read, is gone"]),
        (
            &[("/srv/a", "1"), ("/etc/x", ""), ("/srv/mentioned", "")],
            &["host path `/srv/mentioned`, which `extra-data.d/50-low` names, has appeared"],
        ),
        (&[("/srv/a", "1")], &["host names at and below `/etc/x` are gone"]),
        (
            &[("/srv/a", "1"), ("/etc/x", ""), ("/etc/y", "")],
            &["host names at and below `/etc/y` have appeared"],
        ),
    ];
    for (files, expected) in table {
        world.host(files);
        assert_eq!(reasons(&world, &plan), expected, "{files:?}");
    }
    // The new layer of `low` is the same, so the step above is found by its content key.
    assert_eq!(made(&world, &plan), ["low"]);
    assert_eq!(made(&world, &plan), [""; 0]);
}

/// Most fragments only set defaults. Fragments are also sourced on the host, for `pkg-map`.
#[test]
fn host_names_do_not_count_for_fragments_that_only_set_variables() {
    for (fragment, expected) in [
        ("export DIB_FLAVOUR=\"${DIB_FLAVOUR:-cloud}\"", &[][..]),
        (
            "[ ! -e $PLACE/flavour ] || export DIB_FLAVOUR=own",
            &["host names at and below `/etc/new` have appeared"],
        ),
    ] {
        let low = element("low").file("environment.d/50-low.bash", fragment);
        let low =
            low.hook("install.d/50-low", "echo $DIB_FLAVOUR").file("pkg-map", r#"{"default": {"a": "b"}}"#);
        let plan = Image { elements: vec![low.build()], ..Image::bare() }.plan();
        let world = World::default();
        world.host(&[("/etc/x", "")]);
        assert_eq!(made(&world, &plan), ["base:debian-bookworm", "low"]);
        world.host(&[("/etc/x", ""), ("/etc/new", "")]);
        assert_eq!(reasons(&world, &plan), expected, "{fragment}");
    }
}

#[test]
fn a_step_with_unknown_reads_is_built_each_time_with_a_warning() {
    let (world, plan) = (World::default(), image(""));
    world.behave(|job| match job.argv.first().map(String::as_str) {
        Some(HOOK) => Effect { gap: Some("no fanotify"), ..usual(job) },
        _ => usual(job),
    });
    made(&world, &plan);
    assert_eq!(made(&world, &plan), ["low"]);
    let warning = "step `low` will be built again by the next build: the evidence of host files that its hooks \
                   read is incomplete (no fanotify)";
    assert_eq!(world.events("warning")[0]["message"], warning);
    let reason = "the evidence of host files that its hooks read is incomplete: no fanotify";
    assert_eq!(reasons(&world, &plan), [reason]);
}

/// If a file changes while a hook runs, the hook may have read the old or the new content.
#[test]
fn a_file_that_changes_while_a_hook_runs_makes_the_evidence_incomplete() {
    let (world, plan) = (World::default(), image(""));
    world.host(&[("/srv/log", "1")]);
    world.behave(|job| match job.argv.first().map(String::as_str) {
        Some(HOOK) => {
            Effect { opens: vec!["/srv/log"], changes_host: Some(("/srv/log", "11")), ..usual(job) }
        }
        _ => usual(job),
    });
    made(&world, &plan);
    let reason = "the evidence of host files that its hooks read is incomplete: `/srv/log` changed while \
                  `extra-data.d/50-low` ran";
    assert_eq!(reasons(&world, &plan), [reason]);
}

/// Compares random reads on random hosts. A step is found if and only if every file that its hook
/// read is unchanged.
#[test]
fn a_step_is_found_if_and_only_if_its_reads_are_unchanged() {
    const FILES: [&str; 4] = ["/srv/a", "/srv/b", "/var/c", "/usr/bin/d"];
    const TEXTS: [&str; 3] = ["", "1", "2"];
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    for _ in 0..200 {
        let reads: Vec<_> = FILES.into_iter().filter(|_| random(2) == 1).collect();
        let mut host = || FILES.map(|file| (file, TEXTS[random(3)]));
        let (before, after) = (host(), host());
        // An empty text stands for a missing file.
        let present = |host: [(&'static str, &'static str); 4]| -> Vec<_> {
            host.into_iter().filter(|(_, text)| !text.is_empty()).collect()
        };
        let world = World::default();
        let opens = reads.clone();
        world.behave(move |job| match job.argv.first().map(String::as_str) {
            Some(HOOK) => Effect { opens: opens.clone(), ..usual(job) },
            _ => usual(job),
        });
        let plan = image("");
        world.host(&present(before));
        made(&world, &plan);
        world.host(&present(after));
        // A hook cannot open a missing file, so its name is not in the evidence.
        let is_read = |file: &str, text: &str| reads.contains(&file) && !text.is_empty();
        let same = before.iter().zip(&after).all(|(old, new)| !is_read(old.0, old.1) || old == new);
        assert_eq!(made(&world, &plan).is_empty(), same, "{reads:?} {before:?} {after:?}");
    }
}

/// On another machine, the content of host files counts, except for files of the distribution.
#[test]
fn another_machine_uses_a_step_if_it_has_the_same_host_files() {
    let plan = image("[ -e /srv/mentioned ]");
    let build = |files: &[(&str, &str)], shelf: &Shelf| {
        let world = world(&["/srv/a", "/usr/bin/tar", "/etc/passwd"]);
        world.host(files);
        let policy = Policy::default();
        let registries = Registries::new(vec![shelf], policy.clone(), &world);
        let builder = world.builder(&registries);
        let steps = builder.stack(&plan).unwrap();
        let publisher = Publisher {
            to: shelf,
            blobs: &world,
            policy: &policy,
            key: None,
            now: 1_700_000_000,
            damaged: Default::default(),
        };
        let made: Vec<_> = steps.iter().filter(|step| step.found.is_none()).collect();
        let made: Vec<_> = made.iter().map(|step| step.name.to_string()).collect();
        if !made.is_empty() {
            publisher.publish(&world.ports(), &plan, &steps, Encoding::Zstd).unwrap();
        }
        (made, world.events("warning"))
    };
    let shelf = Shelf::default();
    let first = [("/srv/a", "1"), ("/usr/bin/tar", "1"), ("/etc/passwd", "1"), ("/etc/x", "")];
    assert_eq!(build(&first, &shelf).0.len(), 3);
    assert!(!shelf.text().contains("/usr/bin/tar") && shelf.text().contains("/srv/a"), "{}", shelf.text());
    let other = [("/srv/a", "1"), ("/usr/bin/tar", "22"), ("/etc/y", "")];
    assert_eq!(build(&other, &shelf).0, [""; 0]);
    let changed = [("/srv/a", "2"), ("/usr/bin/tar", "1")];
    let (made, warnings) = build(&changed, &shelf);
    assert_eq!(made, ["low"]);
    let reason = "host file `/srv/a`, which `extra-data.d/50-low` read, has changed";
    let warning = format!("step `low`: the step published in `shelf/cache` is not used: {reason}");
    assert_eq!(warnings[0]["message"], warning.as_str());
    let appeared = [("/srv/a", "2"), ("/srv/mentioned", "")];
    assert_eq!(build(&appeared, &shelf).0, ["low"]);
}

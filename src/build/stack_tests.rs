//! Tests of stacks: which steps are built, which are found, and which records are kept.

use super::fake::{Effect, World, but_for};
use super::*;
use crate::element::fixture::element;
use crate::oci::{DiffId, Digest};
use crate::plan::fixture::Image;
use crate::plan::{Found, Foundation, StepName};

/// Returns an image of three elements. `comment` is in a hook of the middle one, and does not
/// change its effect.
fn image(comment: &str) -> Image {
    let elements = ["low", "middle", "top"].map(|name| {
        let text = if name == "middle" { comment } else { "" };
        element(name).hook(&format!("install.d/50-{name}"), text).build()
    });
    Image { elements: elements.into(), ..Image::bare() }
}

/// Returns how each step was found, as `name found`.
fn found(steps: &[BuiltStep]) -> Vec<String> {
    let found = |step: &BuiltStep| match step.found {
        Some(Found::Input) => "input",
        Some(Found::Content) => "content",
        None => "built",
    };
    steps.iter().map(|step| format!("{} {}", step.name, found(step))).collect()
}

fn short(steps: &[BuiltStep]) -> Vec<String> {
    found(steps).into_iter().filter_map(|line| line.split(' ').next_back().map(str::to_owned)).collect()
}

#[test]
fn a_second_build_runs_nothing_and_has_the_same_layers() {
    let (world, plan) = (World::default(), image("").plan());
    let first = world.stack(&plan).unwrap();
    assert_eq!(found(&first), ["base:debian-bookworm built", "low built", "middle built", "top built"]);
    assert_eq!(
        world.take_jobs(),
        ["bootstrap bookworm", "install.d/50-low", "install.d/50-middle", "install.d/50-top"]
    );
    let second = world.stack(&plan).unwrap();
    assert_eq!(short(&second), ["input"; 4]);
    assert!(world.take_jobs().is_empty());
    let layers = |steps: &[BuiltStep]| steps.iter().map(|step| step.diff_ids.clone()).collect::<Vec<_>>();
    assert_eq!(layers(&first), layers(&second));
    let hits = world.events("step-hit");
    assert_eq!((hits.len(), &hits[1]["by"], &hits[1]["step"]), (4, &"input".into(), &"low".into()));
    assert_eq!(world.events("step-finished").len(), 4);
}

/// apt uses a file as a package if name and size are right, so kept downloads may be wrong.
#[test]
fn a_bootstrap_that_may_have_used_wrong_downloads_is_repeated_without_them() {
    let (world, plan) = (World::default(), image("").plan());
    world.spoil_downloads();
    assert_eq!(short(&world.stack(&plan).unwrap()), ["built"; 4]);
    assert_eq!(world.take_jobs()[..2], ["bootstrap bookworm", "bootstrap-afresh bookworm"]);
}

#[test]
fn steps_above_an_unchanged_layer_are_found_by_content() {
    let world = World::default();
    world.stack(&image("").plan()).unwrap();
    world.take_jobs();
    let plan = image("# a comment").plan();
    assert_eq!(short(&world.stack(&plan).unwrap()), ["input", "input", "built", "content"]);
    assert_eq!(world.take_jobs(), ["install.d/50-middle"]);
    assert_eq!(short(&world.stack(&plan).unwrap()), ["input"; 4], "the next build finds it by its new key");
}

#[test]
fn steps_above_a_changed_layer_are_built_again() {
    let world = World::default();
    world.stack(&image("").plan()).unwrap();
    world.behave(but_for("install.d/50-middle", Effect { writes: "other".to_owned(), ..Effect::default() }));
    assert_eq!(short(&world.stack(&image("other").plan()).unwrap()), ["input", "input", "built", "built"]);
}

/// A lost layer that is built again may have another content, because package repositories change.
#[test]
fn a_layer_is_only_stacked_on_the_layers_it_was_built_on() {
    let (world, plan) = (World::default(), image("").plan());
    let first = world.stack(&plan).unwrap();
    world.lose(first[1].diff_ids[0]);
    assert_eq!(
        short(&world.stack(&plan).unwrap()),
        ["input", "built", "input", "input"],
        "the new layer is the same"
    );
    world.lose(first[1].diff_ids[0]);
    world.behave(but_for("install.d/50-low", Effect { writes: "newer".to_owned(), ..Effect::default() }));
    assert_eq!(short(&world.stack(&plan).unwrap()), ["input", "built", "built", "built"]);
    assert_eq!(short(&world.stack(&plan).unwrap()), ["input"; 4]);
}

#[test]
fn a_step_that_changes_nothing_has_no_layer_and_is_found() {
    let (world, plan) = (World::default(), image("").plan());
    world.behave(but_for("install.d/50-middle", Effect::default()));
    let steps = world.stack(&plan).unwrap();
    assert_eq!(steps[2].diff_ids, []);
    world.take_jobs();
    assert_eq!(short(&world.stack(&plan).unwrap()), ["input"; 4]);
}

#[test]
fn a_build_without_the_cache_builds_all_steps() {
    let (world, plan) = (World::default(), image("").plan());
    world.stack(&plan).unwrap();
    let nowhere = Registries::none(&world);
    let builder = Builder { reuse: Reuse::Refused, ..world.builder(&nowhere) };
    assert_eq!(short(&builder.stack(&plan).unwrap()), ["built"; 4]);
}

#[test]
fn a_build_that_fails_on_a_miss_names_the_step_and_runs_nothing() {
    let world = World::default();
    world.stack(&image("").plan()).unwrap();
    world.take_jobs();
    let nowhere = Registries::none(&world);
    let builder = Builder { on_miss: OnMiss::Fail, ..world.builder(&nowhere) };
    let error = builder.stack(&image("# changed").plan()).unwrap_err();
    assert_eq!(error.to_string(), "step `middle` of image `vm` is not in the store");
    assert!(world.take_jobs().is_empty());
}

#[test]
fn a_failed_hook_names_its_element_and_leaves_no_record() {
    let (world, plan) = (World::default(), image("").plan());
    let lines: String = (1..=30).map(|number| format!("line {number}\n")).collect();
    let effect = Effect { prints: lines.into_bytes(), status: 3, ..Effect::default() };
    world.behave(but_for("install.d/50-middle", effect));
    let error = world.stack(&plan).unwrap_err();
    assert_eq!(error.to_string(), "hook `install.d/50-middle` of element `middle` failed with exit status 3");
    let BuildError::HookFailed(failure) = error else { panic!("{error:?}") };
    let HookFailure { step, outcome, .. } = *failure;
    assert_eq!(step, "middle");
    assert_eq!((outcome.tail.len(), outcome.tail[19].as_str()), (20, "line 30"));
    assert_eq!(outcome.log.to_str(), Some("vm/middle/install.d-50-middle"));
    assert_eq!(world.recorded(), ["base:debian-bookworm", "low"].map(str::to_owned).into());
}

#[test]
fn a_failed_hook_of_the_final_stage_names_its_element() {
    let mut image = image("");
    image.elements.push(element("last").hook("finalise.d/90-last", "").build());
    let (world, plan) = (World::default(), image.plan());
    world.behave(but_for("finalise.d/90-last", Effect { status: 1, ..Effect::default() }));
    match world.finish(&plan, &[]).unwrap_err() {
        BuildError::HookFailed(failure) => {
            assert_eq!((failure.element.as_str(), &failure.step), ("last", &StepName::Final));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_final_stage_is_found_like_any_step() {
    let (world, plan) = (World::default(), image("").plan());
    let stack: Vec<_> = world.stack(&plan).unwrap().into_iter().flat_map(|step| step.diff_ids).collect();
    let first = world.finish(&plan, &stack).unwrap();
    let second = world.finish(&plan, &stack).unwrap();
    assert_eq!(short(&[first.clone(), second.clone()]), ["built", "input"]);
    assert_eq!(first.diff_ids, second.diff_ids);
}

#[test]
fn a_forecast_shows_hits_and_misses_and_runs_nothing() {
    let world = World::default();
    let lines = |image: &Image| -> Vec<String> {
        let forecasts = forecast(&image.plan(), &world, &world, &Registries::none(&world)).unwrap();
        let outcome = |forecast: Forecast| match forecast.outcome {
            Prospect::Hit { .. } => "hit".to_owned(),
            Prospect::Depends { on } => format!("depends on {on}"),
            Prospect::Miss { reasons, .. } => {
                reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
        };
        forecasts.into_iter().map(outcome).collect()
    };
    assert_eq!(lines(&image("")), ["not built yet"; 4]);
    let built = world.stack(&image("").plan()).unwrap();
    world.take_jobs();
    assert_eq!(lines(&image("")), ["hit"; 4]);
    let changed = lines(&image("# changed"));
    assert_eq!(
        (&changed[..2], &*changed[3]),
        (&["hit".to_owned(), "hit".to_owned()][..], "depends on middle")
    );
    assert!(changed[2].starts_with("file install.d/50-middle changed: "), "{changed:?}");
    world.lose(built[1].diff_ids[0]);
    assert_eq!(
        lines(&image("")),
        ["hit", "its layer is no longer in the store", "depends on low", "depends on low"]
    );
    assert!(world.take_jobs().is_empty());
}

/// Imports a base of one layer. Returns the layer.
fn import_base(world: &World) -> DiffId {
    let layer = DiffId::new(Digest::of("base layer"));
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["LANG=C"], "Entrypoint": ["/init"], "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created_by": "somebody" }],
    });
    world.import("base layer", serde_json::to_vec(&config).unwrap())
}

/// Returns the config of a container as JSON, and the texts of its history.
fn config(world: &World, image: &Image) -> (serde_json::Value, Vec<String>) {
    let plan = image.plan();
    let mut steps = world.stack(&plan).unwrap();
    let stack: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
    steps.push(world.finish(&plan, &stack).unwrap());
    let settings = crate::image::ContainerSettings {
        env: [("HOME".to_owned(), "/work".to_owned())].into(),
        ..Default::default()
    };
    let config = container_config(&plan, &steps, &settings, world).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let history = config["history"].as_array().unwrap();
    let words = history.iter().map(|entry| entry["created_by"].as_str().unwrap().to_owned()).collect();
    let diff_ids: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids));
    (config, words)
}

#[test]
fn the_history_of_a_container_has_an_entry_for_each_step() {
    let (config, history) = config(&World::default(), &image(""));
    assert_eq!(
        history,
        [
            "plywood base:debian-bookworm",
            "plywood element low",
            "plywood element middle",
            "plywood element top",
            "plywood image:final"
        ]
    );
    let variables = config["config"]["Env"].as_array().unwrap();
    assert!(variables.contains(&"HOME=/work".into()), "{variables:?}");
    assert_eq!(config["architecture"], "amd64");
}

#[test]
fn a_container_continues_the_config_of_its_base() {
    let world = World::default();
    let layer = import_base(&world);
    let mut image = image("");
    let source = crate::distro::BaseSource::Stored { digest: Digest::of("manifest"), reference: None };
    image.base_mut().source = source;
    let steps = world.stack(&image.plan()).unwrap();
    assert_eq!(steps[0].diff_ids, [layer]);
    let (config, history) = config(&world, &image);
    assert_eq!(history[..2], ["somebody", "plywood element low"]);
    assert_eq!(config["config"]["Env"], serde_json::json!(["LANG=C", "HOME=/work"]));
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/init"]));
    assert_eq!(config["config"]["Healthcheck"]["Test"], serde_json::json!(["NONE"]));
}

#[test]
fn a_final_stage_that_writes_to_the_caller_always_runs() {
    let mut image = image("");
    image.elements.push(element("last").hook("cleanup.d/90-last", "").build());
    let (world, plan) = (World::default(), image.plan());
    let stack: Vec<_> = world.stack(&plan).unwrap().into_iter().flat_map(|step| step.diff_ids).collect();
    let directory = std::path::PathBuf::from("/work");
    let surroundings = Some(Surroundings { further: vec![directory.join("out")], directory, cache: None });
    let registries = Registries::none(&world);
    let builder = Builder { surroundings, ..world.builder(&registries) };
    let steps = [builder.finish(&plan, &stack).unwrap(), builder.finish(&plan, &stack).unwrap()];
    assert_eq!(short(&steps), ["built", "built"]);
    let job = world.job("/tmp/plywood/hooks/cleanup.d/90-last");
    assert_eq!((job.cwd.as_str(), job.binds.iter().any(|bind| bind.target == "/work")), ("/work", true));
}

/// Returns an image whose base is made by dnf.
fn image_by_dnf() -> Image {
    let mut image = image("");
    let Foundation::Base { definition, .. } = &mut image.foundation else { unreachable!() };
    **definition = toml::from_str(
        "distro = 'centos'\nrelease = '9-stream'\nfamily = 'redhat'\n[source.dnf]\nreleasever = '9'\n\
         mirror = 'http://m'\npackages = ['bash', 'dnf']\nrepositories = [{ id = 'baseos', path = 'p', keys = [] }]\n",
    )
    .unwrap();
    image
}

#[test]
fn a_base_by_dnf_is_made_with_tools_that_are_built_once_and_in_no_image() {
    let (world, plan) = (World::default(), image_by_dnf().plan());
    let steps = world.stack(&plan).unwrap();
    assert_eq!(found(&steps)[0], "base:debian-bookworm built");
    assert!(steps.iter().all(|step| step.name != StepName::Tools));
    let normalize = "/run/plywood/bin/rpm-normalize /tmp/plywood/mnt";
    let jobs = world.take_jobs();
    let tools = "bootstrap bookworm bookworm-updates bookworm-security";
    assert_eq!(jobs[..4], [tools, "dnf-index bash dnf", "dnf-install bash dnf", normalize]);
    assert!(world.stack(&plan).unwrap().iter().all(|step| step.found.is_some()));
    assert!(world.take_jobs().is_empty());
}

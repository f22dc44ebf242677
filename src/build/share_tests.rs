//! Tests of steps that machines share through a registry: which are used, and which are refused.

use std::collections::BTreeSet;

use super::fake::World;
use super::fake_registry::Shelf;
use super::*;
use crate::element::fixture::element;
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest};
use crate::plan::fixture::Image;
use crate::plan::{Found, Plan};
use crate::port::RemoteCache;
use crate::share::StepKey;
use crate::trust::{Policy, Requirement, SigningKey};

/// Returns an image of two elements. The hook of the upper one has this text.
fn image(text: &str) -> Image {
    let hook = |name: &str, text: &str| element(name).hook(&format!("install.d/50-{name}"), text).build();
    Image { elements: vec![hook("low", ""), hook("top", text)], ..Image::bare() }
}

/// A machine with its store, its trusted keys and its signing key.
struct Machine {
    world: World,
    policy: Policy,
    key: Option<SigningKey>,
}

impl Machine {
    fn new() -> Self {
        Self { world: World::default(), policy: Policy::default(), key: None }
    }

    /// Returns a machine that signs with a key, and trusts only this key.
    fn with_key(seed: u8) -> Self {
        let key = SigningKey::new([seed; 32]);
        let policy = Policy { keys: [key.public()].into(), requirement: Requirement::Required };
        Self { policy, key: Some(key), ..Self::new() }
    }

    fn registries<'a>(&'a self, shelf: &'a Shelf) -> Registries<'a> {
        Registries::new(vec![shelf], self.policy.clone(), &self.world)
    }

    /// Builds all steps. Returns how each step was found, as `name found`.
    fn build(&self, plan: &Plan, shelf: &Shelf) -> Vec<String> {
        found(&self.steps(plan, shelf))
    }

    fn steps(&self, plan: &Plan, shelf: &Shelf) -> Vec<BuiltStep> {
        let registries = self.registries(shelf);
        let builder = self.world.builder(&registries);
        let mut steps = builder.stack(plan).unwrap();
        let stack: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        steps.push(builder.finish(plan, &stack).unwrap());
        steps
    }

    fn publish(&self, plan: &Plan, shelf: &Shelf) -> Publication {
        let steps = self.steps(plan, shelf);
        shelf.take_requests();
        let (policy, key) = (&self.policy, self.key.as_ref());
        let now = 1_700_000_000;
        let publisher =
            Publisher { to: shelf, blobs: &self.world, policy, key, now, damaged: BTreeSet::new() };
        publisher.publish(&self.world.ports(), plan, &steps, Encoding::Zstd).unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.world.events("warning").into_iter();
        warnings.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    fn explained(&self, plan: &Plan, shelf: &Shelf) -> Vec<String> {
        let forecasts = forecast(plan, &self.world, &self.world, &self.registries(shelf)).unwrap();
        let lines = forecasts.into_iter().map(|forecast| match forecast.outcome {
            Prospect::Hit { registry, .. } => format!("hit {}", registry.unwrap_or_default()),
            Prospect::Depends { on } => format!("depends on {on}"),
            Prospect::Miss { reasons, refused } => {
                let reasons = reasons.iter().map(ToString::to_string);
                refused.iter().map(ToString::to_string).chain(reasons).collect::<Vec<_>>().join("; ")
            }
        });
        lines.collect()
    }
}

fn found(steps: &[BuiltStep]) -> Vec<String> {
    let found = |step: &BuiltStep| match step.found {
        Some(Found::Input) => "input",
        Some(Found::Content) => "content",
        None => "built",
    };
    steps.iter().map(|step| format!("{} {}", step.name, found(step))).collect()
}

const ALL: [&str; 4] = ["base:debian-bookworm", "low", "top", "image:final"];

fn all(found: &str) -> Vec<String> {
    ALL.map(|name| format!("{name} {found}")).into()
}

/// Returns a registry repository to which `machine` has published all steps.
fn published(plan: &Plan, machine: &Machine) -> Shelf {
    let shelf = Shelf::default();
    let publication = machine.publish(plan, &shelf);
    assert_eq!((publication.steps, publication.new), (4, 4));
    shelf
}

#[test]
fn steps_of_one_machine_are_found_by_another() {
    let plan = image("").plan();
    let (a, b) = (Machine::with_key(1), Machine::with_key(1));
    let shelf = published(&plan, &a);
    shelf.take_requests();
    let steps = b.steps(&plan, &shelf);
    assert_eq!(found(&steps), all("input"));
    assert!(b.world.take_jobs().is_empty());
    assert_eq!(b.world.layers(), a.world.layers());
    let hits = b.world.events("step-hit");
    assert!(hits.iter().all(|hit| hit["from"] == "shelf/cache"), "{hits:?}");
    // One request for each step, and one for each layer.
    assert_eq!(shelf.take_requests(), [["get k"; 4], ["fetch"; 4]].concat());
    assert_eq!(b.build(&plan, &shelf), all("input"));
    assert_eq!(shelf.take_requests(), [""; 0], "the store has all steps");
}

#[test]
fn blobs_that_the_registry_has_are_not_sent_again() {
    let (plan, machine) = (image("").plan(), Machine::with_key(1));
    let shelf = published(&plan, &machine);
    assert_eq!(shelf.take_requests()[4..10], ["get i", "send", "send", "send", "send", "send"]);
    let again = machine.publish(&plan, &shelf);
    assert_eq!((again.steps, again.new), (4, 0));
    assert_eq!(shelf.take_requests(), ["get k", "get k", "get k", "get k", "get i"]);
    let changed = image("echo changed").plan();
    assert_eq!(machine.publish(&changed, &shelf).new, 1 + 1, "the element and the final stage above it");
}

#[test]
fn only_missing_steps_of_a_chain_are_fetched() {
    let plan = image("").plan();
    let shelf = published(&plan, &Machine::new());
    let b = Machine::new();
    b.world.stack(&image("echo other").plan()).unwrap();
    b.world.take_jobs();
    shelf.take_requests();
    assert_eq!(b.build(&plan, &shelf), all("input"));
    assert_eq!(
        shelf.take_requests(),
        ["get k", "get k", "fetch"],
        "all but the final stage's layer are here"
    );
}

#[test]
fn steps_above_an_unchanged_layer_are_found_by_content_in_a_registry() {
    let shelf = published(&image("").plan(), &Machine::new());
    let mut changed = image("");
    changed.elements[0] = element("low").hook("install.d/50-low", "# a comment").build();
    let b = Machine::new();
    let found = b.build(&changed.plan(), &shelf);
    assert_eq!(found, ["base:debian-bookworm input", "low built", "top content", "image:final content"]);
    assert_eq!(b.world.take_jobs(), ["install.d/50-low"]);
}

#[test]
fn a_record_without_a_trusted_signature_is_a_miss_with_a_reason() {
    let plan = image("").plan();
    let theirs = SigningKey::new([2; 32]).public();
    let ours = SigningKey::new([1; 32]).public();
    type Change = fn(&Shelf);
    let cases: [(Machine, Change, String); 4] = [
        (Machine::new(), |_| (), "it is not signed".to_owned()),
        (Machine::with_key(2), |_| (), format!("it is signed by {theirs}, which is not trusted")),
        (
            Machine::with_key(1),
            |shelf| shelf.change("k-", |manifest| manifest["layers"][0]["size"] = 1.into()),
            format!("its signature by {ours} is wrong: it was changed after it was signed"),
        ),
        (
            Machine::with_key(1),
            |shelf| shelf.change("k-", |manifest| manifest["annotations"]["plywood.signature"] = "x".into()),
            "its signature cannot be read".to_owned(),
        ),
    ];
    let expected = Machine::new().world.stack(&plan).unwrap();
    for (publisher, change, why) in cases {
        let shelf = published(&plan, &publisher);
        change(&shelf);
        shelf.all_tags().iter().filter(|tag| tag.starts_with("c-")).for_each(|tag| shelf.untag(tag));
        let b = Machine::with_key(1);
        let explained = b.explained(&plan, &shelf);
        assert!(
            explained[0].contains(&format!("the step published in `shelf/cache` is not used: {why}")),
            "{explained:?}"
        );
        assert_eq!(b.build(&plan, &shelf), all("built"), "{why}");
        let warnings = b.warnings();
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert_eq!(
            warnings[1],
            format!("step `low`: the step published in `shelf/cache` is not used: {why}")
        );
        assert_eq!(
            b.world.stack(&plan).unwrap().iter().map(|step| &step.diff_ids).collect::<Vec<_>>(),
            expected.iter().map(|step| &step.diff_ids).collect::<Vec<_>>()
        );
        // Refused steps are published again.
        assert_eq!(b.publish(&plan, &shelf).new, 4);
        assert_eq!(Machine::with_key(1).build(&plan, &shelf), all("input"));
    }
}

/// The registry returns other steps than the keys name. All of them have valid signatures.
#[test]
fn a_registry_cannot_swap_steps() {
    let (a, plan, other) = (Machine::with_key(1), image("").plan(), image("echo other").plan());
    let shelf = published(&plan, &a);
    let other_shelf = published(&other, &a);
    for (step, other) in plan.all_steps().zip(other.all_steps()) {
        let tag = |step: &crate::plan::Step| StepKey::Input(step.input_key).tag().to_string();
        shelf.put(&tag(step), other_shelf.manifest(&tag(other)).unwrap());
    }
    // The content keys still lead to the right steps.
    let found = Machine::with_key(1).build(&plan, &shelf);
    assert_eq!(found[2..], ["top content", "image:final content"]);
    // The upper step of the other image has neither key of any step of this image.
    let foreign = StepKey::Input(other.steps.last().unwrap().input_key).tag().to_string();
    for tag in shelf.all_tags().into_iter().filter(|tag| tag.starts_with("c-")) {
        shelf.put(&tag, other_shelf.manifest(&foreign).unwrap());
    }
    let b = Machine::with_key(1);
    assert!(b.explained(&plan, &shelf)[2].contains("but belongs to another key"));
    assert_eq!(b.build(&plan, &shelf)[2..], ["top built", "image:final built"]);
}

#[test]
fn a_changed_blob_is_refused_and_its_step_built() {
    let (a, plan) = (Machine::with_key(1), image("").plan());
    let shelf = published(&plan, &a);
    let low = a.world.stack(&plan).unwrap()[1].diff_ids[0];
    shelf.damage(low.digest());
    let b = Machine::with_key(1);
    let expected = ["base:debian-bookworm input", "low built", "top input", "image:final input"];
    assert_eq!(b.build(&plan, &shelf), expected);
    assert_eq!(b.world.take_jobs(), ["install.d/50-low"]);
    let warnings = b.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .starts_with("step `low`: the step published in `shelf/cache` is not used: cannot use the layer"),
        "{warnings:?}"
    );
    assert!(warnings[0].contains("is damaged"), "{warnings:?}");
}

#[test]
fn a_blob_that_a_registry_lost_is_published_again() {
    let (a, plan) = (Machine::with_key(1), image("").plan());
    let shelf = published(&plan, &a);
    let low = a.world.stack(&plan).unwrap()[1].diff_ids[0];
    let manifests = shelf.all_tags();
    shelf.lose(low.digest());
    let b = Machine::with_key(1);
    let published = b.publish(&plan, &shelf);
    assert_eq!((published.new, shelf.all_tags()), (0, manifests));
    let c = Machine::with_key(1);
    assert_eq!(c.build(&plan, &shelf), all("input"), "{:?}", c.warnings());
}

#[test]
fn a_damaged_step_is_fetched_from_the_next_registry() {
    let (a, plan) = (Machine::with_key(1), image("").plan());
    let (bad, good) = (published(&plan, &a), published(&plan, &a));
    let low = a.world.stack(&plan).unwrap()[1].diff_ids[0];
    bad.damage(low.digest());
    let b = Machine::with_key(1);
    let registries = Registries::new(vec![&bad, &good], b.policy.clone(), &b.world);
    assert_eq!(found(&b.world.builder(&registries).stack(&plan).unwrap()), all("input")[..3]);
    assert!(b.world.take_jobs().is_empty());
}

#[test]
fn an_unreachable_registry_causes_one_warning_and_is_not_asked_again() {
    let (plan, shelf, machine) = (image("").plan(), Shelf::default(), Machine::new());
    shelf.go_down();
    assert_eq!(machine.build(&plan, &shelf), all("built"));
    assert_eq!(shelf.take_requests(), ["get k"; 4]);
    assert_eq!(
        machine.warnings(),
        ["cannot reach `shelf/cache`: connection refused; steps that it may have are built here"]
    );
}

#[test]
fn a_repository_that_does_not_exist_causes_one_warning_and_is_not_asked_again() {
    let (plan, shelf, machine) = (image("").plan(), Shelf::default(), Machine::new());
    shelf.be_absent();
    assert_eq!(machine.build(&plan, &shelf), all("built"));
    assert_eq!(shelf.take_requests(), ["get k"; 4]);
    let expected =
        "the repository `shelf/cache` does not exist: nothing was published to it yet, or its name is wrong";
    assert_eq!(machine.warnings(), [expected]);
    // An existing repository without these steps is also asked for the other keys.
    let (empty, machine) = (Shelf::default(), Machine::new());
    machine.build(&plan, &empty);
    assert!(empty.take_requests().contains(&"get c".to_owned()) && machine.warnings().is_empty());
}

#[test]
fn a_build_that_fails_on_a_miss_fetches_no_layers() {
    let shelf = published(&image("").plan(), &Machine::new());
    let b = Machine::new();
    let registries = b.registries(&shelf);
    let builder = Builder { on_miss: OnMiss::Fail, ..b.world.builder(&registries) };
    shelf.take_requests();
    let error = builder.stack(&image("echo changed").plan()).unwrap_err();
    assert_eq!(error.to_string(), "step `top` of image `vm` is not in the store");
    assert!(!shelf.take_requests().contains(&"fetch".to_owned()));
    assert!(builder.stack(&image("").plan()).is_ok());
}

#[test]
fn a_miss_is_explained_by_the_last_published_steps() {
    let mut image = image("echo $DIB_X $DIB_Y");
    image.set(&[("DIB_X", "1")]);
    let shelf = published(&image.plan(), &Machine::with_key(1));
    let b = Machine::with_key(1);
    assert_eq!(b.explained(&image.plan(), &shelf), ["hit shelf/cache"; 3]);
    image.set(&[("DIB_X", "2"), ("DIB_Y", "y")]);
    let explained = b.explained(&image.plan(), &shelf);
    let old = Digest::of("variable DIB_X=1").short();
    assert_eq!(explained[2], format!("variable DIB_X changed: {old} -> 2; variable DIB_Y is new: y"));
    let stranger = Machine::with_key(2);
    assert_eq!(
        stranger.explained(&image.plan(), &shelf)[2],
        "not built yet",
        "steps of untrusted keys explain nothing"
    );
}

#[test]
fn a_huge_index_costs_one_request_for_each_step() {
    let shelf = published(&image("").plan(), &Machine::new());
    shelf.change("i-", |index| {
        let manifests = index["manifests"].as_array().unwrap();
        index["manifests"] = std::iter::repeat_n(manifests, 1000).flatten().cloned().collect();
    });
    shelf.take_requests();
    let explained = Machine::new().explained(&image("echo changed").plan(), &shelf);
    assert!(explained[2].starts_with("file install.d/50-top changed"), "{explained:?}");
    let manifests = shelf.take_requests().into_iter().filter(|request| request == "get s").count();
    assert_eq!(manifests, 3);
}

#[test]
fn a_step_with_several_layers_is_refused_unless_it_is_an_imported_base() {
    let plan = image("").plan();
    let shelf = published(&plan, &Machine::new());
    let many = |manifest: &mut serde_json::Value| {
        let config = serde_json::to_value(crate::oci::descriptor(
            "application/vnd.oci.image.config.v1+json",
            &Digest::of("{}"),
            2,
        ));
        manifest["config"] = config.unwrap();
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = vec![layer; 100].into();
    };
    ["k-", "c-"].iter().for_each(|kind| shelf.change(kind, many));
    assert_eq!(Machine::new().build(&plan, &shelf), all("built"));
}

#[test]
fn steps_that_saw_a_secret_and_all_above_are_not_published() {
    let mut image = image("echo $DIB_PASSWORD");
    image.elements.push(element("above").hook("install.d/60-above", "").build());
    image.set(&[("DIB_PASSWORD", "hunter2")]);
    let (machine, shelf) = (Machine::with_key(1), Shelf::default());
    let publication = machine.publish(&image.plan(), &shelf);
    assert_eq!((publication.steps, publication.new), (2, 2));
    let withheld = publication.withheld.unwrap();
    assert_eq!(
        (withheld.step.to_string().as_str(), withheld.secrets.as_slice()),
        ("top", ["DIB_PASSWORD".to_owned()].as_slice())
    );
    assert!(!shelf.text().contains("hunter2") && !shelf.text().contains("\"top\""), "{}", shelf.text());
}

#[test]
fn a_step_that_changes_nothing_is_shared_too() {
    let plan = image("").plan();
    let quiet = || {
        let machine = Machine::with_key(1);
        let effect = super::fake::Effect::default();
        machine.world.behave(super::fake::but_for("install.d/50-top", effect));
        machine
    };
    let shelf = published(&plan, &quiet());
    let b = quiet();
    let steps = b.steps(&plan, &shelf);
    assert_eq!((found(&steps), steps[2].diff_ids.len()), (all("input"), 0));
}

/// Imports a base of one layer into the store of `machine`. Returns its layer, its config, and the
/// plan of an image on it.
fn on_imported_base(machine: &Machine) -> (DiffId, Vec<u8>, Plan) {
    let layer = DiffId::new(Digest::of("base layer"));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    let config = serde_json::to_vec(&config).unwrap();
    machine.world.import("base layer", config.clone());
    let mut image = image("");
    image.base_mut().source =
        crate::distro::BaseSource::Stored { digest: Digest::of("manifest"), reference: None };
    (layer, config, image.plan())
}

fn base_of(machine: &Machine, plan: &Plan) -> crate::port::BaseImage {
    let store: &dyn crate::port::LayerStore = &machine.world;
    store.base_image(plan.steps[0].imported_base().unwrap(), plan.architecture).unwrap()
}

#[test]
fn a_base_of_layers_is_fetched_with_its_config() {
    let a = Machine::with_key(1);
    let (layer, config, plan) = on_imported_base(&a);
    let shelf = published(&plan, &a);
    let b = Machine::with_key(1);
    assert_eq!(b.build(&plan, &shelf), all("input"));
    let base = base_of(&b, &plan);
    assert_eq!((base.diff_ids(), base.config), (vec![layer], config));
}

#[test]
fn a_damaged_blob_of_a_base_is_an_error_that_names_the_blob() {
    let a = Machine::new();
    let (_, _, plan) = on_imported_base(&a);
    let steps = a.world.stack(&plan).unwrap();
    let (policy, blob) = (Policy::default(), base_of(&a, &plan).layers[0].blob);
    let shelf = Shelf::default();
    let publisher = Publisher {
        to: &shelf,
        blobs: &a.world,
        policy: &policy,
        key: None,
        now: 1_700_000_000,
        damaged: [blob].into(),
    };
    let error = publisher.publish(&a.world.ports(), &plan, &steps, Encoding::Zstd).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot publish `base:debian-bookworm`: `shelf/cache` holds a damaged copy of its blob {blob}"
        )
    );
}

#[test]
fn old_steps_are_pruned_and_the_others_are_found() {
    let (machine, shelf) = (Machine::with_key(1), Shelf::default());
    let (old, new) = (image("echo old").plan(), image("echo new").plan());
    machine.publish(&old, &shelf);
    machine.publish(&new, &shelf);
    let policy = crate::share::PrunePolicy { since: 1_700_000_001, keep_last: 0 };
    let pruning = Pruning::plan(&shelf, &policy).unwrap();
    assert_eq!((pruning.steps, pruning.gone.len()), (6, 2), "`top` and the final stage of the old image");
    pruning.carry_out(&shelf).unwrap();
    assert_eq!(Machine::with_key(1).build(&new, &shelf), all("input"));
    assert_eq!(Machine::with_key(1).build(&old, &shelf)[..2], all("input")[..2]);
    assert_eq!(Pruning::plan(&shelf, &policy).unwrap().gone.len(), 0);
    let recent = crate::share::PrunePolicy { since: 1_700_000_000, keep_last: 0 };
    assert_eq!(Pruning::plan(&shelf, &recent).unwrap().gone.len(), 0);
}

#[test]
fn published_tags_are_of_three_kinds() {
    let shelf = published(&image("").plan(), &Machine::new());
    let kinds: BTreeSet<_> =
        RemoteCache::tags(&shelf).unwrap().into_iter().map(|tag| tag.as_str()[..2].to_owned()).collect();
    assert_eq!(kinds, ["c-", "i-", "k-"].map(str::to_owned).into());
    RemoteCache::delete(&shelf, &Digest::of("unknown")).unwrap();
}

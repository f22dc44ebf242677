//! Pins the plan of every image in `examples/` and of every base in `layers/` as text.
//!
//! A refactoring must not change `tests/golden/`. A change of an element, an example or the planner
//! shows its effect there in a review. To accept the new texts:
//!
//! ```text
//! INSTA_UPDATE=always cargo test --test plans
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use plywood::distro::{Architecture, BaseName, BaseSource, apt, dnf};
use plywood::element::{BaseNames, Distribution, Mapping, Resolution, resolve};
use plywood::image::{ImageDefinition, ImageName};
use plywood::load;
use plywood::plan::{Foundation, Plan, Request, Seal, Step, Work, plan_image};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the sorted names in a directory of the source tree.
fn names_in(dir: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Plans an image of the project in `dir`, as the command line does.
fn plan(dir: &Path, name: &ImageName, image: &ImageDefinition) -> Plan {
    let project = load::load_project(dir).unwrap();
    let catalog = load::load_catalog(&load::element_path(dir, &project.project, &root())).unwrap();
    let base_name: BaseName = image.base.clone().expect("examples name their bases");
    let base = load::load_base(&base_name, &load::layer_path(dir, &root())).unwrap();
    let provides = base.provided_names();
    let names = BaseNames { base: base_name.as_str(), provides: &provides };
    let Resolution { elements, native, .. } =
        resolve(&catalog, &image.elements, Some(names), image.order).unwrap();
    let mut variables = base.variables(Architecture::Amd64);
    variables.extend(image.env.clone());
    plan_image(&Request {
        image: name.as_str(),
        architecture: Architecture::Amd64,
        source_date_epoch: 0,
        packages_revision: "",
        foundation: &Foundation::Base { name: base_name, definition: Box::new(base) },
        order: image.order,
        elements: &elements,
        variables: &variables,
        settings: &variables,
        sources: &BTreeMap::new(),
        native: &native,
        files: &load::load_input_files(dir, &image.files).unwrap(),
        machine: &[],
        packages: &image.packages,
        seal: &Seal::new([0; 32]),
    })
    .unwrap()
}

fn text(plan: &Plan) -> String {
    plan.steps.iter().chain([&plan.finish]).fold(String::new(), |mut text, step| {
        describe(step, &mut text);
        text
    })
}

/// Writes the name of a step, and below it its inputs from the image definition and its tasks.
fn describe(step: &Step, text: &mut String) {
    let _ = writeln!(text, "{}", step.name);
    let Work::Tasks(tasks) = &step.work else { return };
    for name in tasks.files.keys() {
        let _ = writeln!(text, "  file {name}");
    }
    if !tasks.fragments.is_empty() {
        let _ = writeln!(text, "  environment.d {}", tasks.fragments.join(" "));
    }
    for task in &tasks.list {
        let _ = writeln!(text, "  {task}");
    }
}

fn assert_golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn plans_of_examples_are_pinned() {
    for example in names_in("examples") {
        let dir = root().join("examples").join(&example);
        let project = load::load_project(&dir).unwrap();
        assert!(!project.image.is_empty(), "{example}");
        for (name, image) in &project.image {
            assert_golden(&format!("{example}-{name}"), &text(&plan(&dir, name, image)));
        }
    }
}

#[test]
fn bases_are_pinned() {
    let layers = root().join("layers");
    let names = load::load_base_names(std::slice::from_ref(&layers)).unwrap();
    assert!(!names.is_empty());
    for name in names {
        let base = load::load_base(&name, std::slice::from_ref(&layers)).unwrap();
        let words = match &base.source {
            BaseSource::Mmdebstrap(source) => apt::bootstrap(source, Architecture::Amd64, "/target"),
            BaseSource::Dnf(source) => dnf::bootstrap_install(source, "/target"),
            other => panic!("{name}: {other:?}"),
        };
        let variables = base.variables(Architecture::Amd64);
        let mut text = format!("base:{name} {}\n", base.identity());
        variables.iter().for_each(|(name, value)| text += &format!("  variable {name} = {value}\n"));
        words.iter().for_each(|word| text += &format!("  word {word}\n"));
        assert_golden(&format!("base-{name}"), &text);
    }
}

#[test]
fn packages_have_the_names_of_the_release() {
    let catalog = load::load_catalog(&[root().join("elements")]).unwrap();
    for (element, package, names) in [
        ("base", "systemd-timesyncd", [("noble", None), ("focal", None), ("xenial", Some("systemd"))]),
        (
            "dhcp-network",
            "systemd-resolved",
            [("noble", None), ("jammy", Some("systemd")), ("xenial", Some("systemd"))],
        ),
        ("growroot", "fdisk", [("noble", None), ("focal", None), ("xenial", Some("util-linux"))]),
        ("cloud-init", "netplan.io", [("noble", None), ("focal", None), ("xenial", Some("nplan"))]),
        ("kernel", "linux-image-cloud-amd64", [("noble", Some("linux-image-virtual")); 3]),
        ("kernel", "linux-image-arm64", [("noble", Some("linux-image-generic")); 3]),
    ] {
        let map = catalog.get(element).unwrap().package_map().unwrap().unwrap();
        for (release, name) in names {
            let found = match map.look_up(package, Distribution::new("ubuntu", release)) {
                Mapping::Absent => None,
                Mapping::To(names) => Some(names.join(" ")),
            };
            assert_eq!(found.as_deref(), name, "{element} {package} {release}");
        }
    }
}

//! Changes that affect a step's keys, and changes that do not.

use super::Foundation;
use super::fixture::{Image, tasks};
use super::*;
use crate::distro::Architecture;
use crate::element::fixture::element;
use crate::element::{FileKind, Mode};
use crate::oci::{ChainId, DiffId, Digest};

/// Replaces the text of an element's file, or adds the file.
fn write(image: &mut Image, owner: usize, path: &str, text: &str) {
    let digest = Digest::of(text);
    let file = crate::element::ElementFile {
        kind: FileKind::File { digest, bytes: text.len() as u64 },
        mode: image.elements[owner].files.get(path).map_or(Mode::Plain, |file| file.mode),
        text: Some(text.as_bytes().into()),
    };
    image.elements[owner].files.insert(path.to_owned(), file);
}

/// Returns the names of the steps whose own fields differ, and checks that their keys differ too.
fn changed(old: &Plan, new: &Plan, case: &str) -> Vec<String> {
    let below = ChainId::of(&[DiffId::new(Digest::of("below"))]);
    let mut changed = Vec::new();
    for (old, new) in old.all_steps().zip(new.all_steps()) {
        assert_eq!(old.name, new.name, "{case}");
        let differs = old.fields != new.fields;
        assert_eq!(old.content_key(below) != new.content_key(below), differs, "{case}: {}", new.name);
        if differs {
            changed.push(new.name.to_string());
        }
        assert_eq!(old.input_key != new.input_key, !changed.is_empty(), "{case}: {}", new.name);
    }
    changed
}

const TOOLS: usize = 0;
const WEB: usize = 1;
const LEAF: usize = 2;

type Case = (&'static str, fn(&mut Image), &'static [&'static str]);

fn assert_cases(cases: &[Case]) {
    let image = Image::full();
    let plan = image.plan();
    for (case, change, expected) in cases {
        let mut other = image.clone();
        change(&mut other);
        assert_eq!(changed(&plan, &other.plan(), case), *expected, "{case}");
    }
}

#[test]
fn an_input_of_a_step_changes_only_its_keys() {
    assert_cases(&[
        ("a hook's text", |i| write(i, LEAF, "install.d/60-leaf", "echo more"), &["leaf"]),
        ("a hook's comment", |i| write(i, LEAF, "install.d/60-leaf", "echo leaf # why"), &["leaf"]),
        ("a new file", |i| write(i, LEAF, "install.d/data", "x"), &["leaf"]),
        (
            "a file's mode",
            |i| i.elements[WEB].files.get_mut("static/etc/motd").unwrap().mode = Mode::Executable,
            &["web"],
        ),
        ("a content file", |i| write(i, WEB, "static/etc/motd", "bye\n"), &["web"]),
        ("a hook of the final stage", |i| write(i, WEB, "finalise.d/80-web", ":"), &["image:final"]),
        (
            "a package list",
            |i| write(i, WEB, "package-installs.yaml", "gcc: { build-only: true }\n"),
            &["web", "image:late"],
        ),
        (
            "a map of services",
            |i| write(i, WEB, "svc-map", "nginx: { default: nginx2 }\n"),
            &["web", "image:late"],
        ),
        (
            "an input file's content",
            |i| i.files.get_mut("web.conf").unwrap().digest = Digest::of(""),
            &["web"],
        ),
        ("a variable that a hook names", |i| i.set(&[("DIB_FINAL", "g")]), &["image:final"]),
        (
            "a variable that a tool below names",
            |i| i.set(&[("DIB_TOOL", "u")]),
            &["tools", "web", "leaf", "image:final"],
        ),
        (
            "a variable that a fragment reads",
            |i| i.set(&[("DIB_SHARED", "2")]),
            &["tools", "web", "image:late", "image:final"],
        ),
        ("a secret", |i| i.set(&[("DIB_WEB_PASSWORD", "hunter3")]), &["web"]),
        ("the seal", |i| i.seal = Seal::new([8; 32]), &["web"]),
        ("packages of the image", |i| i.packages.push("tmux".to_owned()), &["image:packages"]),
        ("the order of packages", |i| i.packages.reverse(), &["image:packages"]),
        ("the base", |i| i.base_mut().release = "trixie".to_owned(), &["base:debian-bookworm"]),
    ]);
}

#[test]
fn a_fragment_changes_only_the_layers_it_is_relevant_to() {
    assert_cases(&[
        (
            "nobody reads what it sets",
            |i| write(i, LEAF, "environment.d/60-leaf", "export DIB_LEAF=2"),
            &["leaf", "image:late", "image:final"],
        ),
        (
            "it sets what a hook of `web` reads",
            |i| write(i, LEAF, "environment.d/60-leaf", "DIB_SHARED=2"),
            &["tools", "web", "leaf", "image:late", "image:final"],
        ),
        (
            "it sets what every program may read",
            |i| write(i, LEAF, "environment.d/60-leaf", "PATH=/x"),
            &["tools", "web", "leaf", "image:late", "image:final"],
        ),
    ]);
}

#[test]
fn a_global_setting_changes_all_keys() {
    let all: &[&str] =
        &["base:debian-bookworm", "tools", "web", "leaf", "image:packages", "image:late", "image:final"];
    assert_cases(&[
        ("the packages revision", |i| i.revision = "2".to_owned(), all),
        ("the epoch", |i| i.epoch += 1, all),
        ("the architecture", |i| i.architecture = Architecture::Arm64, all),
    ]);
}

#[test]
fn an_invisible_change_changes_no_key() {
    assert_cases(&[
        ("the image's name", |i| i.name = "other".to_owned(), &[]),
        ("a README", |i| i.elements[TOOLS].readme = Some("More.".to_owned()), &[]),
        ("where an element is", |i| i.elements[WEB].root = "/elsewhere/web".into(), &[]),
        ("how an element's dependencies are declared", |i| i.elements[WEB].deps.clear(), &[]),
        ("a variable that nothing names", |i| i.set(&[("DIB_UNUSED", "v"), ("DIB_NEW", "")]), &[]),
        ("an input file that no variable names", |i| drop(i.files.remove("other.conf")), &[]),
        ("where an input file is", |i| i.files.get_mut("web.conf").unwrap().path = "/x".into(), &[]),
    ]);
    let mut renamed = Image::full();
    if let Foundation::Base { name, .. } = &mut renamed.foundation {
        *name = "elsewhere".parse().unwrap();
    }
    let keys = |plan: &Plan| plan.all_steps().map(|step| step.input_key).collect::<Vec<_>>();
    assert_eq!(keys(&renamed.plan()), keys(&Image::full().plan()), "the base's name");
}

#[test]
fn the_order_of_elements_matters_to_package_removals() {
    let plan = Image::full().plan();
    let mut other = Image::full();
    other.elements.swap(WEB, LEAF);
    let late = |plan: &Plan| plan.steps.iter().find(|step| step.name == "image:late").unwrap().fields.clone();
    assert_ne!(late(&plan), late(&other.plan()));
}

/// The view of a step's hooks, by the key's labels, equals the content of the step's tasks.
#[test]
fn hooks_see_exactly_the_inputs_in_the_key() {
    let plan = Image::full().plan();
    for step in plan.all_steps() {
        let Work::Tasks(tasks) = &step.work else { continue };
        let labelled = |prefix: &str| -> Vec<String> {
            let labels = step.fields.fields().iter().filter_map(|field| field.label.strip_prefix(prefix));
            labels.map(str::to_owned).collect()
        };
        assert_eq!(labelled("file "), tasks.hooks.keys().cloned().collect::<Vec<_>>(), "{}", step.name);
        assert_eq!(
            labelled("variable "),
            tasks.environment.keys().cloned().collect::<Vec<_>>(),
            "{}",
            step.name
        );
        assert_eq!(labelled("input file "), tasks.files.keys().cloned().collect::<Vec<_>>(), "{}", step.name);
        let shown: Vec<_> = tasks.shown.iter().map(|element| element.name.to_string()).collect();
        assert_eq!(labelled("tree of "), shown, "{}", step.name);
        assert_eq!(labelled("task ").len(), tasks.list.len(), "{}", step.name);
        for name in &tasks.fragments {
            assert!(tasks.hooks.contains_key(&format!("environment.d/{name}")), "{}: {name}", step.name);
        }
    }
}

#[test]
fn a_hook_sees_its_own_files_and_those_they_mention() {
    let plan = Image::full().plan();
    let web = tasks(&plan, "web");
    let hooks: Vec<_> = web.hooks.keys().map(String::as_str).collect();
    assert_eq!(
        hooks,
        [
            "environment.d/10-tools",
            "install.d/50-web",
            "package-installs.yaml",
            "pkg-map",
            "pre-install.d/20-sources",
            "static/etc/motd",
            "svc-map",
        ]
    );
    assert_eq!(web.fragments, ["10-tools"]);
    let variables: Vec<_> = web.environment.keys().map(String::as_str).collect();
    assert_eq!(
        variables,
        [
            "ARCH",
            "DIB_INIT_SYSTEM",
            "DIB_RELEASE",
            "DIB_TOOL",
            "DIB_WEB_FILES",
            "DIB_WEB_PASSWORD",
            "DISTRO_NAME"
        ]
    );
    assert_eq!(web.files.keys().collect::<Vec<_>>(), ["web.conf"]);
    let last = tasks(&plan, "image:final");
    let hooks: Vec<_> = last.hooks.keys().map(String::as_str).collect();
    assert_eq!(hooks, ["bin/tool", "environment.d/10-tools", "environment.d/60-leaf", "finalise.d/80-web"]);
}

#[test]
fn secrets_are_in_no_field() {
    let plan = Image::full().plan();
    for step in plan.all_steps() {
        let shown = step.fields.fields().iter().filter(|field| field.value.contains("hunter"));
        assert_eq!(shown.count(), 0, "{}", step.name);
    }
}

#[test]
fn an_image_without_elements_is_its_base() {
    let plan = Image::bare().plan();
    let names: Vec<_> = plan.all_steps().map(|step| step.name.to_string()).collect();
    assert_eq!(names, ["base:debian-bookworm", "image:final"]);
    assert_eq!(plan.finish.parent, Some(plan.steps[0].input_key));
}

#[test]
fn elements_that_cannot_be_layers_are_refused() {
    let hook = |name: &str, path: &str, text: &str| element(name).hook(path, text).build();
    let table = [
        (
            vec![hook("a", "install.d/50-x", "a"), hook("b", "install.d/50-x", "b")],
            "elements `a` and `b` both have a file `install.d/50-x`",
        ),
        (
            vec![hook("a", "finalise.d/data/x", "a"), hook("b", "finalise.d/data/x", "b")],
            "elements `a` and `b` both have a file `finalise.d/data/x`",
        ),
        (
            vec![hook("os", "root.d/10-os", "")],
            "element `os` has the hook `root.d/10-os`, but plywood builds the root file system and the disk itself",
        ),
        (
            vec![element("a").file("package-installs.yaml", "[").build()],
            "cannot use the package data of element `a`",
        ),
    ];
    for (elements, expected) in table {
        let image = Image { elements, ..Image::bare() };
        assert_eq!(image.try_plan().unwrap_err().to_string(), expected);
    }
    let same = vec![hook("a", "finalise.d/data/x", "x"), hook("b", "finalise.d/data/x", "x")];
    assert!(Image { elements: same, ..Image::bare() }.try_plan().is_ok(), "one file, whoever brings it");
    let shared = vec![hook("a", "schema.yaml", "a"), hook("b", "schema.yaml", "b")];
    let plan = Image { elements: shared, ..Image::bare() }.try_plan().unwrap();
    let owner = &tasks(&plan, "image:final").hooks["schema.yaml"];
    assert_eq!(owner.name.as_str(), "b", "of top-level files the last element's counts");
}

#[test]
fn how_hooks_are_traced_is_visible_to_them_and_in_no_key() {
    let tracing = element("e").hook("install.d/50-e", "[ ${DIB_DEBUG_TRACE:-0} = 0 ] || set -x").build();
    let plan_with = |value: &str| {
        let mut image = Image { elements: vec![tracing.clone()], ..Image::bare() };
        image.set(&[("DIB_DEBUG_TRACE", value)]);
        image.plan()
    };
    let (silent, loud) = (plan_with("0"), plan_with("1"));
    assert_eq!(tasks(&loud, "e").environment["DIB_DEBUG_TRACE"], "1");
    assert_eq!(silent.steps[1].input_key, loud.steps[1].input_key);
}

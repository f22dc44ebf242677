//! The steps of images in element order and in phase order, with and without a base.

use super::fixture::{Image, tasks};
use super::{InputFile, MachineContent, MachineFile, Plan, ResolvedSource, SourceContent, Step};
use crate::element::fixture::{Builder, element};
use crate::element::{HookOrder, Selection, SourceRequest};
use crate::oci::Digest;

/// An operating system of two elements, a leaf, an early element, a late one, and one of the final
/// stage.
fn elements() -> Vec<crate::element::Element> {
    let hooks = |name: &str, phases: &[&str]| {
        let name = name.to_owned();
        phases.iter().fold(element(&name), |built: Builder, hook| built.hook(hook, ""))
    };
    vec![
        hooks("tools", &["root.d/50-tools", "pre-install.d/10-tools", "cleanup.d/10-tools"]).build(),
        hooks("os", &["root.d/08-os", "install.d/10-os"])
            .deps(&["tools"])
            .provides(&["operating-system"])
            .file("bin/install-packages", "")
            .build(),
        hooks(
            "leaf",
            &["root.d/60-leaf", "extra-data.d/50-leaf", "pre-install.d/05-leaf", "install.d/50-leaf"],
        )
        .file("package-installs.yaml", "gcc: { build-only: true }\n")
        .build(),
        hooks("apt-sources", &["extra-data.d/99-apt-sources"]).build(),
        hooks("dkms", &["post-install.d/97-dkms"]).build(),
        hooks("element-manifest", &["extra-data.d/75-manifest"]).build(),
    ]
}

/// Returns each step with its tasks.
fn outline(plan: &Plan) -> Vec<String> {
    let steps = plan.all_steps().map(|step| {
        let list = tasks(plan, &step.name.to_string())
            .list
            .iter()
            .map(|task| format!("{}/{}", task.phase, task.name));
        format!("{}: {}", step.name, list.collect::<Vec<_>>().join(" "))
    });
    steps.collect()
}

#[test]
fn in_element_order_only_listed_hooks_leave_their_elements_step() {
    let plan = Image::of_elements("os", elements()).plan();
    let expected = [
        "root:os: root.d/08-os root.d/50-tools root.d/60-leaf root.d/set-resolver-aside",
        "image:prepare: extra-data.d/99-apt-sources pre-install.d/01-install-bin pre-install.d/10-tools",
        "os: install.d/10-os",
        "leaf: extra-data.d/50-leaf pre-install.d/05-leaf install.d/refresh-package-index \
         install.d/01-package-installs install.d/50-leaf",
        "image:late: post-install.d/95-package-uninstalls post-install.d/97-dkms",
        "image:final: extra-data.d/75-manifest cleanup.d/10-tools cleanup.d/clean-up cleanup.d/put-resolver-back",
    ];
    assert_eq!(outline(&plan), expected);
}

#[test]
fn in_phase_order_all_elements_share_each_step() {
    let mut image = Image::of_elements("os", elements());
    image.order = HookOrder::Phase;
    image.packages = vec!["vim".to_owned()];
    let expected = [
        "root:os: root.d/08-os root.d/50-tools root.d/60-leaf root.d/set-resolver-aside",
        "image:prepare: extra-data.d/50-leaf extra-data.d/75-manifest extra-data.d/99-apt-sources \
         pre-install.d/01-install-bin pre-install.d/05-leaf pre-install.d/10-tools",
        "image:install: install.d/refresh-package-index install.d/01-package-installs install.d/10-os \
         install.d/50-leaf install.d/99-package-uninstalls install.d/refresh-package-index install.d/packages",
        "image:post-install: post-install.d/97-dkms",
        "image:final: cleanup.d/10-tools cleanup.d/clean-up cleanup.d/put-resolver-back",
    ];
    assert_eq!(outline(&image.plan()), expected);
}

/// Hooks of later phases must not cause a new installation of the packages when they change.
#[test]
fn a_step_sees_no_hooks_of_phases_that_are_not_its_own() {
    let steps_with = |order, path: &str| -> Vec<String> {
        let mut image = Image::of_elements("os", elements());
        image.order = order;
        let plan = image.plan();
        let sees = |step: &&Step| tasks(&plan, &step.name.to_string()).hooks.contains_key(path);
        plan.all_steps().filter(sees).map(|step| step.name.to_string()).collect()
    };
    for (order, path, expected) in [
        (HookOrder::Element, "root.d/60-leaf", vec!["root:os"]),
        (HookOrder::Element, "extra-data.d/50-leaf", vec!["leaf"]),
        (HookOrder::Element, "extra-data.d/99-apt-sources", vec!["image:prepare"]),
        (HookOrder::Element, "post-install.d/97-dkms", vec!["image:late"]),
        (HookOrder::Element, "bin/install-packages", vec!["root:os", "image:prepare", "os", "image:final"]),
        (HookOrder::Phase, "post-install.d/97-dkms", vec!["image:post-install"]),
        (HookOrder::Phase, "install.d/50-leaf", vec!["image:install"]),
    ] {
        assert_eq!(steps_with(order, path), expected, "{path}");
    }
}

#[test]
fn hooks_that_call_get_image_element_array_depend_on_all_elements() {
    let asking =
        element("asking").hook("extra-data.d/50-x", "eval declare -A e=($(get_image_element_array))");
    let inside = element("inside").hook("install.d/50-x", "echo $IMAGE_ELEMENT_YAML");
    let plan = Image { elements: vec![asking.build(), inside.build()], ..Image::bare() }.plan();
    let shown = |step: &str| tasks(&plan, step).shown.len();
    assert_eq!((shown("asking"), shown("inside")), (2, 0));
}

#[test]
fn hooks_on_the_host_see_the_host_files_they_mention() {
    let element = element("local")
        .hook("extra-data.d/62-key", "cat ~/.ssh/authorized_keys")
        .hook("install.d/62-key", "echo $DIB_KEY $DIB_OTHER");
    let file = |mention: &str, place: &str| MachineFile {
        place: place.to_owned(),
        mention: mention.to_owned(),
        content: MachineContent::Input(InputFile {
            path: place.into(),
            digest: Digest::of(place),
            is_executable: false,
            content: None,
        }),
    };
    let machine = vec![file(".ssh", "/root/.ssh/authorized_keys"), file("DIB_KEY", "/srv/key")];
    let plan = Image { elements: vec![element.build()], machine, ..Image::bare() }.plan();
    let seen: Vec<_> = tasks(&plan, "local").machine.keys().map(String::as_str).collect();
    assert_eq!(seen, ["/root/.ssh/authorized_keys"]);
    let step = plan.steps.iter().find(|step| step.name == "local").unwrap();
    let mut labels = step.fields.fields().iter().map(|field| field.label.as_str());
    assert!(labels.any(|label| label == "machine file /root/.ssh/authorized_keys"));
}

#[test]
fn the_boot_loader_has_its_packages_in_its_own_step_and_its_work_in_the_final_stage() {
    for (order, step) in [(HookOrder::Element, "bootloader"), (HookOrder::Phase, "image:install")] {
        let loader =
            element("bootloader").hook("finalise.d/50-bootloader", "grub-install $IMAGE_BLOCK_DEVICE");
        let other = element("other").hook("finalise.d/50-other", "");
        let plan = Image { elements: vec![loader.build(), other.build()], order, ..Image::bare() }.plan();
        let texts = |step| tasks(&plan, step).list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let packages = "install.d/50-bootloader-packages install packages of the boot loader";
        assert_eq!(texts(step), ["install.d/refresh-package-index refresh package indices", packages]);
        let last = ["finalise.d/50-bootloader install boot loader", "finalise.d/50-other hook"];
        assert_eq!(texts("image:final")[..2], last);
    }
}

#[test]
fn hooks_see_the_files_of_other_elements_they_mention() {
    let functions = element("functions").file("install.d/functions.sh", ". $(dirname $0)/more.sh\n");
    let elements = vec![
        element("os").hook("root.d/08-os", "").provides(&["operating-system"]).build(),
        element("collector")
            .hook("install.d/90-collect", "cp -r $(dirname $0)/../templates.d /etc\n")
            .build(),
        element("plain").hook("install.d/50-plain", "echo /templates.d\n").build(),
        element("user").hook("install.d/50-user", "#!/bin/bash\nsource $(dirname $0)/functions.sh\n").build(),
        functions.file("install.d/more.sh", "echo $DIB_MORE").build(),
        element("data")
            .file("templates.d/data", "data\n")
            .file("top.conf", "x\n")
            .file(
                "environment.d/10-data",
                "source $(dirname ${BASH_SOURCE[0]})/../top.conf\nexport DIB_MORE=1\n",
            )
            .hook("install.d/50-data", "")
            .build(),
    ];
    let plan = Image::of_elements("os", elements).plan();
    for (step, expected) in [
        ("collector", "install.d/90-collect templates.d/data"),
        ("plain", "install.d/50-plain"),
        ("user", "install.d/50-user install.d/functions.sh install.d/more.sh"),
    ] {
        let seen = tasks(&plan, step)
            .hooks
            .keys()
            .filter(|path| !["environment.d/10-data", "top.conf"].contains(&path.as_str()));
        assert_eq!(seen.cloned().collect::<Vec<_>>().join(" "), expected, "{step}");
    }
    let user = tasks(&plan, "user");
    assert!(user.hooks.contains_key("environment.d/10-data") && user.hooks.contains_key("top.conf"));
}

/// Else the step would have a task whose hook is missing.
#[test]
fn a_hook_of_an_install_type_is_in_the_step_of_its_slot() {
    let web = element("web")
        .hook("install.d/40-own", "")
        .hook("install.d/web-source-install/60-build", "make")
        .hook("install.d/web-source-install/90-index", "ls")
        .hook("install.d/90-index", "replaced")
        .slots("install.d/90- late");
    let plan = Image { elements: vec![web.build()], ..Image::bare() }.plan();
    for (step, list, links) in [
        ("web", "install.d/40-own install.d/60-build", "install.d/60-build install.d/90-index"),
        ("image:late", "install.d/90-index", "install.d/90-index"),
    ] {
        let tasks = tasks(&plan, step);
        let hooks = tasks.list.iter().filter(|task| matches!(task.action, super::Action::Hook));
        let hooks: Vec<_> = hooks.map(|task| format!("{}/{}", task.phase, task.name)).collect();
        let linked: Vec<_> = tasks.links.keys().map(String::as_str).collect();
        assert_eq!((hooks.join(" ").as_str(), linked.join(" ").as_str()), (list, links), "{step}");
        assert!(tasks.hooks.contains_key("install.d/web-source-install/90-index"), "{step}");
        assert!(!tasks.hooks.contains_key("install.d/90-index"), "{step}");
    }
}

#[test]
fn sources_are_placed_in_the_order_of_their_requests() {
    let elements = vec![
        element("os").hook("root.d/08-os", "").provides(&["operating-system"]).build(),
        element("web").file("source-repository-web", "").hook("extra-data.d/98-z", "").build(),
    ];
    let mut image = Image::of_elements("os", elements);
    let source = |name: &str| ResolvedSource {
        request: SourceRequest {
            name: name.to_owned(),
            destination: format!("/opt/{name}"),
            location: "file:///x".to_owned(),
            selection: Selection::File,
        },
        content: SourceContent::File(Digest::of("x")),
        path: "/x".into(),
    };
    image.sources.insert("web".parse().unwrap(), ["outer", "inner"].map(source).into());
    let expected = "web: extra-data.d/98-source-outer extra-data.d/98-source-inner extra-data.d/98-z";
    assert_eq!(outline(&image.plan())[1], expected);
}

#[test]
fn an_image_of_the_rpm_family_has_tools_beside_its_steps() {
    let mut image = Image::bare();
    assert_eq!(image.plan().tools, None);
    let super::Foundation::Base { definition, .. } = &mut image.foundation else { unreachable!() };
    definition.family = crate::element::Family::Redhat;
    let plan = image.plan();
    let tools = plan.tools.as_ref().expect("the databases are normalized with tools");
    assert_eq!((tools.name.to_string().as_str(), tools.parent), ("tools:dnf", None));
    assert!(plan.all_steps().all(|step| step.name != tools.name));
    image.revision = "2".to_owned();
    assert_ne!(image.plan().tools.unwrap().input_key, tools.input_key);
}

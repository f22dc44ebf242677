//! Tests of one step: which jobs run, in which order, with which environment, and what is logged.

use super::fake::{Effect, World, but_for, usual};
use super::{Registries, ShellAt};
use crate::element::Phase;
use crate::element::fixture::{Builder as ElementBuilder, element};
use crate::plan::Plan;
use crate::plan::fixture::Image;
use crate::port::{Breaks, Job, Moment, Root, SandboxError, View};

fn image(elements: Vec<ElementBuilder>) -> Image {
    Image { elements: elements.into_iter().map(ElementBuilder::build).collect(), ..Image::bare() }
}

/// Returns the jobs of the steps above the base.
fn jobs(world: &World, plan: &Plan) -> Vec<String> {
    world.stack(plan).unwrap();
    let mut jobs = world.take_jobs();
    jobs.retain(|job| !job.starts_with("bootstrap"));
    jobs
}

#[test]
fn tasks_run_in_order_after_the_fragments_of_their_phase() {
    let element = element("web")
        .file("environment.d/10-web", "export DIB_X=1")
        .hook("extra-data.d/50-web", "")
        .hook("install.d/50-web", "")
        .hook("install.d/9-web", "")
        .file("static/etc/motd", "")
        .file("package-installs.yaml", "nginx:\ncurl: { arch: arm64 }\n")
        .file("pkg-map", r#"{ "default": { "nginx": "nginx-light nginx-common" } }"#);
    let world = World::default();
    assert_eq!(
        jobs(&world, &image(vec![element]).plan()),
        [
            "source /tmp/plywood/hooks/environment.d/10-web /tmp/plywood/hooks/environment.d/11-dib-install-type.bash",
            "sh -euc plywood /usr/share/pkg-map/web",
            "/tmp/plywood/hooks/extra-data.d/50-web",
            "source environment.d/10-web environment.d/11-dib-install-type.bash",
            "apt-get install nginx-light nginx-common",
            "install.d/9-web",
            "bash -euo pipefail -c copy static / u+rwX,go+rX",
            "install.d/50-web",
        ]
    );
}

#[test]
fn package_lists_without_packages_for_this_architecture_run_nothing() {
    let element = element("web").file("package-installs.yaml", "nginx: { arch: arm64 }\n");
    let (world, plan) = (World::default(), image(vec![element]).plan());
    assert_eq!(jobs(&world, &plan), [""; 0]);
    assert_eq!(world.stack(&plan).unwrap()[1].diff_ids, []);
}

#[test]
fn packages_that_only_the_build_needs_are_removed_in_the_final_stage() {
    let builder = element("builder").file("package-installs.yaml", "gcc: { build-only: true }\n");
    let above = element("above").hook("install.d/50-above", "");
    assert_eq!(
        jobs(&World::default(), &image(vec![builder, above]).plan()),
        ["apt-get install gcc", "install.d/50-above", "apt-get remove gcc"]
    );
}

#[test]
fn a_hook_has_the_variables_of_its_key_and_those_that_fragments_set() {
    let element = element("web")
        .file("environment.d/10-web", "export DIB_FROM_FRAGMENT=1")
        .hook("install.d/50-web", "echo $DIB_NAMED");
    let mut image = image(vec![element]);
    image.set(&[("DIB_NAMED", "n"), ("DIB_OTHER", "o")]);
    let world = World::default();
    world.stack(&image.plan()).unwrap();
    let job = world.job("install.d/50-web");
    assert_eq!(job.view, View::Target);
    for (name, value) in [
        ("DIB_NAMED", Some("n")),
        ("DIB_FROM_FRAGMENT", Some("1")),
        ("DIB_OTHER", None),
        ("DIB_RELEASE", Some("bookworm")),
        ("SOURCE_DATE_EPOCH", Some("1700000000")),
        ("LC_ALL", Some("C")),
        ("http_proxy", Some("http://proxy")),
        ("TARGET_ROOT", None),
    ] {
        assert_eq!(job.env.get(name).map(String::as_str), value, "{name}");
    }
}

#[test]
fn a_hook_on_the_host_has_the_path_of_the_target() {
    let element = element("web").hook("extra-data.d/50-web", "");
    let world = World::default();
    world.stack(&image(vec![element]).plan()).unwrap();
    let job = world.job("/tmp/plywood/hooks/extra-data.d/50-web");
    assert_eq!(job.view, View::Host);
    assert_eq!(job.env["TMP_MOUNT_PATH"], View::HOST_MOUNT);
    assert_eq!(job.env["TMP_HOOKS_PATH"], "/tmp/plywood/hooks");
}

#[test]
fn indices_are_fetched_once_as_long_as_they_are_fresh() {
    let hook = "apt-get -y install web";
    let elements =
        || vec![element("a").hook("install.d/50-a", hook), element("b").hook("install.d/50-b", hook)];
    let (world, plan) = (World::default(), image(elements()).plan());
    assert_eq!(
        jobs(&world, &plan),
        ["install.d/50-a", "install.d/50-b"],
        "the bootstrap has fetched the indices"
    );
    world.restart();
    let plan = Image { revision: "2".to_owned(), ..image(elements()) }.plan();
    world.builder(&Registries::none(&world)).steps(&plan, &plan.steps[1..], &[]).unwrap();
    assert_eq!(world.take_jobs(), ["apt-get update", "install.d/50-a", "install.d/50-b"]);
}

#[test]
fn an_old_apt_that_could_not_fetch_an_index_fails() {
    let (world, plan) =
        (World::default(), image(vec![element("a").hook("install.d/50-a", "apt-get -y install web")]).plan());
    world.stack(&plan).unwrap();
    world.restart();
    let prints =
        b"W: Some index files failed to download. They have been ignored, or old ones used instead.\n";
    world.behave(but_for("apt-get update", Effect { prints: prints.to_vec(), ..Effect::default() }));
    let plan =
        Image { revision: "2".to_owned(), ..image(vec![element("a").hook("install.d/50-a", "apt-get")]) };
    let plan = plan.plan();
    let error = world.builder(&Registries::none(&world)).steps(&plan, &plan.steps[1..], &[]).err().unwrap();
    assert!(error.to_string().ends_with("failed with exit status 100"), "{error}");
}

#[test]
fn indices_of_an_earlier_build_are_used_if_none_can_be_fetched() {
    let (world, plan) =
        (World::default(), image(vec![element("a").hook("install.d/50-a", "apt-get -y install web")]).plan());
    world.stack(&plan).unwrap();
    world.take_jobs();
    world.restart();
    world.behave(but_for("apt-get update", Effect { status: 100, ..Effect::default() }));
    let plan =
        Image { revision: "2".to_owned(), ..image(vec![element("a").hook("install.d/50-a", "apt-get")]) }
            .plan();
    let build =
        |world: &World| world.builder(&Registries::none(world)).steps(&plan, &plan.steps[1..], &[]).map(drop);
    assert!(build(&world).is_err(), "no indices are kept");
    world.keep_indices();
    world.take_jobs();
    build(&world).unwrap();
    assert_eq!(world.take_jobs(), ["apt-get update", "install.d/50-a"]);
    let warnings = world.events("warning");
    assert!(warnings[0]["message"].as_str().unwrap().contains("those of an earlier build"), "{warnings:?}");
}

#[test]
fn the_initramfs_is_made_once_at_the_end_of_a_step_that_needs_it() {
    let kernel = element("kernel").hook("install.d/50-kernel", "").hook("post-install.d/60-kernel", "");
    let above = element("above").hook("install.d/50-above", "");
    let world = World::default();
    world.behave(|job| Effect { asks_for_initramfs: job.argv[0].ends_with("-kernel"), ..usual(job) });
    let jobs = jobs(&world, &image(vec![kernel, above]).plan());
    assert_eq!(jobs[..2], ["install.d/50-kernel", "post-install.d/60-kernel"]);
    assert!(jobs[2].contains("initramfs"), "{jobs:?}");
    assert_eq!(jobs[3..], ["install.d/50-above"]);
}

#[test]
fn secrets_are_in_no_log_and_no_event() {
    let element = element("web")
        .file("environment.d/10-web", "export DIB_WEB_PASSWORD")
        .hook("install.d/50-web", "set -x; login $DIB_WEB_PASSWORD");
    let mut image = image(vec![element]);
    image.set(&[("DIB_WEB_PASSWORD", "hunter2")]);
    let world = World::default();
    let prints = b"+ login hunter2\n".to_vec();
    world.behave(but_for("install.d/50-web", Effect { prints, ..Effect::default() }));
    world.stack(&image.plan()).unwrap();
    let logs = world.logs();
    assert_eq!(logs["vm/web/install.d-50-web"], "+ login ***\n");
    assert_eq!(
        logs["vm/web/install.d-environment.d"], "+ export\n",
        "the environment of the fragment is not logged"
    );
    assert_eq!(world.job("install.d/50-web").env["DIB_WEB_PASSWORD"], "hunter2");
    let lines = world.events("task-output");
    assert!(!lines.is_empty() && lines.iter().all(|line| !line.to_string().contains("hunter")), "{lines:?}");
}

/// The output of a progress bar, or of a binary, has very long lines. They are cut.
#[test]
fn a_secret_across_the_cut_of_a_long_line_is_in_no_log_and_no_event() {
    const SECRET: &str = "correct-horse-battery";
    const CUT: usize = 64 << 10;
    for before in CUT - SECRET.len() - 1..=CUT {
        let element = element("web")
            .file("environment.d/10-web", "export DIB_WEB_PASSWORD")
            .hook("install.d/50-web", "x");
        let mut image = image(vec![element]);
        image.set(&[("DIB_WEB_PASSWORD", SECRET)]);
        let world = World::default();
        let prints = ["x".repeat(before), SECRET.repeat(2), "y".repeat(CUT)].concat().into_bytes();
        world.behave(but_for("install.d/50-web", Effect { prints, ..Effect::default() }));
        world.stack(&image.plan()).unwrap();
        let log = &world.logs()["vm/web/install.d-50-web"];
        assert_eq!(*log, ["x".repeat(before), "******".to_owned(), "y".repeat(CUT)].concat(), "{before}");
        let lines = world.events("task-output");
        let lines: Vec<_> = lines.iter().filter_map(|event| event["line"].as_str()).collect();
        assert!(
            lines.concat().contains("x******y") && lines.iter().all(|line| line.len() <= CUT + 2),
            "{before}"
        );
    }
}

#[test]
fn an_incomplete_environment_is_an_error() {
    let failed = |prints: &[u8], status: i32| {
        let element = element("web").file("environment.d/10-web", "").hook("install.d/50-web", "");
        let world = World::default();
        let effect = Effect { prints: prints.to_vec(), status, ..Effect::default() };
        world.behave(but_for("source environment.d/10-web environment.d/11-dib-install-type.bash", effect));
        let error = world.stack(&image(vec![element]).plan()).unwrap_err();
        assert!(!world.recorded().contains("web"));
        error.to_string()
    };
    assert_eq!(
        failed(b"+ false\n", 1),
        "environment.d of phase `install.d` failed with exit status 1 in step `web`"
    );
    assert_eq!(
        failed(b"+ exit 0\n", 0),
        "environment.d of phase `install.d` failed with exit status 0 in step `web`"
    );
}

#[test]
fn a_failed_task_of_plywood_is_named() {
    let element = element("web").file("package-installs.yaml", "nginx:\n");
    let world = World::default();
    world.behave(but_for("apt-get install nginx", Effect { status: 100, ..Effect::default() }));
    let error = world.stack(&image(vec![element]).plan()).unwrap_err();
    assert_eq!(error.to_string(), "`01-package-installs` of step `web` failed with exit status 100");
}

#[test]
fn an_endless_line_is_cut() {
    let element = element("web").hook("install.d/50-web", "");
    let world = World::default();
    world.behave(but_for("install.d/50-web", Effect { prints: vec![b'#'; 200_000], ..Effect::default() }));
    world.stack(&image(vec![element]).plan()).unwrap();
    assert_eq!(world.logs()["vm/web/install.d-50-web"].len(), 200_000);
    let lines = world.events("task-output");
    assert!(lines.iter().all(|line| line["line"].as_str().unwrap().len() < 70_000), "{}", lines.len());
}

#[test]
fn a_shell_sees_what_the_hooks_of_a_step_see() {
    let elements = vec![
        element("low").hook("install.d/50-low", ""),
        element("web").hook("install.d/50-web", "echo $DIB_NAMED"),
    ];
    let mut image = image(elements);
    image.set(&[("DIB_NAMED", "n")]);
    let (world, plan) = (World::default(), image.plan());
    world.stack(&plan).unwrap();
    world
        .builder(&Registries::none(&world))
        .shell(&plan, ShellAt::Step(&plan.steps[2]), &["true".to_owned()])
        .unwrap();
    assert_eq!(world.job("true").env["DIB_NAMED"], "n");
    world.builder(&Registries::none(&world)).shell(&plan, ShellAt::Step(&plan.finish), &[]).unwrap();
    assert_eq!(world.take_jobs().last().map(String::as_str), Some("bash -l"));
    let error = world
        .builder(&Registries::none(&world))
        .shell(&plan, ShellAt::Step(&plan.steps[0]), &[])
        .unwrap_err();
    assert_eq!(error.to_string(), "nothing is below step `base:debian-bookworm`");
}

/// Records every moment that a build reaches.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl Breaks for Notes {
    fn await_phase(&self, phase: Phase) -> bool {
        phase == Phase::ExtraData
    }

    fn reached(
        &self,
        moment: Moment,
        _: &dyn Root,
        job: Job,
        failure: Option<&str>,
    ) -> Result<(), SandboxError> {
        assert_eq!(failure.is_some(), matches!(moment, Moment::Failed(_)));
        assert_eq!((job.view, job.argv.as_slice()), (View::Target, &["bash".to_owned()][..]));
        self.0.lock().unwrap().push(format!("{moment:?}"));
        Ok(())
    }
}

#[test]
fn a_build_reports_the_moments_of_each_phase_while_the_root_is_open() {
    let element = element("web").hook("extra-data.d/50-web", "").hook("install.d/50-web", "");
    let plan = image(vec![element]).plan();
    for (status, last) in [(0, "After(Install)"), (3, "Failed(Install)")] {
        let (world, notes) = (World::default(), Notes::default());
        world.behave(but_for("install.d/50-web", Effect { status, ..Effect::default() }));
        let registries = Registries::none(&world);
        let mut builder = world.builder(&registries);
        builder.ports.breaks = Some(&notes);
        assert_eq!(builder.stack(&plan).is_ok(), status == 0);
        let expected = ["Before(ExtraData)", "After(ExtraData)", "Before(Install)", last];
        assert_eq!(*notes.0.lock().unwrap(), expected);
        // The second build runs the step again, because a cached step would not reach the moments
        // of the awaited phase.
        notes.0.lock().unwrap().clear();
        assert_eq!(builder.stack(&plan).is_ok(), status == 0);
        assert_eq!(*notes.0.lock().unwrap(), expected);
    }
}

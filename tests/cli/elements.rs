//! Tests of `plywood elements`.

use crate::common::project::Project;

#[test]
fn elements_are_listed_shown_drawn_and_checked() {
    let project = Project::of_elements(&["one", "two"]);
    project.write("elements/two/element-deps", "one\n");
    let packages = "curl:\ngit:\n  when: DIB_X = yes\nvim:\n  uninstall: true\n  arch: amd64\n";
    project.write("elements/two/package-installs.yaml", packages);
    project.write("elements/two/static/etc/motd", "");
    project.write("elements/two/bin/tool", "");
    let list = project.run(&["elements", "list"]);
    assert!(list.stdout.lines().any(|line| line.starts_with("one ") && line.ends_with("Writes `/etc/one`.")));
    assert_eq!(
        project.run(&["elements", "show", "two"]).stdout,
        "two  Writes `/etc/two`.\n  directory: DIR/project/elements/two\n  depends on: one\n  \
         install.d: 50-two\n  static: etc/motd\n  bin: tool\n  \
         packages: curl, git (if DIB_X = yes), vim (removed, if ARCH is amd64)\n  \
         options (default; read by):\n    DIB_X (no default; package-installs.yaml)\n"
    );
    let graph = project.run(&["elements", "graph", "tiny"]);
    assert!(
        graph.stdout.starts_with("digraph") && graph.stdout.contains("\"two\" -> \"one\""),
        "{}",
        graph.stdout
    );
    let check = project.run(&["elements", "check", "two"]);
    assert_eq!((check.status, check.stderr.as_str()), (Some(0), "0 errors, 0 warnings\n"));
    project.write("elements/two/element-deps", "onee\n");
    let check = project.run(&["elements", "check", "two"]);
    assert_eq!(check.status, Some(1));
    assert_eq!(check.stdout, "error: two/element-deps: element `onee` not found: did you mean `one`?\n");
}

#[test]
fn an_element_can_set_the_slot_of_its_hooks() {
    let project = Project::of_elements(&["one", "two"]);
    project.hook("elements/one/post-install.d/95-index", "ls /etc >/etc/index");
    let steps = || {
        let plan = project.run(&["plan", "--json"]).json();
        let steps = plan["images"][0]["steps"].as_array().unwrap();
        steps.iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(steps(), ["base:debian-bookworm", "one", "two"]);

    project.write("elements/one/plywood-slots", "post-install.d/95- late  # needs the files of all\n");
    assert_eq!(steps(), ["base:debian-bookworm", "one", "two", "image:late"]);
    let show = project.run(&["elements", "show", "one"]).stdout;
    assert!(show.contains("\n  post-install.d: 95-index\n  slot late: post-install.d/95-index\n"), "{show}");
    assert_eq!(project.run(&["elements", "check", "one"]).stdout, "");

    project.write("elements/one/plywood-slots", "post-install.d/96- late\n");
    assert_eq!(
        project.run(&["elements", "check", "one"]).stdout,
        "warning: one/plywood-slots: line 1: no hook of `post-install.d` has a name that starts with `96-`\n"
    );
    let warning = "warning: element `one`: `plywood-slots`: line 1: no hook of `post-install.d` has a name that starts with `96-`\n";
    assert_eq!(project.run(&["plan"]).stderr, warning);
    assert_eq!(project.run(&["plan", "--order", "phase"]).stderr, "");

    project.write("elements/one/plywood-slots", "\npost-install.d/95- last\n");
    let plan = project.run(&["plan"]);
    assert_eq!(plan.status, Some(1));
    assert!(
        plan.stderr.contains("elements/one/plywood-slots`, line 2")
            && plan.stderr.contains("slot `last` is unknown: expected `own`, `prepare`, `late`, `final`"),
        "{}",
        plan.stderr
    );
}

#[test]
fn elements_can_be_shown_without_a_project() {
    let project = Project::of_elements(&["one"]);
    std::fs::remove_file(project.path().join("plywood.toml")).unwrap();
    let readme = "# one\n\nWrites a file that\nsays one. Nothing more.\n";
    project.write("elements/one/README.md", readme);
    project.write("elements/one/environment.d/10-one", "export DIB_ONE_PORT=${DIB_ONE_PORT:-80}\n");
    project.hook("elements/one/install.d/50-one", "echo $DIB_ONE_PORT $DIB_ONE_KEY >/etc/one");
    project.write("others/one/README.md", "# one\n\nAnother.\n");
    project.hook("elements/one/test-elements/builds/install.d/50-x", "true");
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        let path = ["elements", "others"].map(|name| project.path().join(name).display().to_string());
        command.env("ELEMENTS_PATH", path.join(":")).env_remove("VIRTUAL_ENV");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let dir = project.path().canonicalize().unwrap().display().to_string();
        String::from_utf8(output.stdout).unwrap().replace(&dir, "DIR")
    };
    let list = run(&["elements", "list"]);
    let line = list.lines().find(|line| line.starts_with("one ")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words.join(" "), "one DIR/elements/one Writes a file that says one. (hides DIR/others/one)");
    assert!(list.contains("\nopenssh-server "), "plywood's own elements are missing: {list}");
    let show = run(&["elements", "show", "one"]);
    assert_eq!(
        show,
        "one  Writes a file that says one.\n  directory: DIR/elements/one\n  hides: DIR/others/one\n  \
         install.d: 50-one\n  environment.d: 10-one\n  options (default; read by):\n    \
         DIB_ONE_KEY (no default; install.d/50-one)\n    \
         DIB_ONE_PORT (80; environment.d/10-one, install.d/50-one)\n"
    );
    run(&["elements", "check", "one"]);
}

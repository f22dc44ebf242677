//! Tests of imported images, and of the lists of images in a store.

use std::process::Command;

use crate::common::project::Project;

/// Writes an archive of a root file system with one file beside the project. Returns its path.
fn root_archive(project: &Project) -> String {
    project.write("root/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
    let archive = project.path().join("root.tar").display().to_string();
    let root = project.path().join("root");
    let made = Command::new("tar").args(["-cf", &archive, "-C"]).arg(root).arg(".").status().unwrap();
    assert!(made.success());
    archive
}

#[test]
fn imported_bases_are_listed_and_removed_by_name_or_digest() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    let import = || {
        let import = project.run(&["import", &archive, "own"]);
        assert_eq!(import.status, Some(0), "{}", import.stderr);
        let listed = project.run(&["store", "images", "--json"]).json();
        assert_eq!(listed["version"], 1);
        assert_eq!(listed["images"].as_array().unwrap().len(), 1, "{listed}");
        // A collection keeps everything from the second in which it starts.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        listed["images"][0].clone()
    };
    let blobs = || std::fs::read_dir(project.store().join("blobs/sha256")).unwrap().count();
    for word in ["name", "digest"] {
        let image = import();
        assert!(blobs() >= 3, "a layer, a config and a manifest");
        let images = project.run(&["store", "images"]).stdout;
        assert!(images.starts_with(image["name"].as_str().unwrap()), "{images}");
        let removed = project.run(&["store", "rm", image[word].as_str().unwrap()]);
        assert_eq!(removed.status, Some(0), "{}", removed.stderr);
        assert!(
            removed.stdout.starts_with("removed base/") && removed.stdout.contains("\nfreed "),
            "{}",
            removed.stdout
        );
        assert_eq!((blobs(), project.run(&["store", "images"]).stdout.as_str()), (0, ""));
    }
    // By its name in the project.
    import();
    assert_eq!(project.run(&["store", "rm", "own"]).status, Some(0));
    let run = project.run(&["store", "rm", "own"]);
    assert_eq!(run.status, Some(1));
    assert!(
        run.stderr.contains("has no image `own`") && run.stderr.contains("store images"),
        "{}",
        run.stderr
    );
}

#[test]
fn an_import_warns_about_a_name_of_plywoods_own_bases() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    let import = |name: &str| {
        let run = project.run(&["import", &archive, name]);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        run.stderr
    };
    assert!(import("debian-bookworm").contains("warning: plywood has its own base `debian-bookworm`"));
    assert_eq!(import("debian-bookworm"), "", "the project already has its own base");
    assert_eq!(import("own"), "");
}

/// Gives the only image of the project's store a second name.
fn name_again(project: &Project, name: &str) {
    let path = project.store().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut again = index["manifests"][0].clone();
    again["annotations"]["org.opencontainers.image.ref.name"] = name.into();
    index["manifests"].as_array_mut().unwrap().push(again);
    std::fs::write(&path, index.to_string()).unwrap();
}

#[test]
fn removing_one_of_several_names_of_an_image_keeps_the_others() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    name_again(&project, "localhost:15999/team/web:1");
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    let definition = std::fs::read_to_string(project.path().join("layers/own.toml")).unwrap();
    assert!(!definition.contains("reference"), "its files were imported, not a name: {definition}");
    let images = || project.run(&["store", "images", "--json"]).json()["images"].clone();
    let digest = images()[0]["digest"].as_str().unwrap().to_owned();
    let run = project.run(&["store", "rm", &digest]);
    assert_eq!(run.status, Some(1));
    let names = format!("has several names: `base/{}`, `localhost:15999/team/web:1`", &digest[7..]);
    assert!(run.stderr.contains(&names), "{}", run.stderr);
    let run = project.run(&["store", "rm", "own", "--force", "--json"]).json();
    assert_eq!(run["removed"], serde_json::json!([format!("base/{}", &digest[7..])]));
    assert_eq!(images()[0]["name"], "localhost:15999/team/web:1");
    assert_eq!(project.run(&["store", "rm", &digest]).status, Some(0));
}

#[test]
fn a_collection_that_cannot_meet_its_limit_fails_and_names_the_images() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    assert_eq!(project.run(&["store", "gc", "--max-size", "1M"]).status, Some(0));
    let run = project.run(&["store", "gc", "--max-size", "1K"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stdout.contains("removed 0 records"), "{}", run.stdout);
    assert!(run.stderr.contains("the limit of 1.0 kB is less than the size of imported and pulled images, which `store gc` keeps: `base/"), "{}", run.stderr);
    assert!(run.stderr.contains("plywood store rm NAME"), "{}", run.stderr);
}

#[test]
fn an_unreadable_index_is_named_and_set_aside_by_a_check() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    let index = project.store().join("index.json");
    std::fs::write(&index, "{").unwrap();
    let run = project.run(&["store", "images"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("the store's index `DIR/store/index.json` is not valid"), "{}", run.stderr);
    assert!(run.stderr.contains("store check"), "{}", run.stderr);
    let check = project.run(&["store", "check"]);
    assert_eq!(check.status, Some(1));
    assert!(check.stdout.contains("set aside; import bases"), "{}", check.stdout);
    assert_eq!(project.run(&["store", "check"]).status, Some(0));
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
}

/// Writes an archive of two images like `docker save`.
fn docker_archive(project: &Project) -> String {
    use plywood::oci::Digest;
    let layer = std::fs::read(root_archive(project)).unwrap();
    let config = |architecture: &str| {
        format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        )
    };
    project.write("saved/own.json", &config(crate::architecture()));
    project.write("saved/foreign.json", &config("pdp11"));
    std::fs::write(project.path().join("saved/layer.tar"), &layer).unwrap();
    let image = |name: &str| {
        format!(r#"{{"Config":"{name}.json","RepoTags":["img/{name}:1.0"],"Layers":["layer.tar"]}}"#)
    };
    project.write("saved/manifest.json", &format!("[{},{}]", image("own"), image("foreign")));
    let archive = project.path().join("saved.tar").display().to_string();
    let saved = project.path().join("saved");
    assert!(
        Command::new("tar").args(["-cf", &archive, "-C"]).arg(saved).arg(".").status().unwrap().success()
    );
    archive
}

#[test]
fn one_of_several_images_in_a_docker_archive_is_imported_by_its_tag() {
    let project = Project::of_elements(&["one"]);
    let archive = format!("docker-archive:{}", docker_archive(&project));
    let run = project.run(&["import", &archive, "own"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("choose one of `img/own:1.0`, `img/foreign:1.0`"), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/own:1.0"), "own"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/foreign:1.0"), "foreign"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("the image is for linux/pdp11"), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/none:1.0"), "none"]);
    assert!(run.stderr.contains("it has no image `img/none:1.0`"), "{}", run.stderr);
}

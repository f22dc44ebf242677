//! Caches in the store: what a hook writes reaches no other step, and what is damaged is not used. Needs root; some need the
//! machine's package mirror.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::project::Project;
use plywood::oci::Digest;

/// Leaves a file of the right name and size where apt looks for `hello`, and damages the package indices.
const POISON: &str = r#"
file=$(apt-cache show hello | sed -n 's,^Filename: .*/,,p')
size=$(apt-cache show hello | sed -n 's,^Size: ,,p')
head -c "$size" /dev/zero >"/var/cache/apt/archives/$file"
for list in /var/lib/apt/lists/*_*; do
    echo garbage >"$list"
done
for digest in /run/plywood/state/*.bin; do
    echo garbage >"$digest"
done
"#;

/// Returns the digests of all files below a directory.
fn digests(directory: &Path) -> BTreeMap<String, Digest> {
    let listed = Command::new("find").arg(directory).args(["-type", "f"]).output().unwrap();
    let paths = String::from_utf8(listed.stdout).unwrap();
    paths.lines().map(|path| (path.to_owned(), Digest::of(fs::read(path).unwrap()))).collect()
}

#[test]
fn what_a_hook_writes_to_packages_and_indices_reaches_no_other_image() {
    let image = "elements = [\"poison\"]\npackages = [\"hello\"]\noutputs = [\"tar\"]";
    let project = Project::new(image).with_base();
    project.hook("elements/poison/install.d/50-a", "apt-get --version");
    project.build(&[]);
    let shared = project.store().join("cache/apt");
    let before = digests(&shared);
    assert!(before.keys().any(|path| path.ends_with("hello_2.10-3_amd64.deb")), "{before:?}");

    project.hook("elements/poison/install.d/50-a", POISON);
    // Another download of the same step is kept, and the poison beside it is not.
    project.hook("elements/poison/install.d/60-a", "apt-get update\napt-get --yes install sl");
    project.build(&[]);
    let after = digests(&shared);
    let lost: Vec<_> = before.iter().filter(|(path, digest)| after.get(*path) != Some(digest)).collect();
    let changed: Vec<_> =
        lost.iter().filter(|(path, _)| !path.contains("/lists/") && !path.ends_with("verified")).collect();
    assert_eq!(changed, Vec::<&(_, _)>::new());
    assert!(after.keys().any(|path| path.contains("-sl_")), "{after:?}");
    for (path, content) in after.iter().filter(|(path, _)| path.contains("/lists/")) {
        assert_ne!(*content, Digest::of("garbage\n"), "{path}");
    }
    let archive = project.out().join("tiny.tar");
    let hello = Command::new("tar").arg("-xOf").arg(archive).arg("usr/bin/hello").output().unwrap();
    assert!(hello.stdout.starts_with(b"\x7fELF"), "{}", String::from_utf8_lossy(&hello.stderr));
}

/// Writes the same number of other bytes to a file, and puts its time back.
fn flip(path: &Path) {
    let (bytes, modified) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
    fs::write(path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// An image of three elements; the upper ones copy what the lower one wrote.
fn stacked() -> Project {
    let project = Project::of_elements(&["low", "high", "top"]).with_small_base();
    for name in ["high", "top"] {
        project.hook(&format!("elements/{name}/install.d/50-{name}"), &format!("cat /etc/low >/etc/{name}"));
    }
    project
}

/// Returns a file of the unpacked layer of the step `low`.
fn file_of_low(project: &Project) -> PathBuf {
    let diff_id = project.layers().into_iter().find(|(step, _)| step == "low").unwrap().1;
    project.store().join("snapshots").join(diff_id.trim_start_matches("sha256:")).join("etc/low")
}

fn tar(project: &Project) -> Digest {
    Digest::of(fs::read(project.out().join("tiny.tar")).unwrap())
}

#[test]
fn an_unpacked_layer_that_was_changed_is_unpacked_again() {
    let project = stacked();
    project.build(&[]);
    let expected = tar(&project);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("flipped", flip),
        ("truncated", |path| fs::write(path, "").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("removed with its directory", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
        ("joined by another", |path| fs::write(path.with_file_name("more"), "x").unwrap()),
    ];
    for (what, damage) in damages {
        let file = file_of_low(&project);
        damage(&file);
        let build = project.build(&[]);
        assert_eq!((build.made().len(), tar(&project)), (0, expected), "{what}");
        let warnings: Vec<_> = build.of("warning").map(|event| event["message"].as_str().unwrap()).collect();
        assert!(
            warnings.iter().any(|text| text.contains("was changed, and is unpacked again")),
            "{what}: {warnings:?}"
        );
        assert_eq!(fs::read_to_string(file).unwrap(), "low\n", "{what}");
        assert_eq!(project.build(&[]).of("warning").count(), 0, "{what}: mended");
    }
    // What is built on it is right, too.
    flip(&file_of_low(&project));
    project.hook("elements/top/install.d/50-top", "# again\ncat /etc/low >/etc/top");
    assert_eq!(project.build(&[]).made(), ["top"]);
    assert_eq!(tar(&project), expected);
}

#[test]
fn a_check_drops_what_was_built_on_a_wrong_layer() {
    let project = stacked();
    project.build(&[]);
    let expected = tar(&project);
    assert_eq!(project.run(&["store", "check"]).status, Some(0));
    flip(&file_of_low(&project));
    let check = project.run(&["store", "check"]);
    assert_eq!(check.status, Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("was not what its blob says"), "{}", check.stdout);
    assert_eq!(project.build(&[]).made(), ["high", "top", "image:final"]);
    assert_eq!(tar(&project), expected);
}

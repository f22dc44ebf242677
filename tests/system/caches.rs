//! Caches in the store: what a hook writes reaches no other step, and what is damaged is not used. Needs root; some need the
//! machine's package mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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

//! Builds one list of diskimage-builder's own elements with diskimage-builder, and with plywood in
//! both orders, and compares the files.
//!
//! Prints every difference, and fails for differences that are not in [`DIFFERENT`].

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::cloud_image::{ELEMENTS, VARIABLES, write_own_elements};
use crate::common::project::Project;
use crate::common::small_initramfs::{SMALL_INITRAMFS, write_small_initramfs};
use crate::common::upstream;
use plywood::oci::{Digest, HashingReader};

/// Known differences: the start of the path, and the reason. A star marks files in which also two
/// builds of diskimage-builder differ.
const DIFFERENT: [(&str, &str); 27] = [
    ("boot/initrd.img-", "* times and order of its files"),
    ("etc/dib-manifests/dib", "* order of elements; arguments and environment of the one that was called"),
    ("etc/iscsi/initiatorname.iscsi", "* random: made up at the first start"),
    ("var/cache/ldconfig/aux-cache", "* inode numbers: left out"),
    ("etc/machine-id", "* random, or a word that systemd takes for none: empty"),
    ("var/lib/dbus/machine-id", "* random: left out"),
    ("etc/fstab", "the disk's, which a tar does not have"),
    ("lost+found", "the disk's, which a tar does not have"),
    ("dev/", "the machine's devices"),
    ("proc", "left out there"),
    ("sys", "left out there"),
    ("run/", "what only a running system has: left out"),
    ("etc/resolv.conf", "the machine's: left out"),
    ("etc/group", "numbers in the order of installation; backups are left out"),
    ("etc/gshadow", "numbers in the order of installation; backups are left out"),
    ("usr/bin/ssh-agent", "its group's number, in the order of installation"),
    ("etc/passwd-", "backups are left out"),
    ("etc/shadow", "the day of the build: left out, as backups are"),
    ("etc/subuid-", "backups are left out"),
    ("etc/subgid-", "backups are left out"),
    ("var/cache/debconf/", "backups are left out; questions in the order of installation"),
    ("var/lib/dpkg/", "backups are left out; triggers in the order of installation"),
    ("var/lib/ucf/", "backups are left out"),
    ("var/lib/apt/extended_states", "in the order of installation"),
    ("var/cache/apt/archives/lock", "a lock: left out"),
    ("var/lib/systemd/catalog/database", "made again: left out"),
    ("var/log/", "logs are left out"),
];

/// Kind, mode, owner, group, and content or target of a file.
type Entry = (tar::EntryType, u32, u64, u64, String);

/// Source: PEP 552.
const PYC_HEADER_BYTES: u64 = 16;

#[test]
fn diskimage_builder_and_plywood_make_the_same_files_from_the_same_elements() {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let own = work.path().join("elements");
    write_own_elements(&own);
    write_small_initramfs(&own);
    let reference = entries(&by_diskimage_builder(work.path(), &own));
    let project = Project::new("outputs = []");
    define(&project, &own);
    let mut unknown = Vec::new();
    for order in ["element", "phase"] {
        project.build(&["--order", order]);
        let found = entries(&project.out().join("tiny.tar"));
        println!("{order} order: {} entries, diskimage-builder: {}", found.len(), reference.len());
        unknown.extend(differences(&reference, &found).map(|line| format!("{order} order: {line}")));
    }
    assert!(
        unknown.is_empty(),
        "unknown differences:
     {}",
        unknown.join("\n")
    );
}

/// Returns the elements that are compared.
fn elements() -> Vec<&'static str> {
    ELEMENTS.into_iter().chain([SMALL_INITRAMFS]).collect()
}

/// Defines the image `tiny` with diskimage-builder's elements, without a base.
fn define(project: &Project, own: &Path) {
    let variables =
        VARIABLES.map(|(name, value)| (name, value.to_owned())).into_iter().chain(upstream::mirrors());
    let env: Vec<_> = variables.map(|(name, value)| format!("{name} = {value:?}")).collect();
    let elements = elements();
    let text = format!(
        "[project]\nelements = [{own:?}, {:?}]\n[image.tiny]\nelements = {elements:?}\noutputs = [\"tar\"]\nenv = {{ {} }}\n",
        upstream::elements(),
        env.join(", ")
    );
    project.write("plywood.toml", &text);
}

/// Builds a tar with diskimage-builder, in a mount namespace. All its mounts end with the
/// namespace.
fn by_diskimage_builder(work: &Path, own: &Path) -> std::path::PathBuf {
    let tools = work.join("bin");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("sudo"), include_str!("../../src/sandbox/bin/sudo")).unwrap();
    fs::set_permissions(tools.join("sudo"), Permissions::from_mode(0o755)).unwrap();
    let programs = upstream::diskimage_builder().join("bin");
    let path = format!("{}:{}:{}", tools.display(), programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "disk-image-create", "--no-tmpfs"]);
    command.args(["-t", "tar", "-o", "reference"]).args(elements()).current_dir(work);
    command.envs(VARIABLES).envs(upstream::mirrors()).env("PATH", path);
    command
        .env("ELEMENTS_PATH", own)
        .env("TMP_DIR", work)
        .env("DIB_IMAGE_CACHE", work.join("cache"))
        .env("HOME", work);
    let run = command.output().expect("this test needs the program `unshare`");
    let log = String::from_utf8_lossy(&run.stdout);
    let tail: Vec<_> = log.lines().rev().take(40).collect();
    assert!(run.status.success(), "{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    work.join("reference.tar")
}

fn entries(archive: &Path) -> BTreeMap<String, Entry> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = name(&entry.path_bytes());
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(|link| name(&link)).unwrap_or_default();
        let facts = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let (mode, uid, gid) = facts;
        let described = match header.entry_type() {
            // The name under which tar stores a hard-linked file is random.
            tar::EntryType::Link => found[&link].clone(),
            kind if kind.is_file() => {
                if path.ends_with(".pyc") {
                    // If SOURCE_DATE_EPOCH is set, Python writes a hash of the source instead of
                    // its time.
                    std::io::copy(&mut entry.by_ref().take(PYC_HEADER_BYTES), &mut std::io::sink()).unwrap();
                }
                let mut reader = HashingReader::new(&mut entry);
                std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
                let digest: Digest = reader.finish().0;
                (tar::EntryType::Regular, mode, uid, gid, digest.short().to_owned())
            }
            kind => (kind, mode, uid, gid, link),
        };
        found.insert(path, described);
    }
    found
}

fn name(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_start_matches("./").trim_end_matches('/').to_owned()
}

/// Prints all differences, and returns the unknown ones.
fn differences<'a>(
    reference: &'a BTreeMap<String, Entry>,
    found: &'a BTreeMap<String, Entry>,
) -> impl Iterator<Item = String> {
    let names: std::collections::BTreeSet<_> = reference.keys().chain(found.keys()).collect();
    let different = names.into_iter().filter_map(move |name| match (reference.get(name), found.get(name)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(_), None) => Some((name, "missing".to_owned())),
        (None, _) => Some((name, "added".to_owned())),
        (Some(a), Some(b)) => Some((name, format!("{a:?}, now {b:?}"))),
    });
    let told = different.map(|(name, how)| {
        let known = DIFFERENT.iter().find(|(start, _)| name.starts_with(start)).map(|(_, why)| *why);
        println!("  {name}: {how} ({})", known.unwrap_or("unknown"));
        (format!("{name}: {how}"), known)
    });
    told.filter(|(_, known)| known.is_none()).map(|(line, _)| line)
}

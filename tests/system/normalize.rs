//! Tests that disks are normalized like layers, and that normalized files work at first boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::common::project::Project;

fn run(script: &str, arguments: &[&Path]) -> String {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", script, "test"]).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Unpacks the root file system of a disk, its last partition.
fn unpack_disk(raw: &Path, to: &Path) {
    let script = r#"
start=$(sfdisk --json "$1" | jq '.partitiontable.partitions | last | .start')
dd if="$1" of="$1.part" bs=1M iflag=skip_bytes skip=$((start * 512)) conv=sparse status=none
mkdir "$2" && debugfs -R "rdump / \"$2\"" "$1.part" 2>/dev/null"#;
    run(script, &[raw, to]);
}

/// A hook of the final stage that writes files that differ between builds, and files that machines
/// must not share.
const FINALISE: &str = r#"
mkdir -p /etc/ssh /var/lib/systemd /var/cache/apt/archives /srv
echo key >/etc/ssh/ssh_host_ed25519_key
echo seed >/var/lib/systemd/random-seed
echo deb >/var/cache/apt/archives/hello_2.10-3_amd64.deb
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
echo line >/var/log/build.log
echo now >/srv/now
touch -d 2100-01-01 /srv/later
touch -d 1970-01-09 /srv/old
touch /etc/passing && rm /etc/passing
printf 'ci:x:%s:0:90:7:::\n' $(($(printf '%(%s)T') / 86400)) >/srv/shadow
cp /srv/shadow /etc/shadow && rm /srv/shadow
"#;

#[test]
fn files_of_the_final_stage_are_equal_on_disks_and_in_archives() {
    let image = "elements = [\"a\"]\noutputs = [\"raw\", \"tar\"]\n[image.tiny.disk]\nfirmware = []";
    let project = Project::of_elements(&["a"]).with_small_base();
    project.define(image);
    project.hook("elements/a/finalise.d/50-a", FINALISE);
    let build = project.build(&[]);
    // No firmware must boot it, so there is no warning about booting.
    assert_eq!(build.of("warning").count(), 0);
    let (disk, archive) = (project.out().join("disk"), project.out().join("archive"));
    unpack_disk(&project.out().join("tiny.raw"), &disk);
    run(r#"mkdir "$2" && tar -xf "$1" -C "$2""#, &[&project.out().join("tiny.tar"), &archive]);
    // Files that only the disk has were written by the boot stage or by mkfs.
    fs::remove_dir(disk.join("lost+found")).unwrap();
    let list =
        r#"cd "$1" && find . -mindepth 1 ! -path ./etc/fstab -printf '%P %y %m %U:%G %T@ %l\n' | sort"#;
    assert_eq!(run(list, &[&disk]), run(list, &[&archive]));
    run(r#"diff -r --no-dereference -x fstab "$1" "$2""#, &[&disk, &archive]);
    for gone in ["etc/ssh/ssh_host_ed25519_key", "var/cache/apt/archives/hello_2.10-3_amd64.deb"] {
        assert!(!disk.join(gone).exists(), "{gone}");
    }
    assert_eq!(fs::read_to_string(disk.join("etc/machine-id")).unwrap(), "");
    assert_eq!(fs::read_to_string(disk.join("etc/shadow")).unwrap(), "ci:x:47482:0:90:7:::\n");
    let latest = run(r#"find "$1" -mindepth 1 -printf '%T@\n' | sort -n | tail -1"#, &[&disk]);
    let epoch = fs::metadata(disk.join("srv/now")).unwrap().mtime();
    assert_eq!(latest.trim().parse::<f64>().unwrap(), epoch as f64);
}

/// The files of an image whose `sshd` and certificates need keys.
const SERVICES: &str = r"
mkdir -p /usr/sbin /etc/systemd/system /usr/lib/systemd/system
touch /usr/sbin/sshd /usr/bin/ssh-keygen /usr/sbin/make-ssl-cert
echo '[Service]' >/usr/lib/systemd/system/ssh.service
";

#[test]
fn removed_keys_are_made_at_first_boot_unless_another_unit_makes_them() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let units = || {
        project.build(&[]);
        let listing = run(r#"tar -tf "$1""#, &[&project.out().join("tiny.tar")]);
        let units = listing.lines().filter_map(|line| line.split_once("etc/systemd/system/"));
        units.map(|(_, unit)| unit.to_owned()).filter(|unit| !unit.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(units(), [""; 0], "nothing needs keys");
    project.hook("elements/a/install.d/50-a", SERVICES);
    let expected = [
        "basic.target.wants/",
        "basic.target.wants/plywood-snakeoil.service",
        "multi-user.target.wants/",
        "multi-user.target.wants/plywood-ssh-host-keys.service",
        "plywood-snakeoil.service",
        "plywood-ssh-host-keys.service",
    ];
    assert_eq!(units(), expected);
    let maker =
        "echo ExecStart=/usr/libexec/openssh/sshd-keygen >/usr/lib/systemd/system/sshd-keygen@.service";
    project.hook("elements/a/install.d/50-a", &format!("{SERVICES}\n{maker}"));
    assert!(!units().concat().contains("ssh-host-keys"), "the distribution makes them");
}

//! Tests of the environment of hooks that diskimage-builder's commands run. They need root,
//! overlayfs, loop devices, cpio.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::common::work::{Work, program};

#[test]
fn manifests_are_written_beside_the_image() {
    let work = Work::new();
    work.write("../elements/web/element-deps", "manifests\n");
    work.hook(
        "web",
        "finalise.d/50-web",
        "mkdir -p \"$DIB_MANIFEST_IMAGE_DIR\"; echo web >\"$DIB_MANIFEST_IMAGE_DIR/web\"",
    );
    work.create("-n -t tar -o out/x tiny web").expect_success();
    assert_eq!(work.files("out"), ["x.d", "x.tar"]);
    assert_eq!(work.files("out/x.d/dib-manifests"), ["dib_arguments", "dib_environment", "web"]);
    assert_eq!(work.read("out/x.d/dib-manifests/web"), "web\n");
    let status = std::fs::metadata(work.path().join("out/x.d/dib-manifests/dib_environment")).unwrap();
    assert_eq!(status.permissions().mode() & 0o777, 0o644);

    let kept = work.path().parent().unwrap().join("kept");
    let elsewhere = [("DIB_MANIFEST_SAVE_DIR", kept.to_str().unwrap())];
    work.create_with("-n -t tar -o y tiny web", &elsewhere).expect_success();
    assert_eq!(work.files("."), ["out", "y.tar"]);
    assert_eq!(work.files("../kept/dib-manifests"), ["dib_arguments", "dib_environment", "web"]);
}

#[test]
fn the_use_of_space_in_an_image_is_reported_on_request() {
    let work = Work::new();
    work.hook("blob", "install.d/50-blob", "cat /bin/bash{,,,,,,,,,,,} >/var/blob");
    let report =
        |variables: &[(&str, &str)]| work.create_with("-n -t tar -o x tiny blob", variables).expect_success();
    let large = report(&[("DIB_SHOW_IMAGE_USAGE", "1")]);
    assert!(
        large.contains("\nImage size report (files > 10MiB)\n") && large.contains("MiB ./var/blob\n"),
        "{large}"
    );
    assert!(!large.contains("./etc/tiny\n"), "{large}");
    let full = report(&[("DIB_SHOW_IMAGE_USAGE", "1"), ("DIB_SHOW_IMAGE_USAGE_FULL", "1")]);
    assert!(full.contains("KiB ./etc/tiny\n"), "{full}");
}

#[test]
fn hooks_of_host_phases_can_lock_files_and_write_to_their_working_directory() {
    let work = Work::new();
    work.write("../elements/web/environment.d/10-web", "export WEB=1\n");
    let script = "exec 9>\"$DIB_LOCKFILES/web.lock\"; flock 9; echo $WEB >here; [ \"$(cat here)\" = 1 ]";
    work.hook("web", "extra-data.d/50-web", script);
    let log = work.create("-n -t tar -o x tiny web").expect_success();
    let expected = "Running hooks from /tmp/plywood/hooks/extra-data.d\n\
                    dib-run-parts Sourcing environment file /tmp/plywood/hooks/environment.d/10-web\n\
                    + source /tmp/plywood/hooks/environment.d/10-web\n\
                    ++ export WEB=1\n";
    assert!(log.contains(expected), "{log}");
    assert_eq!(work.files("."), ["here", "x.tar"]);
}

/// The hook of upstream's `ramdisk`, with fake files for kernel and busybox.
const BUILD_RAMDISK: &str = r#"
_LIB=/tmp/ramdisk-build
for file in common-defaults img-defaults ramdisk-defaults common-functions img-functions ramdisk-functions; do
    source "$_LIB/$file"
done
KERNEL_VERSION=${DIB_KERNEL_VERSION:-$(find_kernel_version)}
MODULE_DIR=$MODULE_ROOT/lib/modules/$KERNEL_VERSION
FIRMWARE_DIR=$MODULE_ROOT/lib/firmware
LIB_UDEV=$LIB_UDEV_ROOT/lib/udev
INIT=$_LIB/scripts/init
FUNCTIONS_D=$_LIB/scripts/d
BUSYBOX=${BUSYBOX:-$(type -p busybox)}
mk_build_dir
mkdir -p $TMP_BUILD_DIR/mnt
export TMP_HOOKS_PATH=/tmp TMP_MOUNT_PATH=$TMP_BUILD_DIR/mnt
create_ramdisk_base
populate_lib
populate_busybox
populate_init
populate_udev
TMP_HOOKS_PATH=/tmp/in_target.d run_d ramdisk-install
finalise_image
save_image /tmp/ramdisk
trap EXIT
cp /boot/vmlinu[zx]-$KERNEL_VERSION /tmp/kernel
"#;

/// Makes an element `ramdisk` with that hook, and with the parts of ramdisks.
fn ramdisk_element(work: &Work) {
    let programs =
        "awk basename cpio cut date dirname gzip head ldd ln mktemp mv readlink sed sort tail tr xargs";
    work.programs("ramdisk", &programs.split(' ').collect::<Vec<_>>());
    let image = r#"cd "$TARGET_ROOT"
mkdir -p boot lib/modules/6.1-1/kernel lib/udev/rules.d
for version in 6.1-1 5.10-9; do echo "kernel $version" >boot/vmlinuz-$version; done
echo module >lib/modules/6.1-1/kernel/web.ko
echo rule >lib/udev/rules.d/80-drivers.rules
printf '#!/bin/sh\nprintf "%%s\\n" sh ip lsmod modprobe wget reboot\n' >bin/busybox
for program in udevadm shutdown; do echo '#!/bin/sh' >bin/$program; done
chmod +x bin/busybox bin/udevadm bin/shutdown"#;
    work.hook("ramdisk", "root.d/30-kernel", image);
    let inject = r#"build=$TMP_MOUNT_PATH/tmp/ramdisk-build
mkdir -p $build
for file in common-defaults common-functions ramdisk-defaults ramdisk-functions img-defaults img-functions; do
    cp $_LIB/$file $build
done
cp -r $(dirname $0)/scripts $build"#;
    work.hook("ramdisk", "extra-data.d/01-inject", inject);
    work.write("../elements/ramdisk/extra-data.d/scripts/init", "#!/bin/bash\necho start\n");
    work.write("../elements/ramdisk/extra-data.d/scripts/init-end", "echo end\n");
    work.write("../elements/ramdisk/extra-data.d/scripts/d/init-func", "true\n");
    work.write("../elements/ramdisk/init.d/10-web", "echo web\n");
    work.write("../elements/ramdisk/udev.d/60-web.rules", "web\n");
    work.hook("ramdisk", "ramdisk-install.d/50-web", "echo installed >$TMP_MOUNT_PATH/installed");
    work.hook("ramdisk", "post-install.d/50-wanted", "echo ' cat grep' >/etc/dib_binary_deps");
    work.hook("ramdisk", "post-install.d/99-build-ramdisk", BUILD_RAMDISK);
    let extract = "cp $TMP_MOUNT_PATH/tmp/ramdisk $IMAGE_NAME.initramfs\ncp $TMP_MOUNT_PATH/tmp/kernel $IMAGE_NAME.kernel";
    work.hook("ramdisk", "cleanup.d/99-extract", extract);
}

#[test]
fn a_ramdisk_has_the_parts_of_all_elements() {
    let work = Work::new();
    ramdisk_element(&work);
    let run = |name: &str| {
        let words = ["-n", "-o", name, "tiny"];
        work.run("ramdisk-image-create", &words).expect_success()
    };
    let log = run("x");
    assert!(log.contains("Image file /tmp/ramdisk created..."), "{log}");
    assert_eq!(work.files("."), ["x.initramfs", "x.kernel"]);
    assert_eq!(work.read("x.kernel"), "kernel 6.1-1\n");
    let unpack = "mkdir root && gzip -dc x.initramfs | cpio -i -D root --quiet";
    let done = Command::new("bash").args(["-euc", unpack]).current_dir(work.path()).status().unwrap();
    assert!(done.success());
    let init = "#!/bin/bash\necho start\n\n# init fragment from 10-web\necho web\necho end\n";
    assert_eq!(work.read("root/init"), init);
    assert_eq!(work.read("root/lib/modules/6.1-1/kernel/web.ko"), "module\n");
    assert_eq!(work.read("root/lib/udev/rules.d/60-web.rules"), "web\n");
    assert_eq!(work.read("root/installed"), "installed\n");
    let programs = [
        "bash", "busybox", "cat", "grep", "ip", "lsmod", "modprobe", "reboot", "sh", "shutdown", "udevadm",
        "wget",
    ];
    assert_eq!(work.files("root/bin"), programs);
    let run_bash = ["root", "/bin/bash", "-c", "echo runs"];
    let bash = Command::new("chroot").args(run_bash).current_dir(work.path()).output().unwrap();
    assert_eq!(bash.stdout, b"runs\n", "{}", String::from_utf8_lossy(&bash.stderr));

    let first = std::fs::read(work.path().join("x.initramfs")).unwrap();
    std::fs::remove_dir_all(work.store()).unwrap();
    run("y");
    assert!(
        first == std::fs::read(work.path().join("y.initramfs")).unwrap(),
        "the bytes differ between two builds"
    );
}

#[test]
fn the_final_stage_runs_once_for_a_disk_and_archives() {
    let work = Work::new();
    work.hook("web", "finalise.d/50-web", "echo final >/etc/final");
    work.hook("web", "cleanup.d/50-count", "echo ran >>count");
    work.create("-n -t tar,raw,squashfs -o x tiny web").expect_success();
    assert_eq!(work.files("."), ["count", "x.raw", "x.squash", "x.tar"]);
    assert_eq!(work.read("count"), "ran\n");
    for (file, expected) in
        [("./etc/final", "final\n"), ("./etc/fstab", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n")]
    {
        let tar =
            Command::new("tar").args(["-xOf", "x.tar", file]).current_dir(work.path()).output().unwrap();
        let text = String::from_utf8(tar.stdout).unwrap();
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn hooks_can_write_to_the_disk_outside_of_its_file_systems() {
    let work = Work::new();
    work.programs("web", &["dd", "blkid"]);
    let config = "- local_loop: {name: image0}\n- partitioning:\n    base: image0\n    label: mbr\n    partitions:\n    \
                  - {name: spare, flags: [primary], size: 1MiB}\n    \
                  - {name: root, flags: [boot, primary], size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {}}}}\n";
    // Writes boot code into the gap after the MBR, and a file into a partition without a file
    // system.
    let script = r#"[ $DIB_IMAGE_SIZE = 524288 ]
eval declare -A devices=($IMAGE_BLOCK_DEVICES)
[ ${devices[image0]} = $IMAGE_BLOCK_DEVICE ]
[ "$(blkid -s LABEL -o value ${devices[root]})" = cloudimg-rootfs ]
printf boot-code | dd of=$IMAGE_BLOCK_DEVICE bs=512 seek=1 conv=notrunc
printf spare >${devices[spare]}"#;
    work.hook("web", "finalise.d/50-web", script);
    let ask = r#"ask() { $DIB_PYTHON_EXEC $_LIB/dib-block-device.py "$@"; }
[ "$(ask getval image-block-device)" = $IMAGE_BLOCK_DEVICE ]
[ "$(ask --params $DIB_BLOCK_DEVICE_PARAMS_YAML getval root-label)" = cloudimg-rootfs ]
! ask create"#;
    work.hook("web", "cleanup.d/50-web", ask);
    let root = r#"[ "$($DIB_PYTHON_EXEC $_LIB/dib-block-device.py getval mount-points)" = / ]
[ -z "${IMAGE_BLOCK_DEVICE:-}" ]"#;
    work.hook("web", "root.d/50-web", root);
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", config), ("DIB_IMAGE_SIZE", "0.5")];
    work.create_with("-n -t raw -o x tiny web", &variables).expect_success();
    let disk = std::fs::read(work.path().join("x.raw")).unwrap();
    assert_eq!(&disk[512..521], b"boot-code");
    assert_eq!(&disk[1 << 20..(1 << 20) + 5], b"spare");
}

#[test]
fn hooks_find_the_disk_also_if_only_an_archive_is_written() {
    let work = Work::new();
    work.programs("web", &["blkid"]);
    work.hook("web", "pre-finalise.d/50-web", "test -b $IMAGE_BLOCK_DEVICE");
    work.hook("web", "finalise.d/50-web", "blkid -s LABEL -o value $IMAGE_BLOCK_DEVICE >/etc/label");
    work.create("-n -t tar --root-label top -o x tiny web").expect_success();
    assert_eq!(work.files("."), ["x.tar"]);
    let label = Command::new("tar").args(["-xOf", "x.tar", "./etc/label"]).current_dir(work.path()).output();
    assert_eq!(label.unwrap().stdout, b"top\n");
}

/// Hooks that hooks of host phases create: the phase that creates them, their own phase, and their
/// name.
const MADE: [(&str, &str); 3] =
    [("install.d", "55-made"), ("post-install.d", "10-made"), ("finalise.d", "60-made")];

#[test]
fn created_hooks_and_links_run_in_both_orders_also_in_otherwise_empty_phases() {
    for order in ["element", "phase"] {
        let work = Work::new();
        let make = MADE.map(|(phase, name)| {
            format!("printf '#!/bin/bash\\necho {phase} >>/etc/made\\n' >$TMP_HOOKS_PATH/{phase}/{name}\nchmod +x $TMP_HOOKS_PATH/{phase}/{name}\n")
        });
        let link = "mkdir $TMP_HOOKS_PATH/lib; mv $TMP_HOOKS_PATH/install.d/55-made $TMP_HOOKS_PATH/lib/x\n\
                    ln -s ../lib/x $TMP_HOOKS_PATH/install.d/55-made";
        work.hook("web", "extra-data.d/50-web", &(make.concat() + link));
        work.hook("web", "install.d/50-web", "echo before >/etc/made");
        work.hook("web", "install.d/60-web", "echo after >>/etc/made");
        work.hook("other", "install.d/50-other", "true");
        work.create_with("-n -t tar -o x tiny web other", &[("PLYWOOD_ORDER", order)]).expect_success();
        let made =
            Command::new("tar").args(["-xOf", "x.tar", "./etc/made"]).current_dir(work.path()).output();
        let made = String::from_utf8(made.unwrap().stdout).unwrap();
        assert_eq!(made, "before\ninstall.d\nafter\npost-install.d\nfinalise.d\n", "{order}");
    }
}

#[test]
fn an_element_can_process_files_that_other_elements_have_in_a_directory() {
    let work = Work::new();
    work.hook("collector", "install.d/50-collect", "for part in ${0%/*}/../parts.d/*; do . $part; done");
    work.write("../elements/python3.11/parts.d/10-first", "echo first >>/etc/parts\n");
    work.write("../elements/last/parts.d/20-last", "echo last >>/etc/parts\n");
    work.write("../elements/junk/element-deps", "# no name\n");
    work.create("-n -t tar -o x tiny collector python3.11 last").expect_success();
    let parts = Command::new("tar").args(["-xOf", "x.tar", "./etc/parts"]).current_dir(work.path()).output();
    assert_eq!(parts.unwrap().stdout, b"first\nlast\n");
    let log = work.create("-n -t tar -o x tiny junk").stdout;
    assert!(log.contains("element `junk` cannot be used\n"), "{log}");
}

#[test]
fn the_build_directory_exists_from_the_first_hook_to_the_last() {
    let work = Work::new();
    let first = r#"echo root >$TMP_BUILD_DIR/root; [ $(readlink -f $TMP_BUILD_DIR/mnt) = $TARGET_ROOT ]
grep -qx 'root-label: top' $DIB_BLOCK_DEVICE_PARAMS_YAML"#;
    work.hook("web", "root.d/50-web", first);
    work.hook("web", "extra-data.d/50-web", "mkdir $TMP_BUILD_DIR/web; echo extra >$TMP_BUILD_DIR/web/data");
    work.hook("web", "install.d/50-web", "echo installed >/etc/web");
    let last = r#"cat $TMP_BUILD_DIR/root $TMP_BUILD_DIR/web/data $TMP_BUILD_DIR/mnt/etc/web >found
ls $TMP_BUILD_DIR/hooks/cleanup.d >>found"#;
    work.hook("web", "cleanup.d/50-web", last);
    for _ in 0..2 {
        work.create("-n -t tar --root-label top -o x tiny web").expect_success();
        assert_eq!(work.read("found"), "root\nextra\ninstalled\n50-web\n");
    }
    let listing = Command::new("tar").args(["-tf", "x.tar"]).current_dir(work.path()).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(!listing.lines().any(|line| line.starts_with("./tmp/") && line != "./tmp/"), "{listing}");
}

#[test]
fn mounts_of_hooks_end_before_the_final_stage_and_do_not_prevent_the_cleanup() {
    let work = Work::new();
    let mount = r#"mkdir -p $DIB_IMAGE_CACHE/web $TMP_MOUNT_PATH/tmp/$0; echo kept >$DIB_IMAGE_CACHE/web/file
mount --bind $DIB_IMAGE_CACHE/web $TMP_MOUNT_PATH/tmp/$0"#;
    for (phase, place) in [("root.d", "early"), ("pre-finalise.d", "late")] {
        work.hook("web", &format!("{phase}/50-web"), &mount.replace("$0", place));
    }
    work.hook("web", "install.d/50-web", "[ $(</tmp/early/file) = kept ]");
    work.hook("web", "finalise.d/50-web", "[ ! -e /tmp/early/file ]; [ $(</tmp/late/file) = kept ]");
    work.create("-n -t tar -o x --image-cache cache tiny web").expect_success();
    assert_eq!(work.read("cache/web/file"), "kept\n");
    let listing = Command::new("tar").args(["-tf", "x.tar"]).current_dir(work.path()).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(!listing.lines().any(|line| line.starts_with("./tmp/") && line != "./tmp/"), "{listing}");
}

#[test]
fn downloads_of_hooks_are_in_the_directory_of_the_caller() {
    let work = Work::new();
    work.hook("web", "extra-data.d/50-web", "echo loaded >$DIB_IMAGE_CACHE/web; $DIB_PYTHON_EXEC --version");
    let caller = [("DIB_IMAGE_CACHE", "elsewhere"), ("DIB_PYTHON_EXEC", "/absent/python")];
    work.create_with("-n -t tar -o x --image-cache cache/of/mine tiny web", &caller).expect_success();
    assert_eq!(work.files("."), ["cache", "x.tar"]);
    assert_eq!(work.read("cache/of/mine/web"), "loaded\n");
}

/// The variable for each order.
const ORDERS: [(&str, &str); 2] = [("PLYWOOD_ORDER", "element"), ("PLYWOOD_ORDER", "phase")];

/// Returns the text of a file in a tar; empty if the file is missing.
fn in_tar(work: &Work, tar: &str, file: &str) -> String {
    let tar = Command::new("tar").args(["-xOf", tar, file]).current_dir(work.path()).output().unwrap();
    String::from_utf8(tar.stdout).unwrap()
}

#[test]
fn added_hooks_run_once_and_added_fragments_are_sourced_from_then_on() {
    let work = Work::new();
    work.programs("web", &["env"]);
    let add = r#"for phase in extra-data pre-install install post-install finalise; do
    mkdir -p $TMP_HOOKS_PATH/$phase.d
    printf '#!/bin/sh\necho added-%s $DIB_ADDED >>/etc/ran\n' $phase >$TMP_HOOKS_PATH/$phase.d/60-added-$phase
    chmod 0755 $TMP_HOOKS_PATH/$phase.d/60-added-$phase
done
mkdir -p $TMP_HOOKS_PATH/environment.d
echo 'export DIB_ADDED=sourced' >$TMP_HOOKS_PATH/environment.d/60-added"#;
    work.hook("web", "extra-data.d/50-web", add);
    work.hook("web", "install.d/70-web", "echo web >>/etc/ran");
    work.hook("web", "post-root.d/50-web", "true");
    work.hook("other", "install.d/50-other", "echo other $DIB_ADDED >>/etc/ran");
    work.hook("other", "cleanup.d/50-other", "[ $DIB_ADDED = sourced ]");
    for (order, expected) in ORDERS.into_iter().zip([
        "added-pre-install sourced\nadded-install sourced\nweb\nadded-post-install sourced\nother sourced\nadded-finalise sourced\n",
        "added-pre-install sourced\nother sourced\nadded-install sourced\nweb\nadded-post-install sourced\nadded-finalise sourced\n",
    ]) {
        work.create_with("-n -t tar -o x tiny web other", &[order]).expect_success();
        assert_eq!(in_tar(&work, "x.tar", "./etc/ran"), expected, "{order:?}");
    }
}

#[test]
fn hooks_find_the_data_of_all_elements_in_one_directory_in_every_phase() {
    let work = Work::new();
    work.programs("web", &["dirname"]);
    work.write("../elements/web/sites.d/web", "web\n");
    work.write("../elements/web/web.conf", "conf\n");
    work.write("../elements/other/sites.d/other", "other\n");
    let look = r#"hooks=$(dirname $0)/..
[ "$(cat $hooks/sites.d/web $hooks/sites.d/other $hooks/web.conf)" = "web
other
conf" ]"#;
    for phase in ["extra-data.d", "install.d", "pre-finalise.d", "finalise.d", "cleanup.d"] {
        work.hook("other", &format!("{phase}/50-other"), look);
    }
    for order in ORDERS {
        work.create_with("-n -t tar -o x tiny web other", &[order]).expect_success();
    }
}

#[test]
fn a_hook_can_replace_the_resolver_configuration() {
    let work = Work::new();
    work.programs("web", &["ln", "mv"]);
    work.hook("tiny", "root.d/30-resolver", "echo nameserver 192.0.2.1 >$TARGET_ROOT/etc/resolv.conf");
    let link = "ln -sf /run/NetworkManager/resolv.conf /etc/resolv.conf";
    for (phase, script, expected) in [
        ("install.d", link, "link"),
        ("finalise.d", link, "link"),
        ("install.d", "echo mine >/etc/new; mv /etc/new /etc/resolv.conf", "mine\n"),
        ("install.d", "echo mine >/etc/resolv.conf", "mine\n"),
        ("finalise.d", "echo mine >/etc/resolv.conf", "mine\n"),
        ("finalise.d", "echo search example.org >>/etc/resolv.conf", "search example.org\n"),
        ("install.d", "cat /etc/resolv.conf >/dev/null", "nameserver 192.0.2.1\n"),
        ("install.d", "echo nameserver 192.0.2.2 >/etc/resolv.conf.ORIG", "nameserver 192.0.2.2\n"),
        ("install.d", "rm /etc/resolv.conf", "nameserver 192.0.2.1\n"),
    ] {
        let _ = std::fs::remove_dir_all(work.path().join("../elements/web/install.d"));
        let _ = std::fs::remove_dir_all(work.path().join("../elements/web/finalise.d"));
        work.hook("web", &format!("{phase}/50-web"), script);
        work.create("-n -t tar -o x tiny web").expect_success();
        let listing = Command::new("tar").args(["-tvf", "x.tar"]).current_dir(work.path()).output().unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        let is_link = listing.contains("./etc/resolv.conf -> /run/NetworkManager/resolv.conf");
        let found = if is_link { "link".to_owned() } else { in_tar(&work, "x.tar", "./etc/resolv.conf") };
        assert_eq!(found, expected, "{phase}: {script}");
        assert!(!listing.contains("resolv.conf.ORIG"), "{listing}");
    }
}

#[test]
fn programs_of_hooks_can_import_modules_of_diskimage_builder() {
    let work = Work::new();
    work.write("../elements/web/element-deps", "lib\n");
    work.write("../elements/lib/README.rst", "Nothing.\n");
    let script = r#"elements=$($DIB_PYTHON_EXEC - <<'END'
import os
from diskimage_builder import logging_config
from diskimage_builder.element_dependencies import get_elements
logging_config.setup()
print(*[name for name, path in get_elements(["web"]) if os.path.isdir(path)])
END
)
[ "$elements" = "lib web" ]
[ "$($DIB_PYTHON_EXEC $_LIB/element-info.py tiny web)" = "lib tiny web" ]
eval "$($DIB_PYTHON_EXEC $_LIB/element-info.py --env tiny web)"
[ "$IMAGE_ELEMENT" = "lib tiny web" ]
eval declare -A paths=($(get_image_element_array))
[ -f ${paths[web]}/element-deps ]"#;
    work.hook("web", "extra-data.d/50-web", script);
    work.create("-n -t tar -o x tiny web").expect_success();
}

#[test]
fn logs_anywhere_below_the_home_of_root_are_removed() {
    let work = Work::new();
    let script = "mkdir -p /root/below; touch /root/a.log /root/below/b.log /root/below/kept";
    work.hook("web", "install.d/50-web", script);
    work.create("-n -t tar -o x tiny web").expect_success();
    let listing =
        Command::new("tar").args(["-tf", "x.tar", "./root"]).current_dir(work.path()).output().unwrap();
    assert_eq!(String::from_utf8(listing.stdout).unwrap(), "./root/\n./root/below/\n./root/below/kept\n");
}

#[test]
fn files_of_elements_reach_an_image_that_has_no_tar_and_go_through_its_symlinks() {
    let work = Work::new();
    work.hook(
        "web",
        "root.d/30-web",
        "mkdir -p \"$TARGET_ROOT/opt\" \"$TARGET_ROOT/usr/local/bin\"; ln -s opt \"$TARGET_ROOT/srv\"",
    );
    work.hook("web", "bin/web-tool", "echo web");
    work.write("../elements/web/static/srv/a name/page", "page\n");
    work.write("../elements/web/element-deps", "install-bin\ninstall-static\n");
    symlink("a name", work.path().join("../elements/web/static/srv/link")).unwrap();
    work.hook("web", "install.d/50-web", "web-tool >/etc/web\ncat '/srv/a name/page' >>/etc/web");
    work.create("-n -t tar -o x tiny web").expect_success();
    let listing =
        program("tar", &["-tvf", "x.tar", "./srv", "./opt", "./usr/local/bin/web-tool"], &work.path());
    let lines: Vec<_> = listing.lines().map(|line| (&line[..10], line.split("./").nth(1).unwrap())).collect();
    let expected = [
        ("drwxr-xr-x", "opt/"),
        ("drwxr-xr-x", "opt/a name/"),
        ("-rw-r--r--", "opt/a name/page"),
        ("lrwxrwxrwx", "opt/link -> a name"),
        ("lrwxrwxrwx", "srv -> opt"),
        ("-rwxr-xr-x", "usr/local/bin/web-tool"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(program("tar", &["-xOf", "x.tar", "./etc/web"], &work.path()), "web\npage\n");
}

#[test]
fn a_hook_without_an_interpreter_line_is_run_by_bash() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "true");
    for hook in ["install.d/50-web", "extra-data.d/50-web"] {
        work.hook("web", hook, "");
        work.write(&format!("../elements/web/{hook}"), "set -e\nwords=(a b)\n[[ ${words[1]} = b ]]\n");
    }
    work.create("-n -t tar -o x tiny web").expect_success();
}

#[test]
fn a_described_disk_needs_no_grub() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "mkdir -p /boot; : >/boot/vmlinuz-6.1 >/boot/initrd.img-6.1");
    let config = "- local_loop: {name: image0}\n- partitioning:\n    base: image0\n    label: mbr\n    partitions:\n    \
                  - {name: root, flags: [boot, primary], size: 100%, mkfs: {mount: {mount_point: /, fstab: {}}}}\n";
    let run = work.create_with("-n -t raw -o x tiny web", &[("DIB_BLOCK_DEVICE_CONFIG", config)]);
    let said = run.expect_success();
    assert!(said.contains("has no GRUB: its disk boots by what else is on it"), "{said}");
    assert_eq!(work.files("."), ["x.raw"]);
}

#[test]
fn a_layer_can_be_in_a_stack_twice() {
    let work = Work::new();
    for (element, mode) in [("a", "1"), ("b", "2"), ("c", "1")] {
        work.hook(element, &format!("install.d/50-{element}"), &format!("echo {mode} >/etc/mode"));
    }
    // Dependencies fix the order of the elements. Each layer has only the file.
    work.write("../elements/b/element-deps", "a\n");
    work.write("../elements/c/element-deps", "b\n");
    work.create("-n -t tar -o out/x tiny c").expect_success();
    let mode =
        Command::new("tar").args(["-xOf", "out/x.tar", "./etc/mode"]).current_dir(work.path()).output();
    assert_eq!(mode.unwrap().stdout, b"1\n");
}

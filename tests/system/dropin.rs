//! Tests of builds with diskimage-builder's commands: outputs, names, exit statuses, break points.
//!
//! They need root, overlayfs, loop devices and qemu-utils. The operating system is a tiny element
//! of the test, which needs no network.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::registry::{Door, Server};
use crate::common::work::{Run, Work, names, program};

/// Returns the output of `qemu-img info`.
fn qemu_img(work: &Work, file: &str) -> serde_json::Value {
    serde_json::from_str(&program("qemu-img", &["info", "--output=json", file], &work.path())).unwrap()
}

#[test]
fn every_type_is_written_alone_and_together_with_all_others() {
    let work = Work::new();
    let types = [
        ("qcow2", "x.qcow2"),
        ("raw", "x.raw"),
        ("vhd", "x.vhd"),
        ("vmdk", "x.vmdk"),
        ("vhdx", "x.vhdx"),
        ("tar", "x.tar"),
        ("tgz", "x.tgz"),
        ("squashfs", "x.squash"),
        ("aci", "x.aci"),
    ];
    for (name, file) in types {
        let stdout = work.create(&format!("-n -t {name} -o x tiny")).expect_success();
        assert!(stdout.ends_with("Build completed successfully\n"), "{stdout}");
        assert_eq!(work.files("."), [file], "{name}");
        work.clear();
    }
    let all: Vec<_> = types.iter().map(|(name, _)| *name).collect();
    work.create(&format!("-n -o x -t {} tiny", all.join(","))).expect_success();
    let mut files: Vec<_> = types.iter().map(|(_, file)| (*file).to_owned()).collect();
    files.sort();
    assert_eq!(work.files("."), files);
    assert_eq!(qemu_img(&work, "x.vmdk")["format"], "vmdk");
    assert_eq!(program("tar", &["-xOf", "x.tgz", "./etc/tiny"], &work.path()), "tiny\n");
    assert_eq!(program("tar", &["-xOf", "x.aci", "rootfs/etc/tiny"], &work.path()), "tiny\n");
    assert_eq!(program("unsquashfs", &["-cat", "x.squash", "etc/tiny"], &work.path()), "tiny\n");
}

#[test]
fn an_archive_has_the_directories_of_the_kernel_and_no_files_of_the_build_host() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo web >/tmp/left; echo log >/var/log/web; echo web >/etc/web");
    work.create("-n -t tar -o x tiny web").expect_success();
    let listing = program("tar", &["-tf", "x.tar"], &work.path());
    assert!(listing.lines().all(|line| line.starts_with("./")), "{listing}");
    let entries: Vec<_> =
        listing.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/')).collect();
    for present in ["proc", "sys", "dev", "tmp", "etc/web"] {
        assert!(entries.contains(&present), "{present} is not in {listing}");
    }
    let inside =
        |entry: &&&str| ["proc/", "sys/", "dev/", "tmp/"].iter().any(|start| entry.starts_with(start));
    assert_eq!(entries.iter().find(inside), None);
}

/// Source: nodepool 11, `builder.py`.
#[test]
fn a_call_by_nodepool_writes_the_files_that_nodepool_reads() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo \"$DIB_RELEASE\" >/etc/web");
    work.hook(
        "web",
        "cleanup.d/99-save",
        "mkdir -p \"$IMAGE_NAME.d\"; echo made >\"$IMAGE_NAME.d/manifest\"",
    );
    work.write("images/.keep", "");
    let images = work.path().join("images");
    let build = |number: &str| {
        let name = images.join(format!("debian-{number}"));
        let line = format!(
            "-x -t qcow2,raw --checksum --no-tmpfs --qemu-img-options compat=0.10 -o {} -n tiny web",
            name.display()
        );
        let file = format!("{}.qcow2", name.display());
        let variables = [
            ("DIB_RELEASE", "bookworm"),
            ("DIB_IMAGE_NAME", "debian"),
            ("DIB_IMAGE_FILENAME", file.as_str()),
        ];
        work.create_with(&line, &variables).expect_success()
    };
    let first = build("0001");
    assert!(first.contains("dib-run-parts Running /tmp/in_target.d/install.d/50-web"), "{first}");
    let second = build("0002");
    assert!(second.contains("Layer of element web is cached"), "{second}");
    for number in ["0001", "0002"] {
        let name = |ending: &str| format!("debian-{number}{ending}");
        let endings = [".d", ".qcow2", ".qcow2.md5", ".qcow2.sha256", ".raw", ".raw.md5", ".raw.sha256"];
        let found: Vec<_> = names(&images).into_iter().filter(|file| file.starts_with(&name(""))).collect();
        assert_eq!(found, endings.map(name));
        for (algorithm, digits) in [("md5", 32), ("sha256", 64)] {
            let line = fs::read_to_string(images.join(name(&format!(".qcow2.{algorithm}")))).unwrap();
            let path = images.join(name(".qcow2"));
            assert_eq!(line[digits..], format!("  {}\n", path.display()));
            program(&format!("{algorithm}sum"), &["--check", &name(&format!(".raw.{algorithm}"))], &images);
        }
        assert_eq!(fs::read_to_string(images.join(name(".d/manifest"))).unwrap(), "made\n");
    }
    let info = qemu_img(&work, "images/debian-0002.qcow2");
    assert_eq!(info["format-specific"]["data"]["compat"], "0.10");
}

#[test]
fn an_existing_image_is_renamed_with_its_checksums() {
    let work = Work::new();
    let line = "-n -t raw --checksum -o out.d/x.raw tiny";
    work.write("out.d/.keep", "");
    work.create(line).expect_success();
    let first = work.read("out.d/x.raw.md5");
    work.create(line).expect_success();
    let files = work.files("out.d");
    let old: Vec<_> = files.iter().filter(|file| file.starts_with("x-20")).collect();
    assert_eq!((files.len(), old.len()), (7, 3), "{files:?}");
    assert_eq!(fs::read_to_string(work.path().join("out.d").join(old[1])).unwrap(), first);
    assert!(old[1].ends_with(".raw.md5"), "{old:?}");
    work.create_with(line, &[("OVERWRITE_OLD_IMAGE", "1")]).expect_success();
    assert_eq!(work.files("out.d"), files);
}

#[test]
fn the_exit_status_of_a_hook_is_the_exit_status_of_the_command() {
    let work = Work::new();
    work.hook("bad", "install.d/50-bad", "exit 3");
    work.hook("worse", "finalise.d/50-worse", "exit 4");
    work.hook("other", "install.d/50-bad", "true");
    work.hook("empty", "root.d/10-empty", "mkdir -p \"$TARGET_ROOT/tmp/x\"");
    work.write("../elements/empty/element-provides", "operating-system\n");
    for (elements, status, text) in [
        ("tiny bad", 3, "error: hook `install.d/50-bad` of element `bad` failed with exit status 3\n"),
        ("tiny worse", 4, "error: hook `finalise.d/50-worse` of element `worse` failed with exit status 4\n"),
        ("tiny bad other", 1, "50-bad"),
        ("tiny absent", 1, "error: element `absent` not found"),
        ("tiny zzzzzzzzzz", 1, "\nhint: add its directory to ELEMENTS_PATH"),
        ("tinny", 1, "error: element `tinny` not found\nhint: did you mean `tiny`?\n"),
        ("bad", 1, "error: no element provides `operating-system`"),
        ("empty", 1, "Failed to deploy the root element.\n"),
    ] {
        let run = work.create(&format!("-n -t qcow2,tar -o x {elements}"));
        assert_eq!(run.status, Some(status), "{elements}: {}", run.stdout);
        assert!(run.stdout.contains(text), "{elements}: {}", run.stdout);
        assert!(!run.stdout.contains("Build completed"), "{elements}");
        assert_eq!(work.files("."), [""; 0], "{elements}");
    }
}

#[test]
fn a_hook_ends_at_the_limit_that_the_caller_sets() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "while :; do :; done");
    let run = work.create_with("-n -t tar -o x tiny web", &[("PLYWOOD_HOOK_TIMEOUT", "2")]);
    assert_eq!(run.status, Some(124), "{}", run.stdout);
    for text in ["failed with a timeout after 2 s", "raise PLYWOOD_HOOK_TIMEOUT"] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
    // After a timeout, the image is not built again in the other order.
    assert!(!run.stdout.contains("Building again"), "{}", run.stdout);
    let run = work.create_with("-n -t tar -o x tiny", &[("PLYWOOD_HOOK_MEMORY", "much")]);
    assert!(run.stdout.contains("PLYWOOD_HOOK_MEMORY is `much`"), "{}", run.stdout);
}

#[test]
fn elements_that_rely_on_later_ones_are_built_in_phase_order() {
    let work = Work::new();
    work.hook("first", "post-install.d/50-first", "cat /etc/second");
    work.hook("second", "install.d/50-second", "echo two >/etc/second");
    work.write("../elements/round/element-deps", "trip\n");
    work.write("../elements/trip/element-deps", "round\n");
    let again = "Building again in phase order";
    for elements in ["tiny first second", "tiny round"] {
        let line = format!("-n -t tar -o x {elements}");
        let run = work.create_with(&line, &[("PLYWOOD_ORDER", "element")]);
        assert_eq!((run.status, run.stdout.contains(again)), (Some(1), false), "{}", run.stdout);
        assert!(work.create(&line).expect_success().contains(again), "{elements}");
    }
    assert!(!work.create("-n -t tar -o x tiny second first").expect_success().contains(again));
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_anything_is_built() {
    let work = Work::new();
    for (line, text) in [
        (
            "-n -t nonsense -o x tiny",
            "error: unknown image type `nonsense`: neither plywood nor qemu-img on this host",
        ),
        ("-n -t tar -o ../elements/tiny/element-provides/x tiny", "cannot create or open the directory `"),
        ("-n -t docker -o x tiny", "error: Please set --docker-target."),
    ] {
        let run = work.create(line);
        assert_eq!(run.status, Some(1), "{line}");
        assert!(run.stdout.contains(text), "{line}: {}", run.stdout);
        assert!(!run.stdout.contains("Running hooks"), "{line}: {}", run.stdout);
    }
}

#[test]
fn a_break_point_sees_the_view_of_its_hooks_or_the_target_from_outside() {
    let work = Work::new();
    work.hook("bad", "install.d/50-bad", "echo why >/tmp/dib-test-should-fail; exit 1");
    let outside = [
        ("break", "after-error"),
        ("break_outside_target", "1"),
        ("break_cmd", "cp $TMP_MOUNT_PATH/tmp/dib-test-should-fail found"),
    ];
    let run = work.create_with("-n -t tar -o x tiny bad", &outside);
    assert_eq!((run.status, work.read("found").as_str()), (Some(1), "why\n"), "{}", run.stdout);
    assert!(run.stdout.contains("At stage after-error\n"), "{}", run.stdout);

    work.hook("good", "install.d/50-good", "echo good >/etc/good");
    work.hook("other", "install.d/10-other", "echo other >/etc/other");
    let inside = [
        ("break", "after-install"),
        ("break_cmd", "cat /etc/other /etc/good /tmp/in_target.d/install.d/50-good"),
    ];
    for _ in 0..2 {
        // The step is built again although it is a hit: otherwise there would be nothing to
        // inspect.
        let stdout = work.create_with("-n -t tar -o x tiny good other", &inside).expect_success();
        assert!(stdout.contains("\nother\ngood\n#!/bin/bash\n"), "{stdout}");
        assert_eq!(stdout.matches("At stage after-install").count(), 1, "{stdout}");
    }
}

#[test]
fn secrets_of_the_environment_are_neither_shown_nor_stored() {
    let work = Work::new();
    work.hook("user", "install.d/50-user", "set -x; echo \"$DIB_USER_PASSWORD\" | cat >/dev/null; set +x");
    work.hook("user", "cleanup.d/50-save", "mkdir -p x.d; echo \"$DIB_ENV\" >x.d/environment");
    work.write("../elements/far/source-repository-user", "user git /opt/user https://localhost:9/user.git\n");
    let secret = [
        ("DIB_USER_PASSWORD", "correct-horse"),
        ("DIB_REPOLOCATION_user", "https://me:correct-horse@localhost:9/user.git"),
    ];
    let failed = work.create_with("-n -t tar -o x tiny far", &secret).stdout;
    let place = "cannot fetch `https://me:***@localhost:9/user.git`";
    assert!(failed.contains(place) && !failed.contains("correct-horse"), "{failed}");
    let stdout = work.create_with("-n -t tar -o x tiny user", &secret).expect_success();
    assert!(stdout.contains("echo '***'") || stdout.contains("echo ***"), "{stdout}");
    assert!(work.read("x.d/environment").contains("DIB_USER_PASSWORD"));
    let found =
        Command::new("grep").args(["-rla", "correct-horse"]).arg(work.path()).arg(work.store()).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    assert!(!stdout.contains("correct-horse"), "{stdout}");
}

#[test]
fn a_build_works_without_home_terminal_and_environment() {
    let work = Work::new();
    work.hook("look", "install.d/50-look", "[ \"${DIB_MINE:-unset}\" = \"$(cat /etc/expected)\" ]");
    work.hook("tiny", "root.d/20-expected", "echo \"${DIB_EXPECTED:-unset}\" >\"$TARGET_ROOT/etc/expected\"");
    let variables = [("DIB_MINE", "x"), ("DIB_EXPECTED", "x")];
    work.create_with("-n -t tar -o x tiny look", &variables).expect_success();
    // With `-c`, ELEMENTS_PATH is cleared too, so the elements are not found.
    let run = work.create_with("-c -n -t tar -o x tiny look", &variables);
    assert!(run.stdout.contains("error: element `tiny` not found"), "{}", run.stdout);
}

#[test]
fn a_killed_build_leaves_no_process_no_mount_and_no_image() {
    let work = Work::new();
    work.hook("slow", "finalise.d/50-slow", "echo started; sleep 600");
    let mut child = work
        .command("disk-image-create", &["-n", "-t", "qcow2,raw", "-o", "x", "tiny", "slow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !String::from_utf8_lossy(&text).contains("\nstarted\n") {
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&text));
        let mut piece = [0; 4096];
        let count = stdout.read(&mut piece).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..count]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The reader of the log gets the end of the output.
    stdout.read_to_end(&mut text).unwrap();
    let place = work.path().parent().unwrap().to_str().unwrap().to_owned();
    let is_left = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let loops = program("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"], Path::new("/"));
        mounts.contains(&place) || loops.contains(&place)
    };
    while is_left() {
        assert!(Instant::now() < deadline, "something is left");
        thread::sleep(Duration::from_millis(50));
    }
    let images: Vec<_> = work.files(".").into_iter().filter(|file| file.starts_with('x')).collect();
    assert_eq!(images, [""; 0]);
}

#[test]
fn definitions_are_built_one_after_the_other() {
    let work = Work::new();
    work.hook("bad", "install.d/50-bad", "exit 5");
    work.hook("worse", "install.d/50-worse", "exit 6");
    work.write(
        "all.yaml",
        "- {imagename: a, skip-base: true, types: [tar], elements: [tiny, bad]}\n\
         - {imagename: b, skip-base: true, types: [tar], elements: [tiny], environment: {DIB_X: '1'}}\n\
         - {imagename: c, skip-base: true, types: [tar], elements: [tiny, worse]}\n",
    );
    assert_eq!(work.run("diskimage-builder", &["all.yaml"]).status, Some(6));
    assert_eq!(work.files("."), ["all.yaml", "b.tar"]);
    fs::remove_file(work.path().join("b.tar")).unwrap();
    assert_eq!(work.run("diskimage-builder", &["--stop-on-failure", "all.yaml"]).status, Some(5));
    assert_eq!(work.files("."), ["all.yaml"]);
}

#[test]
fn elements_can_write_images_themselves_instead_of_a_disk() {
    let work = Work::new();
    work.write("../elements/no-final-image/README.rst", "No disk.\n");
    work.hook("own", "cleanup.d/99-pack", "cat \"$TARGET_ROOT/etc/tiny\" >\"$IMAGE_NAME.initramfs\"");
    work.create("-n -o x tiny own no-final-image").expect_success();
    assert_eq!(work.files("."), ["x.initramfs"]);
    // The file is written again although nothing has changed.
    fs::remove_file(work.path().join("x.initramfs")).unwrap();
    work.create("-n -o y tiny own no-final-image").expect_success();
    assert_eq!(
        (work.files("."), work.read("y.initramfs").as_str()),
        (vec!["y.initramfs".to_owned()], "tiny\n")
    );
}

#[test]
fn two_builds_share_a_store() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo web >/etc/web");
    let start = |name: &str| {
        let words = ["-n", "-t", "tar", "-o", name, "tiny", "web"];
        work.command("disk-image-create", &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for child in [start("a"), start("b")] {
        Run::of(child.wait_with_output().unwrap()).expect_success();
    }
    assert_eq!(work.files("."), ["a.tar", "b.tar"]);
}

#[test]
fn steps_that_one_machine_has_built_are_downloaded_by_another() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/team/cache", server.host());
    let machine = || {
        let work = Work::new();
        work.hook("web", "install.d/50-web", "echo web >/etc/web");
        work
    };
    let build = |work: &Work, variables: &[(&str, &str)]| {
        work.create_with("-n -t tar -o x tiny web", variables).expect_success()
    };
    let a = machine();
    let key = a.store().with_file_name("key").display().to_string();
    let public = a.run("plywood", &["key", "generate", "--out", &key]).expect_success();
    let published = build(&a, &[("PLYWOOD_CACHE_TO", &repository), ("PLYWOOD_SIGN_KEY", &key)]);
    assert!(published.contains(&format!("Published 3 layers in {repository}, 3 of them new")), "{published}");

    let b = machine();
    let fetched = build(&b, &[("PLYWOOD_CACHE_FROM", &repository), ("PLYWOOD_TRUST_KEYS", public.trim())]);
    assert!(fetched.contains(&format!("Layer of element web is cached in {repository}")), "{fetched}");
    assert!(!fetched.contains("/root.d") && !fetched.contains("/install.d"), "{fetched}");
    assert_eq!(fs::read(a.path().join("x.tar")).unwrap(), fs::read(b.path().join("x.tar")).unwrap());

    let stranger = b.run("plywood", &["key", "generate", "--out", "stranger"]).expect_success();
    let c = machine();
    let built = build(&c, &[("PLYWOOD_CACHE_FROM", &repository), ("PLYWOOD_TRUST_KEYS", stranger.trim())]);
    assert!(built.contains("which is not trusted") && built.contains("/install.d/50-web"), "{built}");
    // A failed upload of layers does not fail the build of the image.
    drop(server);
    let alone = build(&c, &[("PLYWOOD_CACHE_FROM", &repository), ("PLYWOOD_CACHE_TO", &repository)]);
    assert!(alone.contains("WARNING: image `x` is built and its outputs are written, but"), "{alone}");
}

#[test]
fn a_disk_has_the_requested_size_and_label() {
    let work = Work::new();
    work.hook(
        "look",
        "install.d/50-look",
        "echo \"$DIB_ROOT_FSTYPE $DIB_ROOT_LABEL $DIB_MOUNTPOINTS\" >/etc/look",
    );
    work.create("-n -t raw,tar --image-size 0.5 --root-label top -o x tiny look").expect_success();
    let bytes = fs::metadata(work.path().join("x.raw")).unwrap().len();
    assert_eq!(bytes, 512 << 20);
    let blkid = |file: &str| program("blkid", &["-o", "export", file], &work.path());
    assert!(
        blkid("x.raw").contains("LABEL=top\n") && blkid("x.raw").contains("TYPE=ext4\n"),
        "{}",
        blkid("x.raw")
    );
    assert_eq!(program("tar", &["-xOf", "x.tar", "./etc/look"], &work.path()), "ext4 top /\n");
    work.create_with("-n -t raw -o y tiny look", &[("FS_TYPE", "xfs")]).expect_success();
    assert!(blkid("y.raw").contains("LABEL=img-rootfs\n"), "{}", blkid("y.raw"));
    for _ in 0..2 {
        // It has the UUID of the earlier file system, which is in the cache of blkid.
        work.create_with("-n -t raw -o y tiny look", &[("FS_TYPE", "btrfs")]).expect_success();
        assert!(blkid("y.raw").contains("TYPE=btrfs\n"), "{}", blkid("y.raw"));
    }
    let config = "- local_loop: {name: image0}\n- partitioning:\n    base: image0\n    label: mbr\n    partitions:\n    \
                  - {name: root, flags: [boot], size: 100%, mkfs: {name: mkfs_root, mount: {mount_point: /, fstab: {}}}}\n";
    work.create_with("-n -t raw -o z tiny look", &[("DIB_BLOCK_DEVICE_CONFIG", config)]).expect_success();
    assert!(blkid("z.raw").contains("PTTYPE=dos\n"), "{}", blkid("z.raw"));
    let run = work.create_with("-n -t raw -o z tiny look", &[("DIB_IMAGE_SIZE", "big")]);
    assert!(run.stdout.contains("DIB_IMAGE_SIZE is `big`"), "{}", run.stdout);
}

#[test]
fn tests_of_elements_pass_or_fail_as_intended() {
    let work = Work::new();
    work.write("plywood.toml", "[project]\nelements = [\"../elements\"]\n");
    work.hook("web", "install.d/50-web", "echo web >/etc/web");
    for (test, script) in [
        ("good", "grep web /etc/web"),
        ("meant-to-fail", "echo why >/tmp/dib-test-should-fail; exit 1"),
        ("bad", "exit 1"),
    ] {
        work.write(&format!("../elements/web/test-elements/{test}/element-deps"), "tiny\n");
        work.hook("web", &format!("test-elements/{test}/post-install.d/50-test"), script);
    }
    let run = work.run("plywood", &["elements", "test", "web"]);
    let verdicts =
        "FAILED  web/bad: see out/element-tests/web/bad/log\npassed  web/good\npassed  web/meant-to-fail\n";
    let lines: Vec<_> =
        run.stdout.lines().filter(|line| line.contains("web/") && !line.contains("Output")).collect();
    assert_eq!((run.status, lines.join("\n") + "\n"), (Some(1), verdicts.to_owned()), "{}", run.stderr);
    assert!(work.read("out/element-tests/web/good/log").contains("Build completed successfully"));
}

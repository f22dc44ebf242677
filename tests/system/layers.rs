//! Tests that unpack layers of all forms, mount them as overlayfs, and compare the result with a
//! model and with other programs. They need root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use plywood::layer::{Decoder, Encoder, Encoding, Entry, Kind, Meta, Xattrs};
use plywood::oci::{DiffId, Digest, ImageConfig, VerifyingReader, descriptor, image_manifest};
use plywood::port::LayerBlobs;
use plywood::store::Store;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../common/layer_model.rs"]
mod model;

use model::{Member, Tree};

struct Bench {
    directory: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn import(&self, layers: &[Vec<Member>]) -> Vec<DiffId> {
        let import = |layer: &Vec<Member>| {
            let mut encoder = Encoder::new(Vec::new());
            for (entry, content) in layer {
                encoder.append_file(entry, &mut content.as_slice()).unwrap();
            }
            let (file, archive) = (self.at("layer.tar"), encoder.finish().unwrap().0);
            fs::write(&file, &archive).unwrap();
            let digest = Digest::of(&archive);
            let mut blob = VerifyingReader::new(archive.as_slice(), digest);
            self.store.layers().import(&mut blob, &file, &DiffId::new(digest)).unwrap().diff_id
        };
        layers.iter().map(import).collect()
    }

    /// Mounts the layers. Returns the visible tree.
    fn mounted(&self, stack: &[DiffId]) -> BTreeMap<Vec<u8>, String> {
        let mut lowers = self.store.snapshots().unpack(stack).unwrap();
        // Without an upper directory, overlayfs needs two lower ones.
        fs::create_dir_all(self.at("empty")).unwrap();
        lowers.insert(0, self.at("empty"));
        let lowers: Vec<_> = lowers.iter().rev().map(|path| path.display().to_string()).collect();
        fs::create_dir_all(self.at("mounted")).unwrap();
        // Short names for the lower directories, because the options of a mount must fit into one
        // page.
        let script = r#"set -e; mount -t tmpfs none "$1"; n=0; dirs=; shift
            m=$1; shift; for d; do mkdir "$m/$n"; mount --bind "$d" "$m/$n"; dirs="$dirs${dirs:+:}$n"; n=$((n+1)); done
            cd "$m"; mkdir root; mount -t overlay none -o "ro,lowerdir=$dirs" root
            tar --hard-dereference --format=pax --numeric-owner -C root -cf - ."#;
        let mount = self.at("mounted").display().to_string();
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", script, "sh", &mount, &mount]).args(&lowers);
        let tar = unshare.output().unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        seen(&tar.stdout)
    }

    /// Stores an image of the layers as `judged`.
    fn save(&self, stack: &[DiffId]) {
        let mut config = ImageConfig::new("amd64", 0).unwrap();
        stack.iter().for_each(|diff_id| config.push_step("layer", std::slice::from_ref(diff_id)));
        let config = config.to_bytes();
        self.store.blobs().put(&config).unwrap();
        let layers = stack.iter().map(|diff_id| {
            let layer = self.store.layers().encoded(diff_id, Encoding::Gzip).unwrap();
            descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes)
        });
        let manifest = image_manifest(&config, layers.collect(), &BTreeMap::new());
        self.store.images().put("judged", &manifest).unwrap();
    }

    /// Returns the tree that umoci makes of the layers.
    fn unpacked_by_umoci(&self, stack: &[DiffId]) -> BTreeMap<Vec<u8>, String> {
        self.save(stack);
        let (image, bundle) = (format!("{}:judged", self.at("store").display()), self.at("bundle"));
        if bundle.exists() {
            fs::remove_dir_all(&bundle).unwrap();
        }
        run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
        self.tree("bundle/rootfs")
    }

    /// Returns the tree of a directory.
    fn tree(&self, name: &str) -> BTreeMap<Vec<u8>, String> {
        let root = self.at(name).display().to_string();
        let args = ["--hard-dereference", "--format=pax", "--numeric-owner", "-C", &root, "-cf", "-", "."];
        seen(&run("tar", &args))
    }
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs the program `{program}`: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Describes an entry, without times of directories: tools choose different times for directories
/// that no archive lists.
fn word(kind: &Kind, meta: &Meta, content: &[u8]) -> String {
    let Meta { mode, uid, gid, mtime, .. } = meta;
    let mtime = if *kind == Kind::Directory { 0 } else { *mtime };
    format!("{kind:?} {mode:o} {uid}:{gid} {mtime} {:?}", String::from_utf8_lossy(content))
}

fn seen(tar: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let mut decoder = Decoder::new(tar);
    let mut seen = BTreeMap::new();
    while let Some((entry, mut content)) = decoder.next_entry().unwrap() {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        seen.insert(entry.path, word(&entry.kind, &entry.meta, &bytes));
    }
    seen
}

fn expected(tree: &Tree) -> BTreeMap<Vec<u8>, String> {
    tree.iter().map(|(path, shown)| (path.clone(), word(&shown.kind, &shown.meta, &shown.content))).collect()
}

fn owner() -> Meta {
    Meta { mode: 0o755, uid: 1000, gid: 2000, mtime: 77, xattrs: Xattrs::new() }
}

/// Returns random layers, the same in each run.
fn random_layers(cases: usize) -> Vec<Vec<(Vec<Member>, Tree)>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let layers = model::any_layers(owner());
    let mut next = || layers.new_tree(&mut runner).unwrap().current();
    (0..cases).map(|_| model::applied(next(), &Meta::IMPLIED_DIRECTORY)).collect()
}

#[test]
fn mounting_layers_equals_applying_them_to_one_tree() {
    for layers in random_layers(60) {
        let bench = Bench::new();
        let stack = bench.import(&layers.iter().map(|(layer, _)| layer.clone()).collect::<Vec<_>>());
        let (_, tree) = layers.last().unwrap();
        assert_eq!(bench.mounted(&stack), expected(tree), "{layers:#?}");
    }
}

fn member(path: &str, kind: Kind, mode: u32) -> Member {
    let content = if let Kind::File(bytes) = kind { vec![b'x'; bytes as usize] } else { Vec::new() };
    let meta = match kind {
        Kind::Whiteout | Kind::OpaqueWhiteout => Meta::NONE,
        Kind::Symlink(_) => Meta { mode: 0o777, ..owner() },
        _ => Meta { mode, ..owner() },
    };
    (Entry { path: path.into(), kind, meta }, content)
}

/// Returns a layer like a small root. The layers of [`foreign_layers`] are above it.
fn lower_layer() -> Vec<Member> {
    let (file, directory) = (|path: &str| member(path, Kind::File(3), 0o640), Kind::Directory);
    vec![
        member("", directory.clone(), 0o555),
        member("home", directory.clone(), 0o755),
        member("home/app", directory.clone(), 0o700),
        file("home/app/old"),
        member("srv", directory.clone(), 0o755),
        member("srv/share", directory.clone(), 0o2775),
        file("srv/share/x"),
        member("tmp", directory.clone(), 0o1777),
        member("usr", directory.clone(), 0o755),
        member("usr/lib", directory, 0o711),
        file("usr/lib/so"),
        member("lib", Kind::Symlink(b"usr/lib".to_vec()), 0),
    ]
}

/// Returns layers with forms of entries that other builders use.
fn foreign_layers() -> Vec<Vec<Member>> {
    let (file, directory) = (|path: &str| member(path, Kind::File(3), 0o640), Kind::Directory);
    let opaque = |path: &str| member(path, Kind::OpaqueWhiteout, 0);
    let gone = |path: &str| member(path, Kind::Whiteout, 0);
    let hard = |path: &str, target: &str| member(path, Kind::Hardlink(target.into()), 0o640);
    let link = |path: &str, target: &str| member(path, Kind::Symlink(target.into()), 0);
    vec![
        vec![file("home/app/file"), file("srv/share/file"), file("tmp/file"), file("new/deep/file")],
        vec![member("home/app", directory.clone(), 0o711), opaque("home/app"), file("home/app/fresh")],
        vec![opaque("srv"), member("srv/new", directory.clone(), 0o755), file("srv/new/file")],
        vec![gone("home/app/old"), gone("home/app/none"), gone("srv"), gone("none/none")],
        vec![gone("srv/share"), member("srv/share", directory.clone(), 0o700), file("srv/share/new")],
        vec![member("new", directory.clone(), 0o755), gone("new/none"), file("new/file")],
        vec![file("lib/new"), gone("lib/so")],
        vec![hard("copy", "usr/lib/so"), hard("again", "copy")],
        vec![file("srv"), member("usr/lib/so", directory.clone(), 0o755)],
        vec![file("home/app/old"), gone("home/app/old")],
        vec![hard("kept", "usr/lib/so"), gone("usr/lib/so")],
        vec![link("srv", "tmp"), file("home/app/x"), link("home/app/y", "old")],
        vec![member("fifo", Kind::Fifo, 0o600), member("null", Kind::CharDevice(1, 3), 0o666)],
    ]
}

/// Returns a layer with duplicate names, which the Docker engine refuses.
fn names_that_come_twice() -> Vec<Member> {
    vec![
        member("twice", Kind::File(3), 0o640),
        member("twice", Kind::Directory, 0o750),
        member("twice/x", Kind::File(3), 0o640),
        member("home/app/x", Kind::File(3), 0o640),
        member("home/app/x", Kind::Symlink(b"old".to_vec()), 0),
    ]
}

/// The expected tree comes from umoci.
#[test]
fn layers_of_other_builders_are_unpacked_as_by_umoci() {
    for upper in foreign_layers().into_iter().chain([names_that_come_twice()]) {
        let bench = Bench::new();
        let stack = bench.import(&[lower_layer(), upper.clone()]);
        assert_eq!(bench.mounted(&stack), bench.unpacked_by_umoci(&stack), "{upper:#?}");
        let layers = model::applied(vec![lower_layer(), upper.clone()], &Meta::IMPLIED_DIRECTORY);
        assert_eq!(bench.mounted(&stack), expected(&layers[1].1), "the model differs: {upper:#?}");
    }
}

/// Compares hand-made and random stacks with the engines that most images run on. With the storage
/// driver `vfs`, both engines apply layers to one tree, as the specification says. Overlay drivers
/// unpack each layer alone, and lose the modes of directories that the layer does not list.
#[test]
fn layers_of_other_builders_are_unpacked_as_by_docker_and_podman() {
    const RANDOM: usize = 24;
    let bench = Bench::new();
    let stacks: Vec<_> = foreign_layers()
        .into_iter()
        .map(|upper| vec![lower_layer(), upper])
        .chain(stacks_for_engines(RANDOM))
        .collect();
    let judge = |(number, layers): (usize, &Vec<Vec<Member>>)| {
        let stack = bench.import(layers);
        bench.save(&stack);
        let image = format!("oci:{}:judged", bench.at("store").display());
        let archive =
            format!("docker-archive:{}:case:{number}", bench.at(&format!("{number}.tar")).display());
        run("skopeo", &["copy", "--insecure-policy", &image, &archive]);
        bench.mounted(&stack)
    };
    let ours: Vec<_> = stacks.iter().enumerate().map(judge).collect();
    let (directory, cases) = (bench.at("").display().to_string(), ours.len().to_string());
    let by_docker = r#"cd "$1"; n=0; while [ "$n" -lt "$2" ]; do if docker load -q -i $n.tar; then
        docker create --name c$n case:$n none; mkdir docker-$n; docker export c$n | tar --numeric-owner -xpf - -C docker-$n; fi
        n=$((n+1)); done"#;
    let engine = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/with-docker-engine");
    // A separate engine: the engine of the machine may have another storage driver.
    let environment = ["DOCKER_HOST=unix:///nonexistent", "DOCKER_DRIVER=vfs", engine];
    run("env", &[&environment[..], &["sh", "-ec", by_docker, "sh", &directory, &cases]].concat());
    let by_podman = r#"cd "$1"; podman() { command podman --root "$PWD/storage" --runroot "$PWD/run" --storage-driver vfs "$@"; }
        n=0; while [ "$n" -lt "$2" ]; do if podman load -q -i $n.tar; then mkdir podman-$n
        tar --numeric-owner -C "$(podman image mount case:$n)" -cf - . | tar --numeric-owner -xpf - -C podman-$n; fi; n=$((n+1)); done
        podman image umount -a; podman rmi -a"#;
    run("sh", &["-ec", by_podman, "sh", &directory, &cases]);
    let mut differences = Vec::new();
    for engine in ["docker", "podman"] {
        let taken = |number: &usize| bench.at(&format!("{engine}-{number}")).exists();
        let taken: Vec<_> = (0..ours.len()).filter(taken).collect();
        // An engine may refuse a random stack, such as one with removals below a file, but no
        // hand-made one.
        let by_hand = foreign_layers().len();
        assert!(taken.starts_with(&(0..by_hand).collect::<Vec<_>>()), "{engine}: {taken:?}");
        assert!(taken.len() > by_hand + RANDOM / 3, "{engine}: {taken:?}");
        for number in taken {
            let theirs = of_image(&bench.tree(&format!("{engine}-{number}")));
            let ours = of_image(&ours[number]);
            if ours != theirs && !removes_own(&stacks[number]) {
                differences.push(format!(
                    "{engine}, {:#?}: theirs {:#?}, ours {:#?}",
                    stacks[number],
                    theirs.iter().filter(|(path, word)| ours.get(*path) != Some(word)).collect::<Vec<_>>(),
                    ours.iter().filter(|(path, word)| theirs.get(*path) != Some(word)).collect::<Vec<_>>(),
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Returns true if a layer of the stack removes an entry that is before the whiteout in the same
/// layer. The engines remove such an entry. Umoci and plywood keep it, because the specification
/// says that whiteouts hide only lower layers.
fn removes_own(stack: &[Vec<Member>]) -> bool {
    let is_removed = |(entry, _): &Member, whiteout: &[u8]| {
        entry.kind != Kind::Whiteout
            && entry.path.strip_prefix(whiteout).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    stack.iter().any(|layer| {
        layer.iter().enumerate().any(|(place, (entry, _))| {
            entry.kind == Kind::Whiteout
                && layer[..place].iter().any(|member| is_removed(member, &entry.path))
        })
    })
}

/// Returns random stacks of layers that the engines accept. Docker refuses duplicate names in a
/// layer.
fn stacks_for_engines(cases: usize) -> Vec<Vec<Vec<Member>>> {
    let once = |(layer, _): (Vec<Member>, Tree)| -> Vec<Member> {
        let mut known = BTreeSet::new();
        layer.into_iter().filter(|(entry, _)| known.insert(entry.path.clone())).collect()
    };
    // After duplicate names are removed, other entries of the stack may not be applicable.
    let applied = |stack: Vec<Vec<Member>>| model::applied(stack, &Meta::IMPLIED_DIRECTORY);
    let stacks = random_layers(cases).into_iter().map(|stack| stack.into_iter().map(once).collect());
    stacks.map(|stack| applied(stack).into_iter().map(|(layer, _)| layer).collect()).collect()
}

/// Removes files that engines put into each container, and facts that they choose themselves: the
/// root of a container, and the mode of directories that no layer lists.
fn of_image(tree: &BTreeMap<Vec<u8>, String>) -> BTreeMap<Vec<u8>, String> {
    let is_engines = |path: &[u8]| {
        let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        [b"".as_slice(), b"dev", b"proc", b"sys", b"etc", b"run", b".dockerenv"].contains(&top)
    };
    // All entries of the layers belong to another user than root.
    let is_implied = |word: &str| word.starts_with("Directory") && word.contains(" 0:0 ");
    let shown = |word: &String| if is_implied(word) { "a directory".to_owned() } else { word.clone() };
    // For a removal in a missing directory, Docker creates the directory.
    let is_bare = |path: &[u8], word: &str| {
        let below = [path, b"/"].concat();
        is_implied(word) && !tree.keys().any(|other| other.starts_with(&below))
    };
    let known = tree.iter().filter(|(path, word)| !is_engines(path) && !is_bare(path, word));
    known.map(|(path, word)| (path.clone(), shown(word))).collect()
}

/// Tests zstd:chunked and eStargz. The index and the landmarks of an eStargz are members of the
/// archive, which the DiffID covers. Engines show them as files, and so does plywood.
#[test]
fn layers_that_can_be_fetched_in_parts_are_unpacked_as_by_podman() {
    let bench = Bench::new();
    let member_of = |path: &str, kind: Kind| member(path, kind, 0o755);
    let layer = [
        member_of(".no.prefetch.landmark", Kind::File(1)),
        member_of("etc", Kind::Directory),
        member_of("etc/large", Kind::File(3_000_000)),
        member_of("etc/link", Kind::Hardlink(b"etc/large".to_vec())),
        member_of("stargz.index.json", Kind::File(700)),
    ];
    let plain = bench.import(&[layer.to_vec()]);
    let directory = bench.at("").display().to_string();
    let script = r#"cd "$1"; podman() { command podman --root "$PWD/storage" --runroot "$PWD/run" --storage-driver vfs "$@"; }
        podman import -q layer.tar case; podman push -q --compression-format zstd:chunked case oci:chunked
        mkdir podman; tar --numeric-owner -C "$(podman image mount case)" -cf - . | tar --numeric-owner -xpf - -C podman
        podman image umount -a; podman rmi -a"#;
    run("sh", &["-ec", script, "sh", &directory]);
    let shown = of_image(&bench.tree("podman"));
    assert!(shown.contains_key(b"stargz.index.json".as_slice()), "{shown:?}");
    let index = fs::read_to_string(bench.at("chunked/index.json")).unwrap();
    let (architecture, _) = std::env::consts::ARCH.parse::<plywood::distro::Architecture>().unwrap().oci();
    let chunked = bench.store.bases().import_oci_layout(&bench.at("chunked"), None, architecture).unwrap();
    assert_eq!(chunked.diff_ids, plain, "{index}");
    // Each member of the archive is a separate gzip member, and the blob ends with an empty one
    // that has the position of the index.
    let archive = fs::read(bench.at("layer.tar")).unwrap();
    let mut blob = Vec::new();
    for part in archive.chunks(512) {
        let mut encoder = flate2::write::GzEncoder::new(&mut blob, flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap();
    }
    let footer = flate2::GzBuilder::new().extra(b"SG\x16\x000000000000000400STARGZ".as_slice());
    footer.write(&mut blob, flate2::Compression::none()).finish().unwrap();
    fs::write(bench.at("layer.esgz"), blob).unwrap();
    assert_eq!(bench.store.bases().import_rootfs_tar(&bench.at("layer.esgz")).unwrap().diff_ids, plain);
    assert_eq!(of_image(&bench.mounted(&plain)), shown);
}

/// A layer that depends on the layers below is unpacked once for each stack.
#[test]
fn a_layer_in_two_images_is_unpacked_for_each_of_their_stacks() {
    let bench = Bench::new();
    let home = |mode| vec![member("", Kind::Directory, 0o755), member("home", Kind::Directory, mode)];
    let shared = vec![member("home/file", Kind::File(3), 0o600), member("gone", Kind::Whiteout, 0)];
    let [open, private, shared] = bench.import(&[home(0o755), home(0o700), shared])[..] else {
        unreachable!()
    };
    for (base, mode) in [(open, "755"), (private, "700")] {
        let seen = bench.mounted(&[base, shared]);
        assert!(seen[b"home".as_slice()].contains(&format!(" {mode} ")), "{seen:?}");
    }
    let snapshots = fs::read_dir(bench.at("store/snapshots")).unwrap().count();
    assert_eq!(snapshots, 4, "two bases, and the shared layer twice");
    assert!(bench.store.check().unwrap().is_sound());
}

/// Holes use no space, neither in the store nor on a disk.
#[test]
fn zeros_of_an_unpacked_layer_use_no_space() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let (tree, file) = (bench.at("tree"), bench.at("sparse.tar"));
    fs::create_dir(&tree).unwrap();
    fs::File::create(tree.join("sparse")).unwrap().set_len(3 << 30).unwrap();
    run("tar", &["-S", "-C", tree.to_str().unwrap(), "-cf", file.to_str().unwrap(), "."]);
    let stack = bench.store.bases().import_rootfs_tar(&file).unwrap().diff_ids;
    let snapshot: &Path = &bench.store.snapshots().unpack(&stack).unwrap()[0];
    let metadata = fs::metadata(snapshot.join("sparse")).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (3 << 30, 0));
}

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use proptest::prelude::*;

use super::apply::{Applier, Below};
use super::below::MergedDir;
use super::file::open_directory;
use super::interrupt::Interrupt;
use super::unpack::apply_all;
use crate::layer::{Clamp, Encoder, Entry, Kind, LayerError, Meta, Xattrs};

#[path = "../../tests/common/layer_model.rs"]
mod model;

use model::{Layering, Member, Shown, Tree};

/// Returns the default metadata of entries. The owner is the user who runs the tests.
fn owner() -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode: 0o755, uid, gid, mtime: 77, xattrs: Xattrs::new() }
}

/// Returns the metadata of directories that neither the archive nor a layer below has.
fn nowhere() -> Meta {
    Meta { mtime: 0, ..owner() }
}

fn archive(members: &[Member]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    for (entry, content) in members {
        encoder.append_file(entry, &mut content.as_slice()).unwrap();
    }
    encoder.finish().unwrap().0
}

/// Unpacks an archive to `directory`. Returns true if it depends on `lowers`, lowest first.
fn unpack(archive: impl Read, directory: &Path, lowers: &[PathBuf]) -> Result<bool, LayerError> {
    fs::create_dir(directory).unwrap();
    let root = || open_directory(directory).unwrap();
    let below = MergedDir::open(lowers, root(), Clamp::none()).unwrap().map(Rc::new);
    let mut applier = Applier::new(root(), Below::Layers(below), u64::MAX, nowhere());
    apply_all(archive, &mut applier, &Interrupt::default()).map(|()| applier.leans())
}

/// Returns the tree that overlayfs shows of unpacked layers.
fn shown(lowers: &[PathBuf]) -> Tree {
    let upper = open_directory(lowers.last().unwrap()).unwrap();
    let root = MergedDir::open(lowers, upper, Clamp::none()).unwrap().unwrap();
    let mut tree = Tree::new();
    let node = Shown { kind: Kind::Directory, meta: root.read_meta().unwrap(), content: Vec::new() };
    tree.insert(Vec::new(), node);
    show(&root, b"", &mut tree);
    tree
}

fn show(directory: &MergedDir, path: &[u8], tree: &mut Tree) {
    assert!(!directory.shows_removals(), "a removal would be seen in `{}`", String::from_utf8_lossy(path));
    for name in directory.merged_names().unwrap() {
        let node = directory.read_node(&name).unwrap().unwrap();
        let child = if path.is_empty() { name.clone() } else { [path, &name].join(&b'/') };
        let mut content = Vec::new();
        match node.kind {
            Kind::File(_) => drop(directory.open_file(&name).unwrap().read_to_end(&mut content).unwrap()),
            Kind::Directory => show(&directory.directory(&name).unwrap().unwrap(), &child, tree),
            _ => {}
        }
        tree.insert(child, Shown { kind: node.kind, meta: node.meta, content });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Layers that are unpacked one by one and merged give the same tree as in a container engine.
    #[test]
    fn merging_unpacked_layers_equals_applying_them_to_one_tree(layers in model::any_layers(owner())) {
        let directory = tempfile::tempdir().unwrap();
        let mut lowers = Vec::new();
        for (number, (layer, expected)) in model::applied(layers, &nowhere()).into_iter().enumerate() {
            let path = directory.path().join(number.to_string());
            unpack(archive(&layer).as_slice(), &path, &lowers).unwrap();
            lowers.push(path);
            prop_assert_eq!(shown(&lowers), expected, "layer {} of {:?}", number, layer);
        }
    }

    /// A whole layer unpacks to the same directory above every stack.
    #[test]
    fn whole_layers_do_not_depend_on_the_layers_below(layers in model::any_layers(owner())) {
        let directory = tempfile::tempdir().unwrap();
        let mut layers = model::applied(layers, &nowhere());
        let (top, _) = layers.pop().unwrap();
        let mut lowers = Vec::new();
        for (number, (layer, _)) in layers.iter().enumerate() {
            let path = directory.path().join(number.to_string());
            unpack(archive(layer).as_slice(), &path, &lowers).unwrap();
            lowers.push(path);
        }
        let (above, alone) = (directory.path().join("above"), directory.path().join("alone"));
        let archive = archive(&top);
        if !unpack(archive.as_slice(), &above, &lowers).unwrap() {
            prop_assert!(!unpack(archive.as_slice(), &alone, &[]).unwrap());
            let (above, alone) = (open_directory(&above).unwrap(), open_directory(&alone).unwrap());
            use std::os::fd::AsFd;
            prop_assert!(super::compare::equal_trees(above.as_fd(), alone.as_fd()).unwrap());
        }
    }
}

/// Parses a layer with one entry per line: a path and the kind of the entry. `f=text` is a file,
/// `d` a directory, `->x` a symbolic link to `x`, `=x` a hard link to `x`, `gone` a removal,
/// `opaque` the removal of everything in the directory, `fifo` a pipe. A mode may follow.
fn layer(text: &str) -> Vec<Member> {
    let member = |line: &str| {
        let mut words = line.split_whitespace();
        let (path, what) = (words.next().unwrap().trim_matches('/'), words.next().unwrap());
        let kind = match what {
            "d" => Kind::Directory,
            "gone" => Kind::Whiteout,
            "opaque" => Kind::OpaqueWhiteout,
            "fifo" => Kind::Fifo,
            _ if what.starts_with("f=") => Kind::File(what.len() as u64 - 2),
            _ if what.starts_with("->") => Kind::Symlink(what[2..].into()),
            _ if what.starts_with('=') => Kind::Hardlink(what[1..].into()),
            _ => panic!("unknown kind `{what}`"),
        };
        let content = if let Kind::File(_) = kind { what[2..].into() } else { Vec::new() };
        let mode = words.next().map_or(0o755, |mode| u32::from_str_radix(mode, 8).unwrap());
        let mode = if let Kind::Symlink(_) = kind { 0o777 } else { mode };
        let meta = match kind {
            Kind::Whiteout | Kind::OpaqueWhiteout => Meta::NONE,
            _ => Meta { mode, ..owner() },
        };
        (Entry { path: path.into(), kind, meta }, content)
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(member).collect()
}

/// Formats a tree as one line: `a/` is a directory, `a=text` a file, `a->x` a link. A mode other
/// than 755 follows.
fn line(tree: &Tree) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words = tree.iter().filter(|(path, _)| !path.is_empty()).map(|(path, shown)| {
        let path = text(path);
        let word = match &shown.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File(_) => format!("{path}={}", text(&shown.content)),
            Kind::Symlink(target) => format!("{path}->{}", text(target)),
            kind => format!("{path}:{kind:?}"),
        };
        match shown.meta.mode {
            0o755 | 0o777 => word,
            mode => format!("{word}:{mode:o}"),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Layers as other builders make them, and the trees that container engines make of them. Each
/// upper layer is unpacked with its entries in this order. If the third column is true, it is also
/// unpacked in the opposite order.
#[test]
fn entries_in_any_order_above_anything() {
    const LOWER: &str = "app d 700\n app/old f=1\n app/sub d 1777\n app/sub/x f=2\n home d 2775\n home/u f=3\n \
                         lib ->usr/lib\n usr d\n usr/lib d 711\n usr/lib/so f=4\n file f=5 600\n loop ->loop";
    const REST: &str =
        "file=5:600 home/:2775 home/u=3 lib->usr/lib loop->loop usr/ usr/lib/:711 usr/lib/so=4";
    let app = "app/:700 app/old=1 app/sub/:1777 app/sub/x=2";
    let cases: &[(&str, &str, bool)] = &[
        // Opaque directories: entries of the same layer stay.
        ("app d\n app opaque\n app/fresh f=9", "app/ app/fresh=9", true),
        ("app opaque\n app/fresh f=9", "app/:700 app/fresh=9", true),
        ("app opaque", "app/:700", true),
        ("app/sub d\n app/sub/y f=9\n app opaque", "app/:700 app/sub/ app/sub/y=9", true),
        ("app/sub/y f=9\n app/sub opaque", "app/:700 app/old=1 app/sub/:1777 app/sub/y=9", true),
        ("app/sub opaque\n app opaque", "app/:700", true),
        ("app/sub/x gone\n app opaque", "app/:700", true),
        // Removals of existing names, together with an entry of the same name, and of missing
        // names.
        ("app gone", "", true),
        ("app/old gone\n app/sub gone", "app/:700", true),
        ("app/old gone\n app/old f=9", "app/:700 app/old=9 app/sub/:1777 app/sub/x=2", true),
        ("app gone\n app d 711", "app/:711", true),
        ("app d 711\n app gone\n app/sub d", "app/:711 app/sub/", true),
        ("app/sub/x gone\n app/sub gone", "app/:700 app/old=1", true),
        ("app/sub/x gone\n app gone", "", true),
        ("app/sub/x gone\n app/sub f=9\n app gone", "app/:700 app/sub=9", false),
        ("app/none gone\n none gone\n none/none gone\n file/x gone\n new d\n new/x gone", "APP new/", true),
        ("none opaque\n file opaque", "APP", true),
        ("lib/so gone", "APP -so", true),
        ("app gone\n app/x f=9", "app/ app/x=9", false),
        ("app/x f=9\n app gone", "app/:700 app/x=9", false),
        // Directories that the archive does not list, lists late, or lists twice.
        ("app/sub/new f=9", "APP app/sub/new=9", true),
        ("new/deep/x f=9", "APP new/ new/deep/ new/deep/x=9", true),
        ("app/sub/new f=9\n app d 711", "app/:711 app/old=1 app/sub/:1777 app/sub/new=9 app/sub/x=2", true),
        ("app d 711\n app d 700", "APP", false),
        // An entry of another type under the same name.
        ("app f=9", "app=9", true),
        ("app ->usr", "app->usr", true),
        ("app ->usr\n app/x f=9", "app->usr usr/x=9", false),
        ("app f=9\n app d", "app/", false),
        ("app fifo\n app d\n app/sub d", "app/ app/sub/", false),
        ("new f=1\n new f=2", "APP new=2", false),
        // Through links of lower layers. `links_of_lower_layers_are_followed_within_the_root` tests
        // other links.
        ("lib/new f=9", "APP usr/lib/new=9", true),
        ("lib/deep/x f=9", "APP usr/lib/deep/ usr/lib/deep/x=9", true),
        // Hard links to files of lower layers.
        ("h =app/old", "APP h=1", true),
        ("h =lib/so", "APP h=4", true),
        ("app/old gone\n h =usr/lib/so", "app/:700 app/sub/:1777 app/sub/x=2 h=4", true),
        ("h =app/old\n app gone", "h=1", false),
        ("new/h =app/old\n new =app/old", "APP new=1", false),
        ("h =app/old\n app/old f=9", "app/:700 app/old=9 app/sub/:1777 app/sub/x=2 h=1", false),
        ("h =app/old\n i =app/old\n h f=9", "APP h=9 i=1", false),
        ("app/old =app/old", "APP", true),
    ];
    for (upper, expected, any_order) in cases {
        let expected = expected.replace("APP", app);
        let expected = match expected.strip_suffix(" -so") {
            Some(rest) => format!("{rest} {}", REST.replace(" usr/lib/so=4", "")),
            None => format!("{expected} {REST}"),
        };
        let mut expected: Vec<_> = expected.split_whitespace().collect();
        expected.sort_by_key(|word| word.split([':', '=']).next().unwrap().trim_end_matches('/').to_owned());
        let mut members = layer(upper);
        for _ in 0..if *any_order { 2 } else { 1 } {
            let directory = tempfile::tempdir().unwrap();
            let (low, high) = (directory.path().join("low"), directory.path().join("high"));
            unpack(archive(&layer(LOWER)).as_slice(), &low, &[]).unwrap();
            unpack(archive(&members).as_slice(), &high, std::slice::from_ref(&low)).unwrap();
            let found = shown(&[low, high]);
            let mut words: Vec<_> = line(&found).split(' ').map(str::to_owned).collect();
            words.sort_by_key(|word| word.split([':', '=']).next().unwrap().trim_end_matches('/').to_owned());
            assert_eq!(words, expected, "{members:?}");
            let mut tree = Tree::new();
            for layer in [&layer(LOWER), &members] {
                let mut layering = Layering::start(&mut tree, nowhere());
                layer.iter().for_each(|member| layering.apply(member).unwrap());
            }
            assert_eq!(found, tree, "the model says something else of {members:?}");
            members.reverse();
        }
    }
}

#[test]
fn links_of_lower_layers_are_followed_within_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().to_str().unwrap();
    for target in [absolute, "../../../..", "/proc/self/cwd", "/", "."] {
        let directory = tempfile::tempdir().unwrap();
        let (low, high) = (directory.path().join("low"), directory.path().join("high"));
        unpack(archive(&layer(&format!("l ->{target}"))).as_slice(), &low, &[]).unwrap();
        let upper = layer("l/x f=9\n h =l/x\n l/none gone\n l/d d\n l/d opaque");
        unpack(archive(&upper).as_slice(), &high, std::slice::from_ref(&low)).unwrap();
        let tree = shown(&[low, high]);
        assert_eq!(tree[b"l".as_slice()].kind, Kind::Symlink(target.into()));
        assert!(tree.values().any(|shown| shown.content == b"9"));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{target}");
    }
}

#[test]
fn a_replaced_link_is_no_longer_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (low, high) = (directory.path().join("low"), directory.path().join("high"));
    unpack(archive(&layer("l ->.")).as_slice(), &low, &[]).unwrap();
    unpack(archive(&layer("l/l d\n l/l f=9")).as_slice(), &high, std::slice::from_ref(&low)).unwrap();
    assert_eq!(line(&shown(&[low, high])), "l/ l/l=9");
}

#[test]
fn an_entry_that_cannot_be_applied_is_an_error() {
    let lower = "d d\n d/f f=1\n f f=1\n loop ->loop";
    for (upper, path) in [
        ("h =absent", "h"),
        ("h =d", "h"),
        ("h =d/absent", "h"),
        ("d =d/f", "d"),
        ("d/f gone\n h =d/f", "h"),
        ("f/x f=1", "f/x"),
        ("loop/x f=1", "loop/x"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (low, high) = (directory.path().join("low"), directory.path().join("high"));
        unpack(archive(&layer(lower)).as_slice(), &low, &[]).unwrap();
        let result = unpack(archive(&layer(upper)).as_slice(), &high, std::slice::from_ref(&low));
        assert!(matches!(&result, Err(LayerError::Apply { path: found, .. }) if found == path), "{result:?}");
    }
}

#[test]
fn a_link_and_its_original_of_a_lower_layer_are_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (low, high) = (directory.path().join("low"), directory.path().join("high"));
    unpack(archive(&layer("d d 700\n d/f f=1 4711")).as_slice(), &low, &[]).unwrap();
    let leans =
        unpack(archive(&layer("a =d/f\n b =d/f\n c =b")).as_slice(), &high, std::slice::from_ref(&low));
    assert!(leans.unwrap());
    let stat = |path: &str| fs::symlink_metadata(high.join(path)).unwrap();
    let (first, links) = (stat("a").ino(), ["b", "c", "d/f"].map(|path| stat(path).ino()));
    assert_eq!((links, stat("a").nlink(), stat("a").mode() & 0o7777), ([first; 3], 4, 0o4711));
    assert_eq!(stat("d").mode() & 0o7777, 0o700);
}

#[test]
fn files_of_aufs_in_the_root_are_not_part_of_a_layer() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(owner().uid.into());
        header.set_gid(owner().gid.into());
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_path(path).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    add("./", tar::EntryType::Directory, "", b"");
    add(".wh..wh.aufs", tar::EntryType::Regular, "", b"");
    add(".wh..wh.orph/", tar::EntryType::Directory, "", b"");
    add(".wh..wh.plnk/", tar::EntryType::Directory, "", b"");
    add(".wh..wh.plnk/1.2", tar::EntryType::Regular, "", b"linked");
    add("a", tar::EntryType::Link, ".wh..wh.plnk/1.2", b"");
    add("b", tar::EntryType::Link, ".wh..wh.plnk/1.2", b"");
    add("gone", tar::EntryType::Char, "", b"");
    let archive = builder.into_inner().unwrap();
    let root = directory.path().join("root");
    unpack(archive.as_slice(), &root, &[]).unwrap();
    let tree = shown(std::slice::from_ref(&root));
    let names: BTreeMap<_, _> = tree.iter().map(|(path, shown)| (path.as_slice(), &*shown.content)).collect();
    assert_eq!(names, [(b"".as_slice(), b"".as_slice()), (b"a", b"linked"), (b"b", b"linked")].into());
    assert_eq!(fs::metadata(root.join("a")).unwrap().nlink(), 2);
}

/// Unpacks into `outer/root`, beside a file `outer/secret`, which must not change. No other file
/// may appear beside it.
fn unpack_in(text: &str, look: impl FnOnce(&Path, Result<bool, LayerError>)) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let result = unpack(archive(&layer(text)).as_slice(), &root, &[]);
    assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"secret", "{text}");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "{text}");
    look(&root, result);
}

#[test]
fn nothing_is_written_outside() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().to_str().unwrap();
    let attacks = [
        "../secret f=x",
        "a/../../secret f=x",
        "l ->..\n l/secret f=x",
        "l ->../../..\n l/tmp/x f=x",
        "l ->OUT\n l/x f=x",
        "l ->OUT\n l/d d\n l/d/x f=x",
        "l ->OUT\n l d",
        "l d\n l ->OUT\n l/x f=x",
        "a ->b\n b ->OUT\n a/x f=x",
        "l ->../secret\n l f=x",
        "l ->../secret\n h =l\n h f=x",
        "h =../secret\n h f=x",
        "l ->..\n h =l/secret",
        "l ->/proc/self/cwd\n l/x f=x",
        "l ->OUT\n l opaque\n l/x gone",
    ];
    for attack in attacks {
        unpack_in(&attack.replace("OUT", absolute), |_, _| {});
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{attack:?}");
    }
}

#[test]
fn links_lead_where_they_would_in_a_chroot() {
    unpack_in("lib ->usr/lib\n usr d\n usr/lib d\n lib/x f=x", |root, result| {
        result.unwrap();
        assert_eq!(fs::read(root.join("usr/lib/x")).unwrap(), b"x");
    });
    unpack_in("run d\n var ->/run\n var/x f=x", |root, result| {
        result.unwrap();
        assert_eq!(fs::read(root.join("run/x")).unwrap(), b"x");
    });
}

#[test]
fn times_of_directories_survive_their_content() {
    unpack_in(" / d\n d d\n d/x f=1\n d/y =d/x", |root, result| {
        assert!(!result.unwrap(), "the layer is whole");
        for path in ["", "d", "d/x"] {
            assert_eq!(fs::metadata(root.join(path)).unwrap().mtime(), 77, "{path}");
        }
        assert_eq!(fs::metadata(root.join("d/x")).unwrap().nlink(), 2);
    });
}

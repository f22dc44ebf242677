//! Making a layer of what a step left behind, and unpacking one: beside the least that any tool
//! could do, and beside tar.
//!
//! Needs root, and once, for the tree, the network.

mod fixture;
mod race;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use fixture::{EPOCH, copy_tree, files, machine_tree, run, scratch, text};
use plywood::layer::{CaptureRules, Clamp};
use plywood::oci::{Digest, Hasher, ImageConfig};
use plywood::output::{ContainerImage, Destination, write_docker_archive};
use plywood::port::{Commit, Layer, LayerStore, Workspace};
use plywood::store::Store;
use race::Race;
use tempfile::TempDir;

fn main() {
    let tree = machine_tree();
    create(&tree);
    unpack(&tree);
    export(&tree);
}

/// A store of its own with a step's result in it.
struct Step {
    workspace: Box<dyn Workspace>,
    store: Store,
    directory: TempDir,
}

impl Step {
    fn of(tree: &Path) -> Self {
        let directory = scratch();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let workspace = store.workspace(&[]).unwrap();
        copy_tree(tree, workspace.upper());
        Self { workspace, store, directory }
    }

    fn commit(self) -> (Layer, Store, TempDir) {
        let commit = Commit { clamp: Clamp::to(EPOCH), rules: CaptureRules::default() };
        let layer = self.workspace.commit(&commit).unwrap().expect("the tree is not empty");
        (layer, self.store, self.directory)
    }
}

fn create(tree: &Path) {
    let out = scratch();
    let blob = out.path().join("blob");
    let arguments = [text(tree), text(&blob)];
    Race::new("Making a layer")
        .enter("peer: read, SHA-256, zstd -3 on all cores, sync", || read_hash_compress(tree, &blob))
        .enter_prepared(
            "**plywood: normalize, diff, tar, DiffID, zstd -3, digest, sync**",
            || Step::of(tree),
            Step::commit,
        )
        .enter(r"GNU tar \| cat", || run(r#"tar -C "$1" -c . | cat >/dev/null"#, &arguments))
        .enter(r"GNU tar \| zstd -3 -T2", || {
            run(r#"tar -C "$1" -c . | zstd -q -3 -T2 -f -o "$2""#, &arguments)
        })
        .run();
}

/// Everything that is unpacked stays until the end: for a while after an inode was freed, ext4
/// searches for a better one.
fn unpack(tree: &Path) {
    let (layer, store, directory) = Step::of(tree).commit();
    let blob = directory.path().join("store/blobs/sha256").join(layer.blob.hex());
    let snapshot = store.path().join("snapshots").join(layer.diff_id.hex());
    let (aside, number) = (scratch(), Cell::new(0));
    let fresh = || {
        number.set(number.get() + 1);
        aside.path().join(number.get().to_string())
    };
    let arguments = |to: PathBuf| [text(&blob).to_owned(), text(&to).to_owned()];
    Race::new("Unpacking a layer")
        .enter_prepared(
            r"zstd -d \| GNU tar x",
            || arguments(fresh()),
            |[blob, to]| run(r#"mkdir "$2"; zstd -qdc "$1" | tar -C "$2" -x"#, &[&blob, &to]),
        )
        .enter_prepared(
            "**plywood: verify, unpack**",
            || fs::rename(&snapshot, fresh()).unwrap(),
            |()| store.snapshots().unpack(&[layer.diff_id]).unwrap(),
        )
        .run();
}

/// A layer in the forms that engines read.
fn export(tree: &Path) {
    let (layer, store, directory) = Step::of(tree).commit();
    let blob = directory.path().join("store/blobs/sha256").join(layer.blob.hex());
    let config = ImageConfig::new("amd64", EPOCH).unwrap();
    let config = config.to_bytes();
    let image = ContainerImage { name: "bench", config: &config, diff_ids: &[layer.diff_id] };
    let [archive, plain] = ["bench.docker.tar", "layer.tar"].map(|name| directory.path().join(name));
    Race::new("A layer as a Docker archive")
        .enter("floor: zstd -d to a file, sync", || {
            run(r#"zstd -qdf "$1" -o "$2"; sync "$2""#, &[text(&blob), text(&plain)])
        })
        .enter("**plywood: verify, decode, archive, digest, sync**", || {
            write_docker_archive(&image, &store.layers(), &Destination::at(&archive).unwrap()).unwrap()
        })
        .run();
}

/// Reads every file once, hashes what it read, and compresses it into a file.
fn read_hash_compress(tree: &Path, blob: &Path) -> Digest {
    let (to_hash, to_be_hashed) = sync_channel(4);
    let (to_compress, to_be_compressed) = sync_channel(4);
    thread::scope(|scope| {
        let hashing = scope.spawn(|| hash(to_be_hashed));
        let compressing = scope.spawn(|| compress(to_be_compressed, File::create(blob).unwrap()));
        read_chunks(tree, |chunk| {
            to_hash.send(chunk.clone()).unwrap();
            to_compress.send(chunk).unwrap();
        });
        drop((to_hash, to_compress));
        compressing.join().unwrap().unwrap();
        hashing.join().unwrap()
    })
}

/// Reads every file of a tree, and hands out what is in them in large pieces.
fn read_chunks(tree: &Path, send: impl Fn(Arc<Vec<u8>>)) {
    let mut chunk = Vec::new();
    for path in files(tree) {
        File::open(path).unwrap().read_to_end(&mut chunk).unwrap();
        if chunk.len() >= CHUNK_BYTES {
            send(Arc::new(std::mem::take(&mut chunk)));
        }
    }
    send(Arc::new(chunk));
}

const CHUNK_BYTES: usize = 1 << 20;

fn hash(chunks: Receiver<Arc<Vec<u8>>>) -> Digest {
    let mut hasher = Hasher::default();
    chunks.iter().for_each(|chunk| hasher.update(&chunk));
    hasher.finish()
}

fn compress(chunks: Receiver<Arc<Vec<u8>>>, blob: File) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(blob, 3)?;
    encoder.multithread(thread::available_parallelism()?.get() as u32)?;
    chunks.iter().try_for_each(|chunk| encoder.write_all(&chunk))?;
    encoder.finish()?.sync_all()
}

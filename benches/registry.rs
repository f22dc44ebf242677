//! Images to and from a registry of this machine, beside skopeo.
//!
//! Needs root, `docker-registry`, `skopeo`, and once, for the image, the network.

mod fixture;
mod race;

#[path = "../tests/common/fault.rs"]
#[allow(dead_code, reason = "only counts requests here")]
mod fault;
#[path = "../tests/common/registry.rs"]
#[allow(dead_code, reason = "only open registries are used here")]
mod registry;

use std::path::{Path, PathBuf};

use fault::Proxy;
use fixture::{EPOCH, machine_tree, run, scratch, text};
use plywood::oci::ImageConfig;
use plywood::port::Layer;
use plywood::store::Store;
use race::Race;
use registry::{Door, Server};
use tempfile::TempDir;

/// What each layer holds of the tree; the last also has what no other has.
const PARTS: [&str; 6] =
    ["usr/share", "usr/lib/gcc", "usr/lib/modules", "usr/bin", "usr/include", "usr/lib/git-core"];

fn main() {
    let image = Image::make(&machine_tree());
    first_push(&image);
    unchanged_push(&image);
    pull(&image);
    half_a_pull(&image);
}

/// An image in a store, and half of it as another.
struct Image {
    directory: TempDir,
}

impl Image {
    fn make(tree: &Path) -> Self {
        let this = Self { directory: scratch() };
        let store = Store::open(&this.store()).unwrap();
        let layers: Vec<_> = PARTS.iter().map(|part| this.layer(&store, tree, part)).collect();
        save(&store, "whole", &layers);
        save(&store, "half", &layers[..layers.len() / 2]);
        this
    }

    fn layer(&self, store: &Store, tree: &Path, part: &str) -> Layer {
        let archive = self.directory.path().join("layer.tar.zst");
        let script = r#"tar -C "$1" --sort=name -c "$2" | zstd -q -3 -T2 -f -o "$3""#;
        run(script, &[text(tree), part, text(&archive)]);
        let imported = store.bases().import_rootfs_tar(&archive).unwrap();
        store.layers().require(&imported.diff_ids[0]).unwrap()
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Returns a registry that has both images.
    fn served(&self) -> Server {
        let server = Server::start(Door::Open);
        for name in ["whole", "half"] {
            skopeo_push(&self.store(), name, &server.host());
        }
        server
    }
}

fn save(store: &Store, name: &str, layers: &[Layer]) {
    let mut config = ImageConfig::new("amd64", EPOCH).unwrap();
    layers.iter().for_each(|layer| config.push_step("bench", &[layer.diff_id]));
    store.builds().put_container(name, &config.to_bytes(), layers).unwrap();
}

fn skopeo_push(store: &Path, name: &str, host: &str) {
    let script = r#"skopeo copy -q --insecure-policy --dest-tls-verify=false "oci:$1:container/$2" "docker://$3/$2:1""#;
    run(script, &[text(store), name, host]);
}

fn plywood_push(store: &Path, name: &str, host: &str) {
    run(
        r#""$1" -q --store "$2" push "$3" "$4/$3:1""#,
        &[env!("CARGO_BIN_EXE_plywood"), text(store), name, host],
    );
}

fn skopeo_pull(host: &str, name: &str, to: &Path) {
    let script = r#"skopeo copy -q --insecure-policy --src-tls-verify=false "docker://$1/$2:1" "oci:$3:$2""#;
    run(script, &[host, name, text(to)]);
}

fn plywood_pull(host: &str, name: &str, to: &Path) {
    run(r#""$1" -q --store "$2" pull "$3/$4:1""#, &[env!("CARGO_BIN_EXE_plywood"), text(to), host, name]);
}

fn first_push(image: &Image) {
    let fresh = || Server::start(Door::Open);
    let store = image.store();
    Race::new("First push")
        .enter_prepared("skopeo copy", fresh, |server| {
            skopeo_push(&store, "whole", &server.host());
            server
        })
        .enter_prepared("**plywood push**", fresh, |server| {
            plywood_push(&store, "whole", &server.host());
            server
        })
        .run();
}

fn unchanged_push(image: &Image) {
    let server = image.served();
    let store = image.store();
    Race::new("Unchanged push")
        .enter("skopeo copy", || skopeo_push(&store, "whole", &server.host()))
        .enter("**plywood push**", || plywood_push(&store, "whole", &server.host()))
        .run();
    let proxy = Proxy::start(server.port());
    skopeo_push(&store, "whole", &proxy.host());
    let skopeo = proxy.take().len();
    plywood_push(&store, "whole", &proxy.host());
    println!(
        "Requests of an unchanged push of {} layers: skopeo {skopeo}, plywood {}.\n",
        PARTS.len(),
        proxy.take().len()
    );
}

fn pull(image: &Image) {
    let server = image.served();
    let host = server.host();
    Race::new("Pull to an empty store")
        .enter_prepared("skopeo copy to an OCI layout", scratch, |to| {
            skopeo_pull(&host, "whole", to.path());
            to
        })
        .enter_prepared("the same, and sync what was written", scratch, |to| {
            skopeo_pull(&host, "whole", to.path());
            sync(to.path());
            to
        })
        .enter_prepared("**plywood pull: digests, sync**", scratch, |to| {
            plywood_pull(&host, "whole", to.path());
            to
        })
        .run();
}

fn half_a_pull(image: &Image) {
    let server = image.served();
    let host = server.host();
    let half = |pull: fn(&str, &str, &Path)| {
        let to = scratch();
        pull(&host, "half", to.path());
        to
    };
    Race::new("Pull with half the blobs there")
        .enter_prepared(
            "skopeo copy to an OCI layout",
            || half(skopeo_pull),
            |to| {
                skopeo_pull(&host, "whole", to.path());
                to
            },
        )
        .enter_prepared(
            "the same, and sync what was written",
            || half(skopeo_pull),
            |to| {
                skopeo_pull(&host, "whole", to.path());
                sync(to.path());
                to
            },
        )
        .enter_prepared(
            "**plywood pull**",
            || half(plywood_pull),
            |to| {
                plywood_pull(&host, "whole", to.path());
                to
            },
        )
        .run();
}

fn sync(directory: &Path) {
    run(r#"find "$1" -type f -exec sync {} +"#, &[text(directory)]);
}

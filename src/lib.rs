//! plywood builds diskimage-builder elements into cached, reproducible OCI layers, and writes the
//! layers as bootable disks and builder containers.
//!
//! ```text
//! read -> resolve -> plan -> build -> output
//! ```
//!
//! The modules (`tests/architecture.rs` checks the imports between them):
//!
//! | module | content |
//! |---|---|
//! | [`oci`] | digest, DiffID, ChainID, manifest, config, canonical JSON |
//! | [`trust`] | keys, signatures, the policy for signatures |
//! | [`layer`] | entries, changesets, whiteouts, tar encoding and decoding, capture rules |
//! | [`element`], [`distro`], [`image`], [`disk`] | the user's definitions, as values; `distro` and `disk` import `element`, `image` imports all three, all import `oci` |
//! | [`host`] | the requirements of a build on its host: checks, findings, cures |
//! | [`plan`] | ordered steps, their keys, the reasons of a cache miss |
//! | [`port`] | the traits through which a build uses its surroundings |
//! | [`share`] | built steps in the form in which machines share them: artifact manifests, tags |
//! | [`exec`] | starts programs of the machine |
//! | [`tree`] | reads trees of files by directory handles: names, metadata, extended attributes, hard links, holes |
//! | [`directory`] | opens directories that other users may write to, and files in them, and follows none of their links |
//! | [`load`], [`staging`], [`probe`], [`sandbox`], [`package`], [`source`], [`store`], [`block`], [`output`], [`registry`] | the edges: one danger each |
//! | [`dropin`] | diskimage-builder's command lines, YAML definitions and log lines, as values |
//! | [`build`] | runs a plan, through ports only |
//! | [`engine`] | the verbs of plywood: resolves images, connects edges to ports, makes the decisions |
//! | [`cli`] | arguments, messages, exit status: front ends of the engine |
//!
//! Core modules import core modules, downwards. The foundations `exec` and `tree` import core
//! alone, and `directory` imports `tree`. Edges import core and the foundations. `build` imports
//! core alone. `engine` imports all of these, and only `cli` imports `engine`: beside it and core,
//! `cli` imports `load`, `directory`, `exec` and `probe` alone. Nothing imports `cli`.

pub mod block;
pub mod build;
pub mod cli;
pub mod directory;
pub mod disk;
pub mod distro;
pub mod dropin;
pub mod element;
pub mod engine;
pub mod exec;
pub mod host;
pub mod image;
pub mod layer;
pub mod load;
pub mod oci;
pub mod output;
pub mod package;
pub mod plan;
pub mod port;
pub mod probe;
pub mod registry;
pub mod sandbox;
pub mod share;
pub mod source;
pub mod staging;
pub mod store;
pub mod tree;
pub mod trust;

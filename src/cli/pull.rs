//! `plywood pull`: an image of a registry in the store.

use std::process::ExitCode;

use super::Process;
use super::args::{Global, Pull};
use super::build::detail;
use super::context::open_store;
use super::fetch::Fetch;
use super::progress::renderer;
use super::registry::client;
use super::report::Failure;
use crate::oci::Reference;

/// Fetches the image and gives it its reference as name in the store's index.
pub(super) fn run(global: &Global, args: &Pull, process: &Process) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    let store = open_store(global)?;
    let events = renderer(args.progress, detail(global));
    let client = client(global, process)?;
    let fetch = Fetch { client: &client, store: &store, events: events.as_ref() };
    let fetched = fetch.image(&reference)?;
    drop(events);
    let digest = store.save_image(&reference.to_string(), &fetched.manifest.bytes)?;
    println!("{reference}: {} layers, manifest {digest}", fetched.layers.len());
    println!(
        "in the store: `plywood push {reference} REF` sends it on, `plywood import {reference} NAME` makes it a base"
    );
    Ok(ExitCode::SUCCESS)
}

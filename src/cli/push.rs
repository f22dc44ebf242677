//! `plywood push`: uploads an image to a registry.

use std::process::ExitCode;

use super::answer::say;
use super::args::{Global, Push, PushFormat};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{self, Pushed, Session};
use crate::oci::Reference;

/// Uploads the image, and prints its new reference.
pub(super) fn run(global: &Global, args: &Push, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    let events = renderer(args.progress, Detail::of(global));
    let push = engine::Push {
        session,
        image: &args.image,
        what: match args.format {
            PushFormat::Oci => Pushed::Container,
            PushFormat::Qcow2 => Pushed::Disk,
            PushFormat::Containerdisk => Pushed::ContainerDisk,
        },
        reference: &reference,
        directory: &global.output_directory(args.output.as_deref()),
        events: events.as_ref(),
    };
    let digest = push.run()?;
    // Clear a live display first, or it would draw over the answer.
    drop(events);
    say!("{}@{digest}", reference.repository)?;
    Ok(ExitCode::SUCCESS)
}

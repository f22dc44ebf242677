//! `plywood build`: layers, then outputs.

use std::num::NonZeroU64;
use std::process::ExitCode;

use super::args::{Build, CacheTo, Global, OnError, Progress};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::disk::ByteSize;
use crate::dropin::{BreakPoints, OutputType};
use crate::engine::{
    Extras, OnFailure, OnMiss, Options, OutputDirectory, Pauses, Project, PublishTo, Reach, Reuse, Session,
    Unpublished, Wanted, build,
};
use crate::port::{Event, Limits};

/// Builds the images named on the command line.
pub(super) fn run(global: &Global, args: &Build, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let output = global.output_directory(args.output.as_deref());
    let project =
        Project::load(session)?.in_order(args.order).offline(args.offline).writing_to(output.clone());
    let wanted = wanted(&project, args)?;
    let events = renderer(progress(args), Detail::of(global));
    let points = BreakPoints::after_error();
    let say = |message: &str| events.emit(Event::Warning { message });
    let options = Options {
        environment: &session.environment,
        reach: if args.offline { Reach::Offline } else { Reach::Online },
        limits: limits(args, &project),
        reuse: if args.no_cache { Reuse::Refused } else { Reuse::Allowed },
        on_miss: if args.fail_on_miss { OnMiss::Fail } else { OnMiss::Build },
        on_failure: if args.keep_failed { OnFailure::Keep } else { OnFailure::Discard },
        cache_from: &args.cache_from.cache_from,
        publish_to: publish_to(&args.cache_to),
        unpublished: Unpublished::IsFailure,
        breaks: (args.on_error == OnError::Shell).then_some(Pauses { points: &points, say: &say }),
        extras: &Extras::default(),
        places: &OutputDirectory(output),
        inspect: None,
    };
    build(session, &project, wanted, &options, events.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the named images, each with the named formats or its own.
fn wanted<'a>(project: &'a Project, args: &Build) -> Result<Vec<Wanted<'a>>, Failure> {
    let images = project.select(&args.images)?.into_iter().map(|(name, image)| {
        let formats = if args.format.is_empty() { &image.outputs } else { &args.format };
        let outputs = formats.iter().copied().map(OutputType::File).collect();
        Ok(Wanted { image: project.elements_of(name, image)?, outputs })
    });
    images.collect()
}

fn publish_to(args: &CacheTo) -> PublishTo {
    PublishTo { repository: args.cache_to.clone(), key: args.sign_key.clone() }
}

/// Returns the limits of hooks: those of the command line, then those of the project.
fn limits(args: &Build, project: &Project) -> Limits {
    let (given, set) = (&args.limits, &project.file.limits);
    Limits {
        time: given.hook_timeout.or(set.hook_timeout).map(NonZeroU64::get),
        processes: given.hook_processes.or(set.hook_processes).map(NonZeroU64::get),
        memory: given.hook_memory.or(set.hook_memory).map(ByteSize::bytes),
    }
}

/// Returns the kind of display. A live display cannot share the terminal with a shell.
fn progress(args: &Build) -> Progress {
    match (args.progress, args.on_error) {
        (Progress::Auto, OnError::Shell) => Progress::Plain,
        (progress, _) => progress,
    }
}

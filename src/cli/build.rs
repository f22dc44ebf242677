//! `plywood build`: layers, then outputs.

use std::process::ExitCode;

use super::Process;
use super::args::{Build, Global};
use super::context::{Context, absolute};
use super::outputs::Outputs;
use super::preflight::check;
use super::progress::{Detail, renderer};
use super::report::Failure;
use super::wiring::Edges;
use crate::build::{Builder, OnMiss, Reuse};
use crate::image::{ImageDefinition, ImageName, OutputFormat};
use crate::plan::{Plan, Seal};
use crate::port::Event;

/// Builds the images that the command line names.
pub(super) fn run(global: &Global, args: &Build, process: &Process) -> Result<ExitCode, Failure> {
    let context = Context::load(global)?;
    let images = context.select(&args.images)?;
    let edges = Edges::new(global, process)?;
    let seal = edges.seal()?;
    let requests = images
        .into_iter()
        .map(|(name, image)| Request::new(&context, args, &seal, name, image))
        .collect::<Result<Vec<_>, _>>()?;
    for request in &requests {
        check(&edges.store, &request.plan, request.image, &request.formats)?;
    }
    let events = renderer(args.progress, detail(global));
    requests.iter().flat_map(|request| &request.warnings).for_each(|message| {
        events.emit(Event::Warning { message });
    });
    let builder = Builder {
        ports: edges.ports(events.as_ref()),
        reuse: if args.no_cache { Reuse::Refused } else { Reuse::Allowed },
        on_miss: if args.fail_on_miss { OnMiss::Fail } else { OnMiss::Build },
    };
    for request in &requests {
        request.build(&builder, &edges, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn detail(global: &Global) -> Detail {
    match (global.quiet, global.verbose) {
        (true, _) => Detail::Quiet,
        (_, true) => Detail::Verbose,
        _ => Detail::Normal,
    }
}

/// One image to build.
struct Request<'a> {
    image: &'a ImageDefinition,
    plan: Plan,
    formats: Vec<OutputFormat>,
    warnings: Vec<String>,
}

impl<'a> Request<'a> {
    fn new(
        context: &Context,
        args: &Build,
        seal: &Seal,
        name: &ImageName,
        image: &'a ImageDefinition,
    ) -> Result<Self, Failure> {
        let formats = if args.format.is_empty() { image.outputs.clone() } else { args.format.clone() };
        let warnings = context.warnings(name, image)?;
        Ok(Self { image, plan: context.plan(name, image, seal)?, formats, warnings })
    }

    fn build(&self, builder: &Builder<'_>, edges: &Edges, args: &Build) -> Result<(), Failure> {
        let steps = builder.stack(&self.plan)?;
        let stack: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        let packages = builder.inventory(&self.plan, &stack)?;
        let outputs = Outputs {
            builder,
            store: &edges.store,
            plan: &self.plan,
            steps: &steps,
            image: self.image,
            directory: absolute(&args.output)?,
            interrupted: edges.interrupted.clone(),
        };
        outputs.write(packages, &self.formats)
    }
}

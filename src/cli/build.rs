//! `plywood build`: layers, then outputs.

use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;

use super::args::{Build, CacheTo, Global, OnError, Progress};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::BreakIns;
use crate::engine::Delivery;
use crate::engine::Disk;
use crate::engine::Host;
use crate::engine::check;
use crate::engine::fetch_missing;
use crate::engine::{Context, absolute};
use crate::engine::{Edges, PublishTo, Session};
use crate::engine::{Extras, InDirectory, Naming, Outputs};
use crate::engine::{Sources, Target};
use crate::engine::{client, look_up_client};

use crate::build::{
    Builder, BuiltStep, ImageManifest, OnFailure, OnMiss, OutputEntry, Package, Ports, Registries, Reuse,
};
use crate::disk::ByteSize;
use crate::dropin::{BreakPoints, OutputType};
use crate::image::{ImageDefinition, ImageName, OutputFormat};
use crate::oci::DiffId;
use crate::output::{Destination, check_oci_layout, write_file};
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::{Breaks, Event, Limits};
use crate::store::Store;

/// How the name of an image's manifest ends.
const MANIFEST: &str = "manifest.json";

/// Builds the images that the command line names.
pub(super) fn run(global: &Global, args: &Build, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let output = global.output_directory(args.output.as_deref());
    let context =
        Context::load(session)?.in_order(args.order).offline(args.offline).writing_to(output.clone());
    let images = context.select(&args.images)?;
    let reach = if args.offline { Reach::Offline } else { Reach::Online };
    let edges = Edges::new(session, session.environment.clone(), reach)?.limited(limits(args, &context))?;
    let requests = images
        .into_iter()
        .map(|(name, image)| Request::new(&context, args, &edges.store, name, image))
        .collect::<Result<Vec<_>, _>>()?;
    let events = renderer(progress(args), Detail::of(global));
    let sources =
        Sources::new(&context, &args.cache_from.cache_from, &look_up_client(session)?, events.as_ref());
    let target = match reach {
        Reach::Offline => None,
        _ => Target::new(&context, &publish_to(&args.cache_to), &client(session)?, events.as_ref())?,
    };
    let reuse = if args.no_cache { Reuse::Refused } else { Reuse::Allowed };
    let registries = match reuse {
        Reuse::Allowed if !args.offline => sources.registries(),
        _ => Registries::none(events.as_ref()),
    };
    let host = Host::of(session.process);
    let output = global.output_directory(args.output.as_deref());
    for request in &requests {
        request.check_places(&output)?;
        let found = check(
            &host,
            &edges.store,
            &edges.files,
            &request.plan,
            &request.disk,
            &request.outputs,
            &registries,
        )?;
        found.iter().for_each(|message| events.emit(Event::Warning { message }));
    }
    requests.iter().flat_map(|request| &request.warnings).for_each(|message| {
        events.emit(Event::Warning { message });
    });
    let points = BreakPoints::after_error();
    let say = |message: &str| events.emit(Event::Warning { message });
    let pauses = BreakIns { breaks: &points, environment: &session.environment, say: &say };
    let breaks = (args.on_error == OnError::Shell).then_some(pauses);
    let builder = Builder {
        ports: Ports {
            breaks: breaks.as_ref().map(|breaks| breaks as &dyn Breaks),
            ..edges.ports(events.as_ref())
        },
        reuse,
        on_miss: if args.fail_on_miss { OnMiss::Fail } else { OnMiss::Build },
        on_failure: if args.keep_failed { OnFailure::Keep } else { OnFailure::Discard },
        registries: &registries,
        surroundings: None,
    };
    // An image that could not be published is there all the same, and so are those after it.
    let mut unpublished = Ok(());
    for request in &requests {
        let build = || request.build(&builder, &edges, &output);
        let steps = build().or_else(|failure| {
            // A base that was imported from a registry may be fetched again, once; everything built so far is a hit then.
            if args.offline {
                return Err(failure);
            }
            fetch_missing(failure, session, &edges.store, &request.plan, events.as_ref())?;
            build()
        })?;
        if let Some(target) = &target {
            let compression = request.image.container.compression;
            let published = target.publish(&builder, &edges.store, &request.plan, &steps, compression);
            unpublished = unpublished.and(published);
        }
    }
    unpublished.map(|()| ExitCode::SUCCESS)
}

fn publish_to(args: &CacheTo) -> PublishTo {
    PublishTo { repository: args.cache_to.clone(), key: args.sign_key.clone() }
}

/// Returns the limits of hooks: those of the command line, else those of the project.
fn limits(args: &Build, context: &Context) -> Limits {
    let (given, set) = (&args.limits, &context.project.limits);
    Limits {
        time: given.hook_timeout.or(set.hook_timeout).map(NonZeroU64::get),
        processes: given.hook_processes.or(set.hook_processes).map(NonZeroU64::get),
        memory: given.hook_memory.or(set.hook_memory).map(ByteSize::bytes),
    }
}

/// Returns the kind of display: a live one cannot share the terminal with a shell.
fn progress(args: &Build) -> Progress {
    match (args.progress, args.on_error) {
        (Progress::Auto, OnError::Shell) => Progress::Plain,
        (progress, _) => progress,
    }
}

/// One image to build.
struct Request<'a> {
    image: &'a ImageDefinition,
    plan: Plan,
    disk: Disk,
    outputs: Vec<OutputType>,
    warnings: Vec<String>,
}

impl<'a> Request<'a> {
    fn new(
        context: &Context,
        args: &Build,
        store: &Store,
        name: &ImageName,
        image: &'a ImageDefinition,
    ) -> Result<Self, Failure> {
        let formats = if args.format.is_empty() { &image.outputs } else { &args.format };
        let outputs = formats.iter().copied().map(OutputType::File).collect();
        let disk = context.disk(name, image)?;
        let warnings = context.warnings(name, image)?;
        Ok(Self { image, plan: context.plan(name, image, store)?, disk, outputs, warnings })
    }

    /// Fails if an output could not be put in place. A directory that is not there is made when there is something to put there.
    fn check_places(&self, output: &Path) -> Result<(), Failure> {
        let path = absolute(output)?;
        if !path.exists() {
            return Ok(());
        }
        let naming = InDirectory::new(&path, &self.plan.image)?;
        for output in &self.outputs {
            let destination = naming.destination(output, output.extension().unwrap_or_default());
            match output {
                OutputType::File(OutputFormat::Oci) => check_oci_layout(&destination)?,
                _ => destination.check()?,
            }
        }
        Ok(Destination::new(naming.directory(), &naming.file(MANIFEST)).check()?)
    }

    /// Makes the layers and writes the outputs; returns the steps, with the final stage where an output has its layer.
    fn build(&self, builder: &Builder<'_>, edges: &Edges, output: &Path) -> Result<Vec<BuiltStep>, Failure> {
        let steps = builder.stack(&self.plan)?;
        let stack: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        let packages = self.inventory(builder, edges, &stack)?;
        let mut manifest = ImageManifest::new(&self.plan, &steps, packages);
        let naming = InDirectory::new(&absolute(output)?, &self.plan.image)?;
        let outputs = Outputs {
            builder,
            store: &edges.store,
            plan: &self.plan,
            steps: &steps,
            image: self.image,
            disk: self.disk.request(&self.plan.image, self.plan.source_date_epoch),
            naming: &naming,
            extras: &Extras::default(),
            interrupted: edges.interrupted.clone(),
        };
        let directory = naming.directory();
        let delivery = Delivery { work: directory, beside: directory, own: &|_, _| Ok(()) };
        // Before the outputs: a file that a hook left under the name of an output is replaced by that.
        delivery.run(builder, &self.plan, &steps)?;
        let steps = outputs.write(&mut manifest, &self.outputs)?;
        self.take_over_earlier(builder, &mut manifest, &naming);
        self.save(&manifest, &steps, &naming, edges)?;
        // Last: until the image is built, its failure is worth a look.
        edges.store.forget_failed(&self.plan.image)?;
        Ok(steps)
    }

    /// Returns the packages of a stack of layers. Asking its package manager takes a sandbox on all layers, unpacked and looked
    /// through, so the answer is taken over from the last build if that had the same layers.
    fn inventory(
        &self,
        builder: &Builder<'_>,
        edges: &Edges,
        stack: &[DiffId],
    ) -> Result<Vec<Package>, Failure> {
        let known = match builder.reuse {
            // A manifest that is damaged is replaced by this build's.
            Reuse::Allowed => edges.store.last_build(&self.plan.image).ok().flatten(),
            Reuse::Refused => None,
        };
        match known.and_then(|document| ImageManifest::packages_of(&document, stack)) {
            Some(packages) => Ok(packages),
            None => Ok(builder.inventory(&self.plan, stack)?),
        }
    }

    /// Records the outputs of earlier builds that are still in the directory, and warns of stale ones.
    fn take_over_earlier(
        &self,
        builder: &Builder<'_>,
        manifest: &mut ImageManifest,
        naming: &InDirectory<'_>,
    ) {
        let directory = naming.directory();
        // A manifest that cannot be read is replaced: it may be another version's.
        let earlier = directory.open_regular(&naming.file(MANIFEST)).and_then(io::read_to_string);
        let Ok(Ok(earlier)) = earlier.map(|text| serde_json::from_str(&text)) else { return };
        // Only plain names: plywood writes outputs beside their manifest, and another user may have written this one.
        let is_plain = |file: &str| Path::new(file).file_name().is_some_and(|name| name == file);
        manifest.take_over(earlier, |output: &OutputEntry| {
            is_plain(&output.file) && matches!(directory.status(output.file.as_ref()), Ok(Some(_)))
        });
        for output in &manifest.stale_outputs {
            let path = directory.path().join(&output.file);
            let message = format!(
                "`{}` is of an earlier build, with other layers: build it again with `-f {}`, or remove it",
                path.display(),
                output.format
            );
            builder.ports.events.emit(Event::Warning { message: &message });
        }
    }

    /// Writes the manifest, which the store keeps, too.
    fn save(
        &self,
        manifest: &ImageManifest,
        steps: &[BuiltStep],
        naming: &InDirectory<'_>,
        edges: &Edges,
    ) -> Result<(), Failure> {
        let document = serde_json::to_vec_pretty(manifest)?;
        write_file(naming.directory(), &naming.file(MANIFEST), &document)?;
        let keys = steps.iter().map(|step| step.input_key);
        edges.store.save_build(&self.plan.image, document, keys)?;
        Ok(())
    }
}

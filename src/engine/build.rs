//! The verb `build`: builds layers, writes outputs, publishes steps.

use std::io;
use std::path::Path;

use super::base::{Bases, RegistryBases, fetch_missing};
use super::breaks::{BreakIns, Pauses};
use super::checks::Checks;
use super::delivery::Delivery;
use super::edges::Edges;
use super::failure::{Failure, line};
use super::host::{Host, HostChecks};
use super::images::{Images, warn_of_set_aside};
use super::outputs::{Extras, Outputs, is_container};
use super::place::{Place, Places, refuse_store};
use super::preflight::{self, Findings};
use super::project::Project;
use super::registry::{client, look_up_client};
use super::resolve::{Resolved, Selection};
use super::session::Session;
use super::sharing::{PublishTo, Sources, Target};
use super::writer::{FileWriter, Writer};
use crate::build::{
    BuildManifest, Builder, BuiltStep, OnFailure, OnMiss, OutputEntry, Package, Ports, Registries, Reuse,
};
use crate::dropin::OutputType;
use crate::element::Environment;
use crate::oci::{DiffId, Repository};
use crate::output::write_file;
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::{Event, Events, Limits};
use crate::store::Store;

/// One image to build, and the outputs to write.
pub(crate) struct Wanted<'a> {
    pub(crate) image: Selection<'a>,
    pub(crate) outputs: Vec<OutputType>,
}

/// The settings of a build. Front ends differ only in these values.
pub(crate) struct Options<'a> {
    /// The variables for fetching packages and for commands at break points.
    pub(crate) environment: &'a Environment,
    pub(crate) reach: Reach,
    pub(crate) limits: Limits,
    pub(crate) reuse: Reuse,
    pub(crate) on_miss: OnMiss,
    pub(crate) on_failure: OnFailure,
    /// The repositories in which steps are looked up; if empty, those of the project.
    pub(crate) cache_from: &'a [Repository],
    pub(crate) publish_to: PublishTo,
    pub(crate) unpublished: Unpublished,
    /// The break points of the caller.
    pub(crate) breaks: Option<Pauses<'a>>,
    pub(crate) extras: &'a Extras,
    pub(crate) places: &'a dyn Places,
    /// Called with the root file system of all layers, before outputs are written.
    pub(crate) inspect: Option<&'a Inspect<'a>>,
}

/// Looks at the root file system at a path.
pub(crate) type Inspect<'a> = dyn Fn(&Path) -> Result<(), Failure> + 'a;

/// The treatment of steps that could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpublished {
    /// The build fails after all images are built.
    IsFailure,
    /// A warning reports it. Callers that delete the image of a failed build then keep the good
    /// image.
    IsWarning,
}

/// Builds images of a project, writes their outputs and publishes their steps.
pub(crate) fn build(
    session: &Session<'_>,
    project: &Project,
    wanted: Vec<Wanted<'_>>,
    options: &Options<'_>,
    events: &dyn Events,
) -> Result<(), Failure> {
    let edges = Edges::new(session, options.environment.clone(), options.reach)?.limited(options.limits)?;
    // Before hooks get a place, because that creates its directory.
    refuse_store(&options.places.directory()?, edges.store.path())?;
    let images = resolve_all(project, wanted, &edges.store)?;
    let tables = &project.file.registry;
    // Two clients: a lookup gives up early, because the step can be built instead. The base has no
    // such alternative.
    let (look_up, client) = (look_up_client(session, tables)?, client(session, tables)?);
    let sources = Sources::new(project, options.cache_from, &look_up, events);
    let target = match options.reach {
        // The key is not even read, so that a missing signing key does not fail a build that
        // publishes nothing.
        Reach::Offline => None,
        _ => Target::new(project, &options.publish_to, &client, events)?,
    };
    let breaks = options.breaks.map(|pauses| BreakIns { pauses, environment: options.environment });
    let bases = RegistryBases { client: &client, store: &edges.store, events };
    let run = Run {
        builder: Builder {
            ports: Ports { breaks: breaks.as_ref().map(|breaks| breaks as _), ..edges.ports(events) },
            reuse: options.reuse,
            on_miss: options.on_miss,
            on_failure: options.on_failure,
            registries: &registries(options, &sources, events),
            surroundings: options.places.surroundings()?,
        },
        checks: &HostChecks { host: Host::of(session.process), store: &edges.store },
        bases: (options.reach != Reach::Offline).then_some(&bases),
        images: &edges.store,
        writer: &FileWriter { interrupted: edges.interrupted.clone() },
        target: target.as_ref(),
        options,
    };
    run.all(&images)
}

fn resolve_all<'a>(
    project: &Project,
    wanted: Vec<Wanted<'a>>,
    store: &Store,
) -> Result<Vec<Image<'a>>, Failure> {
    let resolve = |Wanted { image, outputs }| {
        let resolved = project.resolve(image, store)?;
        Ok(Image { resolved, outputs })
    };
    wanted.into_iter().map(resolve).collect()
}

/// Returns the repositories for lookups: none if all steps are rebuilt or nothing may be fetched.
fn registries<'a>(options: &Options<'_>, sources: &'a Sources<'_>, events: &'a dyn Events) -> Registries<'a> {
    match (options.reuse, options.reach) {
        (Reuse::Refused, _) | (_, Reach::Offline) => Registries::none(events),
        _ => sources.registries(),
    }
}

/// A resolved image, and the outputs to write.
pub(super) struct Image<'a> {
    pub(super) resolved: Resolved<'a>,
    pub(super) outputs: Vec<OutputType>,
}

/// One run of the verb, with the outside world behind ports.
pub(super) struct Run<'a> {
    pub(super) builder: Builder<'a>,
    pub(super) checks: &'a dyn Checks,
    /// `None` if the network may not be used.
    pub(super) bases: Option<&'a dyn Bases>,
    pub(super) images: &'a dyn Images,
    pub(super) writer: &'a dyn Writer,
    pub(super) target: Option<&'a Target<'a>>,
    pub(super) options: &'a Options<'a>,
}

impl Run<'_> {
    /// Builds images one after the other. Checks all of them before it builds the first one.
    pub(super) fn all(&self, images: &[Image<'_>]) -> Result<(), Failure> {
        let result = self.check_and_build(images);
        // Also after a failure.
        warn_of_set_aside(self.images, self.builder.ports.events);
        result
    }

    fn check_and_build(&self, images: &[Image<'_>]) -> Result<(), Failure> {
        images.iter().flat_map(|image| &image.resolved.warnings).for_each(|message| self.warn(message));
        let found = images.iter().map(|image| self.check(image)).collect::<Result<Vec<_>, _>>()?;
        let mut unpublished = Ok(());
        for (image, found) in images.iter().zip(&found) {
            self.fetch_base(image, found)?;
            let steps = self.build(image)?;
            // `and` keeps the first failure, and always evaluates its argument: an image that
            // cannot be published does not stop the others.
            unpublished = unpublished.and(self.publish(image, &steps));
        }
        unpublished
    }

    fn check(&self, image: &Image<'_>) -> Result<Findings, Failure> {
        let Image { resolved: Resolved { plan, disk, definition, .. }, outputs } = image;
        self.options.places.check(&plan.image, outputs)?;
        let request = preflight::Request { plan, disk, container: &definition.container, outputs };
        let found = preflight::check(self.checks, &self.builder.ports, self.builder.registries, request)?;
        found.warnings.iter().for_each(|message| self.warn(message));
        Ok(found)
    }

    /// Fetches the base if the store lacks it and the build needs it: for its layers, or for the
    /// config of a container.
    fn fetch_base(&self, image: &Image<'_>, found: &Findings) -> Result<(), Failure> {
        let is_made = self.builder.reuse == Reuse::Refused || !found.has_base;
        match self.bases {
            Some(bases) if is_made || image.outputs.iter().any(is_container) => {
                let Ports { store, events, .. } = self.builder.ports;
                fetch_missing(&image.resolved.plan, store, bases, events)
            }
            _ => Ok(()),
        }
    }

    /// Builds the layers and writes the outputs. Returns the steps, including the final stage if an
    /// output has its layer.
    fn build(&self, image: &Image<'_>) -> Result<Vec<BuiltStep>, Failure> {
        let plan = &image.resolved.plan;
        let steps = self.builder.stack(plan)?;
        if let Some(inspect) = self.options.inspect {
            self.builder.on_merged(&stack_of(&steps), |root| inspect(root.path()))??;
        }
        let place = self.options.places.place(&plan.image)?;
        let place = place.as_ref();
        // Before the outputs, so that an output replaces a hook's file of the same name.
        Delivery { place, builder: &self.builder }.run(plan, &steps)?;
        let mut manifest = self.manifest(plan, &steps, place)?;
        let written = self.write(image, &steps, place, &mut manifest);
        // Before the result is checked: hooks leave files there even if they fail.
        place.hand_over()?;
        let steps = written?;
        self.record(&mut manifest, plan, &steps, place)?;
        Ok(steps)
    }

    fn manifest(
        &self,
        plan: &Plan,
        steps: &[BuiltStep],
        place: &dyn Place,
    ) -> Result<BuildManifest, Failure> {
        // Listing packages needs a sandbox on all layers, so it is skipped if no manifest is kept.
        let packages = match place.manifest() {
            Some(_) => self.inventory(plan, &stack_of(steps))?,
            None => Vec::new(),
        };
        Ok(BuildManifest::new(plan, steps, packages))
    }

    /// Returns the packages of a stack of layers. Asking its package manager needs a sandbox on all
    /// layers, unpacked and verified, so the answer of the last build is reused if it had the same
    /// layers.
    fn inventory(&self, plan: &Plan, stack: &[DiffId]) -> Result<Vec<Package>, Failure> {
        let known = match self.builder.reuse {
            // A damaged manifest is replaced by this build's.
            Reuse::Allowed => self.images.last_build(&plan.image).ok().flatten(),
            Reuse::Refused => None,
        };
        match known.and_then(|document| BuildManifest::packages_of(&document, stack)) {
            Some(packages) => Ok(packages),
            None => Ok(self.builder.inventory(plan, stack)?),
        }
    }

    fn write(
        &self,
        image: &Image<'_>,
        steps: &[BuiltStep],
        place: &dyn Place,
        manifest: &mut BuildManifest,
    ) -> Result<Vec<BuiltStep>, Failure> {
        let Resolved { plan, disk, definition, project, .. } = &image.resolved;
        if image.outputs.is_empty() && self.builder.surroundings.is_some() {
            // Without outputs, the files that hooks of the final stage write are the result.
            self.builder.finish(plan, &manifest.stack())?;
        }
        let outputs = Outputs {
            builder: &self.builder,
            images: self.images,
            writer: self.writer,
            plan,
            steps,
            image: definition,
            project,
            disk: disk.request(&plan.image, plan.source_date_epoch),
            place,
            extras: self.options.extras,
        };
        outputs.write(manifest, &image.outputs)
    }

    /// Writes the manifest and keeps a copy in the store, unless the place keeps none.
    fn record(
        &self,
        manifest: &mut BuildManifest,
        plan: &Plan,
        steps: &[BuiltStep],
        place: &dyn Place,
    ) -> Result<(), Failure> {
        let Some(file) = place.manifest() else { return Ok(()) };
        self.take_over_earlier(manifest, place);
        let document = serde_json::to_vec_pretty(manifest)?;
        write_file(place.beside(), &file, &document)?;
        // The next build needs the tools as well, so a garbage collection keeps them.
        let tools = plan.tools.iter().map(|step| step.input_key);
        let keys: Vec<_> = steps.iter().map(|step| step.input_key).chain(tools).collect();
        self.images.save_build(&manifest.image, document, &keys)?;
        // Last: until the image is built, the kept state of its failure is useful.
        Ok(self.images.forget_failed(&manifest.image)?)
    }

    /// Records the outputs of earlier builds that are still in the directory, and warns about stale
    /// ones.
    fn take_over_earlier(&self, manifest: &mut BuildManifest, place: &dyn Place) {
        let (directory, file) = (place.beside(), place.manifest().unwrap_or_default());
        // An unreadable manifest is replaced: another version may have written it.
        let earlier = directory.open_regular(&file).and_then(io::read_to_string);
        let Ok(Ok(earlier)) = earlier.map(|text| serde_json::from_str(&text)) else { return };
        // Only plain names: plywood writes outputs beside their manifest, and another user may have
        // written this manifest.
        let is_plain = |file: &str| Path::new(file).file_name().is_some_and(|name| name == file);
        manifest.take_over(earlier, |output: &OutputEntry| {
            is_plain(&output.file) && matches!(directory.status(output.file.as_ref()), Ok(Some(_)))
        });
        for output in &manifest.stale_outputs {
            self.warn(&format!(
                "`{}` is from an earlier build with other layers: build it again with `-f {}`, or remove it",
                directory.path().join(&output.file).display(),
                output.format
            ));
        }
    }

    fn publish(&self, image: &Image<'_>, steps: &[BuiltStep]) -> Result<(), Failure> {
        let Some(target) = self.target else { return Ok(()) };
        let Resolved { plan, definition, .. } = &image.resolved;
        let (builder, blobs) = (&self.builder, self.images.layer_blobs());
        let compression = definition.container.compression;
        let published = target.publish(builder, &*blobs, (plan, steps), compression, self.checks.now()?);
        match (published, self.options.unpublished) {
            (Err(failure), Unpublished::IsWarning) => {
                self.warn(&line(failure.as_ref()));
                Ok(())
            }
            (published, _) => published,
        }
    }

    fn warn(&self, message: &str) {
        self.builder.ports.events.emit(Event::Warning { message });
    }
}

/// Returns the layers of steps, lowest first.
pub(super) fn stack_of(steps: &[BuiltStep]) -> Vec<DiffId> {
    steps.iter().flat_map(|step| step.diff_ids.iter().copied()).collect()
}

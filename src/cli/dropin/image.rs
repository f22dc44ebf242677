//! Builds a call as an image: the same plan, layers and outputs as `plywood build`, without a file
//! of definitions.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use super::Call;
use super::log::Log;
use super::place::CallersPlaces;
use super::privilege::Owner;
use super::settings::Settings;
use super::usage;
use crate::cli::report::{self, Failure, Message};
use crate::directory::read_document;
use crate::dropin::{Arguments, BuildRequest, Command, Environment, OutputType};
use crate::element::{HookOrder, ResolveError};
use crate::engine::{
    self, BuildError, Extras, Inspect, OnFailure, OnMiss, Options, Pauses, Project, PublishTo, Reach, Reuse,
    Session, Unpublished, Wanted, machine_architecture, tables, upstream_element_path,
};
use crate::image::{
    ContainerSettings, DiskSettings, EpochRequest, ImageDefinition, ImageName, PackageSettings,
    Project as ProjectFile, ProjectSettings, Qcow2Settings,
};
use crate::plan::PlanError;
use crate::port::Exit;

/// Builds the image of a call, and writes its outputs.
pub(super) fn build(
    call: &Call<'_>,
    arguments: &Arguments,
    environment: &Environment,
    log: &Log,
) -> Result<(), Failure> {
    let request = BuildRequest::new(call.command, arguments, environment, machine_architecture()?)?;
    let names: Vec<_> = request.elements.iter().map(|name| name.as_str()).collect();
    log.say(&format!("Building elements: {}", names.join(" ")));
    let settings = Settings::of(&call.environment)?;
    let session = settings.global.session(call.process);
    let project = project(&session, &request, environment, &settings)?;
    let image = Image { call, session, request, project, environment, log, settings: &settings };
    match image.order() {
        Some(order) => image.build(order),
        None => image.build(HookOrder::Element).or_else(|failure| image.build_again(failure)),
    }
}

/// The image of a call.
struct Image<'a> {
    call: &'a Call<'a>,
    session: Session<'a>,
    request: BuildRequest,
    project: Project,
    environment: &'a Environment,
    log: &'a Log,
    settings: &'a Settings,
}

impl Image<'_> {
    /// Returns the order of hooks if it is fixed.
    fn order(&self) -> Option<HookOrder> {
        // A ramdisk is packed from files that all elements leave in one phase.
        let is_ramdisk = self.request.command == Command::RamdiskImageCreate;
        match self.settings.order {
            _ if is_ramdisk => Some(HookOrder::Phase),
            None if self.request.breaks.need_phase_order() => Some(HookOrder::Phase),
            wanted => wanted,
        }
    }

    fn build(&self, order: HookOrder) -> Result<(), Failure> {
        let name: ImageName = self.request.title.parse()?;
        let definition = definition(&self.request, order);
        let image = self.project.elements_of(&name, &definition)?;
        let names: Vec<_> = image.elements.iter().map(|element| element.name.as_str()).collect();
        self.log.say(&format!("Expanded element dependencies to: {}", names.join(" ")));
        let outputs = outputs(&self.request, &names);
        self.build_as(reach(&definition), Wanted { image, outputs })
    }

    fn build_as(&self, reach: Reach, wanted: Wanted<'_>) -> Result<(), Failure> {
        let log = self.log;
        let say = |message: &str| log.say(message);
        let show_usage = self.request.usage.map(|report| move |root: &Path| usage::show(report, root, log));
        let options = Options {
            environment: self.environment,
            reach,
            limits: self.settings.limits,
            reuse: Reuse::Allowed,
            on_miss: OnMiss::Build,
            on_failure: OnFailure::Discard,
            cache_from: &[],
            publish_to: PublishTo::default(),
            unpublished: Unpublished::IsWarning,
            breaks: Some(Pauses { points: &self.request.breaks, say: &say }),
            extras: &extras(&self.request, &self.call.environment)?,
            places: &CallersPlaces::new(&self.request, Owner::of(&self.call.environment)),
            inspect: show_usage.as_ref().map(|show| show as &Inspect<'_>),
        };
        engine::build(&self.session, &self.project, vec![wanted], &options, log)
    }

    /// Builds in phase order if element order may be the reason of the failure.
    fn build_again(&self, failure: Failure) -> Result<(), Failure> {
        // With break points, the caller's commands would run a second time.
        if self.request.breaks.any() || !depends_on_order(failure.as_ref()) {
            return Err(failure);
        }
        self.log.say(&report::chain(&failure));
        self.log.say(PHASE_ORDER);
        self.build(HookOrder::Phase)
    }
}

/// Hooks may rely on hooks of elements that their element does not depend on. In phase order, all
/// packages are installed before the first hook of post-install.d.
const PHASE_ORDER: &str = "Building again in phase order, because the element may rely on elements that come after it \
                           (PLYWOOD_ORDER=phase saves the first attempt, PLYWOOD_ORDER=element the second)";

/// Returns true if a failed build may succeed in phase order: if the elements cannot be built in
/// element order, or if the step of an element failed.
fn depends_on_order(failure: &(dyn Error + 'static)) -> bool {
    let unordered = matches!(failure.downcast_ref(), Some(PlanError::NeedsPhaseOrder { .. }))
        || matches!(failure.downcast_ref(), Some(ResolveError::Cycle(_)));
    let error = failure.downcast_ref::<BuildError>();
    let own_step = error.and_then(BuildError::step).is_some_and(|step| step.element().is_some());
    // A hook that exceeds a limit exceeds it in each order.
    let over_limit = matches!(error.and_then(BuildError::exit), Some(Exit::OverLimit(_)));
    unordered || (own_step && !over_limit) || failure.source().is_some_and(depends_on_order)
}

/// Returns the outputs to write. There is no disk if elements write the image themselves.
fn outputs(request: &BuildRequest, elements: &[&str]) -> Vec<OutputType> {
    let without_disk = request.is_without_disk(elements.iter().copied());
    let wanted = |output: &&OutputType| !without_disk || (!output.is_disk() && !output.has_checksums());
    request.types.iter().filter(wanted).cloned().collect()
}

/// Returns the use of the network. With `--offline`, package indices are not refreshed, and hooks
/// keep the network.
fn reach(definition: &ImageDefinition) -> Reach {
    match definition.env.get("DIB_OFFLINE").map(String::as_str) {
        None | Some("") => Reach::Online,
        Some(_) => Reach::KeptFirst,
    }
}

/// Returns a project for a call, as if a `plywood.toml` described it.
fn project(
    session: &Session<'_>,
    request: &BuildRequest,
    environment: &Environment,
    settings: &Settings,
) -> Result<Project, Failure> {
    let element_path = upstream_element_path(environment, &session.data_dir)?;
    let file = ProjectFile {
        project: ProjectSettings { source_date_epoch: epoch(environment)?, elements: element_path },
        packages: PackageSettings { revision: settings.packages_revision.clone() },
        registry: tables(session)?,
        cache: settings.cache.clone(),
        trust: settings.trust.clone(),
        ..ProjectFile::default()
    };
    // The image's name may have a relative path, which starts here. Hooks find it in `IMAGE_NAME`.
    Project::of_call(session, file, request.architecture, std::env::current_dir()?)
}

fn epoch(environment: &Environment) -> Result<EpochRequest, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    match environment.get(NAME).filter(|value| !value.is_empty()) {
        None => Ok(EpochRequest::default()),
        Some(value) => match value.parse() {
            Ok(seconds @ 0..) => Ok(EpochRequest::Seconds(seconds)),
            _ => Err(Message::plain(format!("{NAME} is `{value}`: expected seconds since 1970"))),
        },
    }
}

fn definition(request: &BuildRequest, order: HookOrder) -> ImageDefinition {
    ImageDefinition {
        base: None,
        elements: request.elements.clone(),
        order,
        env: request.disk_variables(),
        packages: request.packages.clone(),
        files: BTreeMap::new(),
        outputs: Vec::new(),
        disk: DiskSettings::default(),
        qcow2: Qcow2Settings { compression: request.compression },
        container: ContainerSettings::default(),
    }
}

fn extras(request: &BuildRequest, caller: &Environment) -> Result<Extras, Failure> {
    let read = |path: &String| {
        let path = Path::new(path);
        read_document(path)
            .map_err(|error| Message::plain(format!("ACI_MANIFEST `{}`: {error}", path.display())))
    };
    Ok(Extras {
        qemu_img_options: request.qemu_img_options.clone(),
        docker_target: request.docker_target.clone().unwrap_or_default(),
        aci_manifest: request.aci_manifest.as_ref().map(read).transpose()?,
        environment: caller.clone(),
    })
}

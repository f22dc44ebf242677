//! A call as an image: the same plan, layers and outputs as `plywood build`, of a definition that is in no file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Call;
use super::build::Build;
use super::log::Log;
use super::settings::Settings;
use crate::cli::context::{Context, machine_architecture};
use crate::cli::disk::DiskRules;
use crate::cli::outputs::Extras;
use crate::cli::report::{Failure, Message};
use crate::dropin::{Arguments, BuildRequest, Command, Environment};
use crate::element::Order;
use crate::image::{
    ContainerSettings, DiskSettings, EpochRequest, ImageDefinition, ImageName, PackageSettings, Project,
    ProjectSettings, Qcow2Settings,
};
use crate::load;

/// Builds the image that a call asks for, and writes its outputs.
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
    let context = context(&request, environment, &settings)?;
    let name: ImageName = request.title.parse()?;
    let definition = definition(&request, settings.order);
    let elements = context.resolve(&name, &definition, definition.order)?.elements;
    let names: Vec<_> = elements.iter().map(|element| element.name.as_str()).collect();
    log.say(&format!("Expanded element dependencies to: {}", names.join(" ")));
    let disk = context.disk(&name, &definition)?;
    let extras = extras(&request, &call.environment)?;
    let image = Build {
        call,
        request: &request,
        context: &context,
        name: &name,
        definition: &definition,
        elements: &names,
        disk: &disk,
    };
    image.run(&settings.global, environment, &extras, log)
}

fn context(
    request: &BuildRequest,
    environment: &Environment,
    settings: &Settings,
) -> Result<Context, Failure> {
    let element_path = element_path(environment)?;
    let project = Project {
        project: ProjectSettings { source_date_epoch: epoch(environment)?, elements: element_path.clone() },
        packages: PackageSettings { revision: settings.packages_revision.clone() },
        cache: settings.cache.clone(),
        trust: settings.trust.clone(),
        ..Project::default()
    };
    Ok(Context {
        dir: std::env::current_dir()?,
        project,
        catalog: load::load_catalog(&element_path)?,
        element_path,
        layer_path: Vec::new(),
        architecture: request.architecture,
        disk_rules: DiskRules::Upstream,
    })
}

/// Returns where elements are looked for: what `ELEMENTS_PATH` names, an installed diskimage-builder's, plywood's own.
pub(super) fn element_path(environment: &Environment) -> Result<Vec<PathBuf>, Failure> {
    let named = environment.get("ELEMENTS_PATH").map(String::as_str).unwrap_or_default();
    let named = named.split(':').filter(|entry| !entry.is_empty()).map(PathBuf::from);
    let mut path = named.map(std::path::absolute).collect::<Result<Vec<_>, _>>()?;
    let virtual_environment = environment.get("VIRTUAL_ENV").map(PathBuf::from);
    let found = load::upstream_elements(virtual_environment.as_deref());
    for own in found.into_iter().chain([load::data_dir().join("elements")]) {
        if own.is_dir() && !path.contains(&own) {
            path.push(own);
        }
    }
    Ok(path)
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

fn definition(request: &BuildRequest, order: Order) -> ImageDefinition {
    ImageDefinition {
        base: None,
        elements: request.elements.clone(),
        // A ramdisk is made of what all elements have left.
        order: if request.command == Command::RamdiskImageCreate { Order::Phase } else { order },
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
        fs::read(path).map_err(|error| Message::plain(format!("ACI_MANIFEST `{}`: {error}", path.display())))
    };
    Ok(Extras {
        qemu_img_options: request.qemu_img_options.clone(),
        docker_target: request.docker_target.clone().unwrap_or_default(),
        aci_manifest: request.aci_manifest.as_ref().map(read).transpose()?,
        environment: caller.clone(),
    })
}

//! A project, read and resolved: what every command starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskRules};
use super::failure::{Failure, Message};
use super::redaction::redact;
use super::session::{Session, home_of};
use super::sources::{settings, sources};
use crate::distro::{Architecture, BaseDefinition};
use crate::element::{
    BaseNames, Catalog, Element, Environment, NativeProvider, OPERATING_SYSTEM, Order, Provider, Resolution,
    ResolveError, preset_variables, resolve, sandwiches,
};
use crate::image::{ImageDefinition, ImageName, Project};
use crate::load::{self, LoadError};
use crate::plan::{Foundation, Plan, Request, element_variables, plan_image};
use crate::store::Store;

/// Where outputs go by default, in a project.
const OUTPUT: &str = "out";

/// A project and the elements and bases it can use.
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) project: Project,
    pub(crate) catalog: Catalog,
    pub(crate) element_path: Vec<PathBuf>,
    pub(crate) layer_path: Vec<PathBuf>,
    /// For which machines images are built.
    pub(crate) architecture: Architecture,
    pub(crate) disk_rules: DiskRules,
    /// Whether sources have to be in the store already.
    pub(crate) offline: bool,
    /// The variables of the caller.
    pub(crate) environment: Environment,
    /// Where outputs go.
    pub(crate) output: PathBuf,
}

impl Context {
    /// Reads the project that the command line names.
    pub(crate) fn load(session: &Session<'_>) -> Result<Self, Failure> {
        let dir = session.project.clone();
        let project = load::load_project(&dir)?;
        let data_dir = load::data_dir();
        let element_path = load::element_path(&dir, &project.project, &data_dir);
        let catalog = load::load_catalog(&element_path)?;
        let layer_path = load::layer_path(&dir, &data_dir);
        let architecture = machine_architecture()?;
        Ok(Self {
            dir,
            project,
            catalog,
            element_path,
            layer_path,
            architecture,
            disk_rules: DiskRules::Plywood,
            offline: false,
            environment: session.environment.clone(),
            output: session.project.join(OUTPUT),
        })
    }

    /// The same, for commands about elements: without a project, those that `disk-image-create` finds.
    pub(crate) fn load_elements(session: &Session<'_>) -> Result<Self, Failure> {
        match Self::load(session) {
            Err(failure) if is_no_project(&failure) => {}
            result => return result,
        }
        let element_path = upstream_element_path(&session.environment)?;
        Ok(Self {
            dir: session.project.clone(),
            project: Project::default(),
            catalog: load::load_catalog(&element_path)?,
            element_path,
            layer_path: vec![load::data_dir().join("layers")],
            architecture: machine_architecture()?,
            disk_rules: DiskRules::Plywood,
            offline: false,
            environment: session.environment.clone(),
            output: session.project.join(OUTPUT),
        })
    }

    /// Writes outputs to this directory.
    pub(crate) fn writing_to(self, output: PathBuf) -> Self {
        Self { output, ..self }
    }

    /// With `offline`, fetches no sources, and sets `DIB_OFFLINE` for hooks as diskimage-builder does.
    pub(crate) fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// Runs hooks of all images in this order, if it is one.
    pub(crate) fn in_order(mut self, order: Option<Order>) -> Self {
        for image in self.project.image.values_mut() {
            image.order = order.unwrap_or(image.order);
        }
        self
    }

    /// Returns the images of these names, all of them for an empty list, in the order they are asked for.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<(&ImageName, &ImageDefinition)>, Failure> {
        if self.project.image.is_empty() {
            return Err(Message::with_hint(
                format!("`{}` defines no image", self.dir.join("plywood.toml").display()),
                "add a table such as `[image.builder]` with `base = \"debian-bookworm\"`",
            ));
        }
        if names.is_empty() {
            return Ok(self.project.image.iter().collect());
        }
        names.iter().map(|name| self.image(name)).collect()
    }

    /// Returns the image of this name.
    pub(crate) fn image(&self, name: &str) -> Result<(&ImageName, &ImageDefinition), Failure> {
        self.project.image.get_key_value(name).ok_or_else(|| {
            let known: Vec<_> = self.project.image.keys().map(|name| format!("`{name}`")).collect();
            Message::with_hint(
                format!("image `{name}` is not defined in `{}`", self.dir.join("plywood.toml").display()),
                format!("defined are {}", known.join(", ")),
            )
        })
    }

    /// Returns what an image stands on, and its elements in the order of their layers.
    pub(crate) fn resolve(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
        order: Order,
    ) -> Result<Resolved, Failure> {
        let Some(base) = &image.base else { return self.resolve_without_base(name, image, order) };
        let definition = load::load_base(base, &self.layer_path)?;
        let provides = definition.provided_names();
        let names = BaseNames { base: base.as_str(), provides: &provides };
        let Resolution { elements, native, .. } =
            resolve(&self.catalog, &image.elements, Some(names), order)?;
        Ok(Resolved {
            foundation: Foundation::Base { name: base.clone(), definition: Box::new(definition) },
            elements,
            native,
        })
    }

    fn resolve_without_base(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
        order: Order,
    ) -> Result<Resolved, Failure> {
        if image.elements.is_empty() {
            return Err(Message::with_hint(
                format!("image `{name}` has no base"),
                "add `base = \"debian-bookworm\"`, or the name of another file of `layers/`",
            ));
        }
        let Resolution { elements, native, provided } = resolve(&self.catalog, &image.elements, None, order)?;
        match provided.get(OPERATING_SYSTEM) {
            Some(Provider::Element(provider)) => {
                let foundation = Foundation::Elements { operating_system: provider.clone() };
                Ok(Resolved { foundation, elements, native })
            }
            _ => Err(ResolveError::NoOperatingSystem.into()),
        }
    }

    /// Returns warnings of files that look as if they counted and are ignored, and of hooks that may run in the wrong order.
    pub(crate) fn warnings(&self, name: &ImageName, image: &ImageDefinition) -> Result<Vec<String>, Failure> {
        let elements = self.resolve(name, image, image.order)?.elements;
        let skipped = elements.iter().flat_map(|element| {
            element.skipped_hooks().into_iter().map(|hook| format!("element `{}`: {hook}", element.name))
        });
        let all = elements.iter().map(AsRef::as_ref);
        let strays = elements.iter().flat_map(|element| {
            let strays = element.strays(all.clone()).into_iter();
            strays.map(move |stray| format!("element `{}`: {stray}", element.name))
        });
        let repeated = elements.iter().flat_map(|element| element.repeated_keys());
        let repeated = repeated.map(|repeated| repeated.to_string());
        let wrapped = match image.order {
            Order::Element => sandwiches(&elements),
            Order::Phase => Vec::new(),
        };
        let wrapped = wrapped.iter().map(|sandwich| format!("{sandwich} (`--order phase` keeps them so)"));
        Ok(skipped.chain(strays).chain(repeated).chain(wrapped).collect())
    }

    /// Returns the disk of an image.
    pub(crate) fn disk(&self, name: &ImageName, image: &ImageDefinition) -> Result<Disk, Failure> {
        let Resolved { foundation, elements, native } = self.resolve(name, image, image.order)?;
        let variables = variables(name, image, foundation.base(), self.architecture, (&elements, &native));
        Disk::load(&image.disk, &self.dir, &elements, &variables, self.disk_rules)
    }

    /// Returns the plan of an image. Fetches what its elements ask for into the cache of `store`.
    pub(crate) fn plan(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
        store: &Store,
    ) -> Result<Plan, Failure> {
        let architecture = self.architecture;
        let Resolved { foundation, elements, native } = self.resolve(name, image, image.order)?;
        if let Foundation::Base { name, definition } = &foundation
            && !definition.architectures.contains(&architecture)
        {
            return Err(Message::plain(format!(
                "base `{name}` is not to be had for this machine's architecture `{}`",
                architecture.debian()
            )));
        }
        let mut variables = variables(name, image, foundation.base(), architecture, (&elements, &native));
        Disk::load(&image.disk, &self.dir, &elements, &variables, self.disk_rules)?
            .add_variables(&mut variables);
        if self.offline {
            variables.insert("DIB_OFFLINE".to_owned(), "1".to_owned());
        }
        redact(&variables);
        let source_date_epoch = load::load_epoch(self.project.project.source_date_epoch, &self.dir)?;
        let settings = settings(&elements, &variables, source_date_epoch)?;
        redact(&settings);
        // Variables that fragments set may name files, too.
        let named: BTreeMap<_, _> = settings.clone().into_iter().chain(variables.clone()).collect();
        Ok(plan_image(&Request {
            image: name.as_str(),
            architecture,
            source_date_epoch,
            packages_revision: &self.project.packages.revision,
            foundation: &foundation,
            order: image.order,
            elements: &elements,
            variables: &variables,
            settings: &settings,
            sources: &sources(&elements, &settings, &self.environment, store)?,
            native: &native,
            files: &load::load_input_files(&self.dir, &image.files)?,
            machine: &load::load_machine_files(&load::MachineView {
                elements: &elements,
                variables: &named,
                home: home_of(&self.environment).as_deref(),
                directory: &absolute(&self.dir)?,
                written: &[self.output.clone(), store.path().to_owned()],
            }),
            packages: &image.packages,
            seal: &store.seal()?,
        })?)
    }
}

/// What an image is made of.
pub(crate) struct Resolved {
    pub(crate) foundation: Foundation,
    /// In the order of their layers.
    pub(crate) elements: Vec<Arc<Element>>,
    /// Those whose work plywood does.
    pub(crate) native: BTreeSet<NativeProvider>,
}

/// Returns everything that hooks may be shown: the base's facts, the image's own settings, and what
/// diskimage-builder tells about the image.
fn variables(
    name: &ImageName,
    image: &ImageDefinition,
    base: Option<&BaseDefinition>,
    architecture: Architecture,
    (elements, native): (&[Arc<Element>], &BTreeSet<NativeProvider>),
) -> BTreeMap<String, String> {
    let names = elements.iter().map(|element| element.name.as_str());
    let names = names.chain(native.iter().map(|provider| provider.name()));
    let arch = [("ARCH".to_owned(), architecture.debian().to_owned())].into();
    let mut variables = base.map_or(arch, |base| base.variables(architecture));
    variables.insert("IMAGE_NAME".to_owned(), name.to_string());
    variables.extend(element_variables(elements));
    variables.extend(preset_variables(names));
    variables.extend(image.env.clone());
    variables
}

fn is_no_project(failure: &Failure) -> bool {
    matches!(failure.downcast_ref(), Some(LoadError::NoProject { .. }))
}

/// Says that an image has no step of this name, and which it has.
pub(crate) fn unknown_step(plan: &Plan, name: &str) -> Failure {
    let names: Vec<_> = plan.steps.iter().map(|step| format!("`{}`", step.name)).collect();
    Message::with_hint(
        format!("image `{}` has no step `{name}`", plan.image),
        format!("its steps are {}", names.join(", ")),
    )
}

/// Returns for which machines images are built here.
pub(crate) fn machine_architecture() -> Result<Architecture, Failure> {
    let machine = rustix::system::uname();
    Ok(machine.machine().to_string_lossy().parse::<Architecture>()?)
}

/// Returns the directory of a path that the user gave, for messages and for writing beside it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Message::plain(format!("`{}`: {error}", path.display())))
}

/// Returns where elements are looked for without a project: what `ELEMENTS_PATH` names, an installed diskimage-builder's, plywood's
/// own.
pub(crate) fn upstream_element_path(environment: &Environment) -> Result<Vec<PathBuf>, Failure> {
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

//! A project, read and resolved: what every command starts from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Global;
use super::report::{Failure, Message};
use crate::distro::{Architecture, BaseDefinition, BaseName};
use crate::element::{Catalog, Element, Foundation, resolve};
use crate::image::{ImageDefinition, ImageName, Project};
use crate::load;
use crate::plan::{Plan, Request, Seal, plan_image};
use crate::store::Store;

/// A project and the elements and bases it can use.
pub(super) struct Context {
    pub(super) dir: PathBuf,
    pub(super) project: Project,
    pub(super) catalog: Catalog,
    pub(super) element_path: Vec<PathBuf>,
    pub(super) layer_path: Vec<PathBuf>,
}

impl Context {
    /// Reads the project that the command line names.
    pub(super) fn load(global: &Global) -> Result<Self, Failure> {
        let dir = global.project.clone();
        let project = load::load_project(&dir)?;
        let data_dir = load::data_dir();
        let element_path = load::element_path(&dir, &project.project, &data_dir);
        let catalog = load::load_catalog(&element_path)?;
        let layer_path = load::layer_path(&dir, &data_dir);
        Ok(Self { dir, project, catalog, element_path, layer_path })
    }

    /// Returns the images of these names, all of them for an empty list, in the order they are asked for.
    pub(super) fn select(&self, names: &[String]) -> Result<Vec<(&ImageName, &ImageDefinition)>, Failure> {
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
    pub(super) fn image(&self, name: &str) -> Result<(&ImageName, &ImageDefinition), Failure> {
        self.project.image.get_key_value(name).ok_or_else(|| {
            let known: Vec<_> = self.project.image.keys().map(|name| format!("`{name}`")).collect();
            Message::with_hint(
                format!("image `{name}` is not defined in `{}`", self.dir.join("plywood.toml").display()),
                format!("defined are {}", known.join(", ")),
            )
        })
    }

    /// Returns what an image stands on.
    pub(super) fn base(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
    ) -> Result<(BaseName, BaseDefinition), Failure> {
        let base = image.base.clone().ok_or_else(|| {
            Message::with_hint(
                format!("image `{name}` has no base"),
                "add `base = \"debian-bookworm\"`, or the name of another file of `layers/`",
            )
        })?;
        let definition = load::load_base(&base, &self.layer_path)?;
        Ok((base, definition))
    }

    /// Returns the elements of an image, in the order of their layers.
    pub(super) fn elements(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
    ) -> Result<Vec<Arc<Element>>, Failure> {
        let (base, definition) = self.base(name, image)?;
        let provides = definition.provided_names();
        let foundation = Foundation { base: base.as_str(), provides: &provides };
        Ok(resolve(&self.catalog, &image.elements, Some(foundation))?.elements)
    }

    /// Returns what in an image's elements looks like a hook and does not run.
    pub(super) fn warnings(&self, name: &ImageName, image: &ImageDefinition) -> Result<Vec<String>, Failure> {
        let elements = self.elements(name, image)?;
        let skipped = elements.iter().flat_map(|element| {
            element.skipped_hooks().into_iter().map(|hook| format!("element `{}`: {hook}", element.name))
        });
        Ok(skipped.collect())
    }

    /// Returns the plan of an image.
    pub(super) fn plan(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
        seal: &Seal,
    ) -> Result<Plan, Failure> {
        let (base_name, base) = self.base(name, image)?;
        let architecture = machine_architecture()?;
        if !base.architectures.contains(&architecture) {
            return Err(Message::plain(format!(
                "base `{base_name}` is not to be had for this machine's architecture `{}`",
                architecture.debian()
            )));
        }
        let elements = self.elements(name, image)?;
        let variables = variables(name, image, &base, architecture, &elements);
        Ok(plan_image(&Request {
            image: name.as_str(),
            architecture,
            source_date_epoch: load::load_epoch(self.project.project.source_date_epoch, &self.dir)?,
            packages_revision: &self.project.packages.revision,
            base_name: &base_name,
            base: &base,
            elements: &elements,
            variables: &variables,
            files: &load::load_input_files(&self.dir, &image.files)?,
            packages: &image.packages,
            seal,
        })?)
    }
}

/// Returns everything that hooks may be shown: the base's facts, the image's own settings, and what
/// diskimage-builder tells about the image.
fn variables(
    name: &ImageName,
    image: &ImageDefinition,
    base: &BaseDefinition,
    architecture: Architecture,
    elements: &[Arc<Element>],
) -> BTreeMap<String, String> {
    let names: Vec<_> = elements.iter().map(|element| element.name.as_str()).collect();
    let facts = [("IMAGE_NAME", name.as_str().to_owned()), ("IMAGE_ELEMENT", names.join(" "))];
    let mut variables = base.variables(architecture);
    variables.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    variables.extend(image.env.clone());
    variables
}

/// Says that an image has no step of this name, and which it has.
pub(super) fn unknown_step(plan: &Plan, name: &str) -> Failure {
    let names: Vec<_> = plan.steps.iter().map(|step| format!("`{}`", step.name)).collect();
    Message::with_hint(
        format!("image `{}` has no step `{name}`", plan.image),
        format!("its steps are {}", names.join(", ")),
    )
}

/// Returns for which machines images are built here.
pub(super) fn machine_architecture() -> Result<Architecture, Failure> {
    let machine = rustix::system::uname();
    Ok(machine.machine().to_string_lossy().parse::<Architecture>()?)
}

/// Opens the store that the command line names, or the default one.
pub(super) fn open_store(global: &Global) -> Result<Store, Failure> {
    Ok(Store::open(&store_path(global)?)?)
}

/// Returns where the store is.
fn store_path(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = &global.store {
        return Ok(path.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/plywood"));
    }
    let home = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = home("XDG_CACHE_HOME").or_else(|| home("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("plywood")).ok_or_else(|| {
        Message::with_hint("there is no place for the store: HOME is not set", "add `--store DIR`")
    })
}

/// Returns the directory of a path that the user gave, for messages and for writing beside it.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Message::plain(format!("`{}`: {error}", path.display())))
}

//! A project: its images, and its elements and bases. It is read once for each command.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::DiskRules;
use super::failure::{Failure, Message};
use super::session::{Session, home_of};
use crate::distro::{Architecture, BaseDefinition, BaseName};
use crate::element::{Catalog, Element, ElementName, Environment, HookOrder};
use crate::image::{ImageDefinition, ImageName, Project as ProjectFile};
use crate::load::{self, LoadError};
use crate::plan::{InputFile, MachineFile};

/// The default directory of outputs in a project.
const OUTPUT: &str = "out";

/// A project and the elements and bases it can use.
pub(crate) struct Project {
    pub(crate) dir: PathBuf,
    /// The content of `plywood.toml`.
    pub(crate) file: ProjectFile,
    pub(crate) catalog: Catalog,
    pub(crate) element_path: Vec<PathBuf>,
    pub(crate) layer_path: Vec<PathBuf>,
    /// The architecture of the images.
    pub(crate) architecture: Architecture,
    pub(crate) disk_rules: DiskRules,
    /// Whether sources must be in the store already.
    pub(crate) offline: bool,
    /// The variables of the caller.
    pub(crate) environment: Environment,
    /// The directory that outputs go to.
    pub(crate) output: PathBuf,
}

impl Project {
    /// Reads the project of a session.
    pub(crate) fn load(session: &Session<'_>) -> Result<Self, Failure> {
        Self::of(session, load::load_project(&session.project)?)
    }

    /// Reads the elements and finds the bases of the project that has this file.
    pub(crate) fn of(session: &Session<'_>, file: ProjectFile) -> Result<Self, Failure> {
        let (dir, data_dir) = (&session.project, &session.data_dir);
        let element_path = load::element_path(dir, &file.project, data_dir);
        Self::new(session, file, element_path, load::layer_path(dir, data_dir))
    }

    /// Like [`Project::load`], for commands about elements: without a project, uses the elements
    /// that `disk-image-create` finds.
    pub(crate) fn load_elements(session: &Session<'_>) -> Result<Self, Failure> {
        if let Some(file) = load_file(session)? {
            return Self::of(session, file);
        }
        let element_path = upstream_element_path(&session.environment, &session.data_dir)?;
        Self::new(session, ProjectFile::default(), element_path, vec![session.data_dir.join("layers")])
    }

    /// Returns the project that a call of diskimage-builder's commands stands for: this file, in
    /// the directory `dir`, which outputs go to as well. The file names its elements by their whole
    /// search path; bases there are none.
    pub(crate) fn of_call(
        session: &Session<'_>,
        file: ProjectFile,
        architecture: Architecture,
        dir: PathBuf,
    ) -> Result<Self, Failure> {
        let element_path = file.project.elements.clone();
        let project = Self::new(session, file, element_path, Vec::new())?;
        Ok(Self { architecture, disk_rules: DiskRules::Upstream, output: dir.clone(), dir, ..project })
    }

    fn new(
        session: &Session<'_>,
        file: ProjectFile,
        element_path: Vec<PathBuf>,
        layer_path: Vec<PathBuf>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            dir: session.project.clone(),
            file,
            catalog: load::load_catalog(&element_path)?,
            element_path,
            layer_path,
            architecture: machine_architecture()?,
            disk_rules: DiskRules::Plywood,
            offline: false,
            environment: session.environment.clone(),
            output: session.project.join(OUTPUT),
        })
    }

    /// Reads the base of this name.
    pub(crate) fn base(&self, name: &BaseName) -> Result<BaseDefinition, LoadError> {
        load::load_base(name, &self.layer_path)
    }

    /// Returns the names of elements that its bases stand for.
    pub(crate) fn provided_names(&self) -> Result<BTreeSet<ElementName>, LoadError> {
        let mut provided = BTreeSet::new();
        for name in load::load_base_names(&self.layer_path)? {
            provided.extend(self.base(&name)?.provided_names());
        }
        Ok(provided)
    }

    /// Returns the latest modification time in its layers, in seconds since 1970.
    pub(crate) fn source_date_epoch(&self) -> Result<i64, Failure> {
        Ok(load::load_epoch(self.file.project.source_date_epoch, &self.dir)?)
    }

    /// Reads the files that an image's definition names.
    pub(crate) fn input_files(
        &self,
        image: &ImageDefinition,
    ) -> Result<BTreeMap<String, InputFile>, LoadError> {
        load::load_input_files(&self.dir, &image.files)
    }

    /// Reads the files of the machine that `variables` name and hooks of `elements` may read. What
    /// is written into `store` is none.
    pub(crate) fn machine_files(
        &self,
        elements: &[Arc<Element>],
        variables: &BTreeMap<String, String>,
        store: &Path,
    ) -> Result<Vec<MachineFile>, LoadError> {
        Ok(load::load_machine_files(&load::MachineView {
            elements,
            variables,
            home: home_of(&self.environment).as_deref(),
            directory: &load::absolute(&self.dir)?,
            written: &[self.output.clone(), store.to_owned()],
        }))
    }

    /// Writes outputs into this directory.
    pub(crate) fn writing_to(self, output: PathBuf) -> Self {
        Self { output, ..self }
    }

    /// With `offline`, fetches no sources, and sets `DIB_OFFLINE` for hooks as diskimage-builder
    /// does.
    pub(crate) fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// Runs hooks of all images in this order, if one is given.
    pub(crate) fn in_order(mut self, order: Option<HookOrder>) -> Self {
        for image in self.file.image.values_mut() {
            image.order = order.unwrap_or(image.order);
        }
        self
    }

    /// Returns the images of these names, in order; all images for an empty list.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<(&ImageName, &ImageDefinition)>, Failure> {
        if self.file.image.is_empty() {
            return Err(Message::with_hint(
                format!("`{}` defines no image", self.dir.join("plywood.toml").display()),
                "add a table such as `[image.builder]` with `base = \"debian-bookworm\"`",
            ));
        }
        if names.is_empty() {
            return Ok(self.file.image.iter().collect());
        }
        names.iter().map(|name| self.image(name)).collect()
    }

    /// Returns the image of this name.
    pub(crate) fn image(&self, name: &str) -> Result<(&ImageName, &ImageDefinition), Failure> {
        self.file.image.get_key_value(name).ok_or_else(|| {
            let known: Vec<_> = self.file.image.keys().map(|name| format!("`{name}`")).collect();
            Message::with_hint(
                format!("image `{name}` is not defined in `{}`", self.dir.join("plywood.toml").display()),
                format!("images defined here: {}", known.join(", ")),
            )
        })
    }
}

/// Reads `plywood.toml`, if the session is in a project.
pub(crate) fn load_file(session: &Session<'_>) -> Result<Option<ProjectFile>, LoadError> {
    match load::load_project(&session.project) {
        Err(LoadError::NoProject { .. }) => Ok(None),
        file => file.map(Some),
    }
}

/// Returns the architecture of this host, for which images are built.
pub(crate) fn machine_architecture() -> Result<Architecture, Failure> {
    let machine = rustix::system::uname();
    Ok(machine.machine().to_string_lossy().parse::<Architecture>()?)
}

/// Returns the search path of elements without a project: the directories in `ELEMENTS_PATH`, that
/// of an installed diskimage-builder, and plywood's own.
pub(crate) fn upstream_element_path(
    environment: &Environment,
    data_dir: &Path,
) -> Result<Vec<PathBuf>, Failure> {
    let named = environment.get("ELEMENTS_PATH").map(String::as_str).unwrap_or_default();
    let named = named.split(':').filter(|entry| !entry.is_empty()).map(PathBuf::from);
    // The caller's directories come first: the first of two elements with one name is used.
    let mut path = named.map(|entry| load::absolute(&entry)).collect::<Result<Vec<_>, _>>()?;
    let virtual_environment = environment.get("VIRTUAL_ENV").map(PathBuf::from);
    let found = load::upstream_elements(virtual_environment.as_deref());
    for own in found.into_iter().chain([data_dir.join("elements")]) {
        if own.is_dir() && !path.contains(&own) {
            path.push(own);
        }
    }
    Ok(path)
}

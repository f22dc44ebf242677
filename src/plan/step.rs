//! Plans, steps and tasks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::hooks::phase_of;
use super::input::InputFile;
use super::{ContentKey, Foundation, InputKey, KeyFields, Record, ResolvedSource, StepName};
use crate::distro::{Architecture, BaseDefinition, BaseSource};
use crate::element::{BOOT_LOADER_HOOK, Element, Phase, Place, Relevance};
use crate::oci::{ChainId, DiffId, Digest};

/// The fragment of `environment.d` that sets the default install type, from `extra-data.d` on.
pub const INSTALL_TYPE_FRAGMENT: &str = "11-dib-install-type.bash";

/// The path of the disk's parameters for hooks on the host, relative to `TMP_BUILD_DIR`.
pub const DISK_PARAMETERS: &str = "block-device/params.yaml";

/// The working directory of hooks on the host. It replaces the caller's directory, which differs
/// between hosts. A relative path may go up four levels without reaching anything else.
pub const WORK_DIR_ON_HOST: &str = "/tmp/plywood/caller/up/up/up/here";

/// The directory in which hooks on the host find whole elements.
pub const ELEMENTS_ON_HOST: &str = "/tmp/plywood/elements";

/// The steps that build one image's layers, and the final stage that builds its outputs.
///
/// Planning uses no file, process, clock or network. A plan can be printed and compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The image's name.
    pub image: String,
    pub architecture: Architecture,
    /// Latest modification time in any layer, in seconds since 1970. Also the time in every
    /// document.
    pub source_date_epoch: i64,
    pub foundation: Foundation,
    /// Lowest first. The first step builds the root file system.
    pub steps: Vec<Step>,
    /// The root with dnf and what normalizes rpm databases, for an image of the rpm family. It is
    /// built when a step of the image needs it.
    pub tools: Option<Step>,
    /// The final stage, which belongs to no element. For a disk it runs on the mounted disk. For a
    /// container it builds the top layer, if it changes anything.
    pub finish: Step,
}

impl Plan {
    /// Returns its steps, lowest first, and the final stage.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain([&self.finish])
    }
}

/// One step: its inputs and its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: StepName,
    /// The inputs of the step, without the layers below.
    pub fields: KeyFields,
    /// The key of the step below; `None` for the base.
    pub parent: Option<InputKey>,
    pub input_key: InputKey,
    pub work: Work,
}

impl Step {
    /// Returns a step above `parent`.
    pub fn new(name: StepName, fields: KeyFields, parent: Option<InputKey>, work: Work) -> Self {
        let input_key = fields.input_key(parent);
        Self { name, fields, parent, input_key, work }
    }

    /// Returns the source of its layers, if it uses a base that consists of layers.
    pub fn imported_base(&self) -> Option<&BaseSource> {
        match &self.work {
            Work::Base(base) => Some(&base.source).filter(|source| source.comes_as_layers()),
            Work::Tasks(_) => None,
        }
    }

    /// Returns true if its hooks or fragments run on the build host, so that its record has
    /// evidence.
    pub fn reads_host(&self) -> bool {
        let Work::Tasks(tasks) = &self.work else { return false };
        let on_host = tasks.list.iter().filter(|task| task.phase.place() == Place::Host);
        on_host.into_iter().any(|task| task.action == Action::Hook || !tasks.fragments.is_empty())
    }

    /// Returns its record without evidence, built for `image` above the stack `below`, with the
    /// layers `diff_ids`.
    pub fn record(&self, image: &str, below: &[DiffId], diff_ids: Vec<DiffId>) -> Record {
        Record {
            step: self.name.clone(),
            image: image.to_owned(),
            input_key: self.input_key,
            content_key: self.content_key(ChainId::of(below)),
            parent: self.parent,
            fields: self.fields.clone(),
            diff_ids,
            evidence: None,
        }
    }

    /// Returns its content key; `parent` is `None` for the lowest step.
    pub fn content_key(&self, parent: Option<ChainId>) -> ContentKey {
        self.fields.content_key(parent)
    }
}

/// The work of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Builds or imports the root file system of a base.
    Base(BaseDefinition),
    /// Runs tasks on the layers below.
    Tasks(Tasks),
}

impl Plan {
    /// Returns true if the image may contain something with this word: if a file or a package list
    /// of its elements, or the name of one of its packages, contains the word. The content of an
    /// imported base is unknown, so for an image on such a base the answer is true.
    pub fn may_bring(&self, word: &str) -> bool {
        let names_it = |name: &String| name.contains(word);
        self.steps.iter().any(|step| match &step.work {
            Work::Tasks(tasks) => tasks.may_bring(word),
            Work::Base(BaseDefinition { source: BaseSource::Mmdebstrap(source), .. }) => {
                source.include.iter().any(names_it)
            }
            Work::Base(BaseDefinition { source: BaseSource::Dnf(source), .. }) => {
                source.packages.iter().any(names_it)
            }
            Work::Base(_) => true,
        })
    }
}

/// Tasks on one root file system, and the files and variables that they see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tasks {
    /// The hooks directory, `/tmp/in_target.d` inside the target: path, and the element of the
    /// file. The step's key contains exactly these files.
    pub hooks: BTreeMap<String, Arc<Element>>,
    /// Symlinks in the hooks directory, by path, with relative targets. They place hooks of the
    /// chosen install types among the others.
    pub links: BTreeMap<String, String>,
    /// The files of its `environment.d` that are sourced before each phase, in order.
    pub fragments: Vec<String>,
    /// The reasons why these fragments are relevant, by their names. In no key, because they follow
    /// from the texts.
    pub relevance: BTreeMap<String, Relevance>,
    /// The variables that are set before the fragments are sourced.
    pub environment: BTreeMap<String, String>,
    /// Files of the image definition, shown in the directory `files` of the hooks directory, by
    /// name.
    pub files: BTreeMap<String, InputFile>,
    /// Files of the build host that hooks on the host read, by the paths at which hooks see them.
    pub machine: BTreeMap<String, InputFile>,
    /// Files of the build host that hooks on the host may write to, such as logs, by the paths at
    /// which hooks see them. In no key.
    pub written: BTreeMap<String, PathBuf>,
    /// The elements whose package lists [`Action::InstallRequested`] and [`Action::RemoveUnwanted`]
    /// use, and whose services [`Action::AddServices`] adds.
    pub requesting: Vec<Arc<Element>>,
    /// The elements whose whole directories hooks on the host can read. The key contains all their
    /// files.
    pub shown: Vec<Arc<Element>>,
    /// The tasks in order.
    pub list: Vec<Task>,
    /// The phases of this step. A hook of another phase, or of an earlier one, may have added hooks
    /// to their directories.
    pub phases: Vec<Phase>,
}

impl Tasks {
    /// Returns the texts of the files that the hook at `path` may source or call on the host: first
    /// its own, then tools, files at the top of elements, and files beside hooks that are not hooks
    /// of this step.
    pub fn texts_around<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is_hook = |path: &str| {
            let task =
                |task: &Task| task.action == Action::Hook && path == format!("{}/{}", task.phase, task.name);
            self.list.iter().any(task)
        };
        let is_beside = move |other: &str| match (other.split_once('/'), phase_of(other)) {
            (None, _) => true,
            (_, Some(phase)) => phase.place() == Place::Host && !is_hook(other),
            (Some((directory, _)), None) => directory == "bin",
        };
        let own = self.hooks.get_key_value(path);
        let others = self.hooks.iter().filter(move |(other, _)| *other != path && is_beside(other));
        own.into_iter().chain(others).filter_map(|(path, element)| element.text(path))
    }

    fn may_bring(&self, word: &str) -> bool {
        let names_it = |name: &String| name.contains(word);
        let elements = self.hooks.values().chain(&self.requesting).chain(&self.shown);
        let has_it = |element: &Arc<Element>| element.files.keys().any(|path| has_word(element, path, word));
        self.list.iter().any(|task| matches!(&task.action, Action::Install(names) if names.iter().any(names_it)))
            // What an image gives to its hooks may be a package.
            || !self.files.is_empty()
            || elements.into_iter().any(has_it)
    }

    /// Returns true if a file that hooks see contains this word. The hook that plywood replaces is
    /// left out.
    pub fn mention(&self, word: &str) -> bool {
        let mut files = self.hooks.iter().filter(|(path, _)| *path != BOOT_LOADER_HOOK);
        files.any(|(path, element)| has_word(element, path, word))
    }
}

fn has_word(element: &Element, path: &str, word: &str) -> bool {
    element.text(path).is_some_and(|text| text.windows(word.len()).any(|part| part == word.as_bytes()))
}

/// One task of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub phase: Phase,
    /// The hook's file name, or the provider's name in the same form (`10-package-installs`).
    pub name: String,
    pub action: Action,
}

impl std::fmt::Display for Task {
    /// One line with all inputs of the task: a field of the step's key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.phase, self.name, self.action)
    }
}

/// The action of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs the hook `<phase>/<name>` of the hooks directory.
    Hook,
    /// Copies this directory of the hooks directory onto that directory of the target.
    Copy {
        /// Below the hooks directory.
        from: String,
        /// In the target.
        to: String,
        modes: CopyModes,
    },
    /// Removes files that hooks left in `/tmp` and in root's home.
    CleanUp,
    /// Fetches package indices, unless this build has already fetched them for the same package
    /// sources.
    RefreshIndex,
    /// Installs packages, by the distribution's own names.
    Install(Vec<String>),
    /// Installs the packages that the lists of [`Tasks::requesting`] request in this phase. Which
    /// entries count depends on variables that fragments may set, so it is decided when the task
    /// runs.
    InstallRequested,
    /// Installs the packages in the plain list at this path of the hooks directory, written by a
    /// hook.
    InstallAdded(String),
    /// Removes the packages that those lists remove in these phases, or need for the build only.
    RemoveUnwanted(Vec<Phase>),
    /// Copies `init-scripts/<init system>/` to the directory of that init system. Fragments choose
    /// the init system.
    InstallInitScripts,
    /// Writes a text file in the target, readable by all users.
    Write { to: String, text: String },
    /// Adds the services of elements to the table of `svc-map`.
    AddServices,
    /// Copies the settings in this directory of the hooks directory to the directory of that name
    /// in `/etc`, and requests a new initramfs, which contains them.
    AddModuleSettings(String),
    /// Places a fetched source into the target.
    Place(Box<ResolvedSource>),
    /// Writes these texts, by file name, into the image's directory of manifests, and restricts the
    /// directory's content to root.
    WriteManifests(BTreeMap<String, String>),
    /// Installs GRUB's packages. Fragments choose them.
    InstallBootPackages,
    /// Makes a disk bootable, in place of the hook of this name. Does nothing for a container.
    InstallBootLoader,
    /// Moves `/etc/resolv.conf` of a new root file system to `resolv.conf.ORIG`, where elements may
    /// change it.
    SetResolverAside,
    /// Moves the file back.
    PutResolverBack,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Action::Hook => f.write_str("hook"),
            Action::Copy { from, to, modes: CopyModes::Keep } => write!(f, "copy {from} to {to}"),
            Action::Copy { from, to, modes: CopyModes::Executable } => {
                write!(f, "copy {from} to {to} as programs")
            }
            Action::CleanUp => f.write_str("clean up"),
            Action::RefreshIndex => f.write_str("refresh package indices"),
            Action::Install(names) => write!(f, "install {}", names.join(" ")),
            Action::InstallRequested => f.write_str("install requested packages"),
            Action::InstallAdded(list) => write!(f, "install packages of {list}"),
            Action::RemoveUnwanted(phases) => {
                let phases: Vec<_> = phases.iter().map(|phase| phase.dir()).collect();
                write!(f, "remove unwanted packages of {}", phases.join(" "))
            }
            Action::InstallInitScripts => f.write_str("install init scripts"),
            Action::Write { to, text } => write!(f, "write {to} {}", Digest::of(text)),
            Action::AddServices => f.write_str("add services"),
            Action::AddModuleSettings(dir) => write!(f, "add settings of {dir}"),
            Action::Place(source) => write!(f, "place {}", source.identity()),
            Action::WriteManifests(texts) => {
                let texts: Vec<_> =
                    texts.iter().map(|(name, text)| format!("{name} {}", Digest::of(text))).collect();
                write!(f, "write manifests {}", texts.join(", "))
            }
            Action::InstallBootPackages => f.write_str("install packages of the boot loader"),
            Action::InstallBootLoader => f.write_str("install boot loader"),
            Action::SetResolverAside => f.write_str("set resolver configuration aside"),
            Action::PutResolverBack => f.write_str("put resolver configuration back"),
        }
    }
}

/// The modes of copied files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyModes {
    /// The source's modes.
    Keep,
    /// 0755 for every file.
    Executable,
}

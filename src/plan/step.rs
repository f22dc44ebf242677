//! What is done, in order: the value that a plan is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::hooks::phase_of;
use super::{ContentKey, Foundation, InputKey, KeyFields, Record, ResolvedSource};
use crate::distro::{Architecture, BaseDefinition, BaseSource};
use crate::element::{BOOT_LOADER_HOOK, Element, Phase, Place, Relevance};
use crate::oci::{ChainId, DiffId, Digest};

/// The fragment of `environment.d` that sets the default install type, from `extra-data.d` on.
pub const INSTALL_TYPE_FRAGMENT: &str = "11-dib-install-type.bash";

/// Where below `TMP_BUILD_DIR` hooks on the host find parameters of the disk.
pub const DISK_PARAMETERS: &str = "block-device/params.yaml";

/// Where hooks on the host start: in place of the caller's directory, which is another one on each machine. Relative paths may lead
/// four steps up without meeting anything else.
pub const WORK_DIR_ON_HOST: &str = "/tmp/plywood/caller/up/up/up/here";

/// Where hooks on the host find whole elements.
pub const ELEMENTS_ON_HOST: &str = "/tmp/plywood/elements";

/// Everything that makes one image's layers, and the final stage that makes its outputs.
///
/// Made without a file, process, clock or network; can be printed and compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The image's name.
    pub image: String,
    pub architecture: Architecture,
    /// Latest modification time in any layer, in seconds since 1970; the time of every document.
    pub source_date_epoch: i64,
    /// What it stands on.
    pub foundation: Foundation,
    /// Lowest first. The first one makes the root file system.
    pub steps: Vec<Step>,
    /// The final stage: no layer of an element. For a disk it runs on the mounted disk, for a container it makes the top
    /// layer, if it changes anything.
    pub finish: Step,
}

/// One step: what it depends on, and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// An element; or with a colon, which no element's name has: `base:<its name>`, `root:<operating system>`, and the
    /// constants below.
    pub name: String,
    /// What it depends on, without what is below.
    pub fields: KeyFields,
    /// The key of the step below; `None` for the base.
    pub parent: Option<InputKey>,
    /// Its key by the keys below.
    pub input_key: InputKey,
    pub work: Work,
}

impl Step {
    /// Name of the step that has to come before anything is installed.
    pub const PREPARE: &str = "image:prepare";
    /// Name of the step with all hooks of `install.d`, in phase order.
    pub const INSTALL: &str = "image:install";
    /// Name of the step with all hooks of `post-install.d`, in phase order.
    pub const POST_INSTALL: &str = "image:post-install";
    /// Name of the step that installs the packages of the image definition.
    pub const PACKAGES: &str = "image:packages";
    /// Name of the step that removes packages, after all elements.
    pub const LATE: &str = "image:late";
    /// Name of the final stage.
    pub const FINAL: &str = "image:final";

    /// Makes a step above `parent`.
    pub fn new(name: impl Into<String>, fields: KeyFields, parent: Option<InputKey>, work: Work) -> Self {
        let input_key = fields.input_key(parent);
        Self { name: name.into(), fields, parent, input_key, work }
    }

    /// Returns where its layers come from, if it takes a base that comes as layers.
    pub fn imported_base(&self) -> Option<&BaseSource> {
        match &self.work {
            Work::Base(base) => Some(&base.source).filter(|source| source.comes_as_layers()),
            Work::Tasks(_) => None,
        }
    }

    /// Returns true if hooks or fragments of it run on the build host, so that its record has evidence of what they read there.
    pub fn reads_host(&self) -> bool {
        let Work::Tasks(tasks) = &self.work else { return false };
        let on_host = tasks.list.iter().filter(|task| task.phase.place() == Place::Host);
        on_host.into_iter().any(|task| task.action == Action::Hook || !tasks.fragments.is_empty())
    }

    /// Returns its record, without evidence: built for `image` above the stack `below`, it gave `diff_ids`.
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

    /// Says what the step called `name` is, for the history of an image.
    pub fn describe(name: &str) -> String {
        let kind = if name.contains(':') { "" } else { "element " };
        format!("plywood {kind}{name}")
    }

    /// Returns its key by the content below; `None` when nothing is below.
    pub fn content_key(&self, parent: Option<ChainId>) -> ContentKey {
        self.fields.content_key(parent)
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Makes or takes the root file system that a base defines.
    Base(BaseDefinition),
    /// Runs tasks on what is below.
    Tasks(Tasks),
}

/// Tasks on one root file system, and what they see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tasks {
    /// The hooks directory, `/tmp/in_target.d` inside the target: path, and the element the file comes from. Exactly
    /// these files are in the step's key.
    pub hooks: BTreeMap<String, Arc<Element>>,
    /// Entries of the hooks directory that are symlinks, by path; their targets are relative. Hooks of the chosen install
    /// types stand so among the others.
    pub links: BTreeMap<String, String>,
    /// The files of its `environment.d` that are sourced before each phase, in order.
    pub fragments: Vec<String>,
    /// Why these matter, by their names. In no key: it follows from the texts.
    pub relevance: BTreeMap<String, Relevance>,
    /// The variables that are set before the fragments are sourced.
    pub environment: BTreeMap<String, String>,
    /// Files of the image definition, shown in the directory `files` of the hooks directory, by name.
    pub files: BTreeMap<String, InputFile>,
    /// Files of the machine that hooks on the host read, by where they find them.
    pub machine: BTreeMap<String, InputFile>,
    /// Files of the machine that hooks on the host may write to, such as logs, by where they find them. In no key.
    pub written: BTreeMap<String, PathBuf>,
    /// The elements whose package lists [`Action::InstallRequested`] and [`Action::RemoveUnwanted`] go by, and whose services
    /// [`Action::AddServices`] adds.
    pub requesting: Vec<Arc<Element>>,
    /// The elements whose whole directories hooks on the host can look into. In the key with every file.
    pub shown: Vec<Arc<Element>>,
    /// In the order they run.
    pub list: Vec<Task>,
    /// The phases that take place here: a hook of another phase, or of an earlier one, may have put more hooks into their
    /// directories.
    pub phases: Vec<Phase>,
}

impl InputFile {
    /// Returns the digest of a file's bytes and whether it can be executed.
    pub fn digest(bytes: Digest, is_executable: bool) -> Digest {
        match is_executable {
            true => Digest::of([b"executable ".as_slice(), bytes.bytes()].concat()),
            false => bytes,
        }
    }
}

impl Tasks {
    /// Returns the texts of the files that the hook at `path` may source or call on the host: its own first, then tools, files at
    /// the top of elements, and files beside hooks that are not hooks of this step.
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

    /// Returns true if a file that hooks see has this word in it. The hook whose work plywood does is left out.
    pub fn mention(&self, word: &str) -> bool {
        let has = |text: &[u8]| text.windows(word.len()).any(|part| part == word.as_bytes());
        let mut files = self.hooks.iter().filter(|(path, _)| *path != BOOT_LOADER_HOOK);
        files.any(|(path, element)| element.text(path).is_some_and(has))
    }
}

/// A file or directory of the image definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it is. No part of any key.
    pub path: PathBuf,
    /// What it holds, and whether it can be executed.
    pub digest: Digest,
    /// Whether it is a file that can be executed.
    pub is_executable: bool,
    /// Its bytes, if they were kept: they are shown whatever the file holds by then.
    pub content: Option<Arc<[u8]>>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub phase: Phase,
    /// The hook's file name, or the provider's name in the same form (`10-package-installs`).
    pub name: String,
    pub action: Action,
}

impl std::fmt::Display for Task {
    /// One line that says all of it: a field of the step's key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.phase, self.name, self.action)
    }
}

/// What a task does.
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
    /// Removes what hooks left in `/tmp` and in root's home.
    CleanUp,
    /// Fetches package indices, unless this build has already, for these very package sources.
    RefreshIndex,
    /// Installs packages, by the distribution's own names.
    Install(Vec<String>),
    /// Installs what the package lists of [`Tasks::requesting`] ask for in this phase. Which entries hold depends on
    /// variables that fragments may set, so it is found out when they are known.
    InstallRequested,
    /// Installs what the plain list at this path of the hooks directory asks for, which a hook has written.
    InstallAdded(String),
    /// Removes what those lists want removed in these phases, or wanted for the build alone.
    RemoveUnwanted(Vec<Phase>),
    /// Copies `init-scripts/<init system>/` to where that init system looks. Which one it is, fragments say.
    InstallInitScripts,
    /// Writes a text file of the target, readable by all.
    Write { to: String, text: String },
    /// Adds the services of elements to the table that `svc-map` looks names up in.
    AddServices,
    /// Copies the settings in this directory of the hooks directory to the directory of that name in `/etc`, which is made; and
    /// has the initramfs made again, which holds them.
    AddModuleSettings(String),
    /// Puts into the target what was fetched.
    Place(Box<ResolvedSource>),
    /// Writes texts by their names into the image's directory of manifests, and leaves all that is in it to root alone.
    WriteManifests(BTreeMap<String, String>),
    /// Installs GRUB's packages. Which ones, fragments say.
    InstallBootPackages,
    /// Makes a disk bootable, in place of the hook of this name; nothing for a container.
    InstallBootLoader,
    /// Moves `/etc/resolv.conf` of a new root file system to `resolv.conf.ORIG`, where elements may change it.
    SetResolverAside,
    /// Moves it back.
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

/// How modes are set by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyModes {
    /// As in the source.
    Keep,
    /// 0755 for every file.
    Executable,
}

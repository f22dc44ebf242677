//! The command line.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::element::shell_line;
use crate::image::OutputFormat;
use crate::load::find_project;
use crate::oci::Repository;

/// Assemble diskimage-builder elements into cached, reproducible OCI layers, cloud images and
/// builder containers
#[derive(Debug, Parser)]
#[command(name = "plywood", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading in help texts above the options of every command.
const GLOBAL: &str = "Global options";

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Read `plywood.toml` from this directory [default: the nearest directory with that file, from
    /// the current one upwards]
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_name = "DIR",
        env = "PLYWOOD_PROJECT"
    )]
    pub project: Option<PathBuf>,
    /// Keep layers, records and downloads in this directory [default: /var/cache/plywood as root,
    /// else $XDG_CACHE_HOME/plywood]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", env = "PLYWOOD_STORE")]
    pub store: Option<PathBuf>,
    /// Also show the output of hooks; `-vv` also traces commands, mounts and requests, for bug
    /// reports
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "quiet", action = ArgAction::Count)]
    pub verbose: u8,
    /// Show errors only
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
}

impl Global {
    /// Chooses the project: the directory that is named, else the nearest one that has a
    /// definition.
    pub(super) fn choose_project(&mut self) {
        self.project = Some(match self.project.take() {
            None => find_project(),
            // A search may also return `.`. An absolute path shows in messages that the user chose
            // it.
            Some(here) if here == Path::new(".") => std::path::absolute(&here).unwrap_or(here),
            Some(named) => named,
        });
    }

    /// Returns the directory of the project.
    pub(super) fn project(&self) -> &Path {
        self.project.as_deref().unwrap_or(Path::new("."))
    }

    /// Returns the directory for outputs: `directory`, or `out` in the project.
    pub(super) fn output_directory(&self, directory: Option<&Path>) -> PathBuf {
        match directory {
            Some(directory) => directory.to_owned(),
            None if self.project() == Path::new(".") => PathBuf::from("out"),
            None => self.project().join("out"),
        }
    }

    /// Returns the beginning of a command that works on the same project and store.
    pub(super) fn invocation(&self) -> String {
        let mut words = vec!["plywood".to_owned()];
        if self.project() != Path::new(".") {
            words.extend(["--project".to_owned(), self.project().display().to_string()]);
        }
        words.extend(self.store.iter().flat_map(|store| ["--store".to_owned(), store.display().to_string()]));
        shell_line(words)
    }
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the layers of images and write their outputs
    Build(Build),
    /// Show for each step whether its layer is cached, and why not; run nothing
    Plan(Plan),
    /// Show why a step has to be built, field by field
    Explain(Explain),
    /// List the layers of an image
    Layers(Layers),
    /// List, show, draw, check or test elements: those of the project, or those of ELEMENTS_PATH
    /// and plywood's own if there is no project
    #[command(subcommand)]
    Elements(Elements),
    /// Import a root file system as a base
    ///
    /// Writes `layers/NAME.toml` into the project. Images name it as `base = "NAME"`.
    Import(Import),
    /// Push an image to a registry: the container of its last build, or its disk
    ///
    /// Uploads the blobs that the registry lacks, then the manifest, and prints the reference with
    /// its digest.
    Push(Push),
    /// Pull an image from a registry into the store, or a disk into a directory
    ///
    /// If the image supports several platforms, fetches the one of this host. Layers in the store
    /// are not fetched again.
    Pull(Pull),
    /// Open a shell on an image's root file system; its changes are discarded
    Shell(Shell),
    /// Start a disk in QEMU, with its serial console on this terminal
    Boot(Boot),
    /// Check what this host offers for builds and what it lacks, with a fix for each problem
    ///
    /// Tries the operations of a build: namespaces, an overlay and a loop device in the store, a
    /// guest under KVM, connections to package mirrors. Exits with 1 if no image can be built here.
    /// Missing programs that only some outputs need are listed as limits.
    Doctor(Doctor),
    /// Manage the store
    #[command(subcommand)]
    Store(Store),
    /// Manage a repository through which machines share steps
    #[command(subcommand)]
    Cache(Cache),
    /// Manage the key that signs published steps
    #[command(subcommand)]
    Key(Key),
    /// Print the completion script of a shell
    ///
    /// `make install` installs the scripts where shells look for them.
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shells,
    },
    /// Write a man page for each command into a directory, as `make build` does
    Manual {
        /// The directory; created if it does not exist
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Shells with completion scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shells {
    /// GNU bash, with the package bash-completion
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

impl Command {
    /// Returns the display of progress; `None` for commands without one.
    pub(super) fn progress(&self) -> Option<Progress> {
        match self {
            Command::Build(args) => Some(args.progress),
            Command::Import(args) => Some(args.progress),
            Command::Push(args) => Some(args.progress),
            Command::Pull(args) => Some(args.progress),
            _ => None,
        }
    }
}

/// Arguments of `plywood build`.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// Images to build [default: all]
    pub images: Vec<String>,
    /// Write these formats instead of the definition's `outputs`; can be given several times
    #[arg(short, long, value_delimiter = ',', value_name = "FORMAT", value_parser = output_format())]
    pub format: Vec<OutputFormat>,
    /// Write outputs into this directory [default: `out` in the project]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Run hooks element by element or phase by phase [default: the definition's `order`]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<crate::element::HookOrder>,
    /// Build every step again, without looking for cached layers
    #[arg(long)]
    pub no_cache: bool,
    /// Stop, without running or fetching anything, if a layer is neither in the store nor in a
    /// registry
    #[arg(long, conflicts_with = "no_cache")]
    pub fail_on_miss: bool,
    /// What to do when a hook fails: stop, or first open a shell on the state that it left
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnError::Stop)]
    pub on_error: OnError,
    /// Keep the state that a failed hook left, for `plywood shell IMAGE --failed`; one state per
    /// image
    #[arg(long)]
    pub keep_failed: bool,
    /// Use no network; fail if the store lacks something
    #[arg(long, conflicts_with_all = ["cache_from", "cache_to"])]
    pub offline: bool,
    #[command(flatten)]
    pub cache_from: CacheFrom,
    #[command(flatten)]
    pub cache_to: CacheTo,
    #[command(flatten)]
    pub limits: Limits,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Progress::Auto, value_name = "KIND")]
    pub progress: Progress,
}

/// Returns a parser of output formats that lists all of them in help texts.
fn output_format() -> impl TypedValueParser<Value = OutputFormat> {
    PossibleValuesParser::new(OutputFormat::ALL.map(OutputFormat::as_str))
        .try_map(|name| name.parse::<OutputFormat>())
}

/// Limits of each hook.
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Stop a hook that runs longer than this many seconds [default: `hook-timeout` in `[limits]`]
    #[arg(long, value_name = "SECONDS")]
    pub hook_timeout: Option<NonZeroU64>,
    /// Limit the processes and threads that a hook may have at the same time [default:
    /// `hook-processes` in `[limits]`]
    #[arg(long, value_name = "COUNT")]
    pub hook_processes: Option<NonZeroU64>,
    /// Limit the memory of a hook: `2G` [default: `hook-memory` in `[limits]`]
    #[arg(long, value_name = "SIZE")]
    pub hook_memory: Option<crate::disk::ByteSize>,
}

/// What to do when a hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    /// End the build
    Stop,
    /// Open a shell on the state that the hook left; the build ends when the shell does
    Shell,
}

/// The registries in which steps are looked up, besides the store.
#[derive(Debug, Default, Args)]
pub(super) struct CacheFrom {
    /// Also look for steps in this repository: `HOST/NAME`. Can be given several times;
    /// repositories are searched in order [default: `from` in `[cache]`]
    #[arg(long, value_name = "REF")]
    pub cache_from: Vec<Repository>,
}

/// The registry to which steps are published.
#[derive(Debug, Default, Args)]
pub(super) struct CacheTo {
    /// Publish the steps to this repository after the build: `HOST/NAME` [default: `to` in
    /// `[cache]`]
    #[arg(long, value_name = "REF")]
    pub cache_to: Option<Repository>,
    /// Sign published steps with the key in this file [default: `sign-with` in `[trust]`]
    #[arg(long, value_name = "FILE", env = "PLYWOOD_SIGN_KEY")]
    pub sign_key: Option<PathBuf>,
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Progress {
    /// A live display on a terminal, plain lines elsewhere
    Auto,
    /// One line for each step, stage and output
    Plain,
    /// One JSON object per line
    Json,
}

/// Arguments of `plywood plan`.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Images to plan [default: all]
    pub images: Vec<String>,
    /// Run hooks element by element or phase by phase [default: the definition's `order`]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<crate::element::HookOrder>,
    #[command(flatten)]
    pub cache_from: CacheFrom,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plywood explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The image
    pub image: String,
    /// The element, or another step's name as `plywood plan` prints it [default: all steps]
    pub step: Option<String>,
    /// Run hooks element by element or phase by phase [default: the definition's `order`]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<crate::element::HookOrder>,
    #[command(flatten)]
    pub cache_from: CacheFrom,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plywood layers`.
#[derive(Debug, Args)]
pub(super) struct Layers {
    /// The image
    pub image: String,
    /// Run hooks element by element or phase by phase [default: the definition's `order`]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<crate::element::HookOrder>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `plywood elements …`.
#[derive(Debug, Subcommand)]
pub(super) enum Elements {
    /// List all elements, one per line: name, directory, purpose
    List,
    /// Show an element: dependencies, hooks in their order, variables, packages
    Show {
        /// The element
        element: String,
    },
    /// Print the dependencies of elements in the language of Graphviz
    Graph {
        /// The image whose elements to draw [default: all elements]
        image: Option<String>,
    },
    /// Look for mistakes in elements; exit with 1 if there are any
    Check {
        /// Elements to check [default: all]
        elements: Vec<String>,
    },
    /// Build the tests in `test-elements` of elements, as diskimage-builder does; exit with 1 if
    /// one fails
    Test {
        /// Elements to test
        #[arg(required = true)]
        elements: Vec<String>,
        /// Write a log and the outputs of each test below this directory [default:
        /// `out/element-tests` in the project]
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Arguments of `plywood import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// `oci:DIR[:TAG]`, `docker-archive:FILE[:TAG]`, a tar file of a root file system, or an image
    /// in a registry: `HOST/NAME:TAG`, `NAME@DIGEST`
    pub source: String,
    /// Name of the new base
    pub name: String,
    /// The distribution, as elements see it in DISTRO_NAME [default: from /etc/os-release]
    #[arg(long)]
    pub distro: Option<String>,
    /// The release, as elements see it in DIB_RELEASE [default: from /etc/os-release]
    #[arg(long)]
    pub release: Option<String>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Progress::Auto, value_name = "KIND")]
    pub progress: Progress,
}

/// Arguments of `plywood push`.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// An image of the project whose layers are in the store, or a pulled image
    pub image: String,
    /// The destination: `HOST/NAME:TAG` [default tag: latest]
    pub reference: String,
    /// What to push
    #[arg(short, long, value_enum, default_value_t = PushFormat::Oci, value_name = "FORMAT")]
    pub format: PushFormat,
    /// The directory into which the build wrote the disk [default: `out` in the project]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Progress::Auto, value_name = "KIND")]
    pub progress: Progress,
}

/// The part of an image that a push uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PushFormat {
    /// The container
    Oci,
    /// The qcow2 disk, as an OCI artifact that `plywood pull -o` downloads
    Qcow2,
    /// The qcow2 disk, in the form of KubeVirt's `containerDisk` volumes
    Containerdisk,
}

/// Arguments of `plywood pull`.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The image: `HOST/NAME:TAG` or `HOST/NAME@DIGEST`; `NAME` alone is an image of Docker Hub
    pub reference: String,
    /// Write the files of an artifact, such as a disk, into this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Progress::Auto, value_name = "KIND")]
    pub progress: Progress,
}

/// Arguments of `plywood shell`.
#[derive(Debug, Args)]
pub(super) struct Shell {
    /// The image
    pub image: String,
    /// Show the root file system as the hooks of this element see it, or as one hook sees it:
    /// `ELEMENT` or `ELEMENT:PHASE/HOOK`, such as `web:install.d/50-web`
    ///
    /// The element's hooks are in /tmp/in_target.d. With a hook, the hooks of the step that precede
    /// it run first. If the hook runs on the build host, the shell also runs there, with the root
    /// file system at $TMP_MOUNT_PATH. [default: the finished image]
    #[arg(long, value_name = "ELEMENT[:HOOK]")]
    pub at: Option<String>,
    /// Show the state that a failed hook left, kept by `plywood build --keep-failed`
    #[arg(long, conflicts_with_all = ["at", "order"])]
    pub failed: bool,
    /// Run hooks element by element or phase by phase [default: the definition's `order`]
    #[arg(long, value_name = "ORDER")]
    pub order: Option<crate::element::HookOrder>,
    /// Run this instead of a login shell
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// Arguments of `plywood doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plywood boot`.
#[derive(Debug, Args)]
pub(super) struct Boot {
    /// The disk; it stays unchanged unless `--write` is given
    pub disk: PathBuf,
    /// Exit as soon as the console shows this text; exit with 1 if it does not appear in time
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,
    /// How long to wait for the text or for ssh, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// The firmware that starts the disk
    #[arg(long, value_enum, default_value_t = Firmware::Bios)]
    pub firmware: Firmware,
    /// Attach this file as a second, read-only drive: a cloud-init seed
    #[arg(long, value_name = "FILE")]
    pub seed: Option<PathBuf>,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u32,
    /// Forward a TCP port of this host's loopback interface to a port of the machine: `8080:80`;
    /// can be given several times
    #[arg(long, value_name = "HOST:GUEST")]
    pub forward: Vec<crate::disk::Forward>,
    /// Wait until the machine's ssh server answers, run ssh as this user, then stop the machine
    ///
    /// The command after `--` runs there instead of a shell. ssh reads its own configuration for
    /// keys. The host key is not checked, because each start may create a new one.
    #[arg(long, value_name = "USER", conflicts_with = "expect")]
    pub ssh: Option<String>,
    /// Pass this private key to ssh
    #[arg(long, value_name = "FILE", requires = "ssh")]
    pub ssh_key: Option<PathBuf>,
    /// Show the machine a larger disk: `20G`. The file keeps its size
    #[arg(long, value_name = "SIZE", conflicts_with = "write")]
    pub disk_size: Option<crate::disk::ByteSize>,
    /// Keep the machine's changes in the disk
    #[arg(long)]
    pub write: bool,
    /// How the machine's instructions are executed
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// Run this by ssh instead of a login shell
    #[arg(last = true, requires = "ssh")]
    pub command: Vec<String>,
}

/// How a machine's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Accel {
    /// KVM if a test guest runs under it, else emulation
    Auto,
    /// KVM: directly on the processor
    Kvm,
    /// Emulation, which works everywhere
    Tcg,
}

/// The firmware that starts a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Firmware {
    /// SeaBIOS
    Bios,
    /// OVMF
    Uefi,
}

/// `plywood store …`.
#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// List the steps whose layers the store holds, and their sizes
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the images in the store: imported bases, pulled images, containers of builds
    Images {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove imported bases, pulled images and containers, and the layers that only they use
    ///
    /// Refuses to remove a base below cached steps: their images could not be built again without
    /// it.
    Rm {
        /// Name or digest as `plywood store images` shows it, or the name of an imported base of
        /// the project
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Also remove a base below cached steps
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove layers that neither a recent build nor the last build of an image uses
    Gc {
        /// Remove layers that were not used for this many days; the last build of each image stays
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        older_than: u64,
        /// Then also remove the least recently used layers, including last builds, until layers and
        /// images take at most this size: `20G`
        ///
        /// Imported bases and pulled images stay. If they alone exceed the size, the command fails
        /// and names them.
        #[arg(long, value_name = "SIZE")]
        max_size: Option<crate::disk::ByteSize>,
    },
    /// Verify every blob, record and unpacked layer; set damaged ones aside
    Check,
}

/// `plywood cache …`.
#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Delete old steps from a repository of a registry that allows deletion
    ///
    /// The steps of each image's last published build stay. The registry frees the space when it
    /// collects its own garbage.
    Prune {
        /// The repository: `HOST/NAME`
        repository: Repository,
        /// Delete steps that were published more than this many days ago
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        older_than: u32,
        /// Keep this many of the newest versions of each step of an image, at any age
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        keep_last: usize,
        /// Show what would be deleted, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// `plywood key …`.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Generate a signing key; print its public key
    Generate {
        /// Write the key into this file, which must not exist yet [default:
        /// /etc/plywood/signing.key as root, else $XDG_CONFIG_HOME/plywood/signing.key]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public key of a signing key, in the form of `keys` in `[trust]`
    Show {
        /// The file of the signing key [default: `sign-with` in `[trust]`, else the default of
        /// `plywood key generate`]
        #[arg(long, value_name = "FILE", env = "PLYWOOD_SIGN_KEY")]
        sign_key: Option<PathBuf>,
    },
}

//! A build host in memory for tests, with everything that the engine needs. It records every call.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tempfile::TempDir;

use super::base::Bases;
use super::build::{Image, Options, Run, Unpublished};
use super::checks::Checks;
use super::disk::{Disk, DiskRules};
use super::failure::{Failure, Message};
use super::images::Images;
use super::outputs::Extras;
use super::place::{Place, Places};
use super::resolve::Resolved;
use super::sharing::{PublishTo, Target};
use super::writer::{Archive, Container, Conversion, DiskIdentity, Writer};
use crate::build::fake::World;
use crate::build::{Builder, OnFailure, OnMiss, Registries, Reuse, Surroundings};
use crate::directory::Directory;
use crate::dropin::OutputType;
use crate::element::Environment;
use crate::host::Finding;
use crate::image::{DiskSettings, ImageDefinition, ImageName, OutputFormat};
use crate::oci::{DiffId, Digest, Reference};
use crate::output::{ContainerImage, Destination, TarForm, Written};
use crate::package::Reach;
use crate::plan::InputKey;
use crate::plan::fixture::Image as PlannedImage;
use crate::port::{BaseImage, DiskWriter, Layer, LayerBlobs, Limits, StoreError};

/// The time of the clock.
pub(super) const NOW: i64 = 2_000_000_000;

/// A machine.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) world: World,
    pub(super) calls: RefCell<Vec<String>>,
    /// The manifests of the last builds.
    pub(super) builds: RefCell<BTreeMap<String, Vec<u8>>>,
    /// The names for which checks fail: names of programs, `store`, `loop devices`,
    /// `device mapper`, paths.
    pub(super) lacking: BTreeSet<&'static str>,
    /// The name of an output that cannot be written.
    pub(super) unwritable: Option<&'static str>,
    /// The image that registries have.
    pub(super) remote_base: Option<BaseImage>,
    /// How many documents of the store cannot be read.
    pub(super) set_aside: u64,
}

impl Machine {
    /// Returns a machine without these.
    pub(super) fn without(lacking: &[&'static str]) -> Self {
        Self { lacking: lacking.iter().copied().collect(), ..Self::default() }
    }

    /// Returns the calls since the last time.
    pub(super) fn take_calls(&self) -> Vec<String> {
        self.calls.take()
    }

    /// Returns the warnings so far.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.world.events("warning").into_iter();
        warnings.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Builds images with the settings of `front`.
    pub(super) fn build(&self, images: &[Image<'_>], front: &Front<'_>) -> Result<(), Failure> {
        let registries = Registries::none(&self.world);
        let environment = Environment::new();
        let extras = Extras::default();
        let places = Scratch::new(self, front);
        let options = Options {
            environment: &environment,
            reach: Reach::Online,
            limits: Limits::default(),
            reuse: Reuse::Allowed,
            on_miss: OnMiss::Build,
            on_failure: OnFailure::Discard,
            cache_from: &[],
            publish_to: PublishTo::default(),
            unpublished: front.unpublished,
            breaks: None,
            extras: &extras,
            places: &places,
            inspect: None,
        };
        let surroundings = places.surroundings()?;
        let run = Run {
            builder: Builder { surroundings, reuse: front.reuse, ..self.world.builder(&registries) },
            checks: self,
            bases: front.online.then_some(self as &dyn Bases),
            images: self,
            writer: self,
            target: front.target,
            options: &options,
        };
        run.all(images)
    }

    fn note(&self, call: impl Into<String>) {
        self.calls.borrow_mut().push(call.into());
    }

    fn finding(&self, name: &str) -> Finding {
        match self.lacking.contains(name) {
            true => Finding::lacking(name, format!("{name} is lacking"), "get it"),
            false => Finding::ok(name, "is there"),
        }
    }

    fn written(&self, to: &Destination, call: String) -> Result<Written, Failure> {
        let path = to.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.unwritable.is_some_and(|unwritable| name == unwritable) {
            return Err(Message::plain(format!("cannot write `{name}`")));
        }
        self.note(call.replace("{}", &name));
        Ok(Written { path, bytes: 1, digest: Digest::of(&name) })
    }
}

/// The settings of a build by a front end.
pub(super) struct Front<'a> {
    pub(super) reuse: Reuse,
    pub(super) online: bool,
    /// Whether manifests are kept, as plywood does.
    pub(super) keeps_manifest: bool,
    /// Whether hooks of the final stage write to the caller's directories, as those of
    /// diskimage-builder do.
    pub(super) has_surroundings: bool,
    pub(super) unpublished: Unpublished,
    pub(super) target: Option<&'a Target<'a>>,
}

impl Front<'_> {
    /// The settings of plywood's own commands.
    pub(super) const PLYWOOD: Self = Self {
        reuse: Reuse::Allowed,
        online: true,
        keeps_manifest: true,
        has_surroundings: false,
        unpublished: Unpublished::IsFailure,
        target: None,
    };

    /// The settings of diskimage-builder's commands.
    pub(super) const DROP_IN: Self = Self {
        keeps_manifest: false,
        has_surroundings: true,
        unpublished: Unpublished::IsWarning,
        ..Self::PLYWOOD
    };
}

/// Returns an image of this plan, with these outputs.
pub(super) fn image<'a>(
    planned: &PlannedImage,
    (name, definition): (&'a ImageName, &'a ImageDefinition),
    outputs: &[OutputType],
) -> Image<'a> {
    let settings = DiskSettings::default();
    let disk = Disk::load(&settings, Path::new(""), &[], &BTreeMap::new(), DiskRules::Plywood).unwrap();
    let planned = PlannedImage { name: name.to_string(), ..planned.clone() };
    let (plan, project) = (planned.plan(), PathBuf::new());
    let resolved = Resolved { name, definition, project, plan, disk, warnings: Vec::new() };
    Image { resolved, outputs: outputs.to_vec() }
}

/// Returns the name and the definition of an image.
pub(super) fn defined(name: &str) -> (ImageName, ImageDefinition) {
    (name.parse().unwrap(), toml::from_str("base = 'debian-bookworm'").unwrap())
}

/// Returns outputs by their names.
pub(super) fn outputs(names: &[&str]) -> Vec<OutputType> {
    let output = |name: &&str| match name.parse::<OutputFormat>() {
        Ok(format) => OutputType::File(format),
        Err(_) if *name == "docker" => OutputType::Docker,
        Err(_) => OutputType::Qemu((*name).to_owned()),
    };
    names.iter().map(output).collect()
}

/// One temporary directory for all files.
struct Scratch<'a> {
    machine: &'a Machine,
    front: &'a Front<'a>,
    place: TempDir,
}

impl<'a> Scratch<'a> {
    fn new(machine: &'a Machine, front: &'a Front<'a>) -> Self {
        Self { machine, front, place: tempfile::tempdir().unwrap() }
    }
}

impl Places for Scratch<'_> {
    fn directory(&self) -> Result<PathBuf, Failure> {
        Ok(self.place.path().to_owned())
    }

    fn surroundings(&self) -> Result<Option<Surroundings>, Failure> {
        let directory = PathBuf::from("/caller");
        let surroundings = Surroundings { directory, further: Vec::new(), cache: None };
        Ok(self.front.has_surroundings.then_some(surroundings))
    }

    fn check(&self, image: &str, _: &[OutputType]) -> Result<(), Failure> {
        self.machine.note(format!("place of {image}"));
        Ok(())
    }

    fn place(&self, image: &str) -> Result<Rc<dyn Place + '_>, Failure> {
        let directory = Directory::open(self.place.path())?;
        Ok(Rc::new(ScratchPlace { scratch: self, directory, image: image.to_owned() }))
    }
}

struct ScratchPlace<'a> {
    scratch: &'a Scratch<'a>,
    directory: Directory,
    image: String,
}

impl Place for ScratchPlace<'_> {
    fn destination(&self, _: &OutputType, extension: &str) -> Destination {
        Destination::new(&self.directory, format!("{}.{extension}", self.image).as_ref())
    }

    fn beside(&self) -> &Directory {
        &self.directory
    }

    fn manifest(&self) -> Option<OsString> {
        self.scratch.front.keeps_manifest.then(|| format!("{}.json", self.image).into())
    }

    fn hand_over(&self) -> Result<(), Failure> {
        self.scratch.machine.note(format!("hand over {}", self.image));
        Ok(())
    }
}

impl Checks for Machine {
    fn now(&self) -> Result<i64, Failure> {
        self.note("clock");
        Ok(NOW)
    }

    fn file(&self, path: &Path) -> io::Result<()> {
        self.note(format!("file {}", path.display()));
        let is_lacking = path.to_str().is_some_and(|path| self.lacking.contains(path));
        if is_lacking { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn tool(&self, name: &str) -> Finding {
        self.note(name);
        self.finding(name)
    }

    fn device_mapper(&self) -> Finding {
        self.note("device mapper");
        self.finding("device mapper")
    }

    fn store(&self) -> Result<(), Failure> {
        self.note("store");
        super::checks::require_whole(self.finding("store"))
    }

    fn loop_devices(&self) -> Result<Finding, Failure> {
        self.note("loop devices");
        Ok(self.finding("loop devices"))
    }

    fn qemu_formats(&self) -> Result<Vec<String>, Failure> {
        self.note("formats");
        Ok(vec!["vmdk".to_owned(), "vhdx".to_owned()])
    }
}

impl Bases for Machine {
    fn fetch(&self, reference: &Reference) -> Result<BaseImage, Failure> {
        self.note(format!("fetch {reference}"));
        self.remote_base.clone().ok_or_else(|| Message::plain("the registry does not answer"))
    }
}

impl Images for Machine {
    fn layer_blobs(&self) -> Box<dyn LayerBlobs + '_> {
        Box::new(self.world.clone())
    }

    fn save_container(&self, image: &str, _: &[u8], layers: &[Layer]) -> Result<(), StoreError> {
        self.note(format!("keep the container of {image}: {} layers", layers.len()));
        Ok(())
    }

    fn forget_old_container(&self, _: &str, _: &[DiffId]) -> Result<(), StoreError> {
        Ok(())
    }

    fn save_build(&self, image: &str, manifest: Vec<u8>, keys: &[InputKey]) -> Result<(), StoreError> {
        self.builds.borrow_mut().insert(image.to_owned(), manifest);
        self.note(format!("keep the build of {image}: {} steps", keys.len()));
        Ok(())
    }

    fn last_build(&self, image: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.builds.borrow().get(image).cloned())
    }

    fn forget_failed(&self, image: &str) -> Result<(), StoreError> {
        self.note(format!("forget the failure of {image}"));
        Ok(())
    }

    fn set_aside(&self) -> (u64, PathBuf) {
        (self.set_aside, "/store/quarantine".into())
    }
}

impl Writer for Machine {
    fn disks(&self, _: PathBuf) -> Box<dyn DiskWriter + '_> {
        self.note("lay out a disk");
        Box::new(self.world.clone())
    }

    fn convert(
        &self,
        _: &Path,
        to: &Destination,
        conversion: Conversion<'_>,
        _: &DiskIdentity<'_>,
    ) -> Result<Written, Failure> {
        let by = match conversion {
            Conversion::Own(..) => "plywood",
            Conversion::Qemu(_) => "qemu-img",
        };
        self.written(to, format!("{{}} of the disk, by {by}"))
    }

    fn archive(
        &self,
        root: &Path,
        to: &Destination,
        archive: Archive<'_>,
        _: &crate::layer::Clamp,
    ) -> Result<Written, Failure> {
        let kind = match archive {
            Archive::Squashfs => "squashfs",
            Archive::Tar(TarForm::Plain(_)) => "tar",
            Archive::Tar(TarForm::Gzip(_)) => "gzip",
            Archive::Tar(TarForm::AppContainer { .. }) => "app container",
        };
        self.written(to, format!("{{}} ({kind}) of {}", root.display()))
    }

    fn container(
        &self,
        image: &ContainerImage<'_>,
        _: &dyn LayerBlobs,
        container: Container<'_>,
    ) -> Result<Written, Failure> {
        let layers = image.diff_ids.len();
        match container {
            Container::OciLayout(_, to, _) => self.written(to, format!("{{}} (layout) of {layers} layers")),
            Container::DockerArchive(to) => self.written(to, format!("{{}} (archive) of {layers} layers")),
            Container::Docker(archive, _) => {
                self.note(format!("docker load of {layers} layers"));
                Ok(Written { path: archive.to_owned(), bytes: 1, digest: Digest::of("docker") })
            }
        }
    }
}

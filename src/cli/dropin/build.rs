//! From an image's definition to its files, under diskimage-builder's names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, accessat};

use super::Call;
use super::log::Log;
use super::privilege::Owner;
use super::usage;
use crate::build::{Builder, BuiltStep, ImageManifest, OnFailure, OnMiss, Ports, Reuse, Surroundings};
use crate::cli::args::Global;
use crate::cli::report::{Failure, Message, line};
use crate::directory::Directory;
use crate::dropin::{BuildRequest, Environment, OldImage, OutputType};
use crate::engine::BreakIns;
use crate::engine::Context;
use crate::engine::Delivery;
use crate::engine::Disk;
use crate::engine::Edges;
use crate::engine::Host;
use crate::engine::check;
use crate::engine::{Extras, Naming, Outputs, cannot_use};
use crate::engine::{PublishTo, Sources, Target};
use crate::engine::{client, look_up_client};
use crate::image::{ImageDefinition, ImageName};
use crate::output::{Destination, MemberNames};
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::{Event, Events, Limits};

/// One image on its way.
pub(super) struct Build<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) request: &'a BuildRequest,
    pub(super) context: &'a Context,
    pub(super) name: &'a ImageName,
    pub(super) definition: &'a ImageDefinition,
    /// The names of its elements.
    pub(super) elements: &'a [&'a str],
    pub(super) disk: &'a Disk,
    /// Of each hook.
    pub(super) limits: Limits,
}

impl Build<'_> {
    /// Makes the layers, runs the final stage, writes the outputs.
    pub(super) fn run(
        &self,
        global: &Global,
        environment: &Environment,
        extras: &Extras,
        log: &Log,
    ) -> Result<(), Failure> {
        let session = global.session(self.call.process);
        let edges = Edges::new(&session, environment.clone(), self.reach())?.limited(self.limits)?;
        let plan = self.plan(&edges, log)?;
        let outputs = self.outputs();
        let naming = Beside::new(self.request, Owner::of(&self.call.environment))?;
        let sources = Sources::new(self.context, &[], &look_up_client(&session)?, log);
        let target = Target::new(self.context, &PublishTo::default(), &client(&session)?, log)?;
        let registries = sources.registries();
        let host = Host::of(self.call.process);
        let found = check(&host, &edges.store, &edges.files, &plan, self.disk, &outputs, &registries)?;
        found.iter().for_each(|message| log.emit(Event::Warning { message }));
        let say = |message: &str| log.say(message);
        let pauses = BreakIns { breaks: &self.request.breaks, environment, say: &say };
        let builder = Builder {
            ports: Ports { breaks: Some(&pauses), ..edges.ports(log) },
            reuse: Reuse::Allowed,
            on_miss: OnMiss::Build,
            on_failure: OnFailure::Discard,
            registries: &registries,
            surroundings: Some(self.surroundings(&naming)?),
        };
        let steps = builder.stack(&plan)?;
        self.show_usage(&builder, &steps, log)?;
        self.deliver(&builder, &plan, &steps, &naming)?;
        let written = Outputs {
            builder: &builder,
            store: &edges.store,
            plan: &plan,
            steps: &steps,
            image: self.definition,
            disk: self.disk.request(&plan.image, plan.source_date_epoch),
            naming: &naming,
            extras,
            interrupted: edges.interrupted.clone(),
        };
        let steps = self.write(&written, &outputs, &naming)?;
        if let Some(target) = &target {
            self.publish(target, &builder, &edges, &plan, &steps);
        }
        Ok(())
    }

    /// Returns how packages may be fetched: with `--offline`, indices are not refreshed, and hooks keep the network.
    fn reach(&self) -> Reach {
        match self.definition.env.get("DIB_OFFLINE").map(String::as_str) {
            None | Some("") => Reach::Online,
            Some(_) => Reach::KeptFirst,
        }
    }

    /// Puts what hooks have left for the caller where diskimage-builder's hooks leave it.
    fn deliver(
        &self,
        builder: &Builder<'_>,
        plan: &Plan,
        steps: &[BuiltStep],
        naming: &Beside<'_>,
    ) -> Result<(), Failure> {
        let work = Directory::open(&std::env::current_dir()?)?;
        let own = |directory: &Directory, name: &OsStr| {
            naming.owner.map_or(Ok(()), |owner| owner.take(directory, name))
        };
        Delivery { work: &work, beside: &naming.outputs, own: &own }.run(builder, plan, steps)
    }

    fn show_usage(&self, builder: &Builder<'_>, steps: &[BuiltStep], log: &Log) -> Result<(), Failure> {
        let Some(report) = self.request.usage else { return Ok(()) };
        let layers: Vec<_> = steps.iter().flat_map(|step| step.diff_ids.clone()).collect();
        builder.on_merged(&layers, |root| usage::show(report, root, log))?
    }

    /// Lets other machines find the layers. Callers throw an image away whose build fails: that nobody else has its layers is
    /// no reason to.
    fn publish(
        &self,
        target: &Target<'_>,
        builder: &Builder<'_>,
        edges: &Edges,
        plan: &Plan,
        steps: &[BuiltStep],
    ) {
        let compression = self.definition.container.compression;
        if let Err(failure) = target.publish(builder, &edges.store, plan, steps, compression) {
            builder.ports.events.emit(Event::Warning { message: &line(&failure) });
        }
    }

    fn plan(&self, edges: &Edges, log: &Log) -> Result<Plan, Failure> {
        let plan = self.context.plan(self.name, self.definition, &edges.store)?;
        for message in self.context.warnings(self.name, self.definition)? {
            log.emit(Event::Warning { message: &message });
        }
        Ok(plan)
    }

    /// Returns what is to be written: no disk, where elements write the image themselves.
    fn outputs(&self) -> Vec<OutputType> {
        let without_disk = self.request.is_without_disk(self.elements.iter().copied());
        let wanted = |output: &&OutputType| !without_disk || (!output.is_disk() && !output.has_checksums());
        self.request.types.iter().filter(wanted).cloned().collect()
    }

    fn surroundings(&self, naming: &Beside<'_>) -> Result<Surroundings, Failure> {
        let directory = std::env::current_dir()?;
        let manifests = own_directory(&directory, &self.request.manifests, "DIB_MANIFEST_SAVE_DIR")?;
        let cache = own_directory(&directory, &self.request.image_cache, "--image-cache")?;
        let further = [naming.outputs.path().to_owned()].into_iter().chain(manifests).collect();
        Ok(Surroundings { directory, further, cache })
    }

    fn write(
        &self,
        written: &Outputs<'_>,
        outputs: &[OutputType],
        naming: &Beside<'_>,
    ) -> Result<Vec<BuiltStep>, Failure> {
        let Outputs { builder, plan, steps, .. } = *written;
        let mut manifest = ImageManifest::new(plan, steps, Vec::new());
        if outputs.is_empty() {
            // What hooks of the final stage write is all that is written.
            builder.finish(plan, &manifest.stack())?;
        }
        let steps = written.write(&mut manifest, outputs);
        // Hooks leave things there also if they fail.
        naming.hand_over()?;
        steps
    }
}

/// Opens the directory of the outputs. Makes it, for the caller through sudo, if it is missing; refuses one that nothing can be
/// written to, before it would turn out at the very end. With diskimage-builder the element `manifests` makes it.
fn output_directory(path: &Path, owner: Option<Owner>) -> Result<Directory, Failure> {
    let missing = path.ancestors().take_while(|ancestor| !ancestor.exists()).last();
    let make = || -> io::Result<Directory> {
        let directory = Directory::create(path)?;
        // From the highest directory that was made: it has all others below it.
        if let Some((highest, owner)) = missing.zip(owner) {
            let (around, name) = Directory::of_file(highest)?;
            owner.take(&around, &name)?;
        }
        Ok(directory)
    };
    let directory = make().map_err(|error| cannot_use(path, &error))?;
    accessat(&directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()).map_err(|error| {
        Message::plain(format!("nothing can be written in `{}`: {error}", path.display()))
    })?;
    Ok(directory)
}

/// Makes a directory that the caller names by `option`, from where the caller is.
fn own_directory(
    from: &Path,
    name: &Option<String>,
    option: &'static str,
) -> Result<Option<PathBuf>, Failure> {
    let path = name.as_ref().map(|name| from.join(name));
    let made = path.as_ref().map_or(Ok(()), |path| Directory::create(path).map(drop));
    made.map_err(|error| {
        let name = name.as_deref().unwrap_or_default();
        Message::plain(format!("cannot make `{name}` ({option}): {error}"))
    })?;
    Ok(path)
}

/// Outputs beside each other, all with one name and an ending.
struct Beside<'a> {
    request: &'a BuildRequest,
    /// The directory of the outputs.
    outputs: Directory,
    /// The directory of manifests, which hooks fill: the directory that it is in, and its name there.
    manifests: Option<(Directory, OsString)>,
    owner: Option<Owner>,
    /// In seconds since 1970.
    started: i64,
}

impl<'a> Beside<'a> {
    /// Opens the directory of the outputs, once: it stays the same one if another user exchanges what has its name.
    fn new(request: &'a BuildRequest, owner: Option<Owner>) -> Result<Self, Failure> {
        let here = std::env::current_dir()?;
        let path = here.join(request.name.as_str());
        let outputs = output_directory(path.parent().unwrap_or(&here), owner)?;
        let manifests = own_directory(&here, &request.manifests, "DIB_MANIFEST_SAVE_DIR")?;
        let manifests = manifests.map(|path| Directory::of_file(&path)).transpose()?;
        Ok(Self { request, outputs, manifests, owner, started: Timestamp::now().as_second() })
    }

    /// Gives the image, and what hooks have left beside it, to who called through sudo.
    fn hand_over(&self) -> Result<(), Failure> {
        let Some(owner) = self.owner else { return Ok(()) };
        let made = self.made()?;
        let made = made.iter().map(|name| (&self.outputs, name));
        for (directory, name) in made.chain(self.manifests.iter().map(|(directory, name)| (directory, name)))
        {
            owner.take(directory, name).map_err(|error| {
                let path = directory.path().join(name);
                Message::plain(format!("cannot hand `{}` over: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Returns what is new and has the image's name, with an ending (`x.vmlinuz`) or an addition (`x-boot.iso`).
    fn made(&self) -> Result<Vec<OsString>, Failure> {
        let mut made = Vec::new();
        // Files of hooks have no list: they are known by their name, and by a change since the start.
        for name in self.outputs.names()? {
            let rest = name.as_bytes().strip_prefix(self.request.name.base().as_bytes());
            let has_name = rest.is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-')));
            let status = if has_name { self.outputs.status(&name)? } else { None };
            if status.is_some_and(|status| status.st_ctime >= self.started) {
                made.push(name);
            }
        }
        Ok(made)
    }
}

impl Naming for Beside<'_> {
    fn destination(&self, output: &OutputType, extension: &str) -> Destination {
        let name = self.request.name.file(extension);
        let file = |name: &str| Path::new(name).file_name().unwrap_or(OsStr::new(name)).to_owned();
        // What has no checksum is overwritten, as it always was.
        let is_kept = output.has_checksums() && self.request.old_image == OldImage::Renamed;
        let old = is_kept.then(|| file(&self.request.name.old_file(extension, Timestamp::now())));
        let checksums =
            if output.has_checksums() { self.request.checksums.clone() } else { Default::default() };
        Destination { directory: self.outputs.clone(), file: file(&name), checksums, name, old }
    }

    fn members(&self) -> MemberNames {
        MemberNames::Dotted
    }
}

//! A world in memory: a store without files, and jobs with simulated effects.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::fake_disk::{Disks, FakeTree, Open};
use super::{BuildError, Builder, BuiltStep, OnFailure, OnMiss, Ports, Registries, Reuse};
use crate::distro::{Architecture, BaseDefinition, BaseSource, Dnf, Mmdebstrap};
use crate::element::{Environment, Phase};
use crate::layer::Encoding;
use crate::oci::{BlobStream, DiffId, Digest};
use crate::plan::{Aspect, ContentKey, InputKey, Plan, Record, ResolvedSource, Stamp, StepName, Tasks};
use crate::port::*;

/// The effect of a job. Its output becomes a part of the layer.
#[derive(Clone, Default)]
pub(crate) struct Effect {
    pub(crate) prints: Vec<u8>,
    /// Files of the build host that it opens.
    pub(crate) opens: Vec<&'static str>,
    /// A file of the build host whose text changes while the job runs.
    pub(crate) changes_host: Option<(&'static str, &'static str)>,
    /// The reason why some opened files are unknown.
    pub(crate) gap: Option<&'static str>,
    pub(crate) writes: String,
    pub(crate) status: i32,
    pub(crate) asks_for_initramfs: bool,
    /// A file of the root that it copies to another path.
    pub(crate) copies: Option<(String, String)>,
}

type Behaviour = Box<dyn Fn(&Job) -> Effect + Send>;

/// Implements all ports that a build needs. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct World(pub(super) Arc<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) disks: Disks,
    records: Mutex<Vec<Record>>,
    /// The contents and descriptions of layers.
    layers: Mutex<BTreeMap<DiffId, (Layer, Vec<u8>)>>,
    base: Mutex<Option<BaseImage>>,
    behaviour: Mutex<Option<Behaviour>>,
    workspaces: Mutex<u32>,
    /// The text that was written to each upper directory.
    written: Mutex<BTreeMap<PathBuf, String>>,
    failed: Mutex<Vec<FailedStep>>,
    jobs: Mutex<Vec<Job>>,
    logs: Mutex<BTreeMap<String, Vec<u8>>>,
    events: Mutex<Vec<serde_json::Value>>,
    cache_mounts: Mutex<Vec<CacheMount>>,
    host: Mutex<BTreeMap<String, String>>,
    host_opens: Mutex<HostOpens>,
    index_is_fresh: Mutex<bool>,
    downloads_are_wrong: Mutex<bool>,
    indices_are_kept: Mutex<bool>,
    initramfs_is_asked_for: Mutex<bool>,
}

impl World {
    /// Sets the effects of jobs, instead of [`usual`].
    pub(crate) fn behave(&self, behaviour: impl Fn(&Job) -> Effect + Send + 'static) {
        *self.0.behaviour.lock().unwrap() = Some(Box::new(behaviour));
    }

    /// Sets a base of one layer, which holds `text`.
    pub(crate) fn import(&self, text: &str, config: Vec<u8>) -> DiffId {
        let layer = self.add_layer(text.as_bytes());
        *self.0.base.lock().unwrap() = Some(BaseImage { layers: vec![layer.clone()], config });
        layer.diff_id
    }

    /// Sets the files of the build host with their texts.
    pub(crate) fn host(&self, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        *self.0.host.lock().unwrap() = files.collect();
    }

    /// Removes the base from the store. Its layers stay.
    pub(crate) fn lose_base(&self) {
        *self.0.base.lock().unwrap() = None;
    }

    /// Removes a layer from the store.
    pub(crate) fn lose(&self, diff_id: DiffId) {
        self.0.layers.lock().unwrap().remove(&diff_id);
    }

    /// Returns the layers in the store.
    pub(crate) fn layers(&self) -> BTreeSet<DiffId> {
        self.0.layers.lock().unwrap().keys().copied().collect()
    }

    fn add_layer(&self, bytes: &[u8]) -> Layer {
        let blob = Digest::of(bytes);
        let (diff_id, size, encoding) = (DiffId::new(blob), bytes.len() as u64, Encoding::None);
        let layer = Layer { diff_id, tar_bytes: size, entries: 1, blob, blob_bytes: size, encoding };
        self.0.layers.lock().unwrap().insert(diff_id, (layer.clone(), bytes.to_vec()));
        layer
    }

    /// Forgets that indices were refreshed, like a new process.
    pub(crate) fn restart(&self) {
        *self.0.index_is_fresh.lock().unwrap() = false;
    }

    /// Adds indices of an earlier build, for when indices cannot be fetched.
    pub(crate) fn keep_indices(&self) {
        *self.0.indices_are_kept.lock().unwrap() = true;
    }

    /// Makes a bootstrap report that earlier downloads do not match its indices.
    pub(crate) fn spoil_downloads(&self) {
        *self.0.downloads_are_wrong.lock().unwrap() = true;
    }

    /// Returns a line for each job that ran since the last call.
    pub(crate) fn take_jobs(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.jobs.lock().unwrap()).iter().map(brief).collect()
    }

    /// Returns the last job with this line.
    pub(crate) fn job(&self, line: &str) -> Job {
        let jobs = self.0.jobs.lock().unwrap();
        jobs.iter().rfind(|job| brief(job) == line).unwrap_or_else(|| panic!("{line}: {jobs:#?}")).clone()
    }

    /// Returns the names of the recorded steps.
    pub(crate) fn recorded(&self) -> BTreeSet<String> {
        self.0.records.lock().unwrap().iter().map(|record| record.step.to_string()).collect()
    }

    /// Returns all logs as text, by `image/step/task`.
    pub(crate) fn logs(&self) -> BTreeMap<String, String> {
        let logs = self.0.logs.lock().unwrap();
        logs.iter().map(|(name, text)| (name.clone(), String::from_utf8_lossy(text).into_owned())).collect()
    }

    /// Returns the events of this kind, as JSON.
    pub(crate) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let events = self.0.events.lock().unwrap();
        events.iter().filter(|event| event["event"] == kind).cloned().collect()
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            store: self,
            host: self,
            sandbox: self,
            hooks: self,
            packages: self,
            sources: self,
            logs: self,
            events: self,
            breaks: None,
        }
    }

    pub(crate) fn builder<'a>(&'a self, registries: &'a Registries<'a>) -> Builder<'a> {
        Builder {
            ports: self.ports(),
            reuse: Reuse::Allowed,
            on_miss: OnMiss::Build,
            on_failure: OnFailure::Discard,
            registries,
            surroundings: None,
        }
    }

    pub(crate) fn stack(&self, plan: &Plan) -> Result<Vec<BuiltStep>, BuildError> {
        self.builder(&Registries::none(self)).stack(plan)
    }

    pub(crate) fn finish(&self, plan: &Plan, stack: &[DiffId]) -> Result<BuiltStep, BuildError> {
        self.builder(&Registries::none(self)).finish(plan, stack)
    }

    fn find(&self, is_it: impl Fn(&Record) -> bool) -> Option<Record> {
        let layers = self.0.layers.lock().unwrap();
        let record = self.0.records.lock().unwrap().iter().rfind(|record| is_it(record)).cloned();
        record.filter(|record| record.diff_ids.iter().all(|diff_id| layers.contains_key(diff_id)))
    }

    fn perform(&self, job: &Job) -> Effect {
        self.0.jobs.lock().unwrap().push(job.clone());
        match &*self.0.behaviour.lock().unwrap() {
            Some(behaviour) => behaviour(job),
            None => usual(job),
        }
    }
}

/// Returns the default effect of a job: it writes its own line, and fragments of `environment.d`
/// set `DIB_FROM_FRAGMENT`.
pub(crate) fn usual(job: &Job) -> Effect {
    if is_environment(job) {
        let mut environment = job.env.clone();
        environment.insert("DIB_FROM_FRAGMENT".to_owned(), "1".to_owned());
        let mut prints = b"+ export\n\0plywood-environment\0".to_vec();
        prints.extend(environment.iter().flat_map(|(name, value)| format!("{name}={value}\0").into_bytes()));
        return Effect { prints, ..Effect::default() };
    }
    // The images of GRUB have the text of its input.
    let argument = |name: &str| {
        let place = job.argv.iter().position(|word| word == name)?;
        (job.argv[0] == "grub-mkimage").then(|| job.argv[place + 1].clone())
    };
    let copies = argument("-c").zip(argument("-o"));
    Effect { prints: b"done\n".to_vec(), writes: format!("{}\n", brief(job)), copies, ..Effect::default() }
}

/// Returns the usual effects, except that jobs with this line have another `effect`.
pub(crate) fn but_for(line: &'static str, effect: Effect) -> impl Fn(&Job) -> Effect + Send {
    move |job| if brief(job) == line { effect.clone() } else { usual(job) }
}

fn is_environment(job: &Job) -> bool {
    job.argv.get(3).is_some_and(|name| name == "environment.d")
}

/// Returns a line for a job: the path of the hook, `source` and fragments, or the command.
fn brief(job: &Job) -> String {
    let words = job.argv.iter().map(String::as_str);
    let words: Vec<_> = match job.argv.first().map(String::as_str) {
        _ if is_environment(job) => ["source"].into_iter().chain(words.skip(5)).collect(),
        // A script of plywood. Its name and arguments identify it.
        Some("sh" | "bash") => words.filter(|word| !word.contains([' ', '\n'])).collect(),
        _ => words.filter(|word| !word.starts_with('-')).collect(),
    };
    words.join(" ").replace("/tmp/in_target.d/", "")
}

impl LayerStore for World {
    fn by_input(&self, key: InputKey) -> Result<Option<Record>, StoreError> {
        Ok(self.find(|record| record.input_key == key))
    }

    fn by_content(&self, key: ContentKey) -> Result<Option<Record>, StoreError> {
        Ok(self.find(|record| record.content_key == key))
    }

    fn all_records(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.0.records.lock().unwrap().clone())
    }

    fn save(&self, record: &Record) -> Result<(), StoreError> {
        self.0.records.lock().unwrap().push(record.clone());
        Ok(())
    }

    fn workspace(&self, stack: &[DiffId]) -> Result<Box<dyn Workspace>, StoreError> {
        let mut count = self.0.workspaces.lock().unwrap();
        *count += 1;
        let path = PathBuf::from(format!("work/{count}"));
        let lowers = stack.iter().map(|diff_id| PathBuf::from(diff_id.short())).collect();
        let (upper, work) = (path.join("upper"), path.join("work"));
        let open = Open::new(self, "workspace");
        Ok(Box::new(FakeWorkspace { world: self.clone(), path, lowers, upper, work, _open: open }))
    }

    fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        Ok(self.0.layers.lock().unwrap().get(diff_id).map(|(layer, _)| layer.clone()))
    }

    fn prove(&self, _stack: &[DiffId]) -> Result<(), StoreError> {
        Ok(())
    }

    fn receive(&self, layer: &Layer, blob: &mut BlobStream<'_>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        if blob.read_to_end(&mut bytes).is_err() {
            return Err(blob.damage().unwrap().into());
        }
        match DiffId::new(Digest::of(&bytes)) {
            found if found != layer.diff_id => Err(StoreError::WrongLayer { expected: layer.diff_id, found }),
            _ => {
                self.add_layer(&bytes);
                Ok(())
            }
        }
    }

    fn base_image(&self, _: &BaseSource, _: Architecture) -> Result<BaseImage, StoreError> {
        let missing = || StoreError::NoBase { digest: Digest::of("manifest"), path: "store".into() };
        self.0.base.lock().unwrap().clone().ok_or_else(missing)
    }

    fn keep_base(&self, _: &BaseSource, base: &BaseImage) -> Result<(), StoreError> {
        *self.0.base.lock().unwrap() = Some(base.clone());
        Ok(())
    }

    fn observe(&self, _: &Path) -> Result<Box<dyn ObservedTree>, StoreError> {
        Ok(Box::new(FakeTree))
    }

    fn cache(&self, name: &str) -> Result<PathBuf, StoreError> {
        Ok(PathBuf::from("cache").join(name))
    }
}

/// The text of an unreadable file of the build host.
pub(super) const UNREADABLE: &str = "(unreadable)";

/// A build host with files. The text of a file is also its stamp, and every file is settled.
impl HostFiles for World {
    fn stamp(&self, path: &str) -> Option<Stamp> {
        self.0.host.lock().unwrap().get(path).map(|text| stamp(text))
    }

    fn observe(&self, path: &str, aspect: Aspect) -> Option<Observation> {
        let host = self.0.host.lock().unwrap();
        // This build host has no directories.
        let text = host.get(path).filter(|_| matches!(aspect, Aspect::Content | Aspect::Entry))?;
        if text == UNREADABLE && aspect == Aspect::Content {
            return None;
        }
        Some(Observation { digest: Digest::of(text), stamp: Some(stamp(text)), is_settled: true })
    }

    fn hidden(&self, path: &str, aspect: Option<Aspect>) -> Option<PathBuf> {
        let host = self.0.host.lock().unwrap();
        let is_hidden =
            aspect != Some(Aspect::Entry) && host.get(path).is_some_and(|text| text == UNREADABLE);
        is_hidden.then(|| path.into())
    }

    fn names(&self) -> BTreeMap<String, Digest> {
        let host = self.0.host.lock().unwrap();
        let names = host.keys().filter(|path| path.starts_with("/etc/"));
        names.map(|path| (path.clone(), Digest::of(""))).collect()
    }
}

fn stamp(text: &str) -> Stamp {
    Stamp::new(text.len() as u64, (0, text.bytes().map(u32::from).sum()), (0, 0))
}

impl LayerBlobs for World {
    fn encoded(&self, diff_id: &DiffId, _: Encoding) -> Result<Layer, StoreError> {
        LayerStore::layer(self, diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })
    }

    fn held(&self, diff_id: &DiffId, preferred: Encoding) -> Result<Layer, StoreError> {
        self.encoded(diff_id, preferred)
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + '_>, StoreError> {
        Ok(Box::new(self.open_archive(&layer.diff_id)?.1))
    }

    fn open_archive(&self, diff_id: &DiffId) -> Result<(u64, Box<dyn Read + '_>), StoreError> {
        let (_, bytes) = self.0.layers.lock().unwrap()[diff_id].clone();
        Ok((bytes.len() as u64, Box::new(io::Cursor::new(bytes))))
    }
}

struct FakeWorkspace {
    world: World,
    path: PathBuf,
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    _open: Open,
}

impl Workspace for FakeWorkspace {
    fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    fn renewed(&self) -> &[DiffId] {
        &[]
    }

    fn upper(&self) -> &Path {
        &self.upper
    }

    fn work(&self) -> &Path {
        &self.work
    }

    fn scratch(&self, name: &str, _: u32) -> Result<PathBuf, StoreError> {
        Ok(self.path.join(name))
    }

    fn commit(self: Box<Self>, _: &Commit) -> Result<Option<Layer>, StoreError> {
        let Some(text) = self.world.0.written.lock().unwrap().remove(&self.upper) else { return Ok(None) };
        Ok(Some(self.world.add_layer(text.as_bytes())))
    }

    fn keep_failed(self: Box<Self>, failed: &FailedStep) -> Result<(), StoreError> {
        self.world.0.failed.lock().unwrap().push(failed.clone());
        Ok(())
    }
}

impl Sandbox for World {
    fn open(&self, spec: &RootSpec) -> Result<Box<dyn Root>, SandboxError> {
        let path = match spec {
            RootSpec::Overlay { upper, .. } => upper.clone(),
            RootSpec::ReadOnly { .. } => PathBuf::from("merged"),
            RootSpec::Directory(path) => path.clone(),
        };
        Ok(Box::new(FakeRoot { world: self.clone(), path, _open: Open::new(self, "root") }))
    }
}

struct FakeRoot {
    world: World,
    path: PathBuf,
    _open: Open,
}

impl Root for FakeRoot {
    fn path(&self) -> &Path {
        &self.path
    }

    fn run(&self, job: &Job, output: &mut dyn FnMut(&[u8])) -> Result<Exit, SandboxError> {
        let effect = self.world.perform(job);
        // In pieces, as from a pipe.
        effect.prints.chunks(3).for_each(output);
        *self.world.0.initramfs_is_asked_for.lock().unwrap() |= effect.asks_for_initramfs;
        if job.traced {
            let open = |path: &&str| {
                let (path, aspect) = ((*path).to_owned(), Aspect::Content);
                Some(HostOpen { stamp: self.world.stamp(&path)?, path, aspect })
            };
            let mut opens = self.world.0.host_opens.lock().unwrap();
            opens.files.extend(effect.opens.iter().filter_map(open));
            opens.gap = effect.gap.map(str::to_owned);
            if let Some((path, text)) = effect.changes_host {
                self.world.0.host.lock().unwrap().insert(path.to_owned(), text.to_owned());
            }
        }
        if let Some((from, to)) = effect.copies {
            self.world.copy_file(&self.path, &from, &to);
        }
        if !effect.writes.is_empty() {
            self.world
                .0
                .written
                .lock()
                .unwrap()
                .entry(self.path.clone())
                .or_default()
                .push_str(&effect.writes);
        }
        Ok(Exit::Status(effect.status))
    }

    fn look(&self, path: &str) -> Result<Option<EntryKind>, SandboxError> {
        Ok(self.world.look(&self.path, path))
    }

    fn read(&self, path: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, SandboxError> {
        let found = self.world.tree(&self.path).remove(path);
        assert!(found.as_ref().is_none_or(|bytes| bytes.len() as u64 <= most_bytes), "{path}");
        Ok(found)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, SandboxError> {
        let below = format!("{path}/");
        let tree = self.world.tree(&self.path);
        let names = tree.keys().filter_map(|path| path.strip_prefix(&below)?.split('/').next());
        Ok(names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn write(&self, path: &str, content: &[u8], _: i64) -> Result<(), SandboxError> {
        self.world.put_file(&self.path, path, content);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), SandboxError> {
        self.world.remove_file(&self.path, path);
        Ok(())
    }

    fn cache_mounts(&self) -> Vec<CacheMount> {
        self.world.0.cache_mounts.lock().unwrap().clone()
    }

    fn take_host_opens(&self) -> HostOpens {
        std::mem::take(&mut *self.world.0.host_opens.lock().unwrap())
    }

    fn run_interactive(&self, job: &Job) -> Result<Exit, SandboxError> {
        self.run(job, &mut |_| ())
    }

    fn close(self: Box<Self>) -> Result<(), SandboxError> {
        Ok(())
    }
}

impl HookFiles for World {
    fn lay_out(&self, _: &Tasks, _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn show_machine_files(&self, _: &Tasks, _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn lay_out_build(&self, _: &str, _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn hand_over(
        &self,
        _: &Tasks,
        _: &[CacheMount],
        _: HostDirs<'_>,
        _: &Path,
    ) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn take_over(&self, _: HostDirs<'_>, _: &Path) -> Result<Vec<CacheMount>, HookFilesError> {
        Ok(Vec::new())
    }

    fn left_states(&self, _: HostDirs<'_>) -> BTreeSet<LeftState> {
        BTreeSet::new()
    }

    fn show_elements(&self, _: &Tasks, _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn added_hooks(&self, _: &Tasks, _: Phase, _: &Path) -> Result<Vec<String>, HookFilesError> {
        Ok(Vec::new())
    }

    fn added_fragments(&self, _: &Tasks, _: &Path) -> Result<Vec<String>, HookFilesError> {
        Ok(Vec::new())
    }

    fn added_data(&self, _: &Tasks, _: &Path, _: &Path) -> Result<Vec<String>, HookFilesError> {
        Ok(Vec::new())
    }

    fn note_acted(&self, _: &[String], _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }

    fn forget_hooks(&self, _: Phase, _: &[String], _: &Path) -> Result<(), HookFilesError> {
        Ok(())
    }
}

impl Packages for World {
    fn session<'a>(
        &'a self,
        _: Option<&'a BaseDefinition>,
        _: &Path,
        _: Option<&Path>,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError> {
        Ok(Box::new(FakeSession { world: self }))
    }

    fn secrets(&self) -> Environment {
        [("ARCHIVE_PASSWORD_0".to_owned(), "of-the-mirror".to_owned())].into()
    }
}

fn bootstrap_program(earlier: EarlierDownloads) -> &'static str {
    match earlier {
        EarlierDownloads::Offered => "bootstrap",
        EarlierDownloads::Withheld => "bootstrap-afresh",
    }
}

fn fake_bootstrap(words: [String; 2]) -> Job {
    Job {
        argv: words.into(),
        env: Environment::new(),
        cwd: "/".to_owned(),
        view: View::HostBare,
        binds: Vec::new(),
        network: Network::Host,
        traced: false,
        tools: None,
    }
}

struct FakeSession<'a> {
    world: &'a World,
}

impl PackageSession for FakeSession<'_> {
    fn bootstrap(&self, source: &Mmdebstrap, _: i64, earlier: EarlierDownloads) -> Result<Job, PackageError> {
        Ok(fake_bootstrap([bootstrap_program(earlier).to_owned(), source.suites.join(" ")]))
    }

    fn binds(&self, _: &Path) -> Result<Vec<Bind>, PackageError> {
        Ok(Vec::new())
    }

    fn network_binds(&self) -> Vec<Bind> {
        Vec::new()
    }

    fn environment(&self, _: crate::element::Place) -> BTreeMap<String, String> {
        [("http_proxy".to_owned(), "http://proxy".to_owned())].into()
    }

    fn serves(&self, _: &str) -> bool {
        false
    }

    fn downloads_fitted(&self) -> Result<bool, PackageError> {
        Ok(!*self.world.0.downloads_are_wrong.lock().unwrap())
    }

    fn refresh(&self, _: &Path) -> Result<Refresh, PackageError> {
        Ok(Refresh { argv: crate::distro::apt::update(), binds: Vec::new() })
    }

    fn bootstrap_dnf(&self, source: &Dnf, _: i64, stage: DnfStage) -> Result<Job, PackageError> {
        Ok(fake_bootstrap([format!("dnf-{stage:?}").to_lowercase(), source.packages.join(" ")]))
    }

    fn use_kept_indices(&self, _: &Path) -> Result<bool, PackageError> {
        Ok(*self.world.0.indices_are_kept.lock().unwrap())
    }

    fn is_offline(&self) -> bool {
        false
    }

    fn prepare_index(&self, _: &Path) -> Result<IndexState, PackageError> {
        let is_fresh = *self.world.0.index_is_fresh.lock().unwrap();
        Ok(if is_fresh { IndexState::Fresh } else { IndexState::Stale })
    }

    fn index_refreshed(&self, _: &Path) -> Result<(), PackageError> {
        *self.world.0.index_is_fresh.lock().unwrap() = true;
        Ok(())
    }

    fn take_initramfs_request(&self) -> bool {
        std::mem::take(&mut *self.world.0.initramfs_is_asked_for.lock().unwrap())
    }

    fn close(self: Box<Self>) -> Result<(), PackageError> {
        Ok(())
    }
}

impl Logs for World {
    fn create(
        &self,
        image: &str,
        step: &StepName,
        task: &str,
    ) -> io::Result<(PathBuf, Box<dyn Write + Send>)> {
        let name = format!("{image}/{step}/{task}");
        let log = FakeLog { world: self.clone(), name: name.clone() };
        Ok((PathBuf::from(name), Box::new(log)))
    }
}

struct FakeLog {
    world: World,
    name: String,
}

impl Write for FakeLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.world.0.logs.lock().unwrap().entry(self.name.clone()).or_default().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Events for World {
    fn emit(&self, event: Event<'_>) {
        self.0.events.lock().unwrap().push(serde_json::to_value(event).unwrap());
    }
}

impl AddedSources for World {
    fn fetch(&self, _: &Path, _: &Environment) -> Result<Vec<ResolvedSource>, AddedSourceError> {
        Ok(Vec::new())
    }
}

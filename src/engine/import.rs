//! The verb `import`: imports a root file system as a base.

use std::path::{Path, PathBuf};

use super::failure::{Failure, Message};
use super::fetch::{Fetch, Fetched};
use super::project::machine_architecture;
use super::registry::client;
use super::session::{Session, open_store};
use crate::distro::{Architecture, BaseDefinition, BaseName, BaseSource, OsRelease};
use crate::element::Family;
use crate::load;
use crate::oci::{DiffId, Digest, Reference};
use crate::port::{Event, Events, Layer, StoreError};
use crate::store::{Imported, Store};

/// The source of a base, and its new name.
pub(crate) struct Import<'a> {
    pub(crate) source: &'a str,
    pub(crate) name: &'a BaseName,
    /// The distribution, and its release; `None` to read them from the root file system.
    pub(crate) distro: Option<&'a str>,
    pub(crate) release: Option<&'a str>,
}

/// An imported base.
pub(crate) struct ImportedBase {
    pub(crate) layers: usize,
    pub(crate) path: PathBuf,
}

/// An imported root file system. Until it has a name in the store, the next garbage collection
/// removes it.
struct Taken {
    diff_ids: Vec<DiffId>,
    form: Form,
    /// The reference from which it can be fetched again.
    reference: Option<Reference>,
}

/// The form of the root file system in the store, before it has a name.
enum Form {
    Imported(Imported),
    Fetched(Fetched<Layer>),
}

impl Form {
    fn save(&self, store: &Store, architecture: Architecture) -> Result<Digest, StoreError> {
        match self {
            Form::Imported(imported) => store.bases().put(imported, architecture),
            Form::Fetched(Fetched { config, layers, .. }) => store.bases().put_layers(config, layers),
        }
    }
}

/// Stores the layers, and writes `layers/NAME.toml` into the project.
pub(crate) fn import(
    session: &Session<'_>,
    import: &Import<'_>,
    events: &dyn Events,
) -> Result<ImportedBase, Failure> {
    let Import { source, name, .. } = *import;
    let file = load::load_project(&session.project)?;
    let layers = session.project.join("layers");
    // Before anything is read or fetched, because layers can be gigabytes.
    refuse_to_replace(name, &layers)?;
    if shadows_another(session, name, &layers)? {
        let message =
            format!("plywood has its own base `{name}`: in this project, the imported base replaces it");
        events.emit(Event::Warning { message: &message });
    }
    let store = open_store(session)?;
    let architecture = machine_architecture()?;
    let Taken { diff_ids, form, reference } = match registry_reference(source)? {
        Some(reference) => {
            let client = client(session, &file.registry)?;
            from_registry(&Fetch { client: &client, store: &store, events }, &reference)?
        }
        None => from_files(&store, source, architecture)?,
    };
    let (distro, release) = distribution(&store, import, &diff_ids)?;
    let reference = reference.map(|reference| reference.to_string());
    let family = Family::of(&distro).ok_or_else(|| unknown_distribution(source))?;
    // Named last: if an import fails earlier, garbage collection removes everything that it left.
    let manifest = form.save(&store, architecture)?;
    let base = BaseDefinition {
        family,
        distro,
        release,
        architectures: [architecture].into(),
        provides: Default::default(),
        env: Default::default(),
        source: BaseSource::Stored { digest: manifest, reference },
    };
    Ok(ImportedBase { layers: diff_ids.len(), path: load::save_base(name, &base, &layers)? })
}

/// Returns true if plywood defines this base and the project does not yet.
fn shadows_another(session: &Session<'_>, name: &BaseName, layers: &Path) -> Result<bool, Failure> {
    let all = load::layer_path(&session.project, &session.data_dir);
    Ok(load::load_base_names(&all)?.contains(name)
        && !load::load_base_names(&[layers.to_owned()])?.contains(name))
}

/// Refuses to replace a definition that was written by hand. An imported base may be imported
/// again.
fn refuse_to_replace(name: &BaseName, layers: &Path) -> Result<(), Failure> {
    let here = [layers.to_owned()];
    if !load::load_base_names(&here)?.contains(name) {
        return Ok(());
    }
    match load::load_base(name, &here)?.source {
        BaseSource::Stored { .. } => Ok(()),
        _ => Err(Message::with_hint(
            format!(
                "`{}` defines a base that was not imported",
                layers.join(format!("{name}.toml")).display()
            ),
            "choose another name, or remove that file",
        )),
    }
}

/// Returns the reference of a source, or `None` for a source in files: with a prefix, a path or an
/// archive's name.
fn registry_reference(source: &str) -> Result<Option<Reference>, Failure> {
    if let Some(reference) = source.strip_prefix("docker://") {
        return Ok(Some(reference.parse()?));
    }
    let is_prefixed = ["oci:", "docker-archive:"].iter().any(|prefix| source.starts_with(prefix));
    let is_path = source.starts_with(['/', '.']) || Path::new(source).exists();
    let is_archive = source.contains(".tar") || source.ends_with(".tgz");
    if is_prefixed || is_path || is_archive {
        return Ok(None);
    }
    Ok(Some(source.parse()?))
}

/// Fetches an image, and pins the reference to the current digest of its tag: the base stays the
/// same when the tag moves.
fn from_registry(fetch: &Fetch<'_>, reference: &Reference) -> Result<Taken, Failure> {
    let fetched = fetch.base(reference)?;
    Ok(Taken {
        diff_ids: fetched.layers.iter().map(|layer| layer.diff_id).collect(),
        reference: Some(Reference { digest: Some(fetched.digest), ..reference.clone() }),
        form: Form::Fetched(fetched),
    })
}

fn from_files(store: &Store, source: &str, architecture: Architecture) -> Result<Taken, Failure> {
    let imported = import_files(store, source, architecture)?;
    Ok(Taken { diff_ids: imported.diff_ids.clone(), form: Form::Imported(imported), reference: None })
}

fn import_files(store: &Store, source: &str, architecture: Architecture) -> Result<Imported, StoreError> {
    let (go_architecture, _) = architecture.oci();
    match source.split_once(':') {
        Some(("oci", rest)) => {
            let (directory, tag) = path_and_name(rest);
            store.bases().import_oci_layout(directory, tag, go_architecture)
        }
        Some(("docker-archive", rest)) => {
            let (file, tag) = path_and_name(rest);
            store.bases().import_docker_archive(file, tag, go_architecture)
        }
        _ => store.bases().import_rootfs_tar(Path::new(source)),
    }
}

/// Splits `PATH[:NAME]`. Both may contain colons, so the longest existing path counts.
fn path_and_name(text: &str) -> (&Path, Option<&str>) {
    let ends = text.rmatch_indices(':').map(|(end, _)| (Path::new(&text[..end]), Some(&text[end + 1..])));
    let all = std::iter::once((Path::new(text), None)).chain(ends);
    let found = all.clone().find(|(path, _)| path.exists());
    found.or_else(|| all.last()).unwrap_or((Path::new(text), None))
}

/// Returns the distribution and its release: as given, or from the root file system.
fn distribution(store: &Store, import: &Import<'_>, stack: &[DiffId]) -> Result<(String, String), Failure> {
    // Without reading the layers, which may be large.
    if let (Some(distro), Some(release)) = (import.distro, import.release) {
        return Ok((distro.to_owned(), release.to_owned()));
    }
    let told = os_release(store, stack)?;
    let value = |given: Option<&str>, keys: &[&str]| {
        given.or_else(|| keys.iter().find_map(|key| told.get(key))).map(str::to_owned)
    };
    let distro = value(import.distro, &["ID"]);
    let release = value(import.release, &["VERSION_CODENAME", "VERSION_ID"]);
    distro.zip(release).ok_or_else(|| unknown_distribution(import.source))
}

fn unknown_distribution(source: &str) -> Failure {
    Message::with_hint(
        format!("`{source}` does not name its distribution, or names one of an unknown family"),
        "add `--distro debian --release bookworm`",
    )
}

/// Reads the variables of `os-release` in the highest layer that has the file. It is read from the
/// archive, as unpacking needs root.
fn os_release(store: &Store, stack: &[DiffId]) -> Result<OsRelease, Failure> {
    for diff_id in stack.iter().rev() {
        let text = store.layers().read_file(
            diff_id,
            &["usr/lib/os-release", "etc/os-release"],
            OsRelease::MOST_BYTES,
        )?;
        if let Some(text) = text {
            return Ok(OsRelease::parse(&String::from_utf8_lossy(&text)));
        }
    }
    Ok(OsRelease::default())
}

//! Fetches the sources that elements name, before there is a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use crate::build::host_facts;
use crate::distro::base_environment;
use crate::element::{Element, ElementFile, ElementName, Environment, FileKind, Mode, read_source_line};
use crate::load::{expand_line, source_environment};
use crate::oci::Digest;
use crate::plan::ResolvedSource;
use crate::port::{AddedSourceError, AddedSources, LayerStore};
use crate::source::{Reach, Sources};
use crate::store::Store;

/// Returns `variables` as the fragments of `environment.d` leave them on this build host. A fragment that refuses the image fails
/// here. Without this, a fragment that matters to no layer would first run in the final stage, when everything is built.
pub(crate) fn settings(
    elements: &[Arc<Element>],
    variables: &Environment,
    source_date_epoch: i64,
) -> Result<Environment, Failure> {
    let base = base_environment(source_date_epoch);
    let mut given = base.clone();
    // Later ones win: the image's variables over facts of the host, and these over fixed values.
    given.extend(host_facts());
    given.extend(variables.clone());
    let mut left = source_environment(elements, &given)?;
    // Fragments find `HOME` and its like as in the build; these name no file of the image.
    left.retain(|name, value| base.get(name) != Some(value));
    Ok(left)
}

/// Fetches what `elements` ask for under `settings` into the cache of `store`, with the variables of the caller.
pub(crate) fn sources(
    elements: &[Arc<Element>],
    settings: &Environment,
    caller: &Environment,
    store: &Store,
) -> Result<BTreeMap<ElementName, Vec<ResolvedSource>>, Failure> {
    let mut found = BTreeMap::new();
    for element in elements {
        let sources = sources_of(element, settings, caller, || Ok(store.cache("sources")?))?;
        if !sources.is_empty() {
            found.insert(element.name.clone(), sources);
        }
    }
    Ok(found)
}

/// Fetches what the lists of one element ask for. `cache` is called only where something is fetched: it makes a directory, and a
/// plan may be made with a store that can only be read.
fn sources_of(
    element: &Element,
    settings: &Environment,
    caller: &Environment,
    cache: impl Fn() -> Result<PathBuf, Failure>,
) -> Result<Vec<ResolvedSource>, Failure> {
    let mut found = Vec::new();
    for line in element.source_lines() {
        let expanded = expand_line(element, line, settings)?;
        if let Some(request) = read_source_line(&element.name, line, &expanded, settings)? {
            let fetched = fetcher(settings, caller, cache()?).resolve(request);
            found.push(fetched.map_err(|error| error.at(&element.name, line))?);
        }
    }
    Ok(found)
}

/// Fetches what hooks ask for while an image is built, into the cache of a store.
pub(crate) struct SourcesOfHooks {
    caller: Environment,
    cache: PathBuf,
}

impl SourcesOfHooks {
    /// Creates the store's directory of sources if it is missing.
    pub(crate) fn new(caller: Environment, store: &Store) -> Result<Self, Failure> {
        Ok(Self { caller, cache: store.cache("sources")? })
    }

    fn resolve(
        &self,
        file: &str,
        path: &Path,
        variables: &Environment,
    ) -> Result<Vec<ResolvedSource>, Failure> {
        let element = as_element(file, std::fs::read(path)?)?;
        sources_of(&element, variables, &self.caller, || Ok(self.cache.clone()))
    }
}

impl AddedSources for SourcesOfHooks {
    fn fetch(&self, path: &Path, variables: &Environment) -> Result<Vec<ResolvedSource>, AddedSourceError> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.resolve(&file, path, variables).map_err(|source| AddedSourceError { file, source })
    }
}

/// Returns an element with nothing but a list that a hook has written, so that one reader reads both kinds of lists.
fn as_element(file: &str, text: Vec<u8>) -> Result<Element, Failure> {
    let name = file.strip_prefix("source-repository-").unwrap_or(file).parse()?;
    let kind = FileKind::File { digest: Digest::of(&text), bytes: text.len() as u64 };
    let list = ElementFile { kind, mode: Mode::Plain, text: Some(Arc::from(text)) };
    Ok(Element {
        name,
        root: PathBuf::new(),
        deps: BTreeSet::new(),
        provides: BTreeSet::new(),
        files: [(file.to_owned(), list)].into(),
        readme: None,
        restricted: BTreeSet::new(),
        slots: Vec::new(),
    })
}

fn fetcher(settings: &Environment, caller: &Environment, cache: PathBuf) -> Sources {
    let offline = settings.get("DIB_OFFLINE").is_some_and(|value| !value.is_empty());
    let reach = if offline { Reach::Offline } else { Reach::Online };
    Sources::new(cache, caller.clone(), reach)
}

//! Fetches the sources that elements name, before planning.

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

/// Returns `variables` after the fragments of `environment.d` were sourced on this build host. A
/// fragment that refuses the image fails here. Otherwise, a fragment that is relevant to no layer
/// would first run in the final stage, after everything is built.
pub(crate) fn settings(
    elements: &[Arc<Element>],
    variables: &Environment,
    source_date_epoch: i64,
) -> Result<Environment, Failure> {
    let base = base_environment(source_date_epoch);
    let mut given = base.clone();
    // The last value wins: the image's variables override facts of the host, which override fixed
    // values.
    given.extend(host_facts());
    given.extend(variables.clone());
    let mut left = source_environment(elements, &given)?;
    // Fragments see `HOME` and similar variables as in the build. These do not name files of the
    // image.
    left.retain(|name, value| base.get(name) != Some(value));
    Ok(left)
}

/// Fetches the sources of `elements`, with the variables `settings`, into the cache of `store`.
/// Uses the network settings of `caller`.
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

/// Fetches the sources of one element. Calls `cache` only if something is fetched, because it
/// creates a directory, and planning must work with a read-only store.
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

/// Fetches sources that hooks request during a build, into the cache of a store.
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

/// Returns an element whose only file is a list that a hook has written, so that one parser reads
/// both kinds of lists.
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

//! What the elements of an image want to have fetched, found out before there is a plan.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use super::report::Failure;
use crate::build::host_facts;
use crate::element::{Element, ElementName, Environment, read_source_line};
use crate::load::{expand_line, source_environment};
use crate::plan::ResolvedSource;
use crate::port::LayerStore;
use crate::source::{Reach, Sources};
use crate::store::Store;

/// Returns `variables` as environment.d of `elements` leaves them on this machine, if any of the elements has something that
/// depends on that; else as they are.
pub(super) fn settings(elements: &[Arc<Element>], variables: &Environment) -> Result<Environment, Failure> {
    let depends = |element: &Element| {
        !element.source_lines().is_empty() || !element.install_type_variables().is_empty()
    };
    if !elements.iter().any(|element| depends(element)) {
        return Ok(variables.clone());
    }
    let mut given = host_facts();
    given.extend(variables.clone());
    Ok(source_environment(elements, &given)?)
}

/// Fetches what `elements` ask for under `settings` into the cache of `store`.
pub(super) fn sources(
    elements: &[Arc<Element>],
    settings: &Environment,
    store: &Store,
) -> Result<BTreeMap<ElementName, Vec<ResolvedSource>>, Failure> {
    let mut found = BTreeMap::new();
    for element in elements {
        for line in element.source_lines() {
            let expanded = expand_line(element, line, settings)?;
            if let Some(request) = read_source_line(&element.name, line, &expanded, settings)? {
                let fetched = fetcher(settings, store)?.resolve(request);
                let source = fetched.map_err(|error| error.at(&element.name, line))?;
                found.entry(element.name.clone()).or_insert_with(Vec::new).push(source);
            }
        }
    }
    Ok(found)
}

fn fetcher(settings: &Environment, store: &Store) -> Result<Sources, Failure> {
    let offline = settings.get("DIB_OFFLINE").is_some_and(|value| !value.is_empty());
    let reach = if offline { Reach::Offline } else { Reach::Online };
    let caller = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Sources::new(store.cache("sources")?, caller.collect(), reach))
}

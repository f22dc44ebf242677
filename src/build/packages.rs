//! Which packages the lists of elements ask for, once all variables are known.

use std::sync::Arc;

use crate::element::{
    Distribution, Element, Environment, Mapping, PackageDataError, PackageRequest, PackageRequests, Phase,
};

/// Returns the packages to install in `phase`, by the distribution's names, in the order of the
/// lists.
pub(super) fn requested(
    elements: &[Arc<Element>],
    phase: Phase,
    variables: &Environment,
) -> Result<Vec<String>, PackageDataError> {
    let requests = squash(elements, variables)?;
    let install = requests.phase(phase).map(|requests| requests.install.as_slice()).unwrap_or_default();
    translated(elements, install, variables)
}

/// Returns the packages to remove that were wanted for the build alone in `phases`, or not at all,
/// by the distribution's names.
pub(super) fn unwanted(
    elements: &[Arc<Element>],
    phases: &[Phase],
    variables: &Environment,
) -> Result<Vec<String>, PackageDataError> {
    let requests = squash(elements, variables)?;
    let phases = phases.iter().filter_map(|&phase| requests.phase(phase));
    let uninstall: Vec<_> = phases.flat_map(|requests| requests.uninstall.clone()).collect();
    translated(elements, &uninstall, variables)
}

/// Returns the distribution that these variables tell of.
pub(super) fn distribution(variables: &Environment) -> Distribution<'_> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    Distribution::new(value("DISTRO_NAME"), value("DIB_RELEASE"))
}

fn squash(elements: &[Arc<Element>], variables: &Environment) -> Result<PackageRequests, PackageDataError> {
    let lists = elements
        .iter()
        .map(|element| Ok((&element.name, element.package_list()?)))
        .collect::<Result<Vec<_>, PackageDataError>>()?;
    Ok(PackageRequests::squash(lists.iter().map(|(name, list)| (*name, list)), variables)?)
}

/// Translates names by the maps of the elements that ask for them; a name that a map lacks is taken
/// as it is.
fn translated(
    elements: &[Arc<Element>],
    requests: &[PackageRequest],
    variables: &Environment,
) -> Result<Vec<String>, PackageDataError> {
    let distribution = distribution(variables);
    let mut names = Vec::new();
    for request in requests {
        let element = elements.iter().find(|element| element.name == request.element);
        let map = element.map(|element| element.package_map()).transpose()?.flatten();
        let mapping = map.map_or(Mapping::Absent, |map| map.look_up(&request.package, distribution));
        let found = match mapping {
            Mapping::To(names) => names,
            Mapping::Absent => vec![request.package.clone()],
        };
        names.extend(found.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    Ok(names)
}

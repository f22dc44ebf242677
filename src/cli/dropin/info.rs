//! `element-info`: shows the elements of an image.

use std::path::PathBuf;

use clap::Parser;

use super::{Call, told};
use crate::cli::answer::{line, tell};
use crate::cli::report::{Failure, Message};
use crate::dropin::{Environment, element_info};
use crate::element::{Catalog, ElementName, HookOrder, resolve};
use crate::engine::upstream_element_path;
use crate::load;

/// Show the given elements and the elements that they depend on
#[derive(Debug, Parser)]
#[command(name = "element-info", infer_long_args = true)]
struct Arguments {
    /// Print bash code that sets IMAGE_ELEMENT, IMAGE_ELEMENT_YAML and get_image_element_array
    #[arg(short, long)]
    env: bool,
    /// The elements
    #[arg(required = true)]
    elements: Vec<ElementName>,
}

pub(super) fn run(call: &Call<'_>) -> u8 {
    let words = [call.command.name().to_owned()].into_iter().chain(call.words.iter().cloned());
    let arguments = Arguments::parse_from(words);
    match text(&arguments, &call.environment) {
        Ok(text) => u8::from(line(format_args!("{}", text.trim_end())).is_err()),
        Err(failure) => {
            tell(&told(&failure));
            1
        }
    }
}

fn text(arguments: &Arguments, environment: &Environment) -> Result<String, Failure> {
    let catalog = load::load_catalog(&upstream_element_path(environment, &load::data_dir())?)?;
    let places = places(&catalog, &arguments.elements)?;
    let places: Vec<_> =
        places.iter().map(|(name, path)| (name.as_str(), path.to_str().unwrap_or_default())).collect();
    Ok(match arguments.env {
        true => element_info::script(&places),
        false => format!("{}\n", element_info::names(&places)),
    })
}

/// Returns an element that is requested twice and provides a name. diskimage-builder refuses it,
/// because the name would be provided twice.
fn twice<'a>(catalog: &Catalog, requested: &'a [ElementName]) -> Option<&'a ElementName> {
    let provides =
        |name: &ElementName| catalog.get(name.as_str()).is_some_and(|element| !element.provides.is_empty());
    let mut places = requested.iter().enumerate();
    places.find(|(place, name)| requested[..*place].contains(name) && provides(name)).map(|(_, name)| name)
}

/// Returns the elements and their directories, including providers that exist as elements.
fn places(catalog: &Catalog, requested: &[ElementName]) -> Result<Vec<(String, PathBuf)>, Failure> {
    if let Some(name) = twice(catalog, requested) {
        return Err(Message::with_hint(
            format!("element `{name}` is listed twice, and would provide the same name twice"),
            format!("list `{name}` once"),
        ));
    }
    // Phase order allows circular dependencies.
    let resolution = resolve(catalog, requested, None, HookOrder::Phase)?;
    let elements = resolution.elements.iter().map(|element| element.name.as_str());
    // Some providers have hooks besides the work that plywood does, and are elements too.
    let native = resolution.native.iter().map(|provider| provider.name());
    let native = native.filter(|name| elements.clone().all(|element| element != *name));
    let all = elements.clone().chain(native).filter_map(|name| catalog.get(name));
    Ok(all.map(|element| (element.name.to_string(), element.root.clone())).collect())
}

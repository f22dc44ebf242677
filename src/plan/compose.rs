//! From an image's resolved parts to its steps.
//!
//! ```text
//! base        the root file system
//! element …   one step each: pre-install, install and post-install of that element, with the work of
//!             diskimage-builder's provider elements done for it alone
//! packages    those the image definition names itself
//! late        removals, decided over all elements
//! final       pre-finalise, finalise and cleanup of all elements: see [`Plan::finish`]
//! ```
//!
//! What a step's hooks can see is exactly what is in its key: the files of [`Tasks::hooks`], the variables of
//! [`Tasks::environment`], the files of [`Tasks::files`]. Both are made from the same values here.

use std::sync::Arc;

use super::key::variable_label;
use super::request::Request;
use super::step::{Plan, Step, Tasks, Work};
use super::tasks::{element_tasks, extra_packages, final_tasks, removals};
use super::view::{element_view, final_view, holds_package_names, late_view};
use super::{KeyFields, PlanError, Seal};
use crate::element::{Element, Phase, duplicate_hooks};
use crate::oci::Digest;

/// Returns the plan of an image.
///
/// # Errors
/// [`PlanError`], if the elements cannot be put into layers on a base.
pub fn plan_image(request: &Request<'_>) -> Result<Plan, PlanError> {
    refuse_what_no_layer_can_hold(request)?;
    let mut steps = vec![base_step(request)];
    for element in request.elements {
        let list = element_tasks(element, request)?;
        push(&mut steps, request, element.name.as_str(), Tasks { list, ..element_view(request, element)? });
    }
    let packages = Tasks { list: extra_packages(request.packages), ..Tasks::default() };
    push(&mut steps, request, Step::PACKAGES, packages);
    let late = Tasks { list: removals(request.elements)?, ..late_view(request) };
    push(&mut steps, request, Step::LATE, late);
    let last = Tasks { list: final_tasks(request.elements), ..final_view(request)? };
    let finish = step_above(&steps, request, Step::FINAL, last);
    Ok(Plan {
        image: request.image.to_owned(),
        architecture: request.architecture,
        source_date_epoch: request.source_date_epoch,
        base: request.base.clone(),
        steps,
        finish,
    })
}

/// Refuses elements that share a file of the hooks directory, or have hooks of phases that have no place above a base.
fn refuse_what_no_layer_can_hold(request: &Request<'_>) -> Result<(), PlanError> {
    if let Some(duplicate) = duplicate_hooks(request.elements.iter().map(Arc::as_ref)).into_iter().next() {
        return Err(duplicate.into());
    }
    for element in request.elements {
        for phase in [Phase::Root, Phase::BlockDevice] {
            if let Some(hook) = element.hooks(phase).first() {
                return Err(PlanError::Unplaceable {
                    element: element.name.clone(),
                    phase,
                    hook: hook.name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn base_step(request: &Request<'_>) -> Step {
    let definition = ("definition".to_owned(), request.base.identity().to_string());
    let fields = common_fields(request, "base").chain([definition]);
    Step::new(format!("base:{}", request.base_name), KeyFields::new(fields), None, Work::Base)
}

/// Adds a step, unless it has nothing to do.
fn push(steps: &mut Vec<Step>, request: &Request<'_>, name: &str, tasks: Tasks) {
    if !tasks.list.is_empty() {
        steps.push(step_above(steps, request, name, tasks));
    }
}

fn step_above(below: &[Step], request: &Request<'_>, name: &str, tasks: Tasks) -> Step {
    let fields = common_fields(request, "tasks").chain(task_fields(request.seal, &tasks));
    let parent = below.last().map(|step| step.input_key);
    Step::new(name, KeyFields::new(fields), parent, Work::Tasks(tasks))
}

fn common_fields(request: &Request<'_>, kind: &str) -> impl Iterator<Item = (String, String)> {
    [
        ("kind", kind.to_owned()),
        ("architecture", request.architecture.debian().to_owned()),
        ("source-date-epoch", request.source_date_epoch.to_string()),
        ("packages revision", request.packages_revision.to_owned()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into_iter()
}

/// Returns the fields that say what tasks do and see. Takes the value apart so that nothing added to it is forgotten.
fn task_fields(seal: &Seal, tasks: &Tasks) -> Vec<(String, String)> {
    let Tasks { hooks, fragments, environment, files, maps, requesting, list } = tasks;
    let hooks = hooks.iter().map(|(path, element)| (format!("file {path}"), element.files[path].identity()));
    let variables =
        environment.iter().map(|(name, value)| (variable_label(name), seal.field_value(name, value)));
    let files = files.iter().map(|(name, file)| (format!("input file {name}"), file.digest.to_string()));
    let maps = maps.iter().map(|(name, text)| (format!("map {name}"), Digest::of(text).to_string()));
    let lists =
        requesting.iter().map(|element| (format!("packages of {}", element.name), package_data(element)));
    let names: Vec<_> = requesting.iter().map(|element| element.name.as_str()).collect();
    // What one list asks for, a later one may take back; and a later fragment may set a variable again.
    let orders = [("environment.d", fragments.join(" ")), ("package lists", names.join(" "))];
    let orders = orders.map(|(label, value)| (label.to_owned(), value));
    let tasks = list.iter().enumerate().map(|(place, task)| (format!("task {place:03}"), task.to_string()));
    hooks.chain(variables).chain(files).chain(maps).chain(lists).chain(orders).chain(tasks).collect()
}

fn package_data(element: &Element) -> String {
    let files = element.identity().filter(|(path, _)| holds_package_names(element, path));
    files.map(|(path, identity)| format!("{path} {identity}")).collect::<Vec<_>>().join(", ")
}

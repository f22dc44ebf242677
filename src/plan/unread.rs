//! Settings of an image that no step reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::variables::is_keyed;
use super::{Plan, Tasks, Work};
use crate::element::{Element, is_ambient, is_source_variable, nearest};

/// Variables that plywood reads itself: for the disk, its boot loader, and package sources.
const READ_BY_PLYWOOD: [&str; 16] = [
    "DIB_APT_KEYRING",
    "DIB_BLOCK_DEVICE",
    "DIB_BLOCK_DEVICE_CONFIG",
    "DIB_BLOCK_SIZE",
    "DIB_BOOT_LABEL",
    "DIB_DEBIAN_SECURITY_MIRROR",
    "DIB_DISTRIBUTION_MIRROR",
    "DIB_IMAGE_CACHE",
    "DIB_IMAGE_EXTRA_SIZE",
    "DIB_IMAGE_NAME",
    "DIB_IMAGE_SIZE",
    "DIB_INIT_SYSTEM",
    "DIB_JOURNAL_SIZE",
    "DIB_RELEASE",
    "DIB_ROOT_FSTYPE",
    "DIB_ROOT_LABEL",
];

/// A setting that no step of an image reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// A variable, and the option of an element with a similar name, if any.
    Variable(String, Option<String>),
    /// An entry of `files`.
    File(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Variable(name, None) => write!(f, "no element of this image reads {name}"),
            Unread::Variable(name, Some(nearest)) => {
                write!(f, "no element of this image reads {name}: did you mean {nearest}?")
            }
            Unread::File(name) => write!(
                f,
                "no hook sees `{name}` of `files`: set a variable that an element of this image reads to that name"
            ),
        }
    }
}

/// Returns the variables `env` and entries `files` of an image definition that neither a step of
/// `plan` nor plywood reads. `elements` are those of the image.
pub fn unread(
    plan: &Plan,
    elements: &[Arc<Element>],
    env: &BTreeMap<String, String>,
    files: &BTreeMap<String, PathBuf>,
) -> Vec<Unread> {
    let tasks: Vec<_> = plan.all_steps().filter_map(|step| tasks(&step.work)).collect();
    // The environment of a step has only the variables that a text of the step mentions.
    let is_read = |name: &str| tasks.iter().any(|tasks| tasks.environment.contains_key(name));
    let variables = env.keys().filter(|name| !is_read(name) && !is_for_others(name));
    let options: BTreeSet<_> =
        elements.iter().flat_map(|element| element.options()).map(|option| option.name).collect();
    let near = |name: &str| nearest(name, options.iter().map(String::as_str)).map(str::to_owned);
    let variables = variables.map(|name| Unread::Variable(name.clone(), near(name)));
    let files = files.keys().filter(|name| !tasks.iter().any(|tasks| tasks.files.contains_key(*name)));
    variables.chain(files.cloned().map(Unread::File)).collect()
}

fn tasks(work: &Work) -> Option<&Tasks> {
    match work {
        Work::Tasks(tasks) => Some(tasks),
        Work::Base(_) => None,
    }
}

/// Returns true if programs, plywood or diskimage-builder may read a variable although no element
/// mentions it.
fn is_for_others(name: &str) -> bool {
    is_ambient(name) || !is_keyed(name) || is_source_variable(name) || READ_BY_PLYWOOD.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Image;
    use super::*;

    /// Returns the warnings about these variables and files of an image.
    fn said(variables: &[&str], files: &[&str]) -> Vec<String> {
        let mut image = Image::full();
        image.variables.extend(variables.iter().map(|name| ((*name).to_owned(), "v".to_owned())));
        let elements: Vec<_> = image.elements.iter().cloned().map(Arc::new).collect();
        let env = variables.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
        let files = files.iter().map(|name| ((*name).to_owned(), PathBuf::from(name))).collect();
        unread(&image.plan(), &elements, &env, &files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn settings_that_no_step_sees_are_found() {
        let no_element = "no element of this image reads DIB_QUIBBLING_VOLUME";
        assert_eq!(said(&["DIB_TOOL", "DIB_QUIBBLING_VOLUME"], &[]), [no_element]);
        let no_hook = "no hook sees `other.conf` of `files`: set a variable that an element of this image reads to that name";
        assert_eq!(said(&[], &["web.conf", "other.conf"]), [no_hook]);
        assert_eq!(said(&[], &[]), [""; 0]);
    }

    #[test]
    fn the_option_that_was_meant_is_named() {
        let expected = "no element of this image reads DIB_WEB_PASWORD: did you mean DIB_WEB_PASSWORD?";
        assert_eq!(said(&["DIB_WEB_PASWORD"], &[]), [expected]);
    }

    #[test]
    fn variables_of_plywood_and_programs_are_read_by_others() {
        assert_eq!(said(&["http_proxy", "DIB_BOOT_LABEL", "DIB_REPOREF_x"], &[]), [""; 0]);
    }
}

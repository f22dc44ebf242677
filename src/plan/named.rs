//! Files of other elements that hooks of a step mention.
//!
//! diskimage-builder copies the files of all elements into one directory. Elements rely on it: one
//! provides functions that hooks of other elements source, another processes data that other
//! elements put into its directory. Such files exist before anything runs, so they need no order of
//! elements. A step sees those that its texts mention.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hooks::{Hooks, is_provider_data, phase_of};
use crate::element::{Element, Phase, is_done_natively};

/// Directories whose names usually mean something else: hooks on the host have tools by name, the
/// other directories are copied.
const ELSEWHERE: [&str; 4] = ["bin", "environment.d", "init-scripts", "static"];

/// Adds the files of `elements` that texts among `hooks` mention; returns the added files.
pub(super) fn add_named(elements: &[Arc<Element>], hooks: &mut Hooks) -> Hooks {
    let mut added = Hooks::new();
    loop {
        let texts = hooks.iter().filter_map(|(path, element)| element.text(path));
        let names: BTreeSet<_> = texts.filter(|text| finds_hooks_directory(text)).flat_map(words).collect();
        let wanted = elements.iter().flat_map(|element| {
            let named = element.files.keys().filter(|path| is_named(element, path, &names));
            named.map(|path| (path.clone(), Arc::clone(element)))
        });
        let new: Hooks = wanted.filter(|(path, _)| !hooks.contains_key(path)).collect();
        if new.is_empty() {
            return added;
        }
        hooks.extend(new.clone());
        added.extend(new);
    }
}

/// Returns true if one of `names` refers to the file at `path`: its own name, that of its directory
/// at the top of the element, or that of an entry beside the hooks of a phase.
fn is_named(element: &Element, path: &str, names: &BTreeSet<String>) -> bool {
    let mut parts = path.split('/');
    let (top, below) = (parts.next().unwrap_or_default(), parts.next());
    if ELSEWHERE.contains(&top) || is_provider_data(element, path) {
        return false;
    }
    let Some(phase) = phase_of(path) else { return names.contains(top) };
    let is_data = |name| names.contains(name) && !is_hook(element, phase, name);
    !is_done_natively(&element.name, phase) && (names.contains(top) || below.is_some_and(is_data))
}

/// Returns true if the name is a hook of the phase. Short names such as `50-web` are not a reason
/// to depend on a file.
fn is_hook(element: &Element, phase: Phase, name: &str) -> bool {
    element.hooks(phase).iter().any(|hook| hook.name == name)
}

/// Returns true if a text may locate the hooks directory: by its own path, or by name.
fn finds_hooks_directory(text: &[u8]) -> bool {
    const WAYS: [&str; 6] = ["in_target.d", "TMP_HOOKS_PATH", "BASH_SOURCE", "$0", "${0", "__file__"];
    let text = String::from_utf8_lossy(text);
    WAYS.iter().any(|way| text.contains(way))
}

/// Returns the words of a text that could be names of files.
fn words(text: &[u8]) -> Vec<String> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "._-+@".contains(c));
    String::from_utf8_lossy(text).split(ends).map(str::to_owned).collect()
}

//! The texts in an image's directory `DIB_MANIFEST_IMAGE_DIR`, which document how it was built.
//!
//! | file | contains | leaves out |
//! |---|---|---|
//! | `dib_environment` | the `DIB_` variables that the image sets, as bash declares them | secrets, paths and names of one build |
//! | `dib_arguments` | the arguments of the drop-in command, or the elements | output paths of that command |
//! | `dib-manifest-git-<image>` | name, destination, location and commit of each git repository | |
//!
//! diskimage-builder writes all variables of the caller. Values that differ between builds would
//! make each image different, and passwords do not belong in images.
//!
//! Source: diskimage-builder, elements `manifests` and `source-repositories`.

use std::collections::BTreeMap;

use super::request::Request;
use super::seal::HIDDEN;
use super::step::{Action, Task};
use super::{ResolvedSource, SourceContent, is_secret};
use crate::element::{NativeProvider, Phase};

/// Variables that name one build or a path on the build host.
const OF_ONE_BUILD: [&str; 8] = [
    "DIB_ARGS",
    "DIB_ENV",
    "DIB_IMAGE_CACHE",
    "DIB_IMAGE_FILENAME",
    "DIB_IMAGE_NAME",
    "DIB_LOCKFILES",
    "DIB_MANIFEST_SAVE_DIR",
    "DIB_PYTHON_EXEC",
];

/// Variables that name the directories of the manifests, in the image and beside it.
const DIRECTORIES: [&str; 3] = ["DIB_MANIFEST_IMAGE_DIR", "DIB_MANIFEST_SAVE_DIR", "IMAGE_NAME"];

/// Returns the variables that [`manifest_task`] reads.
pub(super) fn manifest_variables(request: &Request<'_>) -> &'static [&'static str] {
    if is_wanted(request) { &DIRECTORIES } else { &[] }
}

fn is_wanted(request: &Request<'_>) -> bool {
    let wanting = [NativeProvider::Manifests, NativeProvider::SourceRepositories];
    wanting.iter().any(|provider| request.native.contains(provider))
}

/// Returns the task that writes the manifests; `None` if no element of the image needs them.
pub(super) fn manifest_task(request: &Request<'_>) -> Option<Task> {
    is_wanted(request).then(|| Task {
        phase: Phase::Cleanup,
        name: "01-copy-manifests-dir".to_owned(),
        action: Action::WriteManifests(texts(request)),
    })
}

fn texts(request: &Request<'_>) -> BTreeMap<String, String> {
    let variable = |name: &str| request.variables.get(name).cloned().filter(|value| !value.is_empty());
    let arguments = variable("DIB_ARGS").map(|words| without_places(&words));
    let arguments = arguments.or_else(|| variable("IMAGE_ELEMENT")).unwrap_or_default();
    let mut texts = BTreeMap::from([
        ("dib_arguments".to_owned(), format!("{arguments}\n")),
        ("dib_environment".to_owned(), environment(request.variables)),
    ]);
    let sources = request.elements.iter().filter_map(|element| request.sources.get(&element.name));
    let checkouts: String = sources.flatten().filter_map(checkout).collect();
    if !checkouts.is_empty() {
        let image = variable("IMAGE_NAME").unwrap_or_else(|| request.image.to_owned());
        let base = image.rsplit('/').next().unwrap_or_default();
        texts.insert(format!("dib-manifest-git-{base}"), checkouts);
    }
    texts
}

/// Options of the drop-in command with paths on the build host.
const PLACES: [&str; 3] = ["-o", "--image-cache", "--logfile"];

/// Removes the output paths of the drop-in command, because callers often change them with each
/// build.
fn without_places(arguments: &str) -> String {
    let mut words = arguments.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match PLACES.contains(&word) {
            true => drop(words.next()),
            false if PLACES.iter().any(|place| word.starts_with(&format!("{place}="))) => {}
            false => kept.push(word),
        }
    }
    kept.join(" ")
}

fn environment(variables: &BTreeMap<String, String>) -> String {
    let told = |name: &str| name.starts_with("DIB_") && !OF_ONE_BUILD.contains(&name);
    variables
        .iter()
        .filter(|(name, _)| told(name))
        .map(|(name, value)| {
            let value = if is_secret(name, value) { HIDDEN } else { value };
            format!("declare -x {name}=\"{}\"\n", escaped(value))
        })
        .collect()
}

/// Escapes a text for double quotes, as bash does.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if matches!(c, '"' | '\\' | '$' | '`') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

fn checkout(source: &ResolvedSource) -> Option<String> {
    let SourceContent::Git(checkout) = &source.content else { return None };
    let request = &source.request;
    Some(format!(
        "{} git {} {} {}\n",
        request.name,
        request.destination,
        source.shown_location(),
        checkout.commit
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::element::fixture::element;
    use crate::element::{GitReference, Selection, SourceRequest};
    use crate::plan::GitCheckout;
    use crate::plan::fixture::{Image, tasks};

    fn written(image: &Image) -> Option<BTreeMap<String, String>> {
        tasks(&image.plan(), "image:final").list.iter().find_map(|task| match &task.action {
            Action::WriteManifests(texts) => Some(texts.clone()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_listed_without_secrets_and_build_names() {
        let mut image = Image::bare();
        assert_eq!(written(&image), None);
        image.native.insert(NativeProvider::Manifests);
        image.variables.clear();
        image.set(&[
            ("DIB_RELEASE", "book\"worm $x"),
            ("DIB_DEV_USER_PASSWORD", "hunter2"),
            ("DIB_IMAGE_NAME", "vm-0000000042"),
            ("HOME", "/home/me"),
            ("IMAGE_ELEMENT", "base vm"),
        ]);
        let expected =
            "declare -x DIB_DEV_USER_PASSWORD=\"***\"\ndeclare -x DIB_RELEASE=\"book\\\"worm \\$x\"\n";
        let texts = written(&image).unwrap();
        assert_eq!(texts["dib_environment"], expected);
        assert_eq!(texts["dib_arguments"], "base vm\n");
        image.set(&[("DIB_ARGS", "-x -o /out/vm-42 --logfile=/log/42 -t qcow2 base vm")]);
        assert_eq!(written(&image).unwrap()["dib_arguments"], "-x -t qcow2 base vm\n");
    }

    #[test]
    fn checkouts_are_listed_with_their_commits() {
        let mut image = Image { elements: vec![element("web").build()], ..Image::bare() };
        image.native.insert(NativeProvider::SourceRepositories);
        image.set(&[("IMAGE_NAME", "/out/vm")]);
        let request = SourceRequest {
            name: "web".to_owned(),
            destination: "/opt/web".to_owned(),
            location: "https://me:pass@h/web".to_owned(),
            selection: Selection::Git(GitReference::One("v1".to_owned())),
        };
        let checkout =
            GitCheckout { commit: "c0ffee".to_owned(), branch: "trunk".to_owned(), refs: Vec::new() };
        let source = ResolvedSource { request, content: SourceContent::Git(checkout), path: PathBuf::new() };
        image.sources.insert("web".parse().unwrap(), vec![source]);
        let texts = written(&image).unwrap();
        assert_eq!(texts["dib-manifest-git-vm"], "web git /opt/web https://me:***@h/web c0ffee\n");
        let plan = image.plan();
        let placed = &tasks(&plan, "web").list[0];
        assert_eq!(
            placed.to_string(),
            "extra-data.d/98-source-web place git v1 of https://me:***@h/web to /opt/web: c0ffee on trunk, refs \
             sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}

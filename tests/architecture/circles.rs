//! Finds files that import each other, directly or through others.
//!
//! ```text
//! files -> module paths -> imports, re-exports resolved -> groups of files that reach each other
//! ```
//!
//! A `mod.rs` is the head of its files. If it re-exports a name of a file, code that imports the
//! name depends on that file, and the `mod.rs` does not. Files may use items that their `mod.rs`
//! defines itself. This does not count as a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{NamedPath, Names, Role, names};

/// The path of a module from the root of the crate.
type Module = Vec<String>;

/// The files of a crate, by their modules.
struct Files(BTreeMap<Module, (PathBuf, Names)>);

/// Returns a line for each group of files that import each other, with the imports that close the
/// circle.
pub(crate) fn find(files: impl IntoIterator<Item = (PathBuf, String)>) -> Vec<String> {
    let files = files.into_iter().map(|(path, text)| (module(&path), (path, names(&text))));
    let files = Files(files.collect());
    let imports = files.imports();
    groups(&imports).iter().map(|group| files.describe(group, &imports)).collect()
}

/// Returns the module of a file: `build`, `step` for `build/step.rs`.
fn module(file: &Path) -> Module {
    let parts = file.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect()
}

impl Files {
    /// Returns for each file the files that it imports from.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |module: &Module, names: &Names| {
            let paths = names.paths.iter().filter(|path| path.role != Role::Export);
            let found = paths.filter_map(|path| self.file_of(&self.absolute(module, path)?));
            // Without the file itself and the heads above it.
            found.filter(|found| !module.starts_with(found)).collect()
        };
        self.0.iter().map(|(module, (_, names))| (module.clone(), of(module, names))).collect()
    }

    /// Returns a path of `module` from the root of the crate, if it leads into the crate.
    fn absolute(&self, module: &Module, path: &NamedPath) -> Option<Module> {
        let segments = &path.segments;
        // `mod step;`, `pub(super)`, `self`.
        if segments.len() == 1 {
            return None;
        }
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let own = |depth: usize, skipped: usize| {
            module[..depth].iter().chain(&segments[skipped..]).cloned().collect::<Module>()
        };
        match segments.first()?.as_str() {
            "crate" => Some(segments[1..].to_vec()),
            "self" => Some(own(module.len(), 1)),
            "super" => Some(own(module.len().checked_sub(supers)?, supers)),
            _ => Some(own(module.len(), 0)).filter(|path| self.0.contains_key(&path[..=module.len()])),
        }
    }

    /// Returns the module whose file has the item at a path from the root of the crate.
    fn file_of(&self, path: &[String]) -> Option<Module> {
        let module =
            (1..=path.len()).rev().map(|length| &path[..length]).find(|start| self.0.contains_key(*start))?;
        let passed_on = path.get(module.len()).and_then(|name| self.passed_on(&module.to_vec(), name));
        Some(passed_on.and_then(|path| self.file_of(&path)).unwrap_or_else(|| module.to_vec()))
    }

    /// Returns the path from which `module` re-exports an item of this name.
    fn passed_on(&self, module: &Module, name: &str) -> Option<Module> {
        let (_, names) = &self.0[module];
        let mut used = names.paths.iter().filter(|path| path.role != Role::Mention);
        let path = used
            .find(|path| path.segments.len() > 1 && path.segments.last().is_some_and(|last| last == name))?;
        self.absolute(module, path).filter(|path| path[..] != [&module[..], &[name.to_owned()]].concat())
    }

    fn describe(&self, group: &BTreeSet<Module>, imports: &BTreeMap<Module, BTreeSet<Module>>) -> String {
        let file = |module: &Module| self.0[module].0.display().to_string();
        let edges = group.iter().map(|module| {
            let others: Vec<_> = imports[module].intersection(group).map(file).collect();
            format!("  src/{} imports {}", file(module), others.join(", "))
        });
        ["these files import each other:".to_owned()].into_iter().chain(edges).collect::<Vec<_>>().join("\n")
    }
}

/// Returns the groups of nodes that reach each other, without single nodes.
fn groups(edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<BTreeSet<Module>> {
    let reached: BTreeMap<_, _> = edges.keys().map(|from| (from, reachable(edges, from))).collect();
    let group =
        |from: &Module| reached[from].iter().filter(|to| reached[*to].contains(from)).cloned().collect();
    edges.keys().map(group).filter(|group: &BTreeSet<Module>| group.len() > 1).collect()
}

fn reachable(edges: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let (mut reached, mut pending) = (BTreeSet::new(), vec![from]);
    while let Some(node) = pending.pop() {
        pending.extend(edges[node].iter().filter(|next| reached.insert((*next).clone())));
    }
    reached
}

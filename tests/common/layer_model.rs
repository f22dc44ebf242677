//! A model of layers: their entries are applied in order to one tree in memory, as umoci does with
//! a directory.
//!
//! Removals remove entries of lower layers, and never of the same layer, in any order. Links on the
//! path of an entry are followed within the root. A missing directory on the path is created, but
//! not for a removal.
//!
//! The parent module imports `Entry`, `Kind` and `Meta`: it is in the crate itself or in a test of
//! it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Entry, Kind, Meta};

/// The entry that a name shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub kind: Kind,
    pub meta: Meta,
    pub content: Vec<u8>,
}

/// All names by path; the root is empty.
pub(super) type Tree = BTreeMap<Vec<u8>, Shown>;

/// An entry of an archive with its content.
pub(super) type Member = (Entry, Vec<u8>);

/// An entry that no engine can apply.
#[derive(Debug, PartialEq)]
pub(super) struct Refused;

/// The result of resolving the path of a name.
enum Way {
    Open(Vec<u8>),
    /// A component of the path is not a directory.
    Blocked,
}

/// Applies a layer.
pub(super) struct Layering<'a> {
    pub tree: &'a mut Tree,
    /// The metadata of directories that no layer has.
    pub nowhere: Meta,
    touched: BTreeSet<Vec<u8>>,
}

impl<'a> Layering<'a> {
    pub(super) fn start(tree: &'a mut Tree, nowhere: Meta) -> Self {
        tree.entry(Vec::new()).or_insert_with(|| directory(&nowhere));
        Self { tree, nowhere, touched: BTreeSet::new() }
    }

    /// Applies an entry, or changes nothing.
    pub(super) fn apply(&mut self, (entry, content): &Member) -> Result<(), Refused> {
        let before = (self.tree.clone(), self.touched.clone());
        let applied = self.try_apply(entry, content);
        if applied.is_err() {
            (*self.tree, self.touched) = before;
        }
        applied
    }

    fn try_apply(&mut self, entry: &Entry, content: &[u8]) -> Result<(), Refused> {
        let (above, name) = split(&entry.path);
        match &entry.kind {
            Kind::OpaqueWhiteout => {
                if let Way::Open(directory) = self.resolve(&entry.path)? {
                    self.remove_untouched(|path| path != directory && is_within(path, &directory));
                }
                return Ok(());
            }
            Kind::Whiteout => {
                if let Way::Open(directory) = self.resolve(above)? {
                    let gone = join(&directory, name);
                    self.remove_untouched(|path| is_within(path, &gone));
                }
                return Ok(());
            }
            _ => {}
        }
        if entry.path.is_empty() {
            self.tree.insert(Vec::new(), directory(&entry.meta));
            return Ok(());
        }
        let path = join(&self.make_parents(above)?, name);
        let shown = match &entry.kind {
            Kind::Hardlink(target) => {
                let (above, name) = split(target);
                let Way::Open(above) = self.resolve(above)? else { return Err(Refused) };
                let target = join(&above, name);
                let shown = self.tree.get(&target).cloned().ok_or(Refused)?;
                if target == path {
                    return Ok(());
                }
                if shown.kind == Kind::Directory || is_within(&target, &path) {
                    return Err(Refused);
                }
                shown
            }
            kind => Shown { kind: kind.clone(), meta: entry.meta.clone(), content: content.to_vec() },
        };
        let is_directory = |shown: &Shown| shown.kind == Kind::Directory;
        if !(is_directory(&shown) && self.tree.get(&path).is_some_and(is_directory)) {
            self.tree.retain(|known, _| !is_within(known, &path));
        }
        self.tree.insert(path.clone(), shown);
        self.touched.insert(path);
        Ok(())
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<Vec<u8>, Refused> {
        let Way::Open(path) = self.resolve(path)? else { return Err(Refused) };
        let ends = (0..path.len()).filter(|end| path[*end] == b'/').chain([path.len()]);
        for parent in ends.map(|end| path[..end].to_vec()) {
            self.tree.entry(parent.clone()).or_insert_with(|| directory(&self.nowhere));
            self.touched.insert(parent);
        }
        Ok(path)
    }

    fn resolve(&self, path: &[u8]) -> Result<Way, Refused> {
        let mut rest: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        let (mut done, mut links) = (Vec::new(), 0);
        while let Some(name) = rest.pop() {
            if name == b".." {
                done = split(&done).0.to_vec();
            }
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            let path = join(&done, &name);
            match self.tree.get(&path).map(|shown| &shown.kind) {
                None | Some(Kind::Directory) => done = path,
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > 255 {
                        return Err(Refused);
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    rest.extend(parts(target).rev().map(<[u8]>::to_vec));
                }
                Some(_) => return Ok(Way::Blocked),
            }
        }
        Ok(Way::Open(done))
    }

    fn remove_untouched(&mut self, is_gone: impl Fn(&[u8]) -> bool) {
        let touched = &self.touched;
        self.tree.retain(|path, _| path.is_empty() || touched.contains(path) || !is_gone(path));
    }
}

fn directory(meta: &Meta) -> Shown {
    Shown { kind: Kind::Directory, meta: meta.clone(), content: Vec::new() }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    slash.map_or((b"".as_slice(), path), |slash| (&path[..slash], &path[slash + 1..]))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    let inside = path.strip_prefix(directory);
    directory.is_empty() || inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Applies layers, lowest first, without entries that cannot be applied. Returns the remaining
/// layers and the tree after each.
pub(super) fn applied(layers: Vec<Vec<Member>>, nowhere: &Meta) -> Vec<(Vec<Member>, Tree)> {
    let mut tree = Tree::new();
    let apply = |layer: Vec<Member>| {
        let mut layering = Layering::start(&mut tree, nowhere.clone());
        let kept = layer.into_iter().filter(|member| layering.apply(member).is_ok()).collect();
        (kept, tree.clone())
    };
    layers.into_iter().map(apply).collect()
}

/// Layers of few names and all kinds of entries in any order, owned by `owner`.
pub(super) fn any_layers(owner: Meta) -> impl Strategy<Value = Vec<Vec<Member>>> {
    let path = || proptest::collection::vec("[a-c]", 1..4).prop_map(|parts| parts.join("/").into_bytes());
    let target = proptest::sample::select(vec!["a", "b/c", "..", "../b", "/a/b", ".", "/", "a/../c"]);
    let kind = prop_oneof![
        4 => (0u64..3).prop_map(Kind::File),
        4 => Just(Kind::Directory),
        1 => target.prop_map(|target| Kind::Symlink(target.into())),
        2 => path().prop_map(Kind::Hardlink),
        1 => Just(Kind::Fifo),
        3 => Just(Kind::Whiteout),
        1 => Just(Kind::OpaqueWhiteout),
    ];
    let place = prop_oneof![15 => path(), 1 => Just(Vec::new())];
    let mode = proptest::sample::select(vec![0o700, 0o755, 0o1777, 0o2775]);
    let member = (place, kind, mode, 0i64..4, any::<bool>(), "[xyz]{2}").prop_map(
        move |(path, kind, mode, mtime, is_noted, text)| {
            // The root is a directory and cannot be removed.
            let kind = match kind {
                Kind::OpaqueWhiteout => kind,
                _ if path.is_empty() => Kind::Directory,
                kind => kind,
            };
            let content = match kind {
                Kind::File(bytes) => text.into_bytes()[..bytes as usize].to_vec(),
                _ => Vec::new(),
            };
            let meta = match kind {
                Kind::Whiteout | Kind::OpaqueWhiteout => Meta::NONE,
                // Links have no mode of their own.
                Kind::Symlink(_) => Meta { mode: 0o777, mtime, ..owner.clone() },
                Kind::File(_) | Kind::Directory if is_noted => {
                    let xattrs = [(b"user.note".to_vec(), b"1".to_vec())].into();
                    Meta { mode, mtime, xattrs, ..owner.clone() }
                }
                _ => Meta { mode, mtime, ..owner.clone() },
            };
            (Entry { path, kind, meta }, content)
        },
    );
    proptest::collection::vec(proptest::collection::vec(member, 0..9), 1..5)
}

//! Computes the changeset of an upper tree against the layers below.
//!
//! ```text
//! below            upper (overlayfs)            changeset
//! etc/             etc/                         etc/            parent of a change
//!   motd             motd  (0/0 device)           .wh.motd      removed
//!   passwd           passwd, equal                              dropped
//! opt/a, opt/b     opt/  (opaque)               opt/
//!                    b     changed                .wh.a         explicit, although overlayfs says "opaque"
//!                                                 b
//! ```
//!
//! Order: depth first; a directory before its content; within a directory whiteouts first, then the
//! other entries, each sorted by name, bytewise. If a file has several names, the first in this
//! order is the file, and the others are hard links.
//!
//! A changed time of a directory alone is not a change. Every temporary file changes it, so hooks
//! that leave nothing behind would make layers.
//!
//! Source: OCI image-spec, `layer.md`, "Creating" and "Whiteouts".

use std::collections::{BTreeMap, HashMap, HashSet};

use super::encode::WHITEOUT;
use super::entry::{Entry, Kind, Meta};
use super::error::{LayerError, display};
use super::tree::{FileId, Opacity, TreeNode};

/// One directory in the merged view of the layers below. Callers pass `None` for a directory that
/// these layers lack.
pub trait LowerDir: Sized {
    /// The error of reading it.
    type Error: From<LayerError>;

    /// Returns the metadata of the directory itself.
    fn meta(&self) -> Result<Meta, Self::Error>;

    /// Returns the names of its entries, in any order.
    fn names(&self) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Returns the entry `name` without its children; `None` if the directory lacks it.
    fn node(&self, name: &[u8]) -> Result<Option<TreeNode>, Self::Error>;

    /// Returns the subdirectory `name`, which must exist.
    fn enter(&self, name: &[u8]) -> Result<Self, Self::Error>;

    /// Returns true if its file `name` has the same content as the upper tree's file at `path`.
    /// Called only if their sizes are equal.
    fn same_bytes(&self, name: &[u8], path: &[u8]) -> Result<bool, Self::Error>;
}

/// The difference between an upper tree and the layers below it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changeset {
    /// The changes, in the order of the archive. Empty if there are none.
    pub entries: Vec<Entry>,
    /// Paths of the upper tree that equal the layers below, each with everything beneath it.
    pub dropped: Vec<Vec<u8>>,
}

/// Computes the changeset from `lower` to `upper`.
///
/// Compares times as they are, and returns those of `upper`. The caller must clamp them before.
///
/// # Errors
/// [`LayerError::ReservedName`] if `upper` has a name that starts with `.wh.`, and the errors of
/// `lower`.
pub fn diff<L: LowerDir>(upper: &TreeNode, lower: Option<&L>) -> Result<Changeset, L::Error> {
    let mut drafts = Drafts::default();
    drafts.add_directory(Vec::new(), upper, upper.opacity, None, lower)?;
    drafts.keep_links_together();
    drafts.keep_parents();
    Ok(drafts.into_changeset())
}

/// Whether a draft becomes an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Differs,
}

/// A name of the upper tree, and the verdict so far.
struct Draft {
    entry: Entry,
    parent: Option<usize>,
    verdict: Verdict,
    file: Option<FileId>,
    /// Identity of the file of the same name below, if that has several names, too.
    file_below: Option<FileId>,
}

#[derive(Default)]
struct Drafts(Vec<Draft>);

impl Drafts {
    fn add_directory<L: LowerDir>(
        &mut self,
        path: Vec<u8>,
        node: &TreeNode,
        opacity: Opacity,
        parent: Option<usize>,
        lower: Option<&L>,
    ) -> Result<(), L::Error> {
        let index = self.0.len();
        let verdict = directory_verdict(&node.meta, lower.map(L::meta).transpose()?);
        let entry = Entry { path: path.clone(), kind: Kind::Directory, meta: node.meta.clone() };
        self.0.push(Draft { entry, parent, verdict, file: None, file_below: None });
        for name in removals(node, opacity, lower)? {
            let entry = Entry::whiteout(join(&path, &name));
            self.0.push(Draft {
                entry,
                parent: Some(index),
                verdict: Verdict::Differs,
                file: None,
                file_below: None,
            });
        }
        for (name, child) in &node.children {
            // overlayfs marks only the topmost new directory as opaque. Directories within it hide
            // their lower content, too: after `rm -r d; mkdir -p d/e`, files that `d/e` had before
            // must not come back.
            let opacity = if opacity == Opacity::Opaque { opacity } else { child.opacity };
            self.add(join(&path, name), name, child, opacity, index, lower)?;
        }
        Ok(())
    }

    fn add<L: LowerDir>(
        &mut self,
        path: Vec<u8>,
        name: &[u8],
        node: &TreeNode,
        opacity: Opacity,
        parent: usize,
        lower: Option<&L>,
    ) -> Result<(), L::Error> {
        if name.starts_with(WHITEOUT) {
            return Err(LayerError::ReservedName { path: display(&path) }.into());
        }
        let below = lower.map(|dir| dir.node(name)).transpose()?.flatten();
        match node.kind {
            // `removals` has added the whiteout already.
            Kind::Whiteout if below.is_some() => {}
            Kind::Whiteout => {
                let (entry, verdict) = (Entry::whiteout(path), Verdict::Same);
                self.0.push(Draft { entry, parent: Some(parent), verdict, file: None, file_below: None });
            }
            Kind::Directory => {
                let merged = below.is_some_and(|below| below.kind == Kind::Directory);
                let lower = lower.filter(|_| merged).map(|dir| dir.enter(name)).transpose()?;
                self.add_directory(path, node, opacity, Some(parent), lower.as_ref())?;
            }
            _ => {
                let verdict = leaf_verdict(node, &path, name, below.as_ref().zip(lower))?;
                let entry = Entry { path, kind: node.kind.clone(), meta: node.meta.clone() };
                let file_below = below.and_then(|below| below.file);
                self.0.push(Draft { entry, parent: Some(parent), verdict, file: node.file, file_below });
            }
        }
        Ok(())
    }

    /// Emits all names of a file if one of them changed, or if they were different files before.
    /// Otherwise the unpacked result would have two files where the upper tree has one.
    fn keep_links_together(&mut self) {
        let mut groups: BTreeMap<FileId, Vec<usize>> = BTreeMap::new();
        for (index, draft) in self.0.iter().enumerate() {
            if let Some(file) = draft.file {
                groups.entry(file).or_default().push(index);
            }
        }
        for group in groups.values().filter(|group| group.len() > 1) {
            let below: HashSet<_> = group.iter().map(|index| self.0[*index].file_below).collect();
            let linked_below = below.len() == 1 && !below.contains(&None);
            let same = group.iter().all(|index| self.0[*index].verdict == Verdict::Same);
            if !(linked_below && same) {
                group.iter().for_each(|index| self.0[*index].verdict = Verdict::Differs);
            }
        }
    }

    /// Emits the parent directories of emitted entries. Without their entries, each tool that
    /// unpacks the layer would choose modes and times of its own.
    fn keep_parents(&mut self) {
        // From the end: a parent comes before its entries, so its verdict is final when its turn
        // comes.
        for index in (0..self.0.len()).rev() {
            let Draft { verdict, parent, .. } = self.0[index];
            if let (Verdict::Differs, Some(parent)) = (verdict, parent) {
                self.0[parent].verdict = Verdict::Differs;
            }
        }
    }

    fn into_changeset(self) -> Changeset {
        let mut changeset = Changeset::default();
        let mut first_names: HashMap<FileId, Vec<u8>> = HashMap::new();
        let verdicts: Vec<Verdict> = self.0.iter().map(|draft| draft.verdict).collect();
        for mut draft in self.0 {
            if draft.verdict == Verdict::Same {
                // A dropped directory covers everything beneath it, so only the topmost path is
                // listed.
                if draft.parent.is_some_and(|parent| verdicts[parent] == Verdict::Differs) {
                    changeset.dropped.push(draft.entry.path);
                }
                continue;
            }
            if let Some(file) = draft.file {
                let path = draft.entry.path.clone();
                let first = first_names.entry(file).or_insert(path);
                if *first != draft.entry.path {
                    draft.entry.kind = Kind::Hardlink(first.clone());
                }
            }
            changeset.entries.push(draft.entry);
        }
        changeset
    }
}

/// Returns the sorted names that the directory has below and lacks now. A directory within an
/// opaque one is opaque, too.
fn removals<L: LowerDir>(
    node: &TreeNode,
    opacity: Opacity,
    lower: Option<&L>,
) -> Result<Vec<Vec<u8>>, L::Error> {
    let Some(lower) = lower else { return Ok(Vec::new()) };
    let mut gone: Vec<Vec<u8>> = match opacity {
        Opacity::Opaque => {
            lower.names()?.into_iter().filter(|name| !node.children.contains_key(name)).collect()
        }
        Opacity::Merged => Vec::new(),
    };
    for (name, child) in &node.children {
        if child.kind == Kind::Whiteout && lower.node(name)?.is_some() {
            gone.push(name.clone());
        }
    }
    // `names` comes in the order of a file system; the archive must not depend on it.
    gone.sort();
    Ok(gone)
}

fn directory_verdict(meta: &Meta, below: Option<Meta>) -> Verdict {
    match below {
        Some(below) if below == (Meta { mtime: below.mtime, ..meta.clone() }) => Verdict::Same,
        _ => Verdict::Differs,
    }
}

fn leaf_verdict<L: LowerDir>(
    node: &TreeNode,
    path: &[u8],
    name: &[u8],
    below: Option<(&TreeNode, &L)>,
) -> Result<Verdict, L::Error> {
    let Some((below, lower)) = below.filter(|(below, _)| below.kind == node.kind && below.meta == node.meta)
    else {
        return Ok(Verdict::Differs);
    };
    let same = match below.kind {
        Kind::File(bytes) => bytes == 0 || lower.same_bytes(name, path)?,
        _ => true,
    };
    Ok(if same { Verdict::Same } else { Verdict::Differs })
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::Xattrs;

    /// A lower directory in memory. Files named `rewritten` differ from all others.
    impl LowerDir for TreeNode {
        type Error = LayerError;

        fn meta(&self) -> Result<Meta, LayerError> {
            Ok(self.meta.clone())
        }

        fn names(&self) -> Result<Vec<Vec<u8>>, LayerError> {
            Ok(self.children.keys().rev().cloned().collect())
        }

        fn node(&self, name: &[u8]) -> Result<Option<TreeNode>, LayerError> {
            Ok(self.children.get(name).cloned())
        }

        fn enter(&self, name: &[u8]) -> Result<TreeNode, LayerError> {
            Ok(self.children[name].clone())
        }

        fn same_bytes(&self, name: &[u8], path: &[u8]) -> Result<bool, LayerError> {
            Ok(!(name == b"rewritten" || path.ends_with(b"rewritten")))
        }
    }

    /// Reads a tree: one path a line, parents first; then words: a type (`dir`, `opaque`, `gone`,
    /// `->target`, or a number of bytes), and optionally `@mtime`, `#inode`, `mode=…`.
    fn tree(text: &str) -> TreeNode {
        let mut root = TreeNode::new(Kind::Directory, meta());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let path = words.next().unwrap();
            let node = words.fold(TreeNode::new(Kind::Directory, meta()), apply_word);
            let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = parents
                .split('/')
                .filter(|part| !part.is_empty())
                .fold(&mut root, |dir, part| dir.children.get_mut(part.as_bytes()).expect("parents first"));
            parent.children.insert(name.as_bytes().to_vec(), node);
        }
        root
    }

    fn meta() -> Meta {
        Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Xattrs::new() }
    }

    fn apply_word(mut node: TreeNode, word: &str) -> TreeNode {
        match word.split_at(1) {
            ("@", time) => node.meta.mtime = time.parse().unwrap(),
            ("#", inode) => node.file = Some(FileId { device: 1, inode: inode.parse().unwrap() }),
            ("-", target) => node.kind = Kind::Symlink(target.as_bytes()[1..].to_vec()),
            _ if word == "dir" => {}
            _ if word == "opaque" => node.opacity = Opacity::Opaque,
            _ if word == "gone" => node.kind = Kind::Whiteout,
            ("m", rest) => node.meta.mode = u32::from_str_radix(rest.split_once('=').unwrap().1, 8).unwrap(),
            _ => node.kind = Kind::File(word.parse().unwrap()),
        }
        node
    }

    /// Shows a changeset: `path`, `path/`, `-path` for removals, `path=first` for links, in order.
    fn show(changeset: &Changeset) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let words = changeset.entries.iter().map(|entry| {
            let path = text(&entry.path);
            match &entry.kind {
                Kind::Directory => format!("{path}/"),
                Kind::Whiteout => format!("-{path}"),
                Kind::Hardlink(first) => format!("{path}={}", text(first)),
                _ => path,
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Checks the invariants of a changeset: parents come first, no path occurs twice, no link
    /// comes before its file.
    fn check_invariants(changeset: &Changeset) {
        let mut seen = HashSet::from([Vec::new()]);
        for entry in &changeset.entries {
            let parent = entry.path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or(b"");
            assert!(seen.contains(parent), "{} before its parent", display(&entry.path));
            assert!(
                seen.insert(entry.path.clone()) || entry.path.is_empty(),
                "{} twice",
                display(&entry.path)
            );
            if let Kind::Hardlink(first) = &entry.kind {
                assert!(seen.contains(first), "{} before its file", display(&entry.path));
            }
        }
        for path in &changeset.dropped {
            assert!(!seen.contains(path), "{} dropped and emitted", display(path));
        }
    }

    #[track_caller]
    fn assert_diff(lower: &str, upper: &str, expected: &str) {
        let changeset = diff(&tree(upper), Some(&tree(lower))).unwrap();
        check_invariants(&changeset);
        assert_eq!(show(&changeset), expected, "{lower} -> {upper}");
    }

    #[test]
    fn the_lowest_layer_has_everything_in_order() {
        let upper = tree("b dir\n b/z 1\n b-c 1\n a 1\n B dir\n x gone");
        let changeset = diff(&upper, None::<&TreeNode>).unwrap();
        check_invariants(&changeset);
        assert_eq!(show(&changeset), "/ B/ a b/ b/z b-c", "and nothing is removed");
    }

    #[test]
    fn unchanged_entries_are_dropped() {
        assert_diff("a 1\n d dir\n d/b 2", "a 1\n d dir\n d/b 2", "");
        assert_diff("d dir\n d/b 2", "d dir @99", "");
        assert_diff("l ->x", "l ->x", "");
        assert_diff("empty 0", "empty 0", "");
    }

    #[test]
    fn a_difference_in_content_time_mode_or_type_is_a_change() {
        assert_diff("a 1", "a 2", "/ a");
        assert_diff("a 1", "a 1 @5", "/ a");
        assert_diff("a 1", "a 1 mode=755", "/ a");
        assert_diff("a 1", "a ->x", "/ a");
        assert_diff("a ->x", "a ->y", "/ a");
        assert_diff("rewritten 1", "rewritten 1", "/ rewritten");
        assert_diff("d dir", "d dir mode=700", "/ d/");
    }

    #[test]
    fn parents_of_changes_are_emitted_and_siblings_are_not() {
        assert_diff(
            "a dir\n a/b dir\n a/c dir",
            "a dir\n a/b dir\n a/b/new 1\n a/c dir",
            "/ a/ a/b/ a/b/new",
        );
    }

    #[test]
    fn removals_come_first_and_only_for_existing_names() {
        assert_diff("d dir\n d/z 1", "d dir\n d/a 1\n d/z gone\n d/never gone", "/ d/ -d/z d/a");
        assert_diff("a 1", "never gone", "");
    }

    #[test]
    fn opaque_directories_become_removals_of_hidden_entries() {
        assert_diff(
            "d dir\n d/a 1\n d/b 1\n d/s dir\n d/s/x 1",
            "d dir opaque\n d/b 1\n d/c 1\n d/a gone",
            "/ d/ -d/a -d/s d/c",
        );
        assert_diff("d dir", "d dir opaque", "");
        assert_diff(
            "d dir\n d/e dir\n d/e/f dir\n d/e/f/old 1\n d/e/old 1",
            "d dir opaque\n d/e dir\n d/e/f dir\n d/e/new 1",
            "/ d/ d/e/ -d/e/old d/e/f/ -d/e/f/old d/e/new",
        );
    }

    #[test]
    fn a_change_of_type_needs_no_removal() {
        assert_diff("d dir\n d/a 1", "d 1", "/ d");
        assert_diff("d 1", "d dir\n d/a 1", "/ d/ d/a");
    }

    #[test]
    fn the_first_of_several_names_is_the_file() {
        assert_diff("", "b 1 #7\n a dir\n a/x 1 #7\n c 1 #8", "/ a/ a/x b=a/x c");
    }

    #[test]
    fn names_of_one_file_stay_together() {
        // A link to an unchanged file: the file is emitted, too.
        assert_diff("a 1", "a 1 #7\n b 1 #7", "/ a b=a");
        // One file before and after.
        assert_diff("a 1 #3\n b 1 #3", "a 1 #7\n b 1 #7", "");
        // Two files became one.
        assert_diff("a 1 #3\n b 1 #4", "a 1 #7\n b 1 #7", "/ a b=a");
        assert_diff("a 1\n b 1", "a 1 #7\n b 1 #7", "/ a b=a");
    }

    #[test]
    fn reserved_names_are_refused() {
        let result = diff(&tree("d dir\n d/.wh.x 1"), None::<&TreeNode>);
        assert!(matches!(result, Err(LayerError::ReservedName { path }) if path == "d/.wh.x"));
    }

    #[test]
    fn dropped_paths_are_the_topmost() {
        let lower = "same dir\n same/a 1\n mixed dir\n mixed/a 1";
        let upper = "same dir\n same/a 1\n mixed dir\n mixed/a 1\n mixed/b 1";
        let changeset = diff(&tree(upper), Some(&tree(lower))).unwrap();
        assert_eq!(changeset.dropped, [b"mixed/a".to_vec(), b"same".to_vec()]);
        let changeset = diff(&tree("never gone\n a 1"), Some(&tree("b 1"))).unwrap();
        assert_eq!(changeset.dropped, [b"never".to_vec()]);
    }

    /// A directory of random content: files, links and directories, of few names so that trees
    /// collide.
    fn any_tree() -> impl Strategy<Value = TreeNode> {
        let leaf = prop_oneof![
            (0u64..3).prop_map(Kind::File),
            Just(Kind::Symlink(b"x".to_vec())),
            Just(Kind::Fifo),
            Just(Kind::Directory),
        ];
        let leaf = (leaf, 0u32..2, 0i64..2).prop_map(|(kind, mode, mtime)| {
            // Times of directories alone are no change.
            let mtime = if kind == Kind::Directory { 0 } else { mtime };
            TreeNode::new(kind, Meta { mode, mtime, ..meta() })
        });
        let directory = |children: BTreeMap<String, TreeNode>| {
            let children = children.into_iter().map(|(name, node)| (name.into_bytes(), node)).collect();
            TreeNode { children, ..TreeNode::new(Kind::Directory, meta()) }
        };
        let inner = leaf.prop_recursive(3, 24, 4, move |inner| {
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(directory)
        });
        proptest::collection::btree_map("[a-d]", inner, 0..5).prop_map(directory)
    }

    type Flat = BTreeMap<Vec<u8>, (Kind, Meta)>;

    fn flatten(path: &[u8], node: &TreeNode, flat: &mut Flat) {
        flat.insert(path.to_vec(), (node.kind.clone(), node.meta.clone()));
        node.children.iter().for_each(|(name, child)| flatten(&join(path, name), child, flat));
    }

    /// Applies a changeset as the specification says.
    fn apply(changeset: &Changeset, tree: &mut Flat) {
        for Entry { path, kind, meta } in &changeset.entries {
            if *kind != Kind::Directory {
                let inside = [path.as_slice(), b"/"].concat();
                tree.retain(|known, _| known != path && !known.starts_with(&inside));
            }
            if *kind != Kind::Whiteout {
                tree.insert(path.clone(), (kind.clone(), meta.clone()));
            }
        }
    }

    proptest! {
        #[test]
        fn applying_the_difference_gives_the_upper_tree(lower in any_tree(), mut upper in any_tree()) {
            let (mut before, mut after) = (Flat::new(), Flat::new());
            flatten(b"", &lower, &mut before);
            flatten(b"", &upper, &mut after);
            // The upper tree is everything. overlayfs marks only the topmost directory.
            upper.opacity = Opacity::Opaque;
            let changeset = diff(&upper, Some(&lower)).unwrap();
            check_invariants(&changeset);
            apply(&changeset, &mut before);
            prop_assert_eq!(before, after);
        }
    }
}

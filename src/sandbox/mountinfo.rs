//! The mounts of a process, as the kernel lists them.
//!
//! Source: proc_pid_mountinfo(5).

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// As statx(2) gives it.
    pub(super) id: u64,
    /// Major and minor number.
    pub(super) device: String,
    /// The directory or file of the file system that is shown, absolute within it.
    pub(super) root: String,
    pub(super) place: String,
    /// Of the mount, separated by commas.
    pub(super) options: String,
}

impl Line {
    /// Reads a text in the form of `/proc/self/mountinfo`.
    pub(super) fn all(mountinfo: &str) -> impl Iterator<Item = Self> {
        mountinfo.lines().filter_map(Self::parse)
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(' ').collect();
        let [id, _, device, root, place, options, ..] = fields.as_slice() else { return None };
        Some(Self {
            id: id.parse().ok()?,
            device: (*device).to_owned(),
            root: unescaped(root),
            place: unescaped(place),
            options: (*options).to_owned(),
        })
    }
}

/// Replaces what the kernel writes for white space and backslashes. The backslash comes last: it starts the other escapes.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

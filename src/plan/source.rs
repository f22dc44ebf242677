//! Sources of elements, resolved: what a branch or a URL was when the plan was made.

use std::fmt;
use std::path::PathBuf;

use super::seal::without_credentials;
use crate::element::SourceRequest;
use crate::oci::Digest;

/// Something that an element wants to have fetched, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSource {
    pub request: SourceRequest,
    pub content: SourceContent,
    /// Where it is kept on this machine: a bare git repository, or a file. No part of any key.
    pub path: PathBuf,
}

/// What was found at a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceContent {
    /// A place in the history of a git repository.
    Git(GitCheckout),
    /// A file, or an archive.
    File(Digest),
}

/// What a checkout holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCheckout {
    /// The commit that is checked out, in hexadecimal.
    pub commit: String,
    /// The branch that it is on.
    pub branch: String,
    /// The refs it has beside that branch: name, and the object in hexadecimal. Those of the tags belong to it because
    /// `git describe`, which many a package's version comes from, looks at them.
    pub refs: Vec<(String, String)>,
}

impl ResolvedSource {
    /// Returns what the layer that holds it depends on.
    pub fn identity(&self) -> String {
        let SourceRequest { destination, selection, .. } = &self.request;
        format!("{selection} of {} to {destination}: {}", self.shown_location(), self.content)
    }

    /// Returns the URL without credentials, so that layers and keys do not depend on who fetched it.
    pub fn shown_location(&self) -> String {
        without_credentials(&self.request.location)
    }
}

impl fmt::Display for SourceContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceContent::File(digest) => digest.fmt(f),
            SourceContent::Git(GitCheckout { commit, branch, refs }) => {
                let refs: String = refs.iter().map(|(name, object)| format!("{object} {name}\n")).collect();
                write!(f, "{commit} on {branch}, refs {}", Digest::of(refs))
            }
        }
    }
}

//! Resolved sources of elements: the state of a branch or a URL at the time of planning.

use std::fmt;
use std::path::PathBuf;

use super::seal::without_credentials;
use crate::element::SourceRequest;
use crate::oci::Digest;

/// A resolved source of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSource {
    pub request: SourceRequest,
    pub content: SourceContent,
    /// The path on the build host: a bare git repository, or a file. Not part of any key.
    pub path: PathBuf,
}

/// The content of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceContent {
    /// A revision of a git repository.
    Git(GitCheckout),
    /// A file, or an archive.
    File(Digest),
}

/// A checkout of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCheckout {
    /// The commit that is checked out, in hexadecimal.
    pub commit: String,
    /// The branch that it is on.
    pub branch: String,
    /// The other refs: name, and the object in hexadecimal. Tags belong to the checkout because
    /// `git describe` reads them, and many packages get their version from it.
    pub refs: Vec<(String, String)>,
}

impl ResolvedSource {
    /// Returns the identity of the source, an input of the layer that contains it.
    pub fn identity(&self) -> String {
        let SourceRequest { destination, selection, .. } = &self.request;
        format!("{selection} of {} to {destination}: {}", self.shown_location(), self.content)
    }

    /// Returns the URL without credentials, so that layers and keys do not depend on who fetched
    /// it.
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

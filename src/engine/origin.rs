//! Other repositories of a registry that hold blobs of an image. The registry can mount these
//! blobs, so that they need no upload.

use std::collections::BTreeMap;

use super::session::Session;
use crate::distro::BaseSource;
use crate::image::Project;
use crate::load::{self, LoadError};
use crate::oci::{Digest, Reference, Repository};
use crate::store::{Store, StoredImage};

/// Repositories of one registry that may have the blobs of an upload to another of its
/// repositories.
///
/// They are guesses: a blob that the registry cannot mount is uploaded.
pub(super) struct Origins {
    /// The repository of an image with this blob, for each known blob.
    known: BTreeMap<Digest, Repository>,
    /// The repository through which the project shares its steps. It may have any blob.
    cache: Option<Repository>,
}

impl Origins {
    /// Collects the repositories of `target`'s registry that the store and the project know.
    /// Connects to nothing, and skips unreadable images.
    pub(super) fn near(
        target: &Repository,
        session: &Session<'_>,
        project: Option<&Project>,
        store: &Store,
    ) -> Result<Self, LoadError> {
        let is_near = |other: &Repository| other.shares_registry(target) && other != target;
        let shared = project.map(|project| project.cache.to.iter().chain(&project.cache.from));
        let images = pulled(store).into_iter().chain(bases(session, store)?);
        let known = images
            .filter(|(repository, _)| is_near(repository))
            .flat_map(|(repository, image)| {
                image.blobs.into_iter().map(move |blob| (blob.digest, repository.clone()))
            })
            .collect();
        Ok(Self { known, cache: shared.into_iter().flatten().find(|other| is_near(other)).cloned() })
    }

    /// Returns the repository to mount a blob from.
    pub(super) fn of(&self, blob: &Digest) -> Option<&Repository> {
        self.known.get(blob).or(self.cache.as_ref())
    }
}

/// Returns the pulled images and their repositories.
fn pulled(store: &Store) -> Vec<(Repository, StoredImage)> {
    let images = store.images().names().unwrap_or_default().into_iter();
    let pulled = images.filter_map(|(name, _)| {
        let reference: Reference = name.parse().ok()?;
        // Other images have short names, which mean something else as references.
        if reference.to_string() != name {
            return None;
        }
        Some((reference.repository, store.images().get(&name).ok().flatten()?))
    });
    pulled.collect()
}

/// Returns the project's bases that were imported from registries.
fn bases(session: &Session<'_>, store: &Store) -> Result<Vec<(Repository, StoredImage)>, LoadError> {
    let path = load::layer_path(&session.project, &session.data_dir);
    let base = |name: &_| match load::load_base(name, &path).ok()?.source {
        BaseSource::Stored { digest, reference } => {
            let reference: Reference = reference?.parse().ok()?;
            Some((reference.repository, store.bases().find(&digest).ok().flatten()?))
        }
        _ => None,
    };
    Ok(load::load_base_names(&path)?.iter().filter_map(base).collect())
}

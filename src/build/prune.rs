//! Removes old steps from a cache repository.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::{Digest, Tag, TagOrDigest};
use crate::port::{RemoteCache, RemoteError};
use crate::share::{PrunePolicy, SharedStep, StepIndex, StepKey, is_image_tag};
use crate::trust::Policy;

/// The steps in a cache repository, and those that may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// How many steps it has.
    pub steps: usize,
    /// The manifests that may be deleted.
    pub gone: BTreeSet<Digest>,
}

impl Pruning {
    /// Examines every manifest in `repository`. Only the age decides: signatures do not count.
    /// Manifests that are not steps are never deleted.
    ///
    /// # Errors
    /// If the registry does not answer.
    pub fn plan(repository: &dyn RemoteCache, policy: &PrunePolicy) -> Result<Self, RemoteError> {
        let tags = repository.tags()?;
        let of_kind =
            |is_it: fn(&Tag) -> bool| tags.iter().filter(|tag| is_it(tag)).cloned().collect::<Vec<_>>();
        let mut published = BTreeMap::new();
        for manifest in all(repository, &of_kind(|tag| StepKey::of_tag(tag).is_some()))? {
            if let Ok(step) = SharedStep::read(&manifest, &Policy::default()) {
                published.insert(Digest::of(&manifest), step);
            }
        }
        let indices = all(repository, &of_kind(is_image_tag))?;
        let last = indices.iter().filter_map(|index| StepIndex::parse(index).ok());
        let spared = last.flat_map(|index| index.steps).map(|(_, digest)| digest).collect();
        Ok(Self { steps: published.len(), gone: policy.select(&published, &spared) })
    }

    /// Deletes these manifests. After an interruption, the remaining ones are still usable.
    ///
    /// # Errors
    /// [`RemoteError::KeepsAll`] if the registry deletes nothing.
    pub fn carry_out(&self, repository: &dyn RemoteCache) -> Result<(), RemoteError> {
        self.gone.iter().try_for_each(|manifest| repository.delete(manifest))
    }
}

/// Returns the manifests of these tags; those that vanished meanwhile are left out.
fn all(repository: &dyn RemoteCache, tags: &[Tag]) -> Result<Vec<Vec<u8>>, RemoteError> {
    let tags: Vec<_> = tags.iter().cloned().map(TagOrDigest::from).collect();
    let manifests = repository.manifests(&tags).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(manifests.into_iter().flatten().collect())
}

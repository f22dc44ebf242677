//! The verb `cache prune`: deletes old steps from a shared repository.

use super::failure::Failure;
use super::host::now;
use super::registry::{client, tables};
use super::session::Session;
use crate::build::Pruning;
use crate::oci::Repository;
use crate::port::Events;
use crate::registry::{Access, CacheRepository};
use crate::share::PrunePolicy;

/// The steps to delete.
pub(crate) struct Prune<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) older_than_seconds: i64,
    pub(crate) keep_last: usize,
    /// Only count the steps, and delete none.
    pub(crate) dry_run: bool,
}

/// The steps of a repository before pruning.
pub(crate) struct Pruned {
    pub(crate) steps: usize,
    /// The number of deleted steps, or of steps that `dry_run` would delete.
    pub(crate) gone: usize,
}

/// Deletes the steps.
pub(crate) fn prune(
    session: &Session<'_>,
    prune: &Prune<'_>,
    events: &dyn Events,
) -> Result<Pruned, Failure> {
    // A dry run works with an account that may not delete.
    let access = if prune.dry_run { Access::Pull } else { Access::Delete };
    let client = client(session, &tables(session)?)?;
    let remote = CacheRepository::new(client.remote(prune.repository, access), events);
    let policy = PrunePolicy { since: now()? - prune.older_than_seconds, keep_last: prune.keep_last };
    let pruning = Pruning::plan(&remote, &policy)?;
    let pruned = Pruned { steps: pruning.steps, gone: pruning.gone.len() };
    if pruned.gone > 0 && !prune.dry_run {
        pruning.carry_out(&remote)?;
    }
    Ok(pruned)
}

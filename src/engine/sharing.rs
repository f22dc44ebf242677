//! Shares steps through registries, with the settings of front ends and `plywood.toml`.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::outputs::encoding;
use super::project::Project;
use crate::build::{Builder, BuiltStep, Publication, Publisher, Registries, Stage};
use crate::element::shell_word;
use crate::image::{Compression, Project as ProjectFile};
use crate::load;
use crate::oci::Repository;
use crate::plan::Plan;
use crate::port::{Event, Events, LayerBlobs, RemoteCache, RemoteError};
use crate::registry::{Access, CacheRepository, Client};
use crate::trust::{Policy, SigningKey};

/// The repositories in which steps are looked up, and the policy for signatures.
pub(crate) struct Sources<'a> {
    repositories: Vec<CacheRepository<'a>>,
    policy: Policy,
    events: &'a dyn Events,
}

impl<'a> Sources<'a> {
    /// Uses the `given` repositories, or those of the project. Connects to nothing.
    pub(crate) fn new(
        project: &Project,
        given: &[Repository],
        client: &Client,
        events: &'a dyn Events,
    ) -> Self {
        let named = if given.is_empty() { &project.file.cache.from } else { given };
        let remote = |repository: &Repository| client.remote(repository, Access::Pull);
        let repositories =
            named.iter().map(|repository| CacheRepository::new(remote(repository), events)).collect();
        Self { repositories, policy: project.file.trust.policy(), events }
    }

    /// Returns the repositories in the form that the build uses.
    pub(crate) fn registries(&self) -> Registries<'_> {
        let from = self.repositories.iter().map(|repository| repository as &dyn RemoteCache).collect();
        Registries::new(from, self.policy.clone(), self.events)
    }
}

/// The repository for published steps, and the signing key. They override those of the project.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishTo {
    pub(crate) repository: Option<Repository>,
    /// The file of the signing key.
    pub(crate) key: Option<PathBuf>,
}

/// The repository to which steps are published, and the key that signs them.
pub(crate) struct Target<'a> {
    pub(super) repository: Box<dyn RemoteCache + 'a>,
    pub(super) policy: Policy,
    pub(super) key: Option<SigningKey>,
}

impl<'a> Target<'a> {
    /// Returns the `given` repository, or that of the project, if there is one. Connects to
    /// nothing.
    ///
    /// # Errors
    /// If the signing key cannot be read.
    pub(crate) fn new(
        project: &Project,
        given: &PublishTo,
        client: &Client,
        events: &'a dyn Events,
    ) -> Result<Option<Self>, Failure> {
        let Some(to) = given.repository.as_ref().or(project.file.cache.to.as_ref()) else {
            return Ok(None);
        };
        let trust = &project.file.trust;
        let key = given.key.clone().or_else(|| signing_key(&project.file, &project.dir));
        if let Some((path, mode)) = key.as_ref().and_then(|path| Some((path, load::exposed_key(path)?))) {
            let path = path.display().to_string();
            let message = format!(
                "the signing key `{path}` has mode {mode:04o}: other users can sign with it (chmod 600 {})",
                shell_word(&path)
            );
            events.emit(Event::Warning { message: &message });
        }
        // The key is read before the build, so that a wrong path fails at once and not after hours.
        Ok(Some(Self {
            repository: Box::new(CacheRepository::new(client.remote(to, Access::Push), events)),
            policy: trust.policy(),
            key: key.map(|path| load::load_key(&path)).transpose()?,
        }))
    }
}

impl Target<'_> {
    /// Publishes the steps of an image whose outputs are written. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub(super) fn publish(
        &self,
        builder: &Builder<'_>,
        blobs: &dyn LayerBlobs,
        (plan, steps): (&Plan, &[BuiltStep]),
        compression: Compression,
        now: i64,
    ) -> Result<(), Failure> {
        let ports = &builder.ports;
        let (events, image, repository) = (ports.events, plan.image.as_str(), self.repository.name());
        let stage = Stage::start(events, image, format!("publish in {repository}"));
        let (to, policy, key) = (self.repository.as_ref(), &self.policy, self.key.as_ref());
        // Blobs that this build's lookups found damaged are uploaded again.
        let damaged = builder.registries.damaged_in(repository);
        let publisher = Publisher { to, blobs, policy, key, now, damaged };
        let published = publisher.publish(ports, plan, steps, encoding(compression));
        let Publication { steps, new, withheld } =
            published.map_err(|source| NotPublished { image: image.to_owned(), source })?;
        stage.end();
        let secrets = withheld.as_ref().map_or(&[][..], |withheld| &withheld.secrets);
        let withheld = withheld.as_ref().map(|withheld| &withheld.step);
        events.emit(Event::StepsPublished { image, repository, steps, new, withheld, secrets });
        Ok(())
    }
}

/// A built image whose steps are not published.
#[derive(Debug, thiserror::Error)]
#[error("image `{image}` is built and its outputs are written, but its steps are not published")]
pub(crate) struct NotPublished {
    pub(crate) image: String,
    pub(crate) source: RemoteError,
}

/// Returns the file of the signing key, if the project in the directory `dir` names one.
pub(crate) fn signing_key(file: &ProjectFile, dir: &Path) -> Option<PathBuf> {
    file.trust.sign_with.as_ref().map(|path| dir.join(path))
}

//! What is shared through registries, as front ends and `plywood.toml` say.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::failure::Failure;
use super::outputs::encoding;
use super::project::Context;
use crate::build::{Builder, BuiltStep, Publication, Publisher, Registries, Stage};
use crate::image::Compression;
use crate::load;
use crate::oci::Repository;
use crate::plan::Plan;
use crate::port::{Event, Events, RemoteCache, RemoteError};
use crate::registry::{Access, CacheRepository, Client};
use crate::store::Store;
use crate::trust::{Policy, SigningKey};

/// The repositories that steps are looked up in, and whom they are believed.
pub(crate) struct Sources<'a> {
    repositories: Vec<CacheRepository<'a>>,
    policy: Policy,
    events: &'a dyn Events,
}

impl<'a> Sources<'a> {
    /// Takes the repositories that are `given`, else those of the project. Connects to nothing.
    pub(crate) fn new(
        context: &Context,
        given: &[Repository],
        client: &Client,
        events: &'a dyn Events,
    ) -> Self {
        let named = if given.is_empty() { &context.project.cache.from } else { given };
        let remote = |repository: &Repository| client.remote(repository, Access::Pull);
        let repositories =
            named.iter().map(|repository| CacheRepository::new(remote(repository), events)).collect();
        Self { repositories, policy: context.project.trust.policy(), events }
    }

    /// Returns them as the build sees them.
    pub(crate) fn registries(&self) -> Registries<'_> {
        let from = self.repositories.iter().map(|repository| repository as &dyn RemoteCache).collect();
        Registries::new(from, self.policy.clone(), self.events)
    }
}

/// Where steps are to be published, in place of what the project says.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishTo {
    pub(crate) repository: Option<Repository>,
    /// The file of the signing key.
    pub(crate) key: Option<PathBuf>,
}

/// Where steps are published, and who vouches for them.
pub(crate) struct Target<'a> {
    repository: CacheRepository<'a>,
    policy: Policy,
    key: Option<SigningKey>,
}

impl<'a> Target<'a> {
    /// Returns the repository that is `given`, else that of the project, if there is one. Connects to nothing.
    ///
    /// # Errors
    /// If the signing key cannot be read.
    pub(crate) fn new(
        context: &Context,
        given: &PublishTo,
        client: &Client,
        events: &'a dyn Events,
    ) -> Result<Option<Self>, Failure> {
        let Some(to) = given.repository.as_ref().or(context.project.cache.to.as_ref()) else {
            return Ok(None);
        };
        let trust = &context.project.trust;
        let key = signing_key(context, given.key.as_ref());
        if let Some((path, mode)) = key.as_ref().and_then(|path| Some((path, load::exposed_key(path)?))) {
            let path = path.display();
            let message = format!(
                "the signing key `{path}` has mode {mode:04o}: other users can sign with it (chmod 600 {path})"
            );
            events.emit(Event::Warning { message: &message });
        }
        Ok(Some(Self {
            repository: CacheRepository::new(client.remote(to, Access::Push), events),
            policy: trust.policy(),
            key: key.map(|path| load::load_key(&path)).transpose()?,
        }))
    }
}

impl Target<'_> {
    /// Lets other machines find the steps of an image whose outputs are written.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub(crate) fn publish(
        &self,
        builder: &Builder<'_>,
        store: &Store,
        plan: &Plan,
        steps: &[BuiltStep],
        compression: Compression,
    ) -> Result<(), Failure> {
        let (events, image, repository) = (builder.ports.events, plan.image.as_str(), self.repository.name());
        let stage = Stage::start(events, image, format!("publish in {repository}"));
        let published = self.publisher(builder, store, now()?).publish(
            &builder.ports,
            plan,
            steps,
            encoding(compression),
        );
        let Publication { steps, new, withheld } =
            published.map_err(|source| NotPublished { image: image.to_owned(), source })?;
        stage.end();
        let withheld = withheld.as_ref().map(|withheld| withheld.step.as_str());
        events.emit(Event::StepsPublished { image, repository, steps, new, withheld });
        Ok(())
    }

    /// Returns what publishes the layers of `store`; `now` is in seconds since 1970.
    fn publisher<'b>(&'b self, builder: &Builder<'_>, store: &'b Store, now: i64) -> Publisher<'b> {
        Publisher {
            to: &self.repository,
            blobs: store,
            policy: &self.policy,
            key: self.key.as_ref(),
            now,
            damaged: builder.registries.damaged_in(self.repository.name()),
        }
    }
}

/// An image that was built, and whose steps other machines will not find.
#[derive(Debug, thiserror::Error)]
#[error("image `{image}` is built and its outputs are written, but its steps are not published")]
pub(crate) struct NotPublished {
    pub(crate) image: String,
    pub(crate) source: RemoteError,
}

/// Returns the file of the key that is to sign, if one is named.
pub(crate) fn signing_key(context: &Context, named: Option<&PathBuf>) -> Option<PathBuf> {
    let of_project = || context.project.trust.sign_with.as_ref().map(|path| context.dir.join(path));
    named.cloned().or_else(of_project)
}

/// Returns the seconds since 1970.
pub(crate) fn now() -> Result<i64, Failure> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

//! A repository in a registry: clients, scopes, and what happens after a refusal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderValue, Method, Uri};

use super::auth::{Auth, Scopes};
use super::credential::Credentials;
use super::error::RegistryError;
use super::message::{Answer, Request, host_of};
use super::pieces::Pieces;
use super::retry::{Attempts, Line};
use super::settings::Settings;
use super::transport::Transport;
use crate::oci::Repository;

/// The interval between two looks at the interrupt flag.
const WATCH: Duration = Duration::from_millis(50);

/// A client for registries. Clones share connections, tokens and known properties of registries.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    auth: Auth,
    pieces: Pieces,
    /// Held while a list of referrers is changed.
    referrers: Mutex<()>,
}

/// Number of attempts with shared tokens: without a token, with the current one, with a new one. If
/// the registry refuses them all, one more attempt has a token of its own.
const TOKENS: u32 = 3;

/// The access that a token is requested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Reading, writing and deleting.
    Delete,
}

impl Client {
    /// Makes a client without connections. All transfers end within about 50 ms once `interrupted`
    /// is true.
    pub fn new(settings: Settings, credentials: Credentials, interrupted: Arc<AtomicBool>) -> Self {
        let inner = Inner {
            transport: Transport::new(settings, Line::new(Arc::clone(&interrupted))),
            auth: Auth::new(credentials),
            pieces: Pieces::default(),
            referrers: Mutex::default(),
        };
        let inner = Arc::new(inner);
        hang_up_when(interrupted, &inner);
        Self { inner }
    }

    /// Returns a repository, for requests that need `access`. Sends no request.
    pub fn remote(&self, repository: &Repository, access: Access) -> Remote {
        let scopes = [scope(repository, access)].into();
        Remote { client: self.clone(), repository: repository.clone(), scopes }
    }
}

/// Closes all connections when `interrupted` becomes true. Nothing else ends a request that waits
/// for its answer.
fn hang_up_when(interrupted: Arc<AtomicBool>, inner: &Arc<Inner>) {
    // Weak, so that the thread ends with the last client.
    let inner = Arc::downgrade(inner);
    thread::spawn(move || {
        while let Some(inner) = inner.upgrade() {
            if interrupted.load(Ordering::Relaxed) {
                return inner.transport.hang_up();
            }
            drop(inner);
            thread::sleep(WATCH);
        }
    });
}

fn scope(repository: &Repository, access: Access) -> String {
    let actions = match access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
        Access::Delete => "pull,push,delete",
    };
    format!("repository:{}:{actions}", repository.path())
}

/// A repository in a registry. All methods retry transient failures.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    repository: Repository,
    scopes: Scopes,
}

impl Remote {
    /// Returns the name of the repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the number of concurrent transfers of blobs.
    pub fn jobs(&self) -> usize {
        self.transport().settings().jobs.max(1)
    }

    /// Returns the same repository for requests that also read from `other`.
    pub(super) fn reading(&self, other: &Repository) -> Self {
        let mut scopes = self.scopes.clone();
        scopes.insert(scope(other, Access::Pull));
        Self { scopes, ..self.clone() }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.client.inner.transport
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.client.inner.pieces
    }

    /// Waits until no other thread of this process changes a list of referrers.
    pub(super) fn list_of_referrers(&self) -> MutexGuard<'_, ()> {
        self.client.inner.referrers.lock().unwrap_or_else(|held| held.into_inner())
    }

    /// Starts attempts. `action` is a gerund for messages, such as `reading manifest latest`.
    pub(super) fn attempts(&self, action: impl std::fmt::Display) -> Attempts<'_> {
        let patience = self.transport().settings().patience;
        Attempts::new(format!("{action} of {}", self.repository), patience, self.transport().line())
    }

    /// Returns the URL of `rest` in the repository, such as `manifests/latest`.
    pub(super) fn url(&self, rest: &str) -> Uri {
        let host = self.repository.api_host();
        let scheme = self.transport().settings().scheme(host);
        let text = format!("{scheme}://{host}/v2/{}/{rest}", self.repository.path());
        text.parse().expect("a repository's name has no character that is special in URLs")
    }

    /// Returns a request for `rest` in the repository.
    pub(super) fn request(&self, method: Method, rest: &str) -> Request<'static> {
        Request::new(method, self.url(rest))
    }

    /// Sends a request with the required authorization, and returns an answer with one of the
    /// `expected` statuses. Replaces a refused token up to [`TOKENS`] times; retries nothing else.
    pub(super) fn call(&self, request: &Request<'_>, expected: &[u16]) -> Result<Answer, RegistryError> {
        let Inner { transport, auth, .. } = &*self.client.inner;
        // An upload session may be on another host, which must not get a credential.
        if host_of(&request.url) != self.repository.api_host() {
            return self.conclude(transport.exchange(request, None)?, expected);
        }
        let authorize = || auth.authorization(transport, &self.repository, &self.scopes);
        let mut header = authorize()?;
        for _ in 0..TOKENS {
            let answer = transport.exchange(request, header.as_ref())?;
            if answer.status != 401 || !auth.learn(&self.repository, &self.scopes, header.as_ref(), &answer) {
                return self.conclude(answer, expected);
            }
            let fresh = authorize()?;
            // A name and password do not change: the registry would refuse them again.
            if fresh == header {
                return self.conclude(answer, expected);
            }
            header = fresh;
        }
        // Other workers may have used up each of these tokens first.
        let send = |header: Option<&HeaderValue>| transport.exchange(request, header);
        self.conclude(auth.alone(transport, &self.repository, &self.scopes, send)?, expected)
    }

    /// As [`Remote::call`], with retries of transient failures. For idempotent requests only.
    pub(super) fn ask(
        &self,
        action: impl std::fmt::Display,
        request: &Request<'_>,
        expected: &[u16],
    ) -> Result<Answer, RegistryError> {
        let mut attempts = self.attempts(action);
        loop {
            match self.call(request, expected) {
                Err(error) => attempts.again(error)?,
                answer => return answer,
            }
        }
    }

    fn conclude(&self, answer: Answer, expected: &[u16]) -> Result<Answer, RegistryError> {
        let status = answer.status;
        answer.expect(expected).map_err(|source| match status {
            401 | 403 => RegistryError::Unauthorized {
                host: self.repository.host().to_owned(),
                repository: self.repository.path().to_owned(),
                anonymous: self.client.inner.auth.is_anonymous(&self.repository),
                source: Box::new(source),
            },
            _ => source,
        })
    }
}

//! A repository in a registry: who asks, for what, and how refusals are met.

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

/// Speaks to registries. Clones share connections, tokens and what was learned of each registry.
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

/// How many attempts share their tokens with other workers: without one, with the one that all have, with a new one. A registry
/// that means its refusal is asked once more.
const TOKENS: u32 = 3;

/// What is going to be done in a repository. Registries give tokens for that and no more.
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
    /// Connects to nothing yet. All transfers end soon after `interrupted` became true.
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

    /// Returns a repository, for what is going to be done there. Asks nobody.
    pub fn remote(&self, repository: &Repository, access: Access) -> Remote {
        let scopes = [scope(repository, access)].into();
        Remote { client: self.clone(), repository: repository.clone(), scopes }
    }
}

/// Ends all connections as soon as `interrupted` is true: a request that waits for its answer hears nothing else.
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

/// A repository in a registry. Methods say what can be repeated: all of them repeat themselves where that is sound.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    repository: Repository,
    scopes: Scopes,
}

impl Remote {
    /// Returns which repository it is.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns how many blobs are to move at a time.
    pub fn jobs(&self) -> usize {
        self.transport().settings().jobs.max(1)
    }

    /// Returns the same repository for requests that read from another one, too.
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

    /// Waits for its turn to change a list of referrers.
    pub(super) fn list_of_referrers(&self) -> MutexGuard<'_, ()> {
        self.client.inner.referrers.lock().unwrap_or_else(|held| held.into_inner())
    }

    /// Starts the attempts at `action` on this repository.
    pub(super) fn attempts(&self, action: impl std::fmt::Display) -> Attempts<'_> {
        let patience = self.transport().settings().patience;
        Attempts::new(format!("{action} of {}", self.repository), patience, self.transport().line())
    }

    /// Returns the URL of something in the repository: `manifests/latest`.
    pub(super) fn url(&self, rest: &str) -> Uri {
        let host = self.repository.api_host();
        let scheme = self.transport().settings().scheme(host);
        let text = format!("{scheme}://{host}/v2/{}/{rest}", self.repository.path());
        text.parse().expect("a repository's name has no character that is special in URLs")
    }

    /// Returns a request about something in the repository.
    pub(super) fn request(&self, method: Method, rest: &str) -> Request<'static> {
        Request::new(method, self.url(rest))
    }

    /// Sends a request, authorised as the registry wants it, and returns an answer with one of the `expected` statuses. A
    /// refused token is replaced [`TOKENS`] times; nothing else is tried again.
    pub(super) fn call(&self, request: &Request<'_>, expected: &[u16]) -> Result<Answer, RegistryError> {
        let Inner { transport, auth, .. } = &*self.client.inner;
        // Upload sessions may be on other hosts, which must not see a credential.
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
            // With an account of name and password, the same would be refused again.
            if fresh == header {
                return self.conclude(answer, expected);
            }
            header = fresh;
        }
        // Other workers may have used up each of these tokens before.
        let send = |header: Option<&HeaderValue>| transport.exchange(request, header);
        self.conclude(auth.alone(transport, &self.repository, &self.scopes, send)?, expected)
    }

    /// As [`Remote::call`], and tries again what may get better. For requests that may be repeated.
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

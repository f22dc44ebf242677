//! Authentication to registries.
//!
//! The first request to a registry is anonymous. The refusal says how to authenticate. Later
//! requests carry either name and password, or a token for their scopes. Tokens are kept by scope,
//! and replaced shortly before they expire or when the registry refuses them. One new token serves
//! all workers. Some tokens are valid for so few requests that other workers use them up first;
//! then a worker fetches one for itself ([`Auth::alone`]).
//!
//! Source: the Distribution registry's "Token Authentication Specification" and "OAuth2 Token
//! Authentication".

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tracing::debug;
use ureq::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::{HeaderValue, Method, Uri};

use super::credential::{Account, Credentials};
use super::error::RegistryError;
use super::message::{Answer, Body, Request, host_of};
use super::transport::Transport;
use crate::oci::{Challenge, Repository, parse_challenges};

const CLIENT_ID: &str = "plywood";
/// Lifetime of tokens if the service does not state it: the default in the specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Limit of the lifetime. A service can state any number, and a huge one would overflow the
/// addition to the clock.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time before its end at which a token is replaced, so that it does not expire during a request.
const MARGIN: Duration = Duration::from_secs(10);
/// Real tokens have at most a few kilobytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// The scopes of a token, such as `repository:a/b:pull`.
pub(super) type Scopes = BTreeSet<String>;

/// Accounts and tokens for all registries.
pub(super) struct Auth {
    credentials: Credentials,
    hosts: Mutex<HashMap<String, Arc<Mutex<Host>>>>,
}

/// The state of one registry.
#[derive(Default)]
struct Host {
    challenge: Option<Challenge>,
    accounts: HashMap<String, Option<Account>>,
    tokens: HashMap<Scopes, Token>,
}

struct Token {
    header: HeaderValue,
    /// The token is replaced after this time.
    until: Instant,
}

/// The answer of a token service. The token has one of two names.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, hosts: Mutex::default() }
    }

    /// Returns the `Authorization` header for requests about `repository`; `None` as long as its
    /// registry has not required one.
    pub(super) fn authorization(
        &self,
        transport: &Transport,
        repository: &Repository,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let host = self.host(repository);
        // Held while a token is fetched, so that the other workers wait for it instead of fetching
        // their own.
        let mut host = lock(&host);
        self.authorize(&mut host, transport, repository, scopes)
    }

    fn authorize(
        &self,
        host: &mut Host,
        transport: &Transport,
        repository: &Repository,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        match host.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let account = self.account(host, repository)?;
                Ok(account.as_ref().and_then(basic))
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                if let Some(token) = host.tokens.get(scopes).filter(|token| token.until > Instant::now()) {
                    return Ok(Some(token.header.clone()));
                }
                let account = self.account(host, repository)?;
                let service =
                    TokenService { transport, realm: &realm, service: service.as_deref(), repository };
                let token = service.fetch(account.as_ref(), scopes)?;
                let header = token.header.clone();
                host.tokens.insert(scopes.clone(), token);
                Ok(Some(header))
            }
        }
    }

    /// Sends a request with a new token that no other request has used. Other requests to the
    /// registry that need a token wait until it is done.
    pub(super) fn alone<T>(
        &self,
        transport: &Transport,
        repository: &Repository,
        scopes: &Scopes,
        send: impl FnOnce(Option<&HeaderValue>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let host = self.host(repository);
        let mut host = lock(&host);
        host.tokens.remove(scopes);
        let header = self.authorize(&mut host, transport, repository, scopes)?;
        send(header.as_ref())
    }

    /// Learns from a refusal how to authenticate, and removes the refused token. Returns true if
    /// another attempt can succeed.
    pub(super) fn learn(
        &self,
        repository: &Repository,
        scopes: &Scopes,
        refused: Option<&HeaderValue>,
        answer: &Answer,
    ) -> bool {
        // A redirect led to another host. Its challenge must not replace that of the registry.
        if host_of(&answer.url) != repository.api_host() {
            return false;
        }
        let headers =
            answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|header| header.to_str().ok());
        let challenges: Vec<_> = headers.flat_map(parse_challenges).collect();
        let is_token = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
        let Some(challenge) = challenges.iter().find(is_token).or(challenges.first()) else { return false };
        let host = self.host(repository);
        let mut host = lock(&host);
        // With `Basic`, only the first refusal, of a request without an account, is news. A later
        // one means that the account is wrong, and another attempt with it is useless.
        let is_new = host.challenge.as_ref() != Some(challenge) && refused.is_none();
        host.challenge = Some(challenge.clone());
        // Another worker may have fetched a new token in the meantime, which must stay.
        let is_current = host.tokens.get(scopes).is_some_and(|token| Some(&token.header) == refused);
        if is_current {
            host.tokens.remove(scopes);
        }
        is_new || matches!(challenge, Challenge::Bearer { .. })
    }

    /// Returns true if there is no account for a repository.
    pub(super) fn is_anonymous(&self, repository: &Repository) -> bool {
        let host = self.host(repository);
        let mut host = lock(&host);
        matches!(self.account(&mut host, repository), Ok(None))
    }

    fn account(&self, host: &mut Host, repository: &Repository) -> Result<Option<Account>, RegistryError> {
        if let Some(known) = host.accounts.get(repository.path()) {
            return Ok(known.clone());
        }
        let account = self.credentials.account(repository)?;
        debug!(%repository, has_account = account.is_some(), "looked for an account");
        host.accounts.insert(repository.path().to_owned(), account.clone());
        Ok(account)
    }

    fn host(&self, repository: &Repository) -> Arc<Mutex<Host>> {
        lock(&self.hosts).entry(repository.api_host().to_owned()).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|held| held.into_inner())
}

/// The token service of a registry.
struct TokenService<'a> {
    transport: &'a Transport,
    realm: &'a str,
    service: Option<&'a str>,
    repository: &'a Repository,
}

impl TokenService<'_> {
    fn fetch(&self, account: Option<&Account>, scopes: &Scopes) -> Result<Token, RegistryError> {
        self.ask(account, scopes).map_err(|source| match source {
            plain @ RegistryError::PlainHttp { .. } => plain,
            source => RegistryError::NoToken {
                host: self.repository.host().to_owned(),
                repository: self.repository.path().to_owned(),
                source: Box::new(source),
            },
        })
    }

    fn ask(&self, account: Option<&Account>, scopes: &Scopes) -> Result<Token, RegistryError> {
        debug!(repository = %self.repository, service = self.service, ?scopes, "fetches a token");
        let form = self.form(account, scopes);
        let answer = match account {
            Some(Account::Identity(_)) => {
                let request = Request::new(Method::POST, self.url("")?)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Body::Bytes(form.as_bytes()));
                self.transport.exchange(&request, None)?
            }
            _ => {
                let request = Request::new(Method::GET, self.url(&form)?);
                self.transport.exchange(&request, account.and_then(basic).as_ref())?
            }
        };
        let answer = answer.expect(&[200])?;
        let request = answer.request.clone();
        parse_token(&answer.read(MAX_ANSWER_BYTES)?)
            .ok_or_else(|| RegistryError::Unexpected { request, reason: "it has no token".to_owned() })
    }

    /// Returns the URL of the service. Refuses plain HTTP to other hosts, which would expose the
    /// account.
    fn url(&self, query: &str) -> Result<Uri, RegistryError> {
        let separator = match (query, self.realm.contains('?')) {
            ("", _) => "",
            (_, true) => "&",
            _ => "?",
        };
        let unusable = || RegistryError::Unexpected {
            request: format!("GET {}", self.repository),
            reason: "the URL of its token service is invalid".to_owned(),
        };
        let url: Uri = format!("{}{separator}{query}", self.realm).parse().map_err(|_| unusable())?;
        let host = host_of(&url);
        match url.scheme_str() {
            Some("https") => Ok(url),
            Some("http")
                if self.transport.settings().may_lead_to_plain(self.repository.api_host(), &host) =>
            {
                Ok(url)
            }
            Some("http") => Err(RegistryError::PlainHttp { host }),
            _ => Err(unusable()),
        }
    }

    fn form(&self, account: Option<&Account>, scopes: &Scopes) -> String {
        let mut fields = vec![("client_id", CLIENT_ID.to_owned())];
        fields.extend(self.service.map(|service| ("service", service.to_owned())));
        match account {
            Some(Account::Identity(token)) => {
                let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
                fields.extend([
                    ("grant_type", "refresh_token".to_owned()),
                    ("refresh_token", token.clone()),
                    ("scope", scopes.join(" ")),
                ]);
            }
            Some(Account::User { name, .. }) => {
                fields.push(("account", name.clone()));
                fields.extend(scopes.iter().map(|scope| ("scope", scope.clone())));
            }
            None => fields.extend(scopes.iter().map(|scope| ("scope", scope.clone()))),
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        fields.join("&")
    }
}

fn parse_token(bytes: &[u8]) -> Option<Token> {
    let TokenAnswer { token, access_token, expires_in } = serde_json::from_slice(bytes).ok()?;
    let token = token.filter(|token| !token.is_empty()).or(access_token)?;
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    // A quarter of a short life at most: a token of a few seconds would otherwise be outdated at
    // once.
    let life = expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(LONGEST_LIFE);
    Some(Token { header, until: Instant::now() + life.saturating_sub(MARGIN.min(life / 4)) })
}

fn basic(account: &Account) -> Option<HeaderValue> {
    let Account::User { name, password } = account else { return None };
    let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Percent-encodes all bytes except the unreserved characters.
///
/// Source: RFC 3986, 2.3.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_either_name_and_are_replaced_before_they_expire() {
        let life = |text: &str| {
            let token = parse_token(text.as_bytes())?;
            assert_eq!(token.header, "Bearer t");
            Some((token.until - Instant::now()).as_secs_f64().round() as u64)
        };
        assert_eq!(life(r#"{"token":"t","expires_in":300}"#), Some(290));
        assert_eq!(life(r#"{"access_token":"t"}"#), Some(50));
        assert_eq!(life(&format!(r#"{{"token":"t","expires_in":{}}}"#, u64::MAX)), Some(86_390));
        assert_eq!(life(r#"{"token":"","access_token":"t","expires_in":4}"#), Some(3));
        for text in ["{}", "<html>", r#"{"token":"a\nb"}"#] {
            assert_eq!(life(text), None, "{text}");
        }
    }

    #[test]
    fn a_form_has_all_scopes() {
        let transport = Transport::new(crate::registry::Settings::default(), Default::default());
        let repository = "a.example/b".parse().unwrap();
        let service = TokenService {
            transport: &transport,
            realm: "https://auth.example/token?x=1",
            service: Some("a b"),
            repository: &repository,
        };
        let scopes = ["repository:b:pull,push", "repository:c:pull"].map(str::to_owned).into();
        assert_eq!(
            service.form(None, &scopes),
            "client_id=plywood&service=a%20b&scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Ac%3Apull"
        );
        let identity = service.form(Some(&Account::Identity("s&t".to_owned())), &scopes);
        assert!(identity.contains("grant_type=refresh_token&refresh_token=s%26t&scope="), "{identity}");
        assert_eq!(service.url("q=1").unwrap(), "https://auth.example/token?x=1&q=1");
        for realm in ["http://auth.example/token", "http://127.0.0.1:8080/token"] {
            let plain = TokenService { realm, ..service };
            assert!(matches!(plain.url(""), Err(RegistryError::PlainHttp { .. })), "{realm}");
        }
    }
}

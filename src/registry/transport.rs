//! Connections, certificates, proxies and redirects.
//!
//! This module follows redirects itself, so that one place decides who gets a credential: only the
//! origin (protocol, host and port) of the request.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tracing::debug;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, LOCATION};
use ureq::http::{self, HeaderValue, Method, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, AsSendBody, Body as AnswerBody, Proxy, ProxyProtocol, SendBody};

use super::certificate::{Certificates, client_certificate, read_certificates, system_certificates};
use super::error::RegistryError;
use super::message::{Answer, Body, Request, describe, host_of, shown_headers};
use super::proxy::proxy_for;
use super::retry::Line;
use super::settings::Settings;
use super::tls::Tls;

/// Time limit for a connection. After that, the registry counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the start of an answer, and for a single read or write.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// Before a larger body, plywood asks the registry for permission (`Expect: 100-continue`). A
/// registry that refuses in the middle may close the connection, and its answer, which says why,
/// gets lost.
///
/// Source: RFC 9110, 10.1.1.
const ASK_FIRST_BYTES: u64 = 1 << 20;
/// Time limit for that permission. Some servers do not support it, and never answer.
const ASK_FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to all hosts. Each is made when it is first needed.
pub(super) struct Transport {
    settings: Settings,
    line: Line,
    routes: Mutex<HashMap<(String, String), Route>>,
    system: OnceLock<Vec<CertificateDer<'static>>>,
}

/// The way to a host.
#[derive(Clone)]
struct Route {
    agent: Agent,
    /// The proxy, for messages: without its password.
    proxy: Option<String>,
}

impl Transport {
    pub(super) fn new(settings: Settings, line: Line) -> Self {
        Self { settings, line, routes: Mutex::default(), system: OnceLock::new() }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends a request and returns the answer, whatever its status. Follows redirects of requests
    /// without a body.
    pub(super) fn exchange(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            // Compared with the first URL each time, so that a redirect back to the registry
            // carries the credential again.
            let authorization = authorization.filter(|_| is_same_origin(&url, &request.url));
            let answer = self.send(request, &url, authorization)?;
            let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            match answer.header(LOCATION.as_str()) {
                Some(location) if is_redirect && matches!(request.body, Body::Empty) => {
                    url = self.resolve(&answer, location)?;
                }
                _ => return Ok(answer),
            }
        }
        Err(RegistryError::Unexpected { request: request.text(), reason: "too many redirects".to_owned() })
    }

    /// Returns the URL in the `Location` of an answer. For the host that answered, the protocol
    /// stays the same: a registry behind a proxy that ends TLS believes that clients use plain
    /// HTTP, and sends such URLs.
    pub(super) fn resolve(&self, answer: &Answer, location: &str) -> Result<Uri, RegistryError> {
        let invalid = || RegistryError::Unexpected {
            request: answer.request.clone(),
            reason: "its `Location` is not a valid URL".to_owned(),
        };
        let (base, scheme) = (&answer.url, answer.url.scheme_str().unwrap_or_default());
        // The query of a relative URL may contain `://`, too.
        let has_scheme = location
            .split_once("://")
            .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let text = match location {
            absolute if has_scheme => absolute.to_owned(),
            network if network.starts_with("//") => format!("{scheme}:{network}"),
            path if path.starts_with('/') => format!("{scheme}://{}{path}", host_of(base)),
            relative => {
                let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{scheme}://{}{directory}/{relative}", host_of(base))
            }
        };
        let url: Uri = text.parse().map_err(|_| invalid())?;
        let host = host_of(&url);
        if host.is_empty() || !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(invalid());
        }
        if host == host_of(base) && url.scheme_str() != base.scheme_str() {
            let path = url.path_and_query().map_or("/", |path| path.as_str());
            return format!("{scheme}://{host}{path}").parse().map_err(|_| invalid());
        }
        if url.scheme_str() == Some("http") && !self.settings.may_lead_to_plain(&host_of(base), &host) {
            return Err(RegistryError::PlainHttp { host });
        }
        Ok(url)
    }

    fn send(
        &self,
        request: &Request<'_>,
        url: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let text = describe(&request.method, url);
        let Route { agent, proxy } = self.route(url)?;
        let mut head = http::Request::builder().method(request.method.clone()).uri(url.clone());
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        if let Some(authorization) = authorization {
            head = head.header(AUTHORIZATION, authorization);
        }
        let mut body = request.body.open()?;
        // RFC 9110, 8.6: a request states the length of its body, even if it is 0, if the method
        // allows a body.
        let may_have_body = !matches!(request.method, Method::GET | Method::HEAD);
        if let Some(bytes) = body.as_ref().map(|(bytes, _)| *bytes).or(may_have_body.then_some(0)) {
            head = head.header(CONTENT_LENGTH, bytes);
            if bytes > ASK_FIRST_BYTES {
                head = head.header(EXPECT, "100-continue");
            }
        }
        debug!(
            request = text,
            headers = head.headers_ref().map(shown_headers),
            has_credentials = authorization.is_some(),
            proxy,
            "asks"
        );
        let asked = Instant::now();
        let answer = match &mut body {
            Some((_, reader)) => {
                let mut reader = Stoppable { reader, line: &self.line };
                run(&agent, head.body(SendBody::from_reader(&mut reader)))
            }
            None => run(&agent, head.body(())),
        };
        let answer = answer.map_err(|error| {
            debug!(request = text, %error, after = ?asked.elapsed(), "no answer");
            failed(request, &text, proxy, error)
        });
        let (parts, body) = answer?.into_parts();
        debug!(
            request = text,
            status = parts.status.as_u16(),
            headers = shown_headers(&parts.headers),
            after = ?asked.elapsed(),
            "answered"
        );
        self.line.note_answer();
        Ok(Answer {
            request: text,
            url: url.clone(),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }

    fn route(&self, url: &Uri) -> Result<Route, RegistryError> {
        let key = (url.scheme_str().unwrap_or_default().to_owned(), host_of(url));
        if let Some(route) = self.routes().get(&key) {
            return Ok(route.clone());
        }
        // Without the lock, because this reads certificates from files. If another thread has made
        // a route in the meantime, that one is used.
        let route = self.new_route(&key.0, &key.1)?;
        Ok(self.routes().entry(key).or_insert(route).clone())
    }

    /// Closes all connections. Their requests fail.
    pub(super) fn hang_up(&self) {
        self.routes().values().for_each(|route| route.agent.clone().shutdown());
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Route>> {
        self.routes.lock().unwrap_or_else(|held| held.into_inner())
    }

    fn new_route(&self, scheme: &str, host: &str) -> Result<Route, RegistryError> {
        // A shorter patience of the user also limits each read and write.
        let stall = STALL_TIMEOUT.min(self.settings.patience);
        let proxy = proxy_for(scheme, host, &self.settings.environment);
        let proxy = proxy.map(|(variable, value)| usable_proxy(variable, value)).transpose()?;
        let (proxy, described) = proxy.unzip();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("plywood/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_await_100(Some(ASK_FIRST_TIMEOUT))
            .timeout_recv_response(Some(stall))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            // One for each worker. Others would be closed, and each new one costs a TLS handshake.
            .max_idle_connections_per_host(self.settings.jobs.max(4))
            .max_idle_connections(4 * self.settings.jobs.max(4));
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        // Also encrypts connections to a proxy that uses HTTPS.
        let connector = connector.chain(self.tls(host)?);
        let agent = Agent::with_parts(config.build(), connector, DefaultResolver::default());
        Ok(Route { agent, proxy: described })
    }

    fn tls(&self, host: &str) -> Result<Tls, RegistryError> {
        let Certificates { authorities, client } = self.settings.certificates(host);
        let mut own = Vec::new();
        for path in &authorities {
            own.extend(read_certificates(path)?);
        }
        let system = self.system.get_or_init(|| system_certificates(&self.settings.environment));
        let shown = client.as_ref().map(|(chain, key)| client_certificate(chain, key)).transpose()?;
        Tls::new(own, system, shown).map_err(|error| RegistryError::Certificate {
            path: client.map(|(chain, _)| chain).unwrap_or_default(),
            reason: error.to_string(),
        })
    }
}

/// A body that ends with an error once the user interrupts.
struct Stoppable<'l, R> {
    reader: R,
    line: &'l Line,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line.check().map_err(io::Error::other)?;
        self.reader.read(buffer)
    }
}

fn run(
    agent: &Agent,
    request: http::Result<http::Request<impl AsSendBody>>,
) -> Result<http::Response<AnswerBody>, ureq::Error> {
    agent.run(request?)
}

/// Parses the proxy in a variable. Returns it with its description for messages.
fn usable_proxy(variable: &'static str, value: &str) -> Result<(Proxy, String), RegistryError> {
    let proxy = Proxy::new(value)
        .ok()
        .filter(|proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https));
    let proxy = proxy.ok_or(RegistryError::Proxy { variable })?;
    let described = format!("{}:{}, which {variable} names", proxy.host(), proxy.port());
    Ok((proxy, described))
}

/// Distinguishes errors of the network from errors of the local blob. Retrying cannot repair a
/// damaged file.
fn failed(request: &Request<'_>, text: &str, proxy: Option<String>, error: ureq::Error) -> RegistryError {
    match (error, &request.body) {
        (ureq::Error::Io(source), Body::Blob { blob, .. }) if source.kind() == io::ErrorKind::InvalidData => {
            RegistryError::Source { digest: blob.digest, source }
        }
        (source, _) => RegistryError::NoAnswer { request: text.to_owned(), proxy, source: Box::new(source) },
    }
}

fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |url: &Uri| url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    a.scheme_str() == b.scheme_str() && a.host() == b.host() && port(a) == port(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(url: &str) -> Answer {
        Answer {
            request: "GET x".to_owned(),
            url: url.parse().unwrap(),
            status: 307,
            headers: http::HeaderMap::new(),
            body: AnswerBody::builder().data(""),
        }
    }

    #[test]
    fn locations_are_resolved_and_never_lead_to_plain_http() {
        let transport = Transport::new(Settings::default(), Line::default());
        let from = answer("https://a.example:5000/v2/x/blobs/uploads/");
        let cases = [
            ("/v2/y?_state=1", "https://a.example:5000/v2/y?_state=1"),
            ("z", "https://a.example:5000/v2/x/blobs/uploads/z"),
            ("/v2/y?from=http://b.example", "https://a.example:5000/v2/y?from=http://b.example"),
            ("https://s3.example/b?sig=1", "https://s3.example/b?sig=1"),
            ("http://a.example:5000/v2/y", "https://a.example:5000/v2/y"),
            ("//b.example/c", "https://b.example/c"),
        ];
        for (location, expected) in cases {
            assert_eq!(transport.resolve(&from, location).unwrap(), expected, "{location}");
        }
        for host in ["s3.example", "169.254.169.254", "127.0.0.1:1", "localhost", "[::1]:80"] {
            let found = transport.resolve(&from, &format!("http://{host}/b"));
            assert!(
                matches!(found, Err(RegistryError::PlainHttp { host: named }) if named == host),
                "{host}"
            );
        }
        let here = answer("http://localhost:5000/v2/x");
        assert!(
            transport.resolve(&here, "http://127.0.0.1:1/c").is_ok(),
            "from one loopback address to another"
        );
        for location in ["ftp://a.example/x", "http://", "https:// /"] {
            assert!(transport.resolve(&from, location).is_err(), "{location}");
        }
    }

    #[test]
    fn another_port_or_protocol_is_another_origin() {
        let same = |a: &str, b: &str| is_same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.example/x", "https://a.example:443/y"));
        assert!(!same("https://a.example/x", "https://a.example:444/x"));
        assert!(!same("https://a.example/x", "http://a.example/x"));
        assert!(!same("https://a.example/x", "https://b.example/x"));
    }
}

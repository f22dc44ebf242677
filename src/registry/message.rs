//! HTTP requests and answers.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::Body as AnswerBody;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::error::RegistryError;
use super::outgoing::Outgoing;

/// Time limit for reading a document: a manifest, a token or an error. The largest has 4 MiB.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Limit of the bytes that are read of an error.
const MAX_REASON_BYTES: u64 = 8 << 10;
/// Limit of the characters that are shown of an error.
const MAX_REASON_CHARACTERS: usize = 300;

/// A request. It can be sent several times.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Body<'a>,
}

/// The body of a request.
pub(super) enum Body<'a> {
    Empty,
    Bytes(&'a [u8]),
    /// So many bytes of a blob from an offset on.
    Blob {
        blob: &'a Outgoing<'a>,
        offset: u64,
        bytes: u64,
    },
}

/// Size and reader of a body.
pub(super) type OpenBody<'b> = (u64, Box<dyn Read + 'b>);

impl Body<'_> {
    /// Opens the body at its start; `None` if there is none.
    pub(super) fn open(&self) -> Result<Option<OpenBody<'_>>, RegistryError> {
        match self {
            Self::Empty => Ok(None),
            Self::Bytes(bytes) => Ok(Some((bytes.len() as u64, Box::new(*bytes)))),
            Self::Blob { blob, offset, bytes } => {
                let opened = blob.open(*offset, *bytes);
                let opened =
                    opened.map_err(|source| RegistryError::Source { digest: blob.digest, source })?;
                Ok(Some((*bytes, opened)))
            }
        }
    }
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: Uri) -> Self {
        Self { method, url, headers: Vec::new(), body: Body::Empty }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(self, body: Body<'a>) -> Self {
        Self { body, ..self }
    }

    /// Returns method and URL for messages, without the query, which may be a secret.
    pub(super) fn text(&self) -> String {
        describe(&self.method, &self.url)
    }
}

pub(super) fn describe(method: &Method, url: &Uri) -> String {
    let host = host_of(url);
    format!("{method} {}://{host}{}", url.scheme_str().unwrap_or_default(), url.path())
}

/// Returns host and port. Omits a user, which a hostile `Location` may contain.
pub(super) fn host_of(url: &Uri) -> String {
    match (url.host(), url.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Headers that traces show. Unknown headers may carry a credential, so they are not shown.
const SHOWN_HEADERS: [&str; 15] = [
    "accept",
    "content-length",
    "content-range",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "link",
    "location",
    "oci-filters-applied",
    "oci-subject",
    "range",
    "retry-after",
    "server",
    "via",
    "www-authenticate",
];

/// Returns the headers that a trace may show.
pub(super) fn shown_headers(headers: &HeaderMap) -> String {
    let shown = headers.iter().filter(|(name, _)| SHOWN_HEADERS.contains(&name.as_str()));
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        // The query of a URL that an object store has signed is a credential.
        let value = if matches!(name.as_str(), "link" | "location") { shown_url(&value) } else { value };
        format!("{name}: {value}")
    };
    shown.map(line).collect::<Vec<_>>().join("; ")
}

/// Returns a URL without query and user.
fn shown_url(text: &str) -> String {
    let path = text.split('?').next().unwrap_or_default();
    // A URL may leave out its scheme: `//user@host/path`.
    match path.split_once("//") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            format!("{scheme}//{}/{path}", host.rsplit('@').next().unwrap_or_default())
        }
        None => path.to_owned(),
    }
}

/// An answer with an unread body.
pub(super) struct Answer {
    /// Method and URL of the request, for messages.
    pub(super) request: String,
    /// The URL that answered, after redirects.
    pub(super) url: Uri,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: AnswerBody,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the `Content-Length`, if there is one.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Reads the whole body. More than `limit` bytes are an error. For documents.
    pub(super) fn read(self, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let Self { request, body, .. } = self;
        let mut bytes = Vec::new();
        match read_document(body.into_reader(), limit + 1, &mut bytes) {
            Err(source) => Err(RegistryError::BrokenOff { request, source }),
            Ok(()) if bytes.len() as u64 > limit => Err(RegistryError::TooLarge { request, limit }),
            Ok(()) => Ok(bytes),
        }
    }

    pub(super) fn into_reader(self) -> impl Read + 'static {
        self.body.into_reader()
    }

    /// Turns an answer with a status that is not in `expected` into an error.
    pub(super) fn expect(self, expected: &[u16]) -> Result<Self, RegistryError> {
        if expected.contains(&self.status) { Ok(self) } else { Err(self.refused()) }
    }

    /// Fails for an HTML page. A proxy or a login portal between plywood and the registry has sent
    /// it.
    pub(super) fn refuse_page(self) -> Result<Self, RegistryError> {
        let is_page = self.header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html"));
        if !is_page {
            return Ok(self);
        }
        let reason = "an HTML page, where a registry was expected".to_owned();
        Err(RegistryError::Unexpected { request: self.request, reason })
    }

    /// Turns an answer into [`RegistryError::Refused`].
    pub(super) fn refused(self) -> RegistryError {
        let Self { request, status, headers, body, .. } = self;
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?));
        let mut text = Vec::new();
        // Without the text, the status still describes the error.
        let _ = read_document(body.into_reader(), MAX_REASON_BYTES, &mut text);
        RegistryError::Refused { request, status, reason: reason(&text), retry_after }
    }
}

/// Reads up to `limit` bytes, for at most [`DOCUMENT_TIMEOUT`]. The timeouts of single reads do not
/// stop a server that sends one byte at a time.
fn read_document(reader: impl Read, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let (started, mut reader) = (Instant::now(), reader.take(limit));
    let mut piece = [0; 8 << 10];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if started.elapsed() > DOCUMENT_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Parses `Retry-After`: seconds, or a date.
///
/// Source: RFC 9110, 10.2.3.
fn parse_retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    let now = jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(date.as_second() - now).unwrap_or_default()))
}

/// Returns the messages in the body of an error, or the start of the body if it is plain text.
///
/// Source: distribution-spec, "Error Codes"; RFC 6749, 5.2 for token services.
fn reason(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(document) => spoken(&document),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    if text.starts_with('<') { "an HTML page".to_owned() } else { one_line(text.as_bytes()) }
}

/// Returns the start of a remote text for messages: one line without control characters, which
/// could command the terminal.
pub(super) fn one_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let characters = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    characters.take(MAX_REASON_CHARACTERS).collect()
}

fn spoken(document: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value, name: &str| value[name].as_str().map(str::to_owned);
    let one = |error: &serde_json::Value| {
        let words = [word(error, "code"), word(error, "message")];
        words.into_iter().flatten().collect::<Vec<_>>().join(": ")
    };
    match document["errors"].as_array() {
        Some(errors) => errors.iter().map(one).collect::<Vec<_>>().join("; "),
        None => {
            let names = ["details", "error_description", "message", "error"];
            names.iter().find_map(|name| word(document, name)).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_of_one_line() {
        let cases = [
            (r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "DENIED: no; X"),
            (r#"{"details":"token service says no"}"#, "token service says no"),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, "expired"),
            ("plain\n\u{1b}[31mtext", "plain  [31mtext"),
            ("<!DOCTYPE html><html>", "an HTML page"),
            ("", ""),
        ];
        for (body, expected) in cases {
            assert_eq!(reason(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(reason(&vec![b'x'; 5000]).len(), MAX_REASON_CHARACTERS);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let far = parse_retry_after("Wed, 21 Oct 2065 07:28:00 GMT").unwrap();
        assert!(far > Duration::from_secs(1_000_000_000));
        assert_eq!(parse_retry_after("soon"), None);
    }

    #[test]
    fn messages_show_neither_user_nor_query() {
        let url: Uri = "https://user:hunter2@a.example/path?token=hunter2".parse().unwrap();
        assert_eq!(describe(&Method::GET, &url), "GET https://a.example/path");
        for (url, shown) in [
            ("https://user:hunter2@a.example/path?token=hunter2", "https://a.example/path"),
            ("//user:hunter2@a.example/path", "//a.example/path"),
            ("/v2/a/blobs/uploads/1?_state=hunter2", "/v2/a/blobs/uploads/1"),
            ("<https://a.example/v2/a/tags/list?last=x>; rel=next", "<https://a.example/v2/a/tags/list"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}

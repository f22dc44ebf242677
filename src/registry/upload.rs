//! Uploads of blobs.
//!
//! ```text
//! HEAD each blob, all at once ──200──▶ there
//!   │404
//! POST uploads?mount=… ──201──▶ mounted
//!   │202: a session
//! PUT all of it                or   PATCH a piece, PATCH a piece, … PUT nothing
//!   │201
//! moved
//! ```
//!
//! After a broken session, the next attempt starts from the top with a new session. It cannot
//! continue the old one: in common registries, a piece that was cut ends the session, and a piece
//! whose answer was lost must not be sent twice. The new attempt begins with a `HEAD`, in case the
//! upload succeeded and only its answer was lost.
//!
//! Source: OCI distribution-spec v1.1, "Pushing blobs".

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::Read;

use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use ureq::http::{Method, Uri};

use super::auth::encode;
use super::error::RegistryError;
use super::message::{Answer, Body, Request};
use super::meter::{Transfer, Transfers};
use super::outgoing::Outgoing;
use super::remote::Remote;
use crate::oci::{Digest, Repository};
use crate::port::{BlobSource, How};

/// Size of the pieces for registries that refuse whole blobs. Each piece costs a round trip.
const PIECE_BYTES: u64 = 64 << 20;
/// Number of concurrent `HEAD` requests. Each costs a round trip and little else, so all blobs of
/// an ordinary image take the time of one.
const QUESTIONS: usize = 32;
const OCTETS: &str = "application/octet-stream";

/// A blob to upload.
pub struct Upload<'a> {
    pub digest: Digest,
    pub bytes: u64,
    pub source: &'a dyn BlobSource,
    /// Another repository that may have the blob. Used if it is in the same registry.
    pub mount_from: Option<&'a Repository>,
}

/// The state of a repository's copy of a blob, by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Missing,
    Whole,
    /// The copy has another size, for example because the registry's disk was full.
    Damaged {
        found: u64,
    },
}

impl Held {
    /// Compares the size that a registry reports with the true one.
    fn of(size: Option<u64>, bytes: u64) -> Self {
        match size {
            None => Self::Missing,
            Some(found) if found == bytes => Self::Whole,
            Some(found) => Self::Damaged { found },
        }
    }
}

impl Remote {
    /// Returns the size of a blob in the repository, as the registry reports it (0 if it reports
    /// none); `None` if the blob is missing.
    ///
    /// # Errors
    /// All errors of a request.
    pub fn head_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let request = self.request(Method::HEAD, &format!("blobs/{digest}"));
        let answer = self.ask(format_args!("looking up blob {digest}"), &request, &[200, 404])?;
        size_of(answer)
    }

    /// Uploads the blobs that the repository lacks, several at a time. Blobs that can be mounted
    /// are not uploaded, and none is uploaded twice. Returns how each missing blob got there, the
    /// largest first. Idempotent. The registry verifies digests.
    ///
    /// # Errors
    /// The first error stops the other uploads; finished ones stay in the repository.
    /// [`RegistryError::Source`] if a blob cannot be read locally; [`RegistryError::KeepsDamaged`]
    /// if the registry does not replace a copy of another size; and all errors of a request.
    pub fn push_blobs(
        &self,
        uploads: &[Upload<'_>],
        transfers: &Transfers<'_>,
    ) -> Result<Vec<How>, RegistryError> {
        let blobs: BTreeSet<_> = uploads.iter().map(|upload| (upload.digest, upload.bytes)).collect();
        let blobs: Vec<_> = blobs.into_iter().collect();
        let ask = |(digest, bytes): &(Digest, u64)| Ok((*digest, self.held(digest, *bytes)?));
        let asked = transfers.each(QUESTIONS, &blobs, ask)?;
        let lacks = asked.iter().filter(|(_, held)| *held != Held::Whole);
        let mut lacks: BTreeSet<_> = lacks.map(|(digest, _)| *digest).collect();
        // `remove` is true only for the first upload of a digest, so a blob that is listed twice is
        // uploaded once.
        let (mut missing, there): (Vec<_>, Vec<_>) =
            uploads.iter().partition(|upload| lacks.remove(&upload.digest));
        for Upload { digest, bytes, .. } in there {
            transfers.blob(digest, *bytes).finish(How::There);
        }
        // The largest first: if it began last, it would run alone at the end.
        missing.sort_by_key(|upload| Reverse(upload.bytes));
        let sent = transfers.each(self.jobs(), &missing, |upload| self.push_blob(upload, transfers))?;
        let damaged = asked.iter().filter(|(_, held)| matches!(held, Held::Damaged { .. }));
        let damaged: BTreeSet<_> = damaged.map(|(digest, _)| *digest).collect();
        // Most registries discard an upload of a digest that they know, and answer as if they had
        // stored it. Only a second look shows whether the damaged copy was replaced.
        let mut resent = missing.iter().filter(|upload| damaged.contains(&upload.digest));
        resent.try_for_each(|upload| self.refuse_damaged(upload))?;
        Ok(sent)
    }

    /// Looks up the repository's copy of a blob.
    fn held(&self, digest: &Digest, bytes: u64) -> Result<Held, RegistryError> {
        match Held::of(self.head_blob(digest)?, bytes) {
            // An empty copy, or a registry or proxy that does not say how large blobs are.
            Held::Damaged { found: 0 } if self.has_bytes(digest)? => Ok(Held::Whole),
            held => Ok(held),
        }
    }

    /// Returns true if the repository's copy of a blob has a first byte.
    fn has_bytes(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let request =
            self.request(Method::GET, &format!("blobs/{digest}")).header(RANGE, "bytes=0-0".to_owned());
        let answer = self.ask(format_args!("looking into blob {digest}"), &request, &[200, 206, 404, 416])?;
        if !matches!(answer.status, 200 | 206) {
            return Ok(false);
        }
        let (answer, mut byte) = (answer.refuse_page()?, [0]);
        let request = answer.request.clone();
        let read = answer.into_reader().read(&mut byte);
        read.map(|count| count > 0).map_err(|source| RegistryError::BrokenOff { request, source })
    }

    /// Uploads a missing blob, unless it can be mounted.
    fn push_blob(&self, upload: &Upload<'_>, transfers: &Transfers<'_>) -> Result<How, RegistryError> {
        let transfer = transfers.blob(&upload.digest, upload.bytes);
        let mut attempts = self.attempts(format_args!("pushing blob {}", upload.digest)).of(&transfer);
        loop {
            match self.try_push(upload, &transfer, attempts.is_repeated()) {
                Ok(how) => {
                    transfer.finish(how);
                    return Ok(how);
                }
                // Not counted as a failed attempt: the same blob in pieces is another request.
                Err(error) if self.is_new_limit(&error) => transfer.restart(),
                Err(error) => {
                    transfer.restart();
                    attempts.again(error)?;
                }
            }
        }
    }

    /// Fails if the registry has a copy of another size.
    fn refuse_damaged(&self, upload: &Upload<'_>) -> Result<(), RegistryError> {
        let Upload { digest, bytes, .. } = upload;
        match self.held(digest, *bytes)? {
            Held::Damaged { found } => Err(RegistryError::KeepsDamaged {
                repository: self.repository().to_string(),
                digest: *digest,
                expected: *bytes,
                found,
            }),
            Held::Missing | Held::Whole => Ok(()),
        }
    }

    fn try_push(
        &self,
        upload: &Upload<'_>,
        transfer: &Transfer<'_>,
        is_repeated: bool,
    ) -> Result<How, RegistryError> {
        // The previous attempt may have succeeded, and only its answer was lost.
        let head = || self.request(Method::HEAD, &format!("blobs/{}", upload.digest));
        if is_repeated && Held::of(size_of(self.call(&head(), &[200, 404])?)?, upload.bytes) == Held::Whole {
            return Ok(How::Moved);
        }
        let Some(session) = self.open_session(upload)? else { return Ok(How::Mounted) };
        let url = self.location(&session)?;
        let blob = Outgoing::new(upload.digest, upload.bytes, upload.source, transfer);
        match self.piece_bytes(&session) {
            Some(piece) => self.send_pieces(&blob, url, piece)?,
            None => self.send_whole(&blob, &url)?,
        }
        Ok(How::Moved)
    }

    /// Opens an upload session; `None` if the registry mounted the blob instead.
    fn open_session(&self, upload: &Upload<'_>) -> Result<Option<Answer>, RegistryError> {
        let from = upload
            .mount_from
            .filter(|from| from.shares_registry(self.repository()) && *from != self.repository());
        if let Some(from) = from {
            let query = format!(
                "blobs/uploads/?mount={}&from={}",
                encode(&upload.digest.to_string()),
                encode(from.path())
            );
            let request = self.request(Method::POST, &query);
            match self.reading(from).call(&request, &[201, 202]) {
                Ok(answer) if answer.status == 201 => return Ok(None),
                Ok(session) => return Ok(Some(session)),
                Err(error) if error.is_transient() => return Err(error),
                // The registry does not support mounts, or refuses access to the other repository.
                // An upload may still be allowed.
                Err(_) => {}
            }
        }
        self.call(&self.request(Method::POST, "blobs/uploads/"), &[202]).map(Some)
    }

    fn location(&self, answer: &Answer) -> Result<Uri, RegistryError> {
        let missing = || RegistryError::Unexpected {
            request: answer.request.clone(),
            reason: "it has no `Location`".to_owned(),
        };
        self.transport().resolve(answer, answer.header(LOCATION.as_str()).ok_or_else(missing)?)
    }

    /// Returns the size of pieces in bytes; `None` to upload the blob whole.
    fn piece_bytes(&self, session: &Answer) -> Option<u64> {
        let host = self.repository().api_host();
        let wanted = self.transport().settings().host(host).chunk_bytes.or_else(|| self.pieces().of(host))?;
        let least = session.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Some(wanted.max(least.unwrap_or(1)))
    }

    /// Records that the registry refuses whole blobs (status 413). Returns true the first time:
    /// only then another attempt makes sense.
    fn is_new_limit(&self, error: &RegistryError) -> bool {
        let host = self.repository().api_host();
        let is_news = error.status() == Some(413) && self.pieces().of(host).is_none();
        if is_news {
            self.pieces().need(host, PIECE_BYTES);
        }
        is_news
    }

    fn send_whole(&self, blob: &Outgoing<'_>, url: &Uri) -> Result<(), RegistryError> {
        let digest = &blob.digest;
        let body = Body::Blob { blob, offset: 0, bytes: blob.bytes };
        let request = Request::new(Method::PUT, closing(url, digest)).header(CONTENT_TYPE, OCTETS).body(body);
        self.accept(self.call(&request, &[200, 201, 204])?, digest)
    }

    fn send_pieces(&self, blob: &Outgoing<'_>, mut url: Uri, piece: u64) -> Result<(), RegistryError> {
        let digest = &blob.digest;
        let mut offset = 0;
        while offset < blob.bytes {
            let bytes = piece.min(blob.bytes - offset);
            let body = Body::Blob { blob, offset, bytes };
            // The range is inclusive and has no unit: the specification differs from RFC 9110 here.
            let request = Request::new(Method::PATCH, url)
                .header(CONTENT_TYPE, OCTETS)
                .header(CONTENT_RANGE, format!("{offset}-{}", offset + bytes - 1))
                .body(body);
            // Each answer has the URL for the next piece.
            url = self.location(&self.call(&request, &[202])?)?;
            offset += bytes;
        }
        let request = Request::new(Method::PUT, closing(&url, digest));
        self.accept(self.call(&request, &[200, 201, 204])?, digest)
    }

    /// Checks that the registry stored the uploaded bytes.
    fn accept(&self, answer: Answer, sent: &Digest) -> Result<(), RegistryError> {
        let answer = answer.refuse_page()?;
        match answer.header("docker-content-digest").and_then(|text| text.parse().ok()) {
            Some(found) if found != *sent => {
                Err(RegistryError::WrongDigest { request: answer.request, expected: *sent, found })
            }
            _ => Ok(()),
        }
    }
}

/// Returns the URL that ends a session: with the digest as a parameter.
fn closing(url: &Uri, digest: &Digest) -> Uri {
    let separator = if url.query().is_some() { '&' } else { '?' };
    let text = format!("{url}{separator}digest={}", encode(&digest.to_string()));
    text.parse().expect("a URL with one more parameter is a URL")
}

fn size_of(answer: Answer) -> Result<Option<u64>, RegistryError> {
    if answer.status == 404 {
        return Ok(None);
    }
    let answer = answer.refuse_page()?;
    Ok(Some(answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default()))
}

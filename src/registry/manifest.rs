//! Manifests and tags of a repository.
//!
//! Source: OCI distribution-spec v1.1, "Pulling manifests", "Pushing manifests", "Content
//! discovery", "Content management".

use std::collections::BTreeSet;

use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

use super::error::RegistryError;
use super::message::{Answer, Body, Request};
use super::remote::Remote;
use crate::oci::{Digest, MANIFEST_TYPES, RawManifest, Tag, TagError, TagOrDigest};

/// Registries must accept manifests up to this size, and common ones refuse larger ones.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Number of tags to request in one answer.
const PAGE: usize = 1000;
/// Most answers that are read for one list, as a hostile registry may send a list that never ends.
const MAX_PAGES: usize = 10_000;

/// The URLs of the requested pages of one list, without the first.
#[derive(Default)]
pub(super) struct Pages(BTreeSet<String>);

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The manifest was deleted.
    Deleted,
    /// The repository has no such manifest.
    Missing,
    /// The registry does not support deletion.
    Unsupported,
}

#[derive(Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

impl Remote {
    /// Returns the bytes of a manifest, or `None` if the repository has no such manifest. The
    /// digest is verified: against `target`, or for a tag against the digest that the registry
    /// sends.
    ///
    /// # Errors
    /// [`RegistryError::NoManifest`], [`RegistryError::TooLarge`], [`RegistryError::WrongDigest`],
    /// and all errors of a request.
    pub fn get_manifest(&self, target: &TagOrDigest) -> Result<Option<RawManifest>, RegistryError> {
        let request = self.manifest(Method::GET, target);
        let mut attempts = self.attempts(format_args!("reading manifest {target}"));
        loop {
            match self.try_get(&request, target) {
                Err(error) => attempts.again(error)?,
                manifest => return manifest,
            }
        }
    }

    fn try_get(
        &self,
        request: &Request<'_>,
        target: &TagOrDigest,
    ) -> Result<Option<RawManifest>, RegistryError> {
        let answer = self.call(request, &[200, 404])?;
        if answer.status == 404 {
            return Ok(None);
        }
        let answer = answer.refuse_page()?;
        let request = answer.request.clone();
        let content_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
        let expected = match target {
            TagOrDigest::Digest(digest) => Some(*digest),
            TagOrDigest::Tag(_) => digest_of(&answer),
        };
        let bytes = answer.read(MAX_MANIFEST_BYTES)?;
        let found = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(RegistryError::WrongDigest { request, expected, found });
        }
        let raw = RawManifest::new(&content_type, bytes);
        raw.map(Some).map_err(|source| RegistryError::NoManifest { request, content_type, source })
    }

    /// Returns the digest of a manifest, or `None` if the repository has no such manifest. Costs
    /// one `HEAD` request for most registries.
    ///
    /// # Errors
    /// All errors of a request.
    pub fn head_manifest(&self, target: &TagOrDigest) -> Result<Option<Digest>, RegistryError> {
        let request = self.manifest(Method::HEAD, target);
        let answer = self.ask(format_args!("looking up manifest {target}"), &request, &[200, 404])?;
        if answer.status == 404 {
            return Ok(None);
        }
        match digest_of(&answer.refuse_page()?) {
            Some(digest) => Ok(Some(digest)),
            // Old registries send the digest with the document only.
            None => Ok(self.get_manifest(target)?.map(|manifest| manifest.digest())),
        }
    }

    /// Uploads a manifest under a tag or its own digest, and returns its digest. The repository
    /// must have its blobs. Idempotent. If the manifest has a subject and the registry does not
    /// link them, adds it to the subject's list of referrers.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`], [`RegistryError::WrongDigest`] if the registry received other
    /// bytes, and all errors of a request.
    pub fn put_manifest(
        &self,
        target: &TagOrDigest,
        manifest: &RawManifest,
    ) -> Result<Digest, RegistryError> {
        let RawManifest { media_type, bytes } = manifest;
        let request = self.request(Method::PUT, &format!("manifests/{target}"));
        let request = request.header(CONTENT_TYPE, media_type).body(Body::Bytes(bytes));
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge { request: request.text(), limit: MAX_MANIFEST_BYTES });
        }
        let answer = self.ask(format_args!("writing manifest {target}"), &request, &[200, 201, 202])?;
        let (answer, digest) = (answer.refuse_page()?, manifest.digest());
        if let Some(found) = digest_of(&answer).filter(|found| *found != digest) {
            return Err(RegistryError::WrongDigest { request: answer.request, expected: digest, found });
        }
        if answer.header("oci-subject").is_none()
            && let Some(subject) = manifest.subject()
        {
            self.add_referrer(&subject, manifest)?;
        }
        Ok(digest)
    }

    /// Deletes a manifest and all tags that name it.
    ///
    /// # Errors
    /// All errors of a request. A registry without deletion is [`Deletion::Unsupported`].
    pub fn delete_manifest(&self, digest: &Digest) -> Result<Deletion, RegistryError> {
        let request = self.request(Method::DELETE, &format!("manifests/{digest}"));
        // The specification has 400 and 405 for registries without deletion.
        let expected = [200, 202, 204, 400, 404, 405, 501];
        let answer = self.ask(format_args!("deleting manifest {digest}"), &request, &expected)?;
        Ok(match answer.status {
            404 => Deletion::Missing,
            200 | 202 | 204 => Deletion::Deleted,
            _ => Deletion::Unsupported,
        })
    }

    /// Returns false if the registry has no such repository.
    ///
    /// # Errors
    /// All errors of a request.
    pub fn exists(&self) -> Result<bool, RegistryError> {
        let request = self.request(Method::GET, "tags/list?n=1");
        Ok(self.ask("looking up the tags", &request, &[200, 404])?.status == 200)
    }

    /// Returns all tags of the repository, in the order of the registry; none if there is no such
    /// repository.
    ///
    /// # Errors
    /// [`RegistryError::Unexpected`] if a text in the list is not a tag, or the list does not end;
    /// else as the registry answers.
    pub fn tags(&self) -> Result<Vec<Tag>, RegistryError> {
        let mut tags = Vec::new();
        let mut pages = Pages::default();
        let mut request = Some(self.request(Method::GET, &format!("tags/list?n={PAGE}")));
        while let Some(current) = request {
            let answer = self.ask("listing tags", &current, &[200, 404])?;
            if answer.status == 404 {
                break;
            }
            let described = answer.request.clone();
            request = self.next_page(&answer, &mut pages)?;
            let list: TagList = read_json(answer)?;
            for text in list.tags.unwrap_or_default() {
                let tag = text.parse().map_err(|error: TagError| RegistryError::Unexpected {
                    request: described.clone(),
                    reason: error.to_string(),
                })?;
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// Returns the request for what follows a page, if something does.
    ///
    /// # Errors
    /// [`RegistryError::Unexpected`] if the list comes back to a page, or has more than
    /// [`MAX_PAGES`]: the rest of a list must not be missing in silence.
    pub(super) fn next_page(
        &self,
        answer: &Answer,
        pages: &mut Pages,
    ) -> Result<Option<Request<'static>>, RegistryError> {
        let link = answer.header(LINK.as_str()).and_then(parse_next);
        let Some(url) = link.map(|link| self.transport().resolve(answer, link)).transpose()? else {
            return Ok(None);
        };
        let endless = |reason: &str| RegistryError::Unexpected {
            request: answer.request.clone(),
            reason: reason.to_owned(),
        };
        match pages.0.insert(url.to_string()) {
            false => Err(endless("the pages of this list lead back to an earlier one")),
            true if pages.0.len() >= MAX_PAGES => Err(endless("this list has too many pages")),
            true => Ok(Some(Request::new(Method::GET, url))),
        }
    }

    fn manifest(&self, method: Method, target: &TagOrDigest) -> Request<'static> {
        self.request(method, &format!("manifests/{target}")).header(ACCEPT, MANIFEST_TYPES.join(", "))
    }
}

/// Returns the SHA-256 digest in the headers of an answer. Ignores other algorithms.
fn digest_of(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(answer: Answer) -> Result<T, RegistryError> {
    let answer = answer.refuse_page()?;
    let request = answer.request.clone();
    let bytes = answer.read(MAX_MANIFEST_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| RegistryError::Unexpected { request, reason: error.to_string() })
}

/// Source: RFC 8288.
fn parse_next(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            parameter.trim().strip_prefix("rel=").is_some_and(|rel| rel.trim_matches('"') == "next")
        });
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let cases = [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"</first>; rel="first", </next>; title="t"; rel=next"#, Some("/next")),
            (r#"</first>; rel="first""#, None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse_next(header), expected, "{header}");
        }
    }
}

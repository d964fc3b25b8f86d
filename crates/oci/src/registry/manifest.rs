//! Manifests and indexes: pulled, looked up, pushed, deleted.
//!
//! An answer counts for what it shows, not for its status: a login page says 200, too.

use serde::Deserialize;
use ureq::http::{Method, header};

use super::endpoint::{Answer, Request};
use super::error::{Error, ErrorKind};
use super::http::Payload;
use super::token::Scope;
use super::{Client, MAX_MANIFEST, RawManifest, Source};
use crate::{Descriptor, Digest, Reference, media_type};

impl Client {
    /// Pulls the manifest or index that `reference` names. Its digest is checked against the reference's, or else
    /// against what the registry says it is.
    pub fn manifest(&self, reference: &Reference) -> Result<RawManifest, Error> {
        self.read_from(reference, |source| get_manifest(source, reference))
            .map_err(|kind| kind.during("pull manifest", reference))
    }

    /// Like [`Self::manifest`], without the content: what and how large it is. `None` when there is no such thing.
    pub fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let found = self.read_from(reference, |source| match head_manifest(source, reference) {
            // A mirror that does not have it says nothing about the registry.
            Ok(None) if source.mirror.is_some() => Err(ErrorKind::NotFound { message: String::new() }),
            other => other,
        });
        found.map_err(|kind| kind.during("look up", reference))
    }

    /// Pushes a manifest or index under the reference's digest or else tag. Returns the bytes' digest. Where the answer is
    /// not quite what the specification asks for, the registry is asked whether it has it.
    pub fn put_manifest(
        &self,
        reference: &Reference,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Digest, Error> {
        let put = || {
            let digest = Digest::of(bytes);
            if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
                return Err(ErrorKind::DigestMismatch { expected, actual: digest });
            }
            let home = self.home(reference);
            let path = format!("/v2/{}/manifests/{}", home.repository, reference.tag_or_digest());
            let scopes = [Scope::push(&home.repository)];
            let answer = home.endpoint.send(&mut Request {
                headers: vec![("content-type", media_type.to_owned())],
                payload: Payload::Bytes(bytes),
                ..Request::new(Method::PUT, home.endpoint.url(&path)?, &scopes)
            })?;
            let answer = answer.expect_success()?;
            if let Some(actual) = answer.digest().filter(|actual| *actual != digest) {
                return Err(ErrorKind::DigestMismatch { expected: digest, actual });
            }
            let known = answer.digest().is_some() || answer.header(header::LOCATION.as_str()).is_some();
            let certain = answer.status() == 201 && known;
            let nonsense = answer.nonsense("201 for a manifest that it took");
            answer.drain();
            if !certain && head_manifest(&home, reference)?.is_none_or(|found| found.digest != digest) {
                return Err(nonsense);
            }
            Ok(digest)
        };
        put().map_err(|kind| kind.during("push manifest", reference))
    }

    /// Deletes the manifest that the reference names; a tag is looked up first, as registries delete by digest.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<(), Error> {
        let digest = match reference.digest() {
            Some(digest) => Some(digest),
            None => self.head_manifest(reference)?.map(|found| found.digest),
        };
        let delete = || {
            let Some(digest) = digest else { return Err(ErrorKind::NotFound { message: String::new() }) };
            let home = self.home(reference);
            let path = format!("/v2/{}/manifests/{digest}", home.repository);
            let scopes = [Scope::delete(&home.repository)];
            let request = &mut Request::new(Method::DELETE, home.endpoint.url(&path)?, &scopes);
            let answer = home.endpoint.send(request)?.expect_success()?;
            let certain = answer.status() == 202;
            let nonsense = answer.nonsense("202 for a manifest that it deleted");
            answer.drain();
            if !certain && head_manifest(&home, &reference.with_digest(digest))?.is_some() {
                return Err(nonsense);
            }
            Ok(())
        };
        delete().map_err(|kind| kind.during("delete manifest", reference))
    }

    /// The registry itself, as a place to read from.
    fn home(&self, reference: &Reference) -> Source {
        let endpoint = self.endpoint(reference.registry(), reference.repository());
        Source { endpoint, repository: reference.repository().to_owned(), mirror: None }
    }
}

impl Source {
    /// What `read` makes of the answer to a request for a manifest, as [`Source::read`].
    pub(super) fn read_manifest<T>(
        &self,
        method: Method,
        tag_or_digest: &str,
        read: impl FnMut(Answer, std::time::Instant) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let accept = [
            media_type::OCI_MANIFEST,
            media_type::OCI_INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_INDEX,
        ];
        let path = format!("/v2/{}/manifests/{tag_or_digest}", self.repository);
        self.read(method, self.endpoint.url(&path)?, &accept, read)
    }
}

fn head_manifest(source: &Source, reference: &Reference) -> Result<Option<Descriptor>, ErrorKind> {
    enum Said {
        Nothing,
        Something,
        All(Box<Descriptor>),
    }
    let said = source.read_manifest(Method::HEAD, &reference.tag_or_digest(), |answer, _| {
        if answer.status() == 404 {
            return Ok(Said::Nothing);
        }
        let answer = answer.expect(&[200])?;
        let media_type = answer.header("content-type").map(bare_media_type);
        Ok(match (answer.digest(), answer.length(), media_type) {
            (Some(digest), Some(size), Some(media_type)) => {
                Said::All(Box::new(Descriptor::new(media_type, digest, size)))
            }
            // Not all registries say all of it.
            _ => Said::Something,
        })
    })?;
    match said {
        Said::Nothing => Ok(None),
        Said::Something => get_manifest(source, reference).map(|manifest| Some(manifest.descriptor())),
        Said::All(found) => match reference.digest().filter(|expected| *expected != found.digest) {
            Some(expected) => Err(ErrorKind::DigestMismatch { expected, actual: found.digest }),
            None => Ok(Some(*found)),
        },
    }
}

fn get_manifest(source: &Source, reference: &Reference) -> Result<RawManifest, ErrorKind> {
    source.read_manifest(Method::GET, &reference.tag_or_digest(), |answer, until| {
        let answer = answer.expect(&[200])?;
        let said = answer.digest();
        let content_type = answer.header("content-type").map(bare_media_type).map(str::to_owned);
        let nonsense = answer.nonsense("a manifest in JSON");
        let foreign = content_type.as_deref().is_none_or(|it| !it.contains("json"))
            || answer.header("content-encoding").is_some_and(|it| it != "identity");
        let bytes = answer.into_body().read_whole(MAX_MANIFEST, until)?;
        let digest = Digest::of(&bytes);
        let media_type = manifest_media_type(content_type.as_deref(), &bytes);
        if foreign && matches!(media_type, Err(None)) {
            return Err(nonsense);
        }
        if let Some(expected) = reference.digest().or(said).filter(|expected| *expected != digest) {
            return Err(ErrorKind::DigestMismatch { expected, actual: digest });
        }
        match media_type {
            Ok(media_type) => Ok(RawManifest { bytes, media_type, digest }),
            Err(None) => Err(nonsense),
            Err(Some(reason)) => Err(ErrorKind::Answer { host: source.endpoint.host().to_owned(), reason }),
        }
    })
}

/// What a manifest is, by its own word or the registry's. When both speak they must agree: bytes that are a
/// manifest to one reader and an index to another are an attack. Without a reason it is none at all.
fn manifest_media_type(content_type: Option<&str>, bytes: &[u8]) -> Result<String, Option<String>> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(rename = "mediaType", default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let peek: Peek = serde_json::from_slice(bytes).map_err(|_| None)?;
    let known = |t: &&str| media_type::is_index(t) || media_type::is_manifest(t);
    match (peek.media_type, content_type.filter(known)) {
        (Some(own), Some(told)) if own != told => {
            Err(Some(format!("the manifest says it is {own}, its header says {told}")))
        }
        (Some(own), _) => Ok(own),
        (None, Some(told)) => Ok(told.to_owned()),
        (None, None) if peek.manifests.is_some() => Ok(media_type::OCI_INDEX.to_owned()),
        (None, None) => Ok(content_type.unwrap_or(media_type::OCI_MANIFEST).to_owned()),
    }
}

/// A media type without parameters.
fn bare_media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_one_thing_only() {
        let of = |header, body: &str| manifest_media_type(header, body.as_bytes());
        let oci = format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_MANIFEST);
        assert_eq!(of(Some(media_type::OCI_MANIFEST), &oci).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(of(Some("text/plain"), &oci).unwrap(), media_type::OCI_MANIFEST);
        assert_eq!(of(Some(media_type::OCI_INDEX), "{}").unwrap(), media_type::OCI_INDEX);
        assert_eq!(of(None, r#"{"manifests":[]}"#).unwrap(), media_type::OCI_INDEX);
        assert_eq!(of(None, "{}").unwrap(), media_type::OCI_MANIFEST);
        assert!(of(Some(media_type::OCI_INDEX), &oci).is_err());
        assert!(of(None, "not json").is_err());
    }
}

//! Lists: the tags of a repository, and what refers to a manifest. They come in pages, and end somewhere.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Uri, header};

use super::endpoint::Answer;
use super::error::{Error, ErrorKind};
use super::http::{join, origin};
use super::token::encode;
use super::{Client, MAX_MANIFEST, Source};
use crate::{Descriptor, Digest, Index, Reference, media_type};

/// The largest list that is read, in bytes, all its pages together.
const MAX_LIST: u64 = 64 << 20;
/// The most pages that are read of one.
const MAX_PAGES: usize = 10_000;

impl Client {
    /// The repository's tags, in the registry's order.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let list = |source: &Source| {
            let first = source.endpoint.url(&format!("/v2/{}/tags/list", source.repository))?;
            let pages = source.pages(first, &[], &[], MAX_LIST, |page: &Page| {
                // A page without tags ends the list, whatever it links to.
                page.tags.as_ref().is_none_or(Vec::is_empty)
            })?;
            Ok(pages.unwrap_or_default().into_iter().flat_map(|page| page.tags.unwrap_or_default()).collect())
        };
        self.read_from(reference, list).map_err(|kind| kind.during("list tags of", reference.name()))
    }

    /// What refers to the manifest `digest` in the reference's repository (SBOMs, signatures), of one artifact type
    /// or any. Registries without that list keep it under a tag (`sha256-…`), which is looked up then.
    pub fn referrers(
        &self,
        reference: &Reference,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let list = |source: &Source| {
            let mut found = match source.referrers_list(digest, artifact_type)? {
                Some(found) => found,
                None => source.referrers_tag(digest)?,
            };
            // Registries may leave the filtering to us.
            if let Some(wanted) = artifact_type {
                found.retain(|one| one.extra.get("artifactType").and_then(|t| t.as_str()) == Some(wanted));
            }
            Ok(found)
        };
        let subject = format!("{}@{digest}", reference.name());
        self.read_from(reference, list).map_err(|kind| kind.during("list referrers of", subject))
    }
}

impl Source {
    /// The referrers API; `None` when the registry does not have it.
    fn referrers_list(
        &self,
        digest: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, ErrorKind> {
        let filter = artifact_type.map(|t| format!("?artifactType={}", encode(t))).unwrap_or_default();
        let first = self.endpoint.url(&format!("/v2/{}/referrers/{digest}{filter}", self.repository))?;
        let absent = [400, 404, 405, 501];
        let is_last = |page: &Index| page.manifests.is_empty();
        let pages = self.pages(first, &[media_type::OCI_INDEX], &absent, MAX_MANIFEST, is_last)?;
        Ok(pages.map(|pages| pages.into_iter().flat_map(|page| page.manifests).collect()))
    }

    /// The index under the tag that stands in for the referrers API.
    fn referrers_tag(&self, digest: Digest) -> Result<Vec<Descriptor>, ErrorKind> {
        let tag = digest.to_string().replace(':', "-");
        self.read_manifest(Method::GET, &tag, |answer, until| {
            if answer.status() == 404 {
                answer.drain();
                return Ok(Vec::new());
            }
            Ok(json::<Index>(answer.expect(&[200])?, MAX_MANIFEST, until)?.0.manifests)
        })
    }

    /// All pages of a list, of `limit` bytes together, up to the first that `is_last` or links to no other. `None` when
    /// the answer to the first has one of the statuses `absent`.
    fn pages<T: DeserializeOwned>(
        &self,
        first: Uri,
        accept: &[&str],
        absent: &[u16],
        limit: u64,
        is_last: impl Fn(&T) -> bool,
    ) -> Result<Option<Vec<T>>, ErrorKind> {
        let (mut pages, mut left, mut seen) = (Vec::new(), limit, HashSet::new());
        let mut next = Some(first);
        while let Some(url) = next.take() {
            if pages.len() == MAX_PAGES || !seen.insert(url.to_string()) {
                let (host, reason) = (self.endpoint.host().to_owned(), "a list without an end".to_owned());
                return Err(ErrorKind::Answer { host, reason });
            }
            let found = self.read(Method::GET, url, accept, |answer, until| {
                if pages.is_empty() && absent.contains(&answer.status()) {
                    return Ok(None);
                }
                let answer = answer.expect(&[200])?;
                let following = next_page(&answer);
                json::<T>(answer, left, until).map(|(page, size)| Some((page, size, following)))
            })?;
            let Some((page, size, following)) = found else { return Ok(None) };
            left = left.saturating_sub(size);
            next = following.filter(|_| !is_last(&page));
            pages.push(page);
        }
        Ok(Some(pages))
    }
}

/// A document and how many bytes it has.
fn json<T: DeserializeOwned>(
    answer: Answer,
    limit: u64,
    until: std::time::Instant,
) -> Result<(T, u64), ErrorKind> {
    let nonsense = answer.nonsense("a list in JSON");
    let bytes = answer.into_body().read_whole(limit, until)?;
    serde_json::from_slice(&bytes).map(|value| (value, bytes.len() as u64)).map_err(|_| nonsense)
}

/// The `Link: <…>; rel="next"` of a list, if it stays with the registry.
fn next_page(answer: &Answer) -> Option<Uri> {
    let link = answer.header(header::LINK.as_str())?;
    let (url, rel) = link.split_once('<')?.1.split_once('>')?;
    if !rel.contains("next") {
        return None;
    }
    let next = join(&answer.url, url)?;
    (origin(&next) == origin(&answer.url)).then_some(next)
}

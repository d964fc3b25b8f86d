//! The OCI distribution specification, as far as clients use it, with faults.

use std::sync::Arc;

use super::http::{Manner, Reply, Request};
use super::token::Refusal;
use super::{Auth, Fault, Kind, Seen, Shared, State, digest};

/// The largest body that is taken, in bytes.
const MAX_BODY: usize = 1 << 30;

/// Where a request leads.
struct Route {
    kind: Kind,
    repository: String,
    /// Tag, digest or upload.
    item: String,
}

pub(super) fn answer(shared: &Shared, request: &mut Request<'_>) -> Reply {
    let route = route(request);
    let fault = shared.lock().fault(route.kind);
    let reply = faulty(shared, request, &route, fault);
    let seen = Seen {
        kind: route.kind,
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        authorization: request.header("authorization").map(str::to_owned),
        range: request.header("range").map(str::to_owned),
        status: reply.status,
        received: request.received,
    };
    shared.lock().seen.push(seen);
    reply
}

fn faulty(shared: &Shared, request: &mut Request<'_>, route: &Route, fault: Option<Fault>) -> Reply {
    match fault {
        Some(Fault::Status(status)) => {
            let _ = request.read_body(MAX_BODY);
            Reply::error(status, "FAULT", "this fault was ordered")
        }
        Some(Fault::RetryAfter(seconds)) => {
            let _ = request.read_body(MAX_BODY);
            Reply::error(429, "TOOMANYREQUESTS", "slow down").with("retry-after", seconds.to_string())
        }
        Some(Fault::Echo(status)) => {
            let _ = request.read_body(MAX_BODY);
            let sent = request.header("authorization").unwrap_or("nothing").to_owned();
            Reply::error(status, "FAULT", &format!("you sent {sent}"))
        }
        Some(Fault::Reject(status)) => Reply::error(status, "FAULT", "this fault was ordered"),
        Some(Fault::CutRequest(bytes)) => {
            let _ = request.read_body(bytes);
            Reply::hang_up()
        }
        Some(Fault::NoAnswer) => {
            good(shared, request, route, false);
            Reply::hang_up()
        }
        Some(Fault::CutAnswer(bytes)) => Reply { cut: Some(bytes), ..good(shared, request, route, false) },
        Some(Fault::Slow(rate)) => Reply { rate: Some(rate), ..good(shared, request, route, false) },
        Some(Fault::Short(bytes)) => {
            let mut reply = good(shared, request, route, false);
            reply.part.1 = reply.part.1.saturating_sub(bytes);
            reply
        }
        Some(Fault::WrongByte) => {
            let mut reply = good(shared, request, route, false);
            let mut body = reply.body.to_vec();
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            reply.body = Arc::new(body);
            reply
        }
        Some(Fault::NoRange) => good(shared, request, route, true),
        Some(other) => lying(shared, request, route, other),
        None => good(shared, request, route, false),
    }
}

/// Answers that no registry gives, or that never end.
fn lying(shared: &Shared, request: &mut Request<'_>, route: &Route, fault: Fault) -> Reply {
    let unheard = |request: &mut Request<'_>, reply| {
        let _ = request.read_body(MAX_BODY);
        reply
    };
    match fault {
        Fault::Hang => unheard(request, Reply { manner: Manner::Hang, ..Reply::empty(0) }),
        Fault::Page(status) => {
            let page = "<!doctype html><title>Log in</title><p>Who are you?".repeat(9);
            let reply = Reply::new(status, Arc::new(page.into_bytes()));
            unheard(request, reply.with("content-type", "text/html; charset=utf-8"))
        }
        Fault::Says(status, text) => unheard(request, Reply::error(status, &text, &text)),
        Fault::Empty(status) => unheard(request, Reply::empty(status)),
        Fault::Redirect(status, to) => unheard(request, Reply::empty(status).with("location", to)),
        Fault::Stall(bytes) => {
            Reply { cut: Some(bytes), manner: Manner::Hang, ..good(shared, request, route, false) }
        }
        Fault::Trickle(pause) => {
            Reply { manner: Manner::Trickle(pause), ..good(shared, request, route, false) }
        }
        Fault::WrongDigest => {
            let reply = good(shared, request, route, false);
            reply.without("docker-content-digest").with("docker-content-digest", digest(b"something else"))
        }
        Fault::Instead(status) => Reply { status, ..good(shared, request, route, false) },
        Fault::Gzip => {
            let reply = good(shared, request, route, false);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let _ = std::io::Write::write_all(&mut packed, &reply.body);
            let body = Arc::new(packed.finish().unwrap_or_default());
            Reply { part: (0, body.len()), body, ..reply }.with("content-encoding", "gzip")
        }
        Fault::Endless => Reply { manner: Manner::Endless, ..good(shared, request, route, false) },
        Fault::EndlessHeaders => {
            Reply { manner: Manner::EndlessHeaders, ..good(shared, request, route, false) }
        }
        _ => Reply::hang_up(),
    }
}

fn route(request: &Request<'_>) -> Route {
    let method = request.method.as_str();
    let to = |kind, repository: &str, item: &str| Route {
        kind,
        repository: repository.to_owned(),
        item: item.to_owned(),
    };
    let path = request.path.as_str();
    if path == "/v2/" {
        return to(Kind::Ping, "", "");
    }
    if path == "/token" {
        return to(Kind::Token, "", "");
    }
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((repository, item)) = path.rsplit_once("/blobs/uploads/") {
        let kind = match method {
            "POST" if request.query("mount").is_some() => Kind::Mount,
            "POST" => Kind::UploadStart,
            "PATCH" => Kind::UploadPatch,
            "PUT" => Kind::UploadPut,
            "DELETE" => Kind::UploadDelete,
            _ => Kind::Other,
        };
        return to(kind, repository, item);
    }
    if let Some((repository, item)) = path.rsplit_once("/blobs/") {
        return to(if method == "HEAD" { Kind::BlobHead } else { Kind::BlobGet }, repository, item);
    }
    if let Some((repository, item)) = path.rsplit_once("/manifests/") {
        let kind = match method {
            "GET" => Kind::ManifestGet,
            "HEAD" => Kind::ManifestHead,
            "PUT" => Kind::ManifestPut,
            "DELETE" => Kind::ManifestDelete,
            _ => Kind::Other,
        };
        return to(kind, repository, item);
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return to(Kind::Tags, repository, "");
    }
    if let Some((repository, item)) = path.rsplit_once("/referrers/") {
        return to(Kind::Referrers, repository, item);
    }
    to(Kind::Other, "", "")
}

/// The answer of a registry in good health.
fn good(shared: &Shared, request: &mut Request<'_>, route: &Route, no_range: bool) -> Reply {
    // The body first, without the lock: it may take its time.
    let body = match request.read_body(MAX_BODY) {
        Ok(Some(body)) => body,
        _ => return Reply::hang_up(),
    };
    let mut state = shared.lock();
    if route.kind == Kind::Token {
        return give_token(&mut state, request, &body);
    }
    if let Some(refused) = refuse(&state, request, route) {
        return refused;
    }
    match route.kind {
        Kind::Ping => Reply::empty(200),
        Kind::ManifestGet | Kind::ManifestHead => manifest(&state, route),
        Kind::ManifestPut => put_manifest(&mut state, request, route, body),
        Kind::ManifestDelete => delete_manifest(&mut state, route),
        Kind::BlobGet | Kind::BlobHead => blob(&state, request, route, no_range),
        Kind::Mount => mount(&mut state, request, route),
        Kind::UploadStart => open_upload(&mut state, route),
        Kind::UploadPatch => {
            state.uploads.entry(route.item.clone()).or_default().extend(body);
            let end = state.uploads[&route.item].len().saturating_sub(1);
            Reply::empty(202)
                .with("location", format!("/v2/{}/blobs/uploads/{}", route.repository, route.item))
                .with("range", format!("0-{end}"))
        }
        Kind::UploadPut => end_upload(&mut state, request, route, body),
        Kind::UploadDelete => {
            state.uploads.remove(&route.item);
            Reply::empty(204)
        }
        Kind::Tags => tags(&state, request, route),
        Kind::Referrers if state.options.referrers => referrers(&state, request, route),
        _ => Reply::error(404, "UNSUPPORTED", "no such thing"),
    }
}

fn give_token(state: &mut State, request: &Request<'_>, body: &[u8]) -> Reply {
    let Auth::Token(setup) = state.options.auth.clone() else {
        return Reply::error(404, "UNSUPPORTED", "no token server");
    };
    super::token::answer(&setup, &mut state.grants, request, body, None)
}

/// The refusal of a request that is not allowed.
fn refuse(state: &State, request: &Request<'_>, route: &Route) -> Option<Reply> {
    let header = request.header("authorization");
    match &state.options.auth {
        Auth::Open => None,
        Auth::Basic(user, password) => {
            let expected = super::token::basic(user, password);
            (header != Some(expected.as_str())).then(|| {
                Reply::error(401, "UNAUTHORIZED", "authentication required")
                    .with("www-authenticate", "Basic realm=\"test\"")
            })
        }
        Auth::Token(_) => {
            let scopes = needed(request, route);
            let refusal = state.grants.check(header, &scopes).err()?;
            let realm = format!("http://{}/token", state.host);
            let scope = scopes.first().map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
            let reason = match refusal {
                Refusal::NoToken => "",
                Refusal::Insufficient => ",error=\"insufficient_scope\"",
            };
            Some(Reply::error(401, "UNAUTHORIZED", "authentication required").with(
                "www-authenticate",
                format!("Bearer realm=\"{realm}\",service=\"test\"{scope}{reason}"),
            ))
        }
    }
}

/// The scopes that a request needs.
fn needed(request: &Request<'_>, route: &Route) -> Vec<String> {
    let actions = match route.kind {
        Kind::Ping | Kind::Other => return Vec::new(),
        Kind::ManifestDelete => "delete",
        _ if matches!(request.method.as_str(), "GET" | "HEAD") => "pull",
        _ => "pull,push",
    };
    vec![format!("repository:{}:{actions}", route.repository)]
}

fn manifest(state: &State, route: &Route) -> Reply {
    match state.manifests.get(&(route.repository.clone(), route.item.clone())) {
        Some((media_type, bytes)) => Reply::new(200, Arc::clone(bytes))
            .with("content-type", media_type.clone())
            .with("docker-content-digest", digest(bytes)),
        None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn put_manifest(state: &mut State, request: &Request<'_>, route: &Route, body: Vec<u8>) -> Reply {
    let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let layers = parsed["layers"].as_array().into_iter().flatten();
    let blobs = layers.chain(parsed.get("config")).filter_map(|one| one["digest"].as_str());
    for blob in blobs {
        if !state.blobs.contains_key(&(route.repository.clone(), blob.to_owned())) {
            return Reply::error(400, "MANIFEST_BLOB_UNKNOWN", &format!("blob unknown: {blob}"));
        }
    }
    let digest = digest(&body);
    let media_type = request.header("content-type").unwrap_or_default().to_owned();
    let entry = (media_type, Arc::new(body));
    state.manifests.insert((route.repository.clone(), route.item.clone()), entry.clone());
    state.manifests.insert((route.repository.clone(), digest.clone()), entry);
    Reply::empty(201).with("docker-content-digest", digest)
}

fn delete_manifest(state: &mut State, route: &Route) -> Reply {
    let before = state.manifests.len();
    state
        .manifests
        .retain(|(repository, _), (_, bytes)| *repository != route.repository || digest(bytes) != route.item);
    if state.manifests.len() < before {
        Reply::empty(202)
    } else {
        Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
    }
}

fn blob(state: &State, request: &Request<'_>, route: &Route, no_range: bool) -> Reply {
    if let Some(elsewhere) = &state.options.blobs_at
        && route.kind == Kind::BlobGet
    {
        return Reply::empty(307).with("location", format!("{elsewhere}{}", request.path));
    }
    let Some(bytes) = state.blobs.get(&(route.repository.clone(), route.item.clone())) else {
        return Reply::error(404, "BLOB_UNKNOWN", "blob unknown");
    };
    let mut reply = Reply::new(200, Arc::clone(bytes)).with("docker-content-digest", route.item.clone());
    let start = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    if let Some((start, _)) = start.filter(|_| !no_range) {
        let start: usize = start.parse().unwrap_or(usize::MAX);
        if start >= bytes.len() {
            return Reply::error(416, "RANGE_INVALID", "range invalid");
        }
        reply.status = 206;
        reply.part = (start, bytes.len() - start);
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        reply = reply.with("content-range", range);
    }
    reply
}

fn mount(state: &mut State, request: &Request<'_>, route: &Route) -> Reply {
    let from = request.query("from").unwrap_or_default();
    let blob = request.query("mount").unwrap_or_default();
    // Without the right to read there, a registry opens an upload, as if it were not there.
    let readable = match &state.options.auth {
        Auth::Token(_) => {
            let scope = format!("repository:{from}:pull");
            state.grants.check(request.header("authorization"), &[scope]).is_ok()
        }
        _ => true,
    };
    let found = state.blobs.get(&(from.to_owned(), blob.to_owned())).cloned();
    match found.filter(|_| readable && !state.options.no_mount) {
        Some(bytes) => {
            state.blobs.insert((route.repository.clone(), blob.to_owned()), bytes);
            Reply::empty(201).with("location", format!("/v2/{}/blobs/{blob}", route.repository))
        }
        None => open_upload(state, route),
    }
}

fn open_upload(state: &mut State, route: &Route) -> Reply {
    state.next_upload += 1;
    let id = format!("upload-{}", state.next_upload);
    let base = state.options.uploads_at.clone().unwrap_or_default();
    if base.is_empty() {
        state.uploads.insert(id.clone(), Vec::new());
    }
    Reply::empty(202)
        .with("location", format!("{base}/v2/{}/blobs/uploads/{id}?state=a%2Fb", route.repository))
}

fn end_upload(state: &mut State, request: &Request<'_>, route: &Route, body: Vec<u8>) -> Reply {
    let mut bytes = state.uploads.remove(&route.item).unwrap_or_default();
    bytes.extend(body);
    let actual = digest(&bytes);
    if request.query("digest") != Some(actual.as_str()) {
        return Reply::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    state.blobs.insert((route.repository.clone(), actual.clone()), Arc::new(bytes));
    Reply::empty(201).with("location", format!("/v2/{}/blobs/{actual}", route.repository))
}

fn tags(state: &State, request: &Request<'_>, route: &Route) -> Reply {
    let names = state.manifests.keys().filter(|(repository, _)| *repository == route.repository);
    let mut tags: Vec<&str> =
        names.map(|(_, name)| name.as_str()).filter(|name| !name.contains(':')).collect();
    if let Some(last) = request.query("last") {
        tags.retain(|tag| *tag > last);
    }
    let mut link = None;
    if let Some(page) = state.options.page.filter(|page| *page < tags.len()) {
        tags.truncate(page);
        let last = tags.last().copied().unwrap_or_default();
        link = Some(format!("</v2/{}/tags/list?n={page}&last={last}>; rel=\"next\"", route.repository));
    }
    if state.options.endless_pages && link.is_none() {
        link = Some(format!("</v2/{}/tags/list>; rel=\"next\"", route.repository));
    }
    let body = serde_json::json!({ "name": route.repository, "tags": tags });
    let reply = Reply::new(200, Arc::new(body.to_string().into_bytes()));
    match link {
        Some(link) => reply.with("link", link),
        None => reply,
    }
}

fn referrers(state: &State, request: &Request<'_>, route: &Route) -> Reply {
    let filter = request.query("artifactType");
    let manifests = state
        .manifests
        .iter()
        .filter(|((repository, name), _)| *repository == route.repository && name.contains(':'));
    let found: Vec<_> = manifests
        .filter_map(|(_, (media_type, bytes))| {
            let parsed: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            let kind = parsed["artifactType"].as_str().unwrap_or_default();
            (parsed["subject"]["digest"] == route.item.as_str()).then_some(())?;
            filter.is_none_or(|filter| filter == kind).then(|| {
                serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len(),
                    "artifactType": kind })
            })
        })
        .collect();
    let body = serde_json::json!({ "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found });
    Reply::new(200, Arc::new(body.to_string().into_bytes()))
        .with("content-type", "application/vnd.oci.image.index.v1+json")
}

//! Requests to responses.

use std::convert::Infallible;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::io::AsyncReadExt;
use tower::util::BoxCloneService;
use tower::{ServiceExt, service_fn};
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, ServeFileSystemResponseBody};

use crate::root::Root;

/// Answers requests with the site's files.
pub type Site = BoxCloneService<Request<Incoming>, Response<ServeFileSystemResponseBody>, Infallible>;

/// The page for what is not there, where the site has one.
const NOT_FOUND_PAGE: &str = "404.html";

/// The site below `root`. The 404 page is read now: it is small, and wanted when other things go wrong.
pub async fn service(root: &Root) -> Site {
    let page = not_found_page(root).await;
    let not_found = service_fn(move |_: Request<Incoming>| {
        let response = not_found_response(page.clone());
        async move { Ok::<_, Infallible>(response) }
    });
    let files = ServeDir::with_backend(root.path(), root.clone())
        .precompressed_gzip()
        .precompressed_br()
        .precompressed_zstd()
        .not_found_service(not_found);
    files.map_response(finish).boxed_clone()
}

async fn not_found_page(root: &Root) -> Option<Bytes> {
    let mut page = Vec::new();
    let mut file = root.open(root.path().join(NOT_FOUND_PAGE)).await.ok()?;
    file.read_to_end(&mut page).await.ok()?;
    Some(page.into())
}

fn not_found_response(page: Option<Bytes>) -> Response<Full<Bytes>> {
    let (kind, body) = match page {
        Some(page) => ("text/html", page),
        None => ("text/plain", Bytes::from_static(b"404 Not Found\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What every response gets: text is UTF-8, and a browser is not to guess another type than the one we say.
fn finish<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .filter(|kind| kind.starts_with("text/") && !kind.contains("charset"));
    if let Some(kind) = text.and_then(|kind| HeaderValue::try_from(format!("{kind}; charset=utf-8")).ok()) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

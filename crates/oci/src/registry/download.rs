//! Files of web servers that are no registries: archives of buildpacks, a lifecycle. Same certificates, proxies,
//! name service and patience as for registries; no credentials.

use std::io::{Read, Write};

use ureq::http::Uri;

use super::Client;
use super::endpoint::{Endpoint, Shared};
use super::error::{Error, ErrorKind};
use super::http::host_port;

const PIECE: usize = 64 << 10;

/// What a server says about which version of a file it gave: kept to ask whether there is a newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileVersion {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Client {
    /// [`Client::download`] of a file that may be here already: `known` is what was said about that. `None` when it is
    /// still the one, and nothing was written.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub fn download_newer(
        &self,
        url: &str,
        known: Option<&FileVersion>,
        to: &mut dyn Write,
        limit: u64,
        progress: &dyn Fn(u64, Option<u64>),
    ) -> Result<Option<FileVersion>, Error> {
        let known = known.cloned().unwrap_or_default();
        let mut headers = vec![("accept", "*/*")];
        headers.extend(known.etag.as_deref().map(|etag| ("if-none-match", etag)));
        headers.extend(known.last_modified.as_deref().map(|time| ("if-modified-since", time)));
        self.try_download(url, &headers, to, limit, progress)
            .map_err(|kind| kind.during("download", without_secrets(url)))
    }

    /// Writes what is at `url` (`http://` or `https://`) to `to`, at most `limit` bytes. `progress` hears how many
    /// there are so far, and how many there will be where the server says so.
    ///
    /// # Errors
    /// When the server cannot be reached, has no such file, or sends more than `limit` or less than it says.
    pub fn download(
        &self,
        url: &str,
        to: &mut dyn Write,
        limit: u64,
        progress: &dyn Fn(u64, Option<u64>),
    ) -> Result<(), Error> {
        self.download_newer(url, None, to, limit, progress).map(drop)
    }

    fn try_download(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        to: &mut dyn Write,
        limit: u64,
        progress: &dyn Fn(u64, Option<u64>),
    ) -> Result<Option<FileVersion>, ErrorKind> {
        let not_one = || ErrorKind::Setting("it is not a URL of a file".to_owned());
        let uri: Uri = url.parse().map_err(|_| not_one())?;
        if uri.host().is_none_or(str::is_empty) || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(not_one());
        }
        crate::auth::note_url(&uri);
        let host = host_port(&uri);
        let insecure = super::is_insecure(&self.inner.config.insecure_registries, &host, "");
        let shared = Shared::new(std::sync::Arc::clone(&self.inner.config), &host, insecure);
        let endpoint = Endpoint::new(shared, &self.stop);
        let is_conditional = headers.len() > 1;
        let expected: &[u16] = if is_conditional { &[200, 304] } else { &[200] };
        let answer = endpoint.get_plain(&uri, headers)?.expect(expected)?;
        if answer.response.status().as_u16() == 304 {
            return Ok(None);
        }
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let version = FileVersion { etag: header("etag"), last_modified: header("last-modified") };
        let total = answer.length();
        if let Some(actual) = total.filter(|total| *total > limit) {
            return Err(ErrorKind::Size { expected: limit, actual });
        }
        let mut body = answer.into_body();
        let mut buffer = vec![0; PIECE];
        let mut done = 0;
        progress(0, total);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(body.explain(error)),
            };
            done += count as u64;
            if done > limit {
                return Err(ErrorKind::Size { expected: limit, actual: done });
            }
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count]).map_err(ErrorKind::Source)?;
            progress(done, total);
        }
        match total {
            Some(expected) if expected != done => Err(ErrorKind::Size { expected, actual: done }),
            _ => Ok(Some(version)),
        }
    }
}

/// The URL without a user and a query, which may be passwords and tokens.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;
    use crate::registry::{ClientConfig, RetryPolicy};

    /// Serves these answers, one a connection, and says what was asked for.
    fn server(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                asked.push(lines.next().unwrap().unwrap());
                asked.extend(
                    lines
                        .map_while(|line| line.ok().filter(|line| !line.is_empty()))
                        .filter(|line| line.to_ascii_lowercase().starts_with("authorization")),
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (address, thread)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
    }

    fn client() -> Client {
        let retry =
            RetryPolicy { retries: 1, base: std::time::Duration::from_millis(1), ..RetryPolicy::default() };
        Client::new(ClientConfig { retry, ..ClientConfig::default() })
    }

    fn get(url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        client().download(url, &mut bytes, limit, &|_, _| ())?;
        Ok(bytes)
    }

    #[test]
    fn follows_redirects_and_tries_again() {
        let (address, thread) = server(vec![
            answer("503 Busy", "", "later"),
            answer("302 Found", "Location: /other\r\n", ""),
            answer("200 OK", "", "content"),
        ]);
        assert_eq!(get(&format!("{address}/a.tgz?token=x"), 100).unwrap(), b"content");
        let asked = thread.join().unwrap();
        assert_eq!(
            asked,
            ["GET /a.tgz?token=x HTTP/1.1", "GET /a.tgz?token=x HTTP/1.1", "GET /other HTTP/1.1"]
        );
    }

    #[test]
    fn asks_whether_there_is_a_newer_one() {
        let (address, thread) = server(vec![
            answer("200 OK", "ETag: \"1\"\r\nLast-Modified: then\r\n", "one"),
            answer("304 Not Modified", "", ""),
            answer("304 Not Modified", "", ""),
        ]);
        let mut bytes = Vec::new();
        let get = |known: Option<&FileVersion>, bytes: &mut Vec<u8>| {
            client().download_newer(&address, known, bytes, 100, &|_, _| ())
        };
        let version = get(None, &mut bytes).unwrap().unwrap();
        assert_eq!(
            (version.etag.as_deref(), version.last_modified.as_deref()),
            (Some("\"1\""), Some("then"))
        );
        assert_eq!(get(Some(&version), &mut bytes).unwrap(), None);
        assert_eq!(bytes, b"one");
        // Nobody asked about a version.
        assert!(get(None, &mut bytes).is_err());
        thread.join().unwrap();
    }

    #[test]
    fn errors_name_the_url_without_secrets() {
        let (address, thread) = server(vec![answer("404 Not Found", "", "")]);
        let secret = address.replace("http://", "http://me:hunter2@");
        let error = get(&format!("{secret}/a.tgz?token=hunter3"), 100).unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), format!("cannot download {address}/a.tgz: not found"));
        thread.join().unwrap();
    }

    #[test]
    fn has_a_limit() {
        let (address, thread) = server(vec![answer("200 OK", "", "content")]);
        let error = get(&address, 3).unwrap_err();
        assert!(matches!(*error.kind, ErrorKind::Size { expected: 3, actual: 7 }), "{error}");
        thread.join().unwrap();
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshort".to_owned();
        let (address, thread) = server(vec![cut]);
        assert!(get(&address, 100).is_err());
        thread.join().unwrap();
    }

    #[test]
    fn only_urls() {
        for url in ["ftp://a/b", "nonsense", "https:///x"] {
            assert!(get(url, 1).is_err(), "{url}");
        }
    }
}

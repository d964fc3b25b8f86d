//! The real server on a loopback port, spoken to over plain sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    line: String,
    port: u16,
}

impl Server {
    fn start(root: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pannier-static-server"))
            .arg(root)
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Server { child, output, line, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends one request and returns head and body.
    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        let end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8(response[..end].to_vec()).unwrap(), response[end + 4..].to_vec())
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name))
        .map(|(_, value)| value)
}

fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    dir
}

#[test]
fn files_have_types_ranges_and_heads() {
    let dir = site(&[
        ("index.html", "<p>héllo"),
        ("app.css", "p{}"),
        ("data.bin", "0123456789"),
        ("sub/index.html", "sub"),
    ]);
    let server = Server::start(dir.path());
    let (head, body) = server.ask("GET", "/", &[]);
    assert_eq!((status(&head), body.as_slice()), ("200", "<p>héllo".as_bytes()));
    assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"));
    let (head, _) = server.ask("GET", "/app.css", &[]);
    assert_eq!(header(&head, "content-type"), Some("text/css; charset=utf-8"));
    let (head, body) = server.ask("GET", "/data.bin", &["range: bytes=2-4"]);
    assert_eq!((status(&head), body.as_slice()), ("206", b"234".as_slice()));
    assert_eq!(header(&head, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(status(&server.ask("GET", "/data.bin", &["range: bytes=20-"]).0), "416");
    let (head, body) = server.ask("HEAD", "/data.bin", &[]);
    assert_eq!((status(&head), header(&head, "content-length"), body.len()), ("200", Some("10"), 0));
    assert_eq!(server.ask("GET", "/sub/", &[]).1, b"sub");
    let (head, _) = server.ask("GET", "/sub", &[]);
    assert_eq!((status(&head), header(&head, "location")), ("307", Some("/sub/")));
    assert_eq!(status(&server.ask("POST", "/", &[]).0), "405");
}

#[test]
fn precompressed_files_are_for_those_who_take_them() {
    let dir = site(&[("a.js", "plain"), ("a.js.gz", "gzipped"), ("a.js.br", "brotli"), ("a.js.zst", "zstd")]);
    let server = Server::start(dir.path());
    for (accept, encoding, body) in [
        ("identity", None, "plain"),
        ("gzip", Some("gzip"), "gzipped"),
        ("br", Some("br"), "brotli"),
        ("zstd", Some("zstd"), "zstd"),
        ("deflate", None, "plain"),
    ] {
        let (head, got) = server.ask("GET", "/a.js", &[&format!("accept-encoding: {accept}")]);
        assert_eq!(
            (header(&head, "content-encoding"), got.as_slice()),
            (encoding, body.as_bytes()),
            "{accept}"
        );
        assert_eq!(header(&head, "content-type"), Some("text/javascript; charset=utf-8"));
    }
}

#[test]
fn what_is_not_there_is_404_and_so_is_what_is_hidden() {
    let dir = site(&[
        ("index.html", "home"),
        ("404.html", "lost?"),
        (".env", "secret"),
        (".well-known/x", "known"),
        ("empty/x.txt", "x"),
    ]);
    let outside = site(&[("secret", "secret")]);
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("folder")).unwrap();
    let server = Server::start(dir.path());
    for path in [
        "/nope",
        "/.env",
        "/link",
        "/folder/secret",
        "/empty/",
        "/../secret",
        "/%2e%2e/secret",
        "/index.html/x",
        "/%00",
    ] {
        let (head, body) = server.ask("GET", path, &[]);
        assert_eq!((status(&head), String::from_utf8_lossy(&body).as_ref()), ("404", "lost?"), "{path}");
        assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"), "{path}");
    }
    assert_eq!(server.ask("HEAD", "/nope", &[]).1, b"");
    assert_eq!(server.ask("GET", "/.well-known/x", &[]).1, b"known");
    let plain = Server::start(outside.path());
    assert_eq!(plain.ask("GET", "/nope", &[]).1, b"404 Not Found\n");
}

#[test]
fn browsers_may_ask_again() {
    let dir = site(&[("index.html", "home")]);
    let server = Server::start(dir.path());
    let (head, _) = server.ask("GET", "/", &[]);
    let tag = header(&head, "etag").unwrap();
    assert_eq!(status(&server.ask("GET", "/", &[&format!("if-none-match: {tag}")]).0), "304");
}

#[test]
fn the_signal_to_stop_lets_answers_finish() {
    let big = "x".repeat(64 << 20);
    let dir = site(&[("big", &big)]);
    let mut server = Server::start(dir.path());
    assert!(server.line.starts_with("serving "), "{}", server.line);
    let mut idle = server.connect();
    let mut busy = server.connect();
    busy.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    busy.read_exact(&mut first).unwrap();

    let begin = Instant::now();
    server.signal("TERM");
    // An idle connection is closed at once, the answer under way is finished, and then the server ends.
    assert_eq!(idle.read(&mut first).unwrap(), 0);
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).unwrap();
    let head = first.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(first.len() - head + rest.len(), big.len());
    assert!(server.child.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    let mut more = String::new();
    server.output.read_to_string(&mut more).unwrap();
    assert_eq!(more, "", "one line a start");
}

#[test]
fn what_cannot_be_served_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_pannier-static-server")).arg("/no/such").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("static-server: "));
    let dir = site(&[]);
    let server = Server::start(dir.path());
    let output = Command::new(env!("CARGO_BIN_EXE_pannier-static-server"))
        .arg(dir.path())
        .env("PORT", server.port.to_string())
        .output()
        .unwrap();
    assert!(
        String::from_utf8(output.stderr).unwrap().contains(&format!("cannot listen on port {}", server.port))
    );
}

//! HTTP/1.1 as far as registry clients speak it: lengths, chunks, kept connections.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::{invalid, throttle};

/// A request; its body is still on the wire.
pub(super) struct Request<'a> {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: &'a mut dyn BufRead,
    length: Length,
    /// Where to say that the body is wanted, when the client waits for that.
    go_on: Option<TcpStream>,
    /// Bytes of the body that were read.
    pub received: u64,
}

enum Length {
    Bytes(u64),
    Chunked,
    Read,
}

/// An answer.
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Arc<Vec<u8>>,
    /// What of the body is sent: from where, and how many bytes.
    pub part: (usize, usize),
    /// Close the connection after this many bytes of the body.
    pub cut: Option<usize>,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// No answer at all.
    pub hang_up: bool,
    /// How it is sent otherwise.
    pub manner: Manner,
}

/// How an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As one should.
    Good,
    /// Up to where it is cut, or not at all, and then nothing more.
    Hang,
    /// A byte at a time, with so many milliseconds between two.
    Trickle(u64),
    /// A body without an end.
    Endless,
    /// Headers without an end.
    EndlessHeaders,
}

impl Reply {
    pub fn new(status: u16, body: Arc<Vec<u8>>) -> Self {
        let part = (0, body.len());
        Self {
            status,
            headers: Vec::new(),
            body,
            part,
            cut: None,
            rate: None,
            hang_up: false,
            manner: Manner::Good,
        }
    }

    pub fn empty(status: u16) -> Self {
        Self::new(status, Arc::default())
    }

    /// An error as registries put it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::new(status, Arc::new(body.to_string().into_bytes())).with("content-type", "application/json")
    }

    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::empty(0) }
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Request<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, but no more than `limit` bytes of it: `None` when there is more.
    pub fn read_body(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let length = std::mem::replace(&mut self.length, Length::Read);
        if let Some(mut writer) = self.go_on.take() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut bytes = Vec::new();
        match length {
            Length::Read => {}
            Length::Bytes(length) => {
                let wanted = length.min(limit as u64 + 1);
                self.body.take(wanted).read_to_end(&mut bytes)?;
                if (bytes.len() as u64) < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Length::Chunked => while bytes.len() <= limit && read_chunk(self.body, &mut bytes)? {},
        }
        self.received += bytes.len() as u64;
        Ok((bytes.len() <= limit).then_some(bytes))
    }
}

/// One chunk; false after the last.
fn read_chunk(body: &mut dyn BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let size = read_line(body)?;
    let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
        .map_err(|_| invalid("a chunk's size"))?;
    let before = bytes.len() as u64;
    body.take(size).read_to_end(bytes)?;
    if bytes.len() as u64 - before < size || !read_line(body)?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(size > 0)
}

/// Answers the requests of one connection.
pub(super) fn serve(stream: TcpStream, answer: impl Fn(&mut Request<'_>) -> Reply) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let Some(mut request) = read_request(&mut reader)? else { return Ok(()) };
        let reply = answer(&mut request);
        let head = request.method == "HEAD";
        let unread = !matches!(request.length, Length::Read | Length::Bytes(0));
        if reply.hang_up {
            return Ok(());
        }
        if !write_reply(&mut writer, &reply, head, unread)? || unread {
            return Ok(());
        }
    }
}

fn read_request<'a>(reader: &'a mut BufReader<TcpStream>) -> io::Result<Option<Request<'a>>> {
    let line = read_line(reader)?;
    if line.is_empty() {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
        // What a TLS client gets to see.
        reader.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")?;
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let length = if find("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        Length::Chunked
    } else {
        Length::Bytes(find("content-length").and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    let waits = find("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    let go_on = if waits { Some(reader.get_ref().try_clone()?) } else { None };
    Ok(Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.collect(),
        headers,
        body: reader,
        length,
        go_on,
        received: 0,
    }))
}

/// False when the connection is to be closed.
fn write_reply(writer: &mut TcpStream, reply: &Reply, head: bool, close: bool) -> io::Result<bool> {
    let (start, length) = reply.part;
    if reply.manner == Manner::Hang && reply.cut.is_none() {
        return until_closed(writer);
    }
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if close {
        text.push_str("connection: close\r\n");
    }
    match reply.manner {
        Manner::Trickle(pause) => {
            text.push_str(&format!("content-length: {length}\r\n\r\n"));
            let body = if head { &[][..] } else { &reply.body[start..start + length] };
            for byte in text.as_bytes().iter().chain(body) {
                writer.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(pause));
            }
            return Ok(true);
        }
        Manner::Endless => {
            writer.write_all(format!("{text}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
            loop {
                writer.write_all(b"2000\r\n")?;
                writer.write_all(&[b' '; 0x2000])?;
                writer.write_all(b"\r\n")?;
            }
        }
        Manner::EndlessHeaders => loop {
            writer.write_all(text.as_bytes())?;
            text = format!("x-more: {}\r\n", "x".repeat(1000));
        },
        Manner::Good | Manner::Hang => {}
    }
    text.push_str(&format!("content-length: {length}\r\n\r\n"));
    writer.write_all(text.as_bytes())?;
    if head {
        return Ok(true);
    }
    let end = start + reply.cut.unwrap_or(length).min(length);
    let step = reply.rate.map_or(usize::MAX, |rate| (rate as usize / 20).max(1));
    for piece in reply.body[start..end].chunks(step) {
        writer.write_all(piece)?;
        if let Some(rate) = reply.rate {
            throttle(rate, piece.len());
        }
    }
    if reply.manner == Manner::Hang {
        return until_closed(writer);
    }
    Ok(reply.cut.is_none())
}

/// Says nothing until the other side is gone.
fn until_closed(stream: &mut TcpStream) -> io::Result<bool> {
    io::copy(stream, &mut io::sink()).map(|_| false)
}

/// A line without its end; empty at the end of the stream.
fn read_line(reader: &mut dyn BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(64 << 10).read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

/// Undoes percent-encoding.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut nibble = || rest.next().and_then(|digit| (digit as char).to_digit(16)).unwrap_or(0) as u8;
        bytes.push(match byte {
            b'%' => nibble() << 4 | nibble(),
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

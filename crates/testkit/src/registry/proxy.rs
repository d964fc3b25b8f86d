//! A proxy for TLS connections (`CONNECT`), as companies have them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use super::{Server, invalid};

/// A host that was asked for, and the `Proxy-Authorization` header.
type Asked = (String, Option<String>);

/// A proxy on a free loopback port. Whatever host is asked for, it leads to the one it was given.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Proxy {
    /// Starts one that leads to `host:port`.
    pub fn start(target: &str) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, target) = (Arc::clone(&asked), target.to_owned());
        let server = Server::start(move |stream| {
            let _ = tunnel(stream, &target, &log);
        });
        Self { server, asked }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// Whom it was asked to connect to, with the `Proxy-Authorization` header.
    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

fn tunnel(client: TcpStream, target: &str, log: &Mutex<Vec<Asked>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let host = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let host = host.ok_or_else(|| invalid("expected CONNECT"))?.to_owned();
    let mut authorization = None;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("proxy-authorization") {
            authorization = Some(value.to_owned());
        }
    }
    log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((host, authorization));
    let server = TcpStream::connect(target)?;
    (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (back_from, back_to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || copy(back_from, &back_to));
    copy(reader, &server)?;
    let _ = back.join();
    Ok(())
}

fn copy(mut from: impl Read, mut to: &TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}

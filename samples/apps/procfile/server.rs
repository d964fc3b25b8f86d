//! A web server without dependencies: answers every request with a greeting. `--once TEXT` only prints the text.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn main() {
    if let Some(text) = option("--once") {
        println!("once: {text}");
        return;
    }
    let port = option("--port").and_then(|port| port.parse().ok()).unwrap_or(8080);
    let greeting = option("--greeting").unwrap_or_else(|| "Hello".to_owned());
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    println!("listening on {}", listener.local_addr().expect("the socket has an address"));
    for stream in listener.incoming().flatten() {
        // A client that goes away early is not our error.
        let _ = answer(stream, &greeting);
    }
}

/// The argument after `name`.
fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}

fn answer(stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    // The head of the request ends with an empty line.
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("{greeting} from a Procfile\n");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    (&stream).write_all(format!("{head}{body}").as_bytes())
}

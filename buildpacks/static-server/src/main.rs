//! `static-server [ROOT]`: serves the files below ROOT (the working directory by default) over HTTP on `$PORT`
//! (8080 by default), until SIGTERM or SIGINT; requests under way are answered first.
//!
//! | module | what lives there |
//! |---|---|
//! | [`root`] | the folder as the web sees it: nothing hidden, nothing outside |
//! | [`site`] | requests to responses: files, precompressed files, the 404 page |

mod root;
mod site;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use root::Root;

/// How long requests under way may take after the signal to stop. Container platforms kill after 10 seconds or more.
const DRAIN: Duration = Duration::from_secs(8);

/// How long a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let port = match port(std::env::var("PORT").ok().as_deref()) {
        Ok(port) => port,
        Err(error) => return fail(&error),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_io().enable_time().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(Path::new(&folder), port)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    say(&mut std::io::stderr(), &format!("static-server: {error}"));
    ExitCode::FAILURE
}

fn say(stream: &mut impl std::io::Write, line: &str) {
    // Nobody is left to tell when the stream is gone.
    let _ = stream.write_all(format!("{line}\n").as_bytes());
}

fn port(variable: Option<&str>) -> Result<u16, String> {
    match variable {
        None | Some("") => Ok(8080),
        Some(text) => text.parse().map_err(|_| format!("PORT is '{text}', which is not a port number")),
    }
}

async fn serve(folder: &Path, port: u16) -> Result<(), String> {
    let root = Root::open(folder).map_err(|error| error.to_string())?;
    let listener = listen(port).await.map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let signals = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut terminate, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    say(&mut std::io::stdout(), &format!("serving {} on http://{address}", root.path().display()));

    let site = site::service(&root).await;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let service = TowerToHyperService::new(site.clone());
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    // A client that goes away in the middle is not our error.
                    let connection = connections.watch(connection);
                    tokio::spawn(async move { drop(connection.await) });
                }
                // Out of descriptors, or the client was gone already: others may still be served.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    // What is not finished by then is cut off by the end of the process.
    let _ = tokio::time::timeout(DRAIN, connections.shutdown()).await;
    Ok(())
}

/// Listens on all addresses: IPv6 with IPv4 in it, or only IPv4 where the container has no IPv6.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_a_number_or_8080() {
        assert_eq!(port(None), Ok(8080));
        assert_eq!(port(Some("")), Ok(8080));
        assert_eq!(port(Some("0")), Ok(0));
        assert_eq!(port(Some("99999")).unwrap_err(), "PORT is '99999', which is not a port number");
    }
}

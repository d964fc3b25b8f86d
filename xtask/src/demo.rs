//! `cargo xtask demo`: from a clean clone to a page served by an image, with nothing but this workspace.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fs_err as fs;
use xshell::{Shell, cmd};

const APP: &str = "samples/apps/site";
const IMAGE: &str = "demo-site";

/// # Errors
///
/// When any step fails, or the page that comes back is not the app's.
pub fn run(shell: &Shell) -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut took = Vec::new();
    let mut step = |name: &'static str, start: Instant| took.push((name, start.elapsed()));

    let start = Instant::now();
    cmd!(shell, "cargo build --package pannier").run()?;
    step("build Pannier itself", start);
    let pannier = crate::target_folder(shell)?.join("debug/pannier");

    let start = Instant::now();
    cmd!(shell, "{pannier} build {IMAGE} --path {APP}").env("PANNIER_HOME", home.path()).run()?;
    step("build the image, first time", start);

    let start = Instant::now();
    cmd!(shell, "{pannier} build {IMAGE} --path {APP}").env("PANNIER_HOME", home.path()).run()?;
    step("build the image again, nothing changed", start);

    let start = Instant::now();
    let port = free_port()?;
    println!("$ {} run {IMAGE} --env PORT={port}", pannier.display());
    let mut server = Running(
        Command::new(&pannier)
            .args(["run", IMAGE, "--env", &format!("PORT={port}")])
            .env("PANNIER_HOME", home.path())
            .stdin(Stdio::null())
            .spawn()
            .context("pannier run does not start")?,
    );
    let page = fetch(&mut server.0, port)?;
    step("start the image and fetch its page", start);

    let expected = fs::read_to_string(shell.current_dir().join(APP).join("public/index.html"))?;
    ensure!(page.ends_with(&expected), "the page is not the app's:\n{page}");
    let head = page.strip_suffix(&expected).unwrap_or(&page).trim_end();
    println!("\n{head}\n\n... and the {} bytes of {APP}/public/index.html\n", expected.len());

    let start = Instant::now();
    server.stop()?;
    step("stop it", start);

    println!(
        "\nA folder became an image without a daemon, a registry or root, and its page came back over HTTP."
    );
    for (name, took) in took {
        println!("  {:>8.2} s  {name}", took.as_secs_f64());
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The answer to `GET /`, headers and all, as soon as the server gives one.
fn fetch(server: &mut Child, port: u16) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let end = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > end => bail!("nobody answers on port {port}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        if let Some(status) = server.try_wait()? {
            bail!("the image's process ended before it answered: {status}");
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "not a page: {answer}");
    Ok(answer)
}

/// A process that does not outlive this one.
struct Running(Child);

impl Running {
    /// Asks it to end, as a container platform does, and waits.
    fn stop(&mut self) -> Result<()> {
        // The shell's own: a small Debian has no program of that name.
        let kill = format!("kill -TERM {}", self.0.id());
        ensure!(Command::new("sh").args(["-c", &kill]).status()?.success(), "it can't be told to stop");
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait()? {
                println!("it was told to stop, and ended: {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("it does not end when told to stop");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what is still there: `stop` has waited for it where all went well.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

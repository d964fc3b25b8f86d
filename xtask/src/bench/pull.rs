//! An image of 500 MB: pulled and unpacked, against the slower of downloading and unpacking by themselves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use testkit::registry::{DockerRegistry, Setup};
use testkit::{Base, Image, Layout, Machine, Person};

use super::measure::{Figures, shell_line, timed, watched};
use super::{Bench, tree};

/// The image's layers, and their size together in MiB.
const LAYERS: usize = 5;
const SIZE: u64 = 500;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    println!("\n== pulling {SIZE} MB");
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files");
    tree::make(&files, SIZE)?;
    let layout = Layout::new(folder.path().join("layout"));
    let manifest = layout.add("big", &image(&files)?);
    let blobs = layers(&layout, &manifest)?;
    let registry = DockerRegistry::start(&Setup::default());
    let name = format!("{}/bench/pull:1", registry.host());
    let machine = Machine::new(&bench.pannier, Person::Caller);
    machine.pannier(["image", "copy", &layout.reference("big"), &format!("docker://{name}")]).ok();

    let (download, ()) =
        timed(|| blobs.iter().try_for_each(|digest| fetch(registry.host(), digest, folder.path())))?;
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked)?;
    let unpacking = |digest: &String| {
        format!("tar -xzf {} -C {}", layout.blob_path(digest).display(), unpacked.display())
    };
    let unpack = shell_line(&blobs.iter().map(unpacking).collect::<Vec<_>>().join(" && "))?;

    let fresh = Machine::new(&bench.pannier, Person::Caller);
    let run = watched(fresh.pannier(["run", &name, "--entrypoint", "true"]).into_command(), "pannier")?;
    let (ours, download, unpack) = (run.time.as_secs_f64(), download.as_secs_f64(), unpack.as_secs_f64());
    let detail =
        format!("{ours:.2} s; download {download:.2} s, unpack {unpack:.2} s, peak {:.0} MiB", run.peak);
    figures.add(
        "pull and unpack, against the slower of the two",
        ours / download.max(unpack),
        "×",
        1.3,
        detail,
    );
    Ok(())
}

/// The small run image, with the files in layers on top.
fn image(files: &Path) -> Result<Image> {
    let mut image = Base::Small.run();
    for number in 0..LAYERS {
        let line = format!(
            "find . -type f | sort | awk 'NR % {LAYERS} == {number}' | tar --no-recursion -cf - -T -"
        );
        let output = Command::new("sh").args(["-c", &line]).current_dir(files).output()?;
        ensure!(output.status.success(), "`{line}` failed");
        image = image.layer_tar(output.stdout);
    }
    Ok(image)
}

fn layers(layout: &Layout, manifest: &str) -> Result<Vec<String>> {
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(layout.blob_path(manifest))?)?;
    let layers = manifest["layers"].as_array().context("a manifest has layers")?;
    Ok(layers.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_owned)).collect())
}

/// A blob, downloaded to a file with nothing else done to it.
fn fetch(host: &str, digest: &str, folder: &Path) -> Result<()> {
    let mut stream = TcpStream::connect(host)?;
    let path = format!("/v2/bench/pull/blobs/{digest}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    ensure!(&start == b"HTTP/1.1 200", "{path}: {}", String::from_utf8_lossy(&start));
    let file = folder.join("download");
    std::io::copy(&mut stream, &mut fs::File::create(&file)?)?;
    Ok(fs::remove_file(file)?)
}

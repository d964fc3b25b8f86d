//! Applies a Dockerfile again and again, and says how long each time took, for `cargo xtask bench`.
//!
//! `apply STORE LAYOUT TAG DOCKERFILE CONTEXT NEED ROUNDS`, where NEED is `tree` or `image`. Each round has another
//! `build_id`. A line for each round: milliseconds, steps that were made, bytes that this process has read meanwhile.
// A program that prints.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci::{Layout, Owners, Platform, Store, Unpacker};
use pannier_dockerfile::{Dockerfile, Engine, Need, Source, apply};
use sandbox::{EnterOptions, Ids, Network};

fn main() -> Result<(), Box<dyn Error>> {
    sandbox::init_if_requested();
    let ids = sandbox::enter(&EnterOptions { single_id: false })?.ids;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, layout, tag, file, context, need, rounds] = &arguments[..] else {
        return Err("expected STORE LAYOUT TAG DOCKERFILE CONTEXT NEED ROUNDS".into());
    };
    let store = Store::open(store)?;
    let image = Layout::open(layout)?.image(Some(tag), &Platform::host())?;
    let dockerfile = Dockerfile::parse(file, &fs_err::read_to_string(file)?)?;
    let owners = if ids == Ids::Single { Owners::Ours } else { Owners::Real };
    let unpacker = Unpacker { kind: "bench".to_owned(), owners };
    for round in 0..rounds.parse()? {
        let engine = Engine {
            store: &store,
            unpacker: &unpacker,
            ids,
            network: Network::Host,
            compression: layer::Compression::DEFAULT,
            build_id: format!("{}-{round}", std::process::id()),
            ttl: None,
            use_cache: true,
            secrets: BTreeMap::new(),
            fetch: None,
            proxies: Vec::new(),
            forbidden: ["/layers", "/workspace", "/platform", "/cnb"].map(PathBuf::from).to_vec(),
            events: &events::Silent,
        };
        let source = Source {
            dockerfile: &dockerfile,
            origin: "bench".to_owned(),
            version: String::new(),
            args: Vec::new(),
            context: Path::new(context),
            path: None,
        };
        let need = if need == "image" { Need::Image } else { Need::Tree };
        let (start, read) = (Instant::now(), bytes_read()?);
        let applied = apply(&image, &[source], &engine, need)?;
        let made = applied.steps.iter().filter(|step| !step.cached).count();
        println!("{} {made} {}", start.elapsed().as_secs_f64() * 1000.0, bytes_read()? - read);
    }
    Ok(())
}

/// Bytes that this process has read so far, from wherever.
fn bytes_read() -> Result<u64, Box<dyn Error>> {
    let io = fs_err::read_to_string("/proc/self/io")?;
    let rchar = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    Ok(rchar.ok_or("no rchar")?.parse()?)
}

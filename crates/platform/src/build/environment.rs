//! What buildpacks see in their environment besides each other's variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cnb::env::EnvDir;
use fs_err as fs;
use layer::Root;
use oci::Image;

use super::BuildError;
use super::request::BuildRequest;
use crate::builder::create::{BUILD_CONFIG, BUILD_CONFIG_VARIABLE};
use oci::passwd::User;

/// What sandboxes are called.
const HOSTNAME: &str = "pannier";
/// The variables of ours that buildpacks see too, in both cases.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// The environment of the builder's containers: its configuration, what a container engine adds, and our proxies.
pub(super) fn base_env(builder: &Image, user: &User, request: &BuildRequest) -> BTreeMap<OsString, OsString> {
    let vars = builder.config.config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<OsString, OsString> =
        vars.map(|(name, value)| (name.into(), value.into())).collect();
    let home = user.home.clone().unwrap_or_else(|| PathBuf::from("/"));
    env.entry("HOME".into()).or_insert_with(|| home.into_os_string());
    env.entry("HOSTNAME".into()).or_insert_with(|| HOSTNAME.into());
    env.extend(proxies(request));
    env
}

/// Our own variables for proxies.
pub(super) fn proxies(request: &BuildRequest) -> impl Iterator<Item = (OsString, OsString)> {
    PROXIES.iter().filter_map(|name| Some(((*name).into(), (request.host_env.0)(name)?)))
}

/// The operator's variables, in the folder that the builder's own environment names, or else the specification.
pub(super) fn build_config(root: &Root, builder: &Image) -> Result<Option<EnvDir>, BuildError> {
    let named = builder.config.config.env_var(BUILD_CONFIG_VARIABLE).filter(|dir| !dir.is_empty());
    let dir = Path::new(named.unwrap_or(BUILD_CONFIG).trim_start_matches('/')).join("env");
    if !root.is_dir(&dir) {
        return Ok(None);
    }
    Ok(Some(lifecycle::env_dir::read(root, &dir)?))
}

pub(super) fn write_env(dir: &Path, env: &crate::env_file::Variables) -> Result<(), BuildError> {
    use std::os::unix::ffi::OsStrExt as _;
    for (name, value) in env {
        fs::write(dir.join(name), value.as_bytes())?;
    }
    Ok(())
}

//! Options of every verb that speaks to registries, and the client they make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use oci::auth::{Chain, Credentials, DockerConfig, PathHelpers, RegistryAuth};
use oci::registry::{Client, ClientConfig, ProxySettings};
use oci::tls::TlsSettings;

use crate::context::{Context, home_dir};
use crate::error::CommandError;

/// The longest file of credentials that is read, in bytes.
const AUTH_FILE_LIMIT: u64 = 8 << 20;

/// How registries are spoken to.
#[derive(Clone, Debug, Default, Args)]
pub struct RegistryArgs {
    /// A registry that may be spoken to without TLS, or whose certificate is not checked; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registry")]
    pub insecure_registry: Vec<String>,
    /// A file of certificates to trust, beside the system's; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub registry_ca: Vec<PathBuf>,
}

impl RegistryArgs {
    /// The client that these options, the configuration and the environment ask for.
    pub fn client(&self, context: &Context<'_>) -> Result<Client, CommandError> {
        self.check()?;
        let user = context.config()?;
        let config = ClientConfig {
            credentials: credentials(context)?,
            insecure_registries: [&self.insecure_registry[..], &user.insecure_registries].concat(),
            mirrors: user.registry_mirrors.clone(),
            tls: TlsSettings {
                ssl_cert_file: var_path("SSL_CERT_FILE"),
                ssl_cert_dir: var_path("SSL_CERT_DIR"),
                ca_files: self.registry_ca.clone(),
                certs_dirs: certs_dirs(),
            },
            proxy: ProxySettings {
                http: either("HTTP_PROXY"),
                https: either("HTTPS_PROXY"),
                no_proxy: either("NO_PROXY"),
            },
            events: context.told.clone(),
            ..ClientConfig::default()
        };
        Ok(Client::new(config))
    }
}

impl RegistryArgs {
    /// Mistakes that would show only when a registry is spoken to, or never.
    fn check(&self) -> Result<(), CommandError> {
        if let Some(name) = self.insecure_registry.iter().find(|name| name.contains("://")) {
            let text = format!("invalid registry `{name}`: expected HOST[:PORT], such as 127.0.0.1:5000");
            return Err(CommandError::new(text));
        }
        match self.registry_ca.iter().find(|file| !file.is_file()) {
            Some(file) => Err(CommandError::new(format!("there is no file {} here", file.display()))
                .hint("--registry-ca names a file of certificates, in PEM")),
            None => Ok(()),
        }
    }
}

/// Who we are: CNB_REGISTRY_AUTH, then Docker's configuration, then Podman's.
fn credentials(context: &Context<'_>) -> Result<Arc<dyn Credentials>, CommandError> {
    let mut sources: Vec<Arc<dyn Credentials>> = Vec::new();
    if let Ok(text) = std::env::var("CNB_REGISTRY_AUTH")
        && !text.is_empty()
    {
        sources.push(Arc::new(RegistryAuth::parse(&text)?));
    }
    let folders = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect());
    let helpers = Arc::new(PathHelpers::new(folders.unwrap_or_default()));
    for file in auth_files() {
        match layer::named::read_input_to_string(&file, AUTH_FILE_LIMIT) {
            Ok(text) => {
                let name = file.display().to_string();
                sources.push(Arc::new(DockerConfig::parse(&name, &text, helpers.clone())?));
            }
            Err(error) if error.is_not_found() => {}
            // A file of somebody else's is no reason to fail: the registry may need no password.
            Err(error) => {
                let text = format!("credentials are not read: {error}: {}", error.source);
                events::Events::warning(context.ui, &text);
            }
        }
    }
    Ok(Arc::new(Chain::new(sources)))
}

/// Where credentials may be, first come first served.
fn auth_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let home = home_dir().ok();
    match var_path("DOCKER_CONFIG") {
        Some(dir) => files.push(dir.join("config.json")),
        None => files.extend(home.as_deref().map(|home| home.join(".docker/config.json"))),
    }
    files.extend(var_path("REGISTRY_AUTH_FILE"));
    files.extend(var_path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
    files.extend(home.as_deref().map(|home| home.join(".config/containers/auth.json")));
    files
}

fn certs_dirs() -> Vec<PathBuf> {
    let home = home_dir().ok();
    let user =
        home.iter().flat_map(|home| [home.join(".config/containers/certs.d"), home.join(".docker/certs.d")]);
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(|dir| Path::new(dir).to_owned());
    user.chain(system).collect()
}

fn var_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A variable by its upper-case or lower-case name: programs disagree.
fn either(name: &str) -> Option<String> {
    let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase()));
    value.ok().filter(|value| !value.is_empty())
}

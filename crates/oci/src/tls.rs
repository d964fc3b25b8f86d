//! What a TLS connection to a registry trusts, and what it shows: CA certificates and client certificates.
//!
//! Not here: the connection itself (see [`crate::registry`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts};

/// Where Linux distributions keep their bundle of CA certificates; the first that exists is used.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The longest file of certificates that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// What to trust, as values of the caller.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// `SSL_CERT_FILE`: a PEM bundle to use in place of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: a folder of PEM files to use in place of the system's bundle.
    pub ssl_cert_dir: Option<PathBuf>,
    /// `--registry-ca`: PEM files trusted as well, for every registry.
    pub ca_files: Vec<PathBuf>,
    /// Folders such as `/etc/docker/certs.d`: `<folder>/<host[:port]>/*.crt` are trusted as well for that
    /// registry, and `*.cert` with the `*.key` of the same name is shown to it.
    pub certs_dirs: Vec<PathBuf>,
}

/// A certificate or key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// What one registry's connections use.
#[derive(Clone, Debug)]
pub(crate) struct HostTls {
    pub roots: RootCerts,
    pub client: Option<ClientCert>,
}

impl TlsSettings {
    /// Reads what counts for a registry known under `names` (`host[:port]`).
    pub(crate) fn for_host(&self, names: &[&str]) -> Result<HostTls, TlsError> {
        let mut extra = Vec::new();
        for path in &self.ca_files {
            let found = certificates(path)?;
            if found.is_empty() {
                return Err(TlsError::new(path, "holds no PEM certificate"));
            }
            extra.extend(found);
        }
        let mut client = None;
        for folder in self.certs_dirs.iter().flat_map(|dir| names.iter().map(|name| dir.join(name))) {
            for path in sorted_files(&folder)? {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => extra.extend(certificates(&path)?),
                    // The first by name: a connection can show one.
                    Some("cert") if client.is_none() => client = Some(client_cert(&path)?),
                    _ => {}
                }
            }
        }
        Ok(HostTls { roots: self.roots(extra)?, client })
    }

    fn roots(&self, extra: Vec<CertificateDer<'static>>) -> Result<RootCerts, TlsError> {
        let mut base = Vec::new();
        let mut chosen = false;
        if let Some(file) = &self.ssl_cert_file {
            base.extend(certificates(file)?);
            chosen = true;
        }
        if let Some(dir) = &self.ssl_cert_dir {
            // As OpenSSL has it, such a folder holds links and other files too: what is not PEM is passed over.
            for path in sorted_files(dir)? {
                base.extend(certificates(&path).unwrap_or_default());
            }
            chosen = true;
        }
        if !chosen {
            for bundle in SYSTEM_BUNDLES.iter().map(Path::new).filter(|path| path.is_file()) {
                base.extend(certificates(bundle).unwrap_or_default());
                if !base.is_empty() {
                    break;
                }
            }
        }
        if base.is_empty() && !chosen {
            // No bundle on this machine (a minimal container): Mozilla's, from the program itself.
            base.extend(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        let all = base.iter().chain(&extra).map(|der| Certificate::from_der(der).to_owned());
        Ok(RootCerts::from(all.collect::<Vec<_>>()))
    }
}

/// The PEM certificates in a file; anything else in it is passed over.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text =
        layer::named::read_input(path, FILE_LIMIT).map_err(|e| TlsError::new(path, io_reason(&e.source)))?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::new(path, format!("expected PEM certificates: {e}")))
}

/// The certificate chain at `path` with the key beside it.
fn client_cert(path: &Path) -> Result<ClientCert, TlsError> {
    let key_path = path.with_extension("key");
    let chain = certificates(path)?;
    let key_text = layer::named::read(&key_path, FILE_LIMIT).map_err(|e| {
        TlsError::new(&key_path, format!("expected the key of {}: {}", path.display(), io_reason(&e.source)))
    })?;
    let key = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|_| TlsError::new(&key_path, "expected a PEM private key without a passphrase"))?;
    // Checked here: the HTTP library would panic over a pair that does not fit.
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
        .map_err(|e| TlsError::new(&key_path, format!("does not fit {}: {e}", path.display())))?;
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let key = PrivateKey::from_pem(&key_text)
        .map_err(|_| TlsError::new(&key_path, "expected a PEM private key without a passphrase"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn sorted_files(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        // `/etc/docker` is closed to ordinary users on some machines: what they may not see is not meant for them.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(TlsError::new(folder, io_reason(&e))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|e| TlsError::new(folder, io_reason(&e)))?.path());
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    Ok(paths)
}

/// What went wrong, without the path that the error names already.
fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Verification switched off: for registries the user named as insecure.
pub(crate) fn unverified(client: Option<ClientCert>) -> ureq::tls::TlsConfig {
    config(client, RootCerts::WebPki, true)
}

/// A connection that trusts `tls.roots` and shows `tls.client`.
pub(crate) fn verified(tls: HostTls) -> ureq::tls::TlsConfig {
    config(tls.client, tls.roots, false)
}

fn config(client: Option<ClientCert>, roots: RootCerts, disable: bool) -> ureq::tls::TlsConfig {
    ureq::tls::TlsConfig::builder()
        .client_cert(client)
        .root_certs(roots)
        .disable_verification(disable)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

//! Debian's `docker-registry` on loopback: plain, with TLS of an own authority, with passwords, with tokens.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use tempfile::TempDir;

use super::token::{TokenServer, TokenSetup};

/// A private certificate authority, a server certificate for this machine and `registry.test`, a client certificate, and a second
/// authority that signed nothing here. Made with the `openssl` program.
#[derive(Debug)]
pub struct Pki {
    dir: TempDir,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Makes all of it.
    ///
    /// # Panics
    ///
    /// When `openssl` is missing or fails.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let pki = Self { dir };
        let ca = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        pki.certificate("ca", "Test CA", None, &ca);
        pki.certificate("other-ca", "Another CA", None, &ca);
        let server =
            ["subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test", "extendedKeyUsage=serverAuth"];
        pki.certificate("server", "localhost", Some("ca"), &server);
        pki.certificate("client", "client", Some("ca"), &["extendedKeyUsage=clientAuth"]);
        pki
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// The certificate of an authority that signed nothing.
    pub fn other_ca(&self) -> PathBuf {
        self.file("other-ca.crt")
    }

    /// The client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.crt"), self.file("client.key"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn certificate(&self, name: &str, subject: &str, issuer: Option<&str>, extensions: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        openssl.args(["-days", "3650", "-subj", &format!("/CN={subject}")]);
        openssl.arg("-keyout").arg(self.file(&format!("{name}.key")));
        openssl.arg("-out").arg(self.file(&format!("{name}.crt")));
        if let Some(issuer) = issuer {
            openssl.arg("-CA").arg(self.file(&format!("{issuer}.crt")));
            openssl.arg("-CAkey").arg(self.file(&format!("{issuer}.key")));
            openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        }
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        run(&mut openssl);
    }
}

/// How a [`DockerRegistry`] is to be.
#[derive(Debug, Default)]
pub struct Setup<'a> {
    /// Speak TLS, with the authority's server certificate.
    pub tls: Option<&'a Pki>,
    /// Want a client certificate of that authority too.
    pub client_certificate: bool,
    /// Let in this user with this password only.
    pub password: Option<(&'a str, &'a str)>,
    /// Let in whoever has a token of a server of its own.
    pub token: Option<TokenSetup>,
}

/// A running `docker-registry`, on a free loopback port, with storage of its own. It ends with its owner.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    host: String,
    token_server: Option<TokenServer>,
    dir: TempDir,
}

impl DockerRegistry {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    ///
    /// When a program that it needs is missing (`docker-registry`; `htpasswd` for passwords, `openssl` for TLS and
    /// tokens), or the registry does not start.
    pub fn start(setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let token_server = setup.token.clone().map(|token| token_server(dir.path(), token));
        let config = config(dir.path(), setup, token_server.as_ref());
        let file = dir.path().join("config.yml");
        fs_err::write(&file, config).expect("the registry's configuration");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry can be run");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let (sender, receiver) = mpsc::channel();
        // Reads on for as long as it runs: it must never wait for somebody to read its log.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut said = String::new();
        let host = loop {
            match receiver.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => {
                    if let Some(host) = listening_on(&line) {
                        break host;
                    }
                    let _ = writeln!(said, "{line}");
                }
                Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("docker-registry does not listen:\n{said}");
                }
            }
        };
        Self { child, host, token_server, dir }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server that gives out its tokens, if it wants them.
    pub fn token_server(&self) -> Option<&TokenServer> {
        self.token_server.as_ref()
    }

    /// The folder it keeps everything in.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in `… msg="listening on 127.0.0.1:40001, tls" …`.
fn listening_on(line: &str) -> Option<String> {
    let rest = line.split_once("listening on ")?.1;
    Some(rest.split([',', '"', ' ']).next()?.to_owned())
}

fn config(dir: &Path, setup: &Setup<'_>, token_server: Option<&TokenServer>) -> String {
    let storage = dir.join("storage");
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: test\n",
        storage.display()
    );
    if let Some(pki) = setup.tls {
        let (certificate, key) = (pki.file("server.crt"), pki.file("server.key"));
        let _ =
            write!(text, "  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if setup.client_certificate {
            let _ = write!(text, "    clientcas:\n      - {}\n", pki.ca().display());
        }
    }
    if let Some((user, password)) = setup.password {
        let file = dir.join("htpasswd");
        let entry = run(Command::new("htpasswd").args(["-Bbn", user, password]));
        fs_err::write(&file, entry).expect("the password file");
        let _ = write!(text, "auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
    }
    if let Some(server) = token_server {
        let _ = write!(
            text,
            "auth:\n  token:\n    realm: {}\n    service: test\n    issuer: test\n    rootcertbundle: {}\n",
            server.url(),
            dir.join("token.crt").display()
        );
    }
    text
}

/// A server whose tokens the registry believes, as it knows the certificate of the key that signs them.
fn token_server(dir: &Path, setup: TokenSetup) -> TokenServer {
    let (key, certificate) = (dir.join("token.key"), dir.join("token.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "3650", "-subj", "/CN=tokens"]);
    run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    let pem = fs_err::read_to_string(&certificate).expect("the certificate");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let lifetime = setup.expires_in;
    TokenServer::start(setup, Box::new(move |scopes| sign(&key, &der, lifetime, scopes)))
}

/// A JSON web token as `docker-registry` wants it, signed by the `openssl` program.
fn sign(key: &Path, certificate: &str, lifetime: u64, scopes: &[String]) -> String {
    let access: Vec<_> = scopes
        .iter()
        .filter_map(|scope| {
            let (name, actions) = scope.rsplit_once(':')?;
            let (kind, name) = name.split_once(':')?;
            let actions: Vec<&str> = actions.split(',').collect();
            Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let claims = serde_json::json!({ "iss": "test", "sub": "user", "aud": "test", "exp": now + lifetime,
        "nbf": now - 10, "iat": now, "jti": format!("{now}"), "access": access });
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let unsigned = tempfile::NamedTempFile::new().expect("a temporary file");
    fs_err::write(unsigned.path(), &text).expect("the token");
    let mut openssl = Command::new("openssl");
    let signature = run(openssl.args(["dgst", "-sha256", "-sign"]).arg(key).arg(unsigned.path()));
    format!("{text}.{}", encode(&signature))
}

/// What a program that must succeed prints.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

//! What goes over the wire: connections, with certificates and proxies, and one HTTP exchange over them.
//!
//! Not here: who we are there (see [`super::access`]), and what is tried again (see [`super::endpoint`]).

use std::time::Duration;

use ureq::http::{Method, Request as HttpRequest, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::config::Timeouts;
use super::endpoint::{Endpoint, Shared, lock};
use super::error::ErrorKind;
use super::http::{Payload, classify, host_port};
use super::names::{Names, proxy_for};
use crate::tls;

/// Blobs for which a registry gets more time to check what it got, in bytes.
const LARGE: u64 = 16 << 20;

impl Endpoint {
    /// One HTTP exchange, over within `limit` if that is given.
    pub(super) fn exchange(
        &self,
        method: &Method,
        url: &Uri,
        headers: &[(&str, &str)],
        payload: &mut Payload<'_>,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, ErrorKind> {
        let (agent, proxy) = self.shared.agent(url)?;
        // After that: who stops us closes the connections of the agents there are.
        self.stop.check()?;
        let mut request = HttpRequest::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Payload::Stream(_, Some(size)) = payload {
            request = request.header(header::CONTENT_LENGTH, *size);
        }
        let invalid = |_| ErrorKind::Setting("a header holds characters that it must not".to_owned());
        let sending = Sending { agent: &agent, timeouts: &self.shared.config.timeouts, limit };
        let result = match payload {
            // A method that may carry something says that it does not.
            Payload::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                sending.run(request.body(&b""[..]).map_err(invalid)?, 0)
            }
            Payload::None => sending.run(request.body(()).map_err(invalid)?, 0),
            Payload::Bytes(bytes) => sending.run(request.body(*bytes).map_err(invalid)?, 0),
            Payload::Stream(reader, size) => {
                let body = SendBody::from_reader(*reader);
                sending.run(request.body(body).map_err(invalid)?, size.unwrap_or_default())
            }
        };
        result.map_err(|error| match self.stop.check() {
            Ok(()) => classify(&host_port(url), proxy.as_deref(), error, &self.shared.config.timeouts),
            Err(stopped) => stopped,
        })
    }
}

/// How a request is sent.
struct Sending<'a> {
    agent: &'a Agent,
    timeouts: &'a Timeouts,
    limit: Option<Duration>,
}

impl Sending<'_> {
    /// Sends a request with a blob of `size` bytes, or none.
    fn run(&self, request: HttpRequest<impl AsSendBody>, size: u64) -> Result<Response<Body>, ureq::Error> {
        // Settings of one request cost a new TLS configuration where it connects: for those that need them only.
        if let Some(limit) = self.limit {
            return self.agent.run(self.agent.configure_request(request).timeout_global(Some(limit)).build());
        }
        if size < LARGE {
            return self.agent.run(request);
        }
        let silence = self.timeouts.after_upload(size);
        let request = self.agent.configure_request(request).timeout_per_read(Some(silence));
        self.agent.run(request.timeout_recv_response(Some(silence * 2)).build())
    }
}

impl Shared {
    /// Closes all connections: whoever waits for an answer gets an error. The next request connects again.
    pub(super) fn hang_up(&self) {
        let agents = std::mem::take(&mut *lock(&self.agents));
        agents.into_iter().for_each(|(_, agent)| agent.shutdown());
    }

    /// The agent for a URL, and the proxy it goes through. Everything reached on behalf of a registry (its token
    /// server, its storage) uses the registry's certificates, as with Docker.
    fn agent(&self, url: &Uri) -> Result<(Agent, Option<String>), ErrorKind> {
        let proxy = proxy_for(&self.config.proxy, url);
        let mut agents = lock(&self.agents);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| known.as_deref() == proxy) {
            return Ok((agent.clone(), proxy.map(proxy_name)));
        }
        let parsed = proxy
            .map(|proxy| {
                Proxy::new(proxy).map_err(|_| ErrorKind::Setting("the proxy is not a URL".to_owned()))
            })
            .transpose()?;
        let timeouts = &self.config.timeouts;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.config.user_agent.as_str())
            .proxy(parsed)
            .tls_config(self.tls_config()?)
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .timeout_recv_response(Some(timeouts.idle * 2))
            .max_idle_connections(32)
            .max_idle_connections_per_host(16)
            .build();
        let names = Names(self.config.names.clone());
        let agent = Agent::with_parts(config, DefaultConnector::default(), names);
        agents.push((proxy.map(str::to_owned), agent.clone()));
        Ok((agent, proxy.map(proxy_name)))
    }

    /// Certificates, read once and only when something speaks TLS.
    fn tls_config(&self) -> Result<TlsConfig, ErrorKind> {
        if let Some(known) = self.tls.get() {
            return Ok(known.clone());
        }
        let names = if self.registry == self.authority {
            vec![self.registry.as_str()]
        } else {
            vec![self.registry.as_str(), self.authority.as_str()]
        };
        let host = self.config.tls.for_host(&names)?;
        let config = if self.insecure { tls::unverified(host.client) } else { tls::verified(host) };
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

/// A proxy's `host:port`: its URL may hold a password.
fn proxy_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
}

//! Host names: looking them up, and which of them a proxy stands before.

use std::net::{IpAddr, SocketAddr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::config::{NameService, ProxySettings};

/// Looks names up, unless that can only hang (see [`NameService`]).
#[derive(Debug)]
pub(super) struct Names(pub NameService);

/// Why a name has no address; carried through the HTTP library.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("no name service: {file} is missing")]
    NoService { file: String },
    #[error("{reason}")]
    Failed { reason: String },
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = bare_host(uri.host().unwrap_or_default());
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut known: Vec<IpAddr> = host.parse::<IpAddr>().into_iter().collect();
        if known.is_empty()
            && let Some(file) = self.0.resolv_conf.as_deref().filter(|file| !file.exists())
        {
            let hosts = fs_err::read_to_string(&self.0.hosts).unwrap_or_default();
            known = in_hosts(&hosts, host);
            if known.is_empty() {
                let file = file.display().to_string();
                return Err(ureq::Error::Other(Box::new(LookupError::NoService { file })));
            }
        }
        if known.is_empty() {
            return DefaultResolver::default().resolve(uri, config, timeout).map_err(|e| match e {
                ureq::Error::Io(e) => ureq::Error::Other(Box::new(LookupError::Failed {
                    reason: e.to_string().replace("failed to lookup address information: ", ""),
                })),
                other => other,
            });
        }
        let mut addresses = self.empty();
        known.truncate(16);
        known.into_iter().for_each(|ip| addresses.push(SocketAddr::new(ip, port)));
        Ok(addresses)
    }
}

/// The addresses of `host` in the text of `/etc/hosts`; `localhost` needs no entry.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let ip = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
        })
        .collect();
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found.push(IpAddr::from([127, 0, 0, 1]));
    }
    found
}

/// A host without the brackets of an IPv6 address.
fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// True for this machine itself: `localhost`, its subdomains, and loopback addresses.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = bare_host(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// The proxy's URL for a request to `uri`, if one is to be used.
pub(super) fn proxy_for<'a>(settings: &'a ProxySettings, uri: &Uri) -> Option<&'a str> {
    let plain = uri.scheme_str() == Some("http");
    let proxy = if plain { &settings.http } else { &settings.https };
    let proxy = proxy.as_deref().map(str::trim).filter(|proxy| !proxy.is_empty())?;
    let host = bare_host(uri.host()?);
    let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
    let direct =
        is_loopback(host) || in_no_proxy(settings.no_proxy.as_deref().unwrap_or_default(), host, port);
    (!direct).then_some(proxy)
}

/// True when the `NO_PROXY` list names the host, by Go's rules: `*`, addresses, networks (`10.0.0.0/8`), and
/// domains, which stand for their subdomains too (`.example.com` for these only); each with an optional port.
fn in_no_proxy(list: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
            return in_network(network, bits, address);
        }
        let (name, entry_port) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
                (name, digits.parse::<u16>().ok())
            }
            _ => (entry.as_str(), None),
        };
        if entry_port.is_some_and(|entry_port| entry_port != port) {
            return false;
        }
        let name = bare_host(name);
        if let Some(address) = address {
            return name.parse() == Ok(address);
        }
        let domain = name.trim_start_matches('*');
        match domain.strip_prefix('.') {
            Some(_) => host.ends_with(domain),
            None => host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

fn in_network(network: &str, bits: &str, address: IpAddr) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if bits <= 32 => {
            let shift = 32 - bits;
            u64::from(network.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if bits <= 128 => {
            bits == 0 || network.to_bits() >> (128 - bits) == address.to_bits() >> (128 - bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_rules() {
        let list = "10.0.0.0/8, Example.com,.sub.org,reg.net:5000,*.wild.io,192.168.1.7,fd00::/8";
        for (host, port, direct) in [
            ("10.2.3.4", 443, true),
            ("11.2.3.4", 443, false),
            ("example.com", 443, true),
            ("a.EXAMPLE.com", 443, true),
            ("notexample.com", 443, false),
            ("a.sub.org", 443, true),
            ("sub.org", 443, false),
            ("reg.net", 5000, true),
            ("reg.net", 443, false),
            ("x.wild.io", 443, true),
            ("192.168.1.7", 1, true),
            ("192.168.1.8", 1, false),
            ("fd12::1", 1, true),
            ("fe80::1", 1, false),
        ] {
            assert_eq!(in_no_proxy(list, host, port), direct, "{host}:{port}");
        }
        assert!(in_no_proxy("a,*", "anything", 1));
        assert!(!in_no_proxy("", "anything", 1));
        assert!(in_no_proxy("0.0.0.0/0", "1.2.3.4", 1));
    }

    #[test]
    fn loopback_is_never_proxied() {
        let settings = ProxySettings {
            http: Some("http://plain:1".to_owned()),
            https: Some("http://secure:1".to_owned()),
            no_proxy: None,
        };
        let proxy = |uri: &'static str| proxy_for(&settings, &Uri::from_static(uri));
        assert_eq!(proxy("http://127.0.0.1:5000/v2/"), None);
        assert_eq!(proxy("https://[::1]:5000/v2/"), None);
        assert_eq!(proxy("https://localhost/v2/"), None);
        assert_eq!(proxy("http://a.io/v2/"), Some("http://plain:1"));
        assert_eq!(proxy("https://a.io/v2/"), Some("http://secure:1"));
    }

    #[test]
    fn hosts_file() {
        let text = "127.0.0.1 localhost # not this\n::1 ip6 Reg.Local\n10.0.0.1 reg.local\nnonsense";
        assert_eq!(
            in_hosts(text, "reg.local"),
            ["::1".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]
        );
        assert_eq!(in_hosts(text, "not"), Vec::<IpAddr>::new());
        assert_eq!(in_hosts("", "localhost"), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}

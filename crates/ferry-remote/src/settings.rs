//! What the operator decided about registries: mirrors, insecure ones, certificates, proxies, limits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of all exchanges with registries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Mirrors by registry domain (`docker.io`), in the order in which they are asked: addresses as
    /// `https://mirror.example` or `http://127.0.0.1:5000/prefix`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries that may speak plain http or show any certificate: `host`, `host:port`, or a network as
    /// `10.0.0.0/8`. The loopback addresses always may.
    pub insecure: Vec<String>,
    /// Folders like Docker's `/etc/docker/certs.d`, each with `<host[:port]>/{ca.crt,client.cert,client.key}`.
    pub certificates: Vec<PathBuf>,
    /// Proxies to go through; those of the environment where there are none.
    pub proxies: Option<Proxies>,
    /// What we call ourselves.
    pub user_agent: String,
    /// Longest wait for a connection and for the head of an answer.
    pub answer_timeout: Duration,
    /// Longest wait for the next piece of a body.
    pub idle_timeout: Duration,
}

/// Proxies by the scheme of what is asked for, in the form of the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` addresses.
    pub http: String,
    /// For `https` addresses.
    pub https: String,
    /// Hosts that are asked directly, separated by commas.
    pub none: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            insecure: Vec::new(),
            certificates: ["/etc/ferry/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).to_vec(),
            proxies: None,
            user_agent: format!("ferry/{}", env!("CARGO_PKG_VERSION")),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Whether a registry may do without a certificate that proves who it is.
    #[must_use]
    pub fn is_insecure(&self, authority: &str) -> bool {
        let host = host_of(authority);
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.insecure.iter().any(|entry| {
            entry == authority
                || entry == host
                || address.is_some_and(|address| network_holds(entry, address))
        })
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

/// Whether `network` (an address with prefix length) holds the address.
fn network_holds(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries() {
        let settings = Settings {
            insecure: vec![
                "lab.example".into(),
                "shop.example:5000".into(),
                "10.0.0.0/8".into(),
                "::/0".into(),
            ],
            ..Settings::default()
        };
        for (authority, insecure) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.3.2.1", true),
            ("[::1]:5000", true),
            ("lab.example", true),
            ("lab.example:443", true),
            ("shop.example:5000", true),
            ("shop.example", false),
            ("10.9.8.7:5000", true),
            ("11.9.8.7:5000", false),
            ("[2001:db8::1]:5000", true),
            ("registry.example", false),
        ] {
            assert_eq!(settings.is_insecure(authority), insecure, "{authority}");
        }
    }
}

//! Which addresses stand for a registry domain: its mirrors in order, then itself.

use http::Uri;

use crate::error::RemoteError;
use crate::settings::Settings;

/// What image names call Docker Hub, and where it answers.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https` or `http`.
    pub scheme: &'static str,
    /// Host and port.
    pub authority: String,
    /// Path in front of `/v2/`; empty or starting with `/`.
    pub prefix: String,
    /// Whether its certificate need not prove who it is.
    pub insecure: bool,
    /// Whether it stands in for another registry.
    pub is_mirror: bool,
}

impl Endpoint {
    /// The address of a path below `/v2/`.
    ///
    /// # Errors
    /// Where the parts make no address.
    pub fn uri(&self, path: &str) -> Result<Uri, RemoteError> {
        let text = format!("{}://{}{}/v2/{path}", self.scheme, self.authority, self.prefix);
        text.parse().map_err(|error: http::uri::InvalidUri| RemoteError::Protocol {
            place: self.authority.clone(),
            reason: format!("`{path}` makes no address: {error}"),
        })
    }
}

/// All addresses to try for a domain, best first. An insecure one is tried with TLS and then without.
#[must_use]
pub fn candidates(domain: &str, settings: &Settings) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for mirror in settings.mirrors.get(domain).into_iter().flatten() {
        found.extend(mirror_endpoint(mirror, settings));
    }
    let authority = if domain == DOCKER_HUB.0 { DOCKER_HUB.1 } else { domain };
    let insecure = settings.is_insecure(authority);
    let plain = |scheme| Endpoint {
        scheme,
        authority: authority.to_owned(),
        prefix: String::new(),
        insecure,
        is_mirror: false,
    };
    found.push(plain("https"));
    if insecure {
        found.push(plain("http"));
    }
    found
}

fn mirror_endpoint(address: &str, settings: &Settings) -> Option<Endpoint> {
    let (scheme, rest) = match address.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(_) => return None,
        None => ("https", address),
    };
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    Some(Endpoint {
        scheme,
        authority: authority.to_owned(),
        prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
        insecure: settings.is_insecure(authority),
        is_mirror: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_addresses() {
        let settings = Settings {
            mirrors: [(
                "docker.io".to_owned(),
                vec!["http://127.0.0.1:5000/hub/".to_owned(), "mirror.example".into()],
            )]
            .into(),
            ..Settings::default()
        };
        let shown = |domain: &str| -> Vec<String> {
            candidates(domain, &settings)
                .iter()
                .map(|endpoint| endpoint.uri("x/manifests/1").expect("an address").to_string())
                .collect()
        };
        assert_eq!(
            shown("docker.io"),
            [
                "http://127.0.0.1:5000/hub/v2/x/manifests/1",
                "https://mirror.example/v2/x/manifests/1",
                "https://registry-1.docker.io/v2/x/manifests/1",
            ]
        );
        assert_eq!(shown("quay.example"), ["https://quay.example/v2/x/manifests/1"]);
        assert_eq!(
            shown("localhost:5000"),
            ["https://localhost:5000/v2/x/manifests/1", "http://localhost:5000/v2/x/manifests/1"]
        );
    }
}

//! Where an engine listens: `unix://`, `tcp://`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ssh::SshHost;
use super::tcp::TcpHost;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP socket.
    Tcp(TcpHost),
    /// An engine's own socket at the other end of ssh.
    Ssh(SshHost),
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is nothing before `://`, or nothing behind it.
    #[error("unable to parse docker host `{0}`")]
    Malformed(String),
    /// The scheme is not served.
    #[error("the address {address:?} names the scheme {scheme:?}; unix://, tcp:// and ssh:// are known")]
    Scheme {
        /// The whole address.
        address: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// Neither a name nor an IP address.
    #[error("{0:?} is no host name or IP address with an optional port")]
    Address(String),
}

impl Host {
    /// Reads `unix:///path`, `tcp://host:port`, `ssh://user@host` or a bare path.
    pub fn parse(text: &str) -> Result<Host, HostError> {
        Host::parse_for(text, false)
    }

    /// The same, where TLS decides which port is meant if none is named.
    pub fn parse_for(text: &str, tls: bool) -> Result<Host, HostError> {
        if text.starts_with('/') {
            return Ok(Host::Unix(text.into()));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| HostError::Malformed(text.to_owned()))?;
        if rest.is_empty() {
            return Err(HostError::Malformed(text.to_owned()));
        }
        match scheme {
            "unix" => Ok(Host::Unix(rest.into())),
            "tcp" | "http" | "https" => {
                let rest = rest.trim_end_matches('/');
                let host = TcpHost::parse(rest, tls || scheme == "https");
                host.map(Host::Tcp).ok_or_else(|| HostError::Address(rest.to_owned()))
            }
            "ssh" => SshHost::parse(rest).map(Host::Ssh).ok_or_else(|| HostError::Malformed(text.to_owned())),
            _ => Err(HostError::Scheme { address: text.to_owned(), scheme: scheme.to_owned() }),
        }
    }

    /// The socket's path, where it is a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Host::Unix(path) => Some(path),
            Host::Tcp(_) | Host::Ssh(_) => None,
        }
    }

    /// What goes into the `Host` header.
    pub(super) fn authority(&self) -> String {
        match self {
            Host::Unix(_) | Host::Ssh(_) => "api.moby.localhost".to_owned(),
            Host::Tcp(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(out, "unix://{}", path.display()),
            Host::Tcp(address) => write!(out, "tcp://{address}"),
            Host::Ssh(ssh) => ssh.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text, wanted: &str| match Host::parse(text) {
            Ok(host) => assert_eq!(host.to_string(), wanted),
            Err(error) => assert!(error.to_string().contains(wanted), "{error}"),
        };
        check("unix:///run/ferry/ferry.sock", "unix:///run/ferry/ferry.sock");
        check("/run/x.sock", "unix:///run/x.sock");
        check("tcp://127.0.0.1:2375/", "tcp://127.0.0.1:2375");
        check("tcp://localhost:99", "tcp://127.0.0.1:99");
        check("tcp://[::1]:99", "tcp://[::1]:99");
        check("tcp://10.0.0.1", "tcp://10.0.0.1:2375");
        check("tcp://example.com", "tcp://example.com:2375");
        check("tcp://docker:1234", "tcp://docker:1234");
        check("tcp://10.0.0:2375", "is no host name or IP address");
        check("tcp://a b:2375", "is no host name or IP address");
        check("tcp://docker:port", "is no host name or IP address");
        let secure = Host::parse_for("tcp://10.0.0.1", true).map(|host| host.to_string());
        assert_eq!(secure.as_deref(), Ok("tcp://10.0.0.1:2376"));
        check("ssh://ann@lab:22", "ssh://ann@lab:22");
        check("gopher://x", "names the scheme \"gopher\"");
        check("nonsense", "unable to parse docker host `nonsense`");
    }
}

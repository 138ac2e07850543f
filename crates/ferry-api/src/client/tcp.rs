//! Engines at TCP addresses: `tcp://NAME_OR_IP:PORT`, names resolved when a connection is opened.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

/// Port of an engine's TCP socket without TLS.
const DEFAULT_PORT: u16 = 2375;
/// The same with TLS.
const DEFAULT_TLS_PORT: u16 = 2376;
/// Longest name (RFC 1035, section 2.3.4).
const NAME_LENGTH_MAX: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpHost {
    place: Place,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Ip(IpAddr),
    Name(String),
}

impl TcpHost {
    /// Reads `NAME`, `NAME:PORT`, `IP`, `IP:PORT` or `[IPV6]:PORT`; None for what is neither.
    pub(super) fn parse(text: &str, tls: bool) -> Option<TcpHost> {
        let default = if tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(TcpHost { place: Place::Ip(address.ip()), port: address.port() });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(TcpHost { place: Place::Ip(ip), port: default });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, default),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.bytes().all(fits) {
            return None;
        }
        // What looks like a number is a mistyped address, and no name.
        if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return None;
        }
        // Every machine's own address, whatever its resolver says of the name (RFC 6761, section 6.3).
        match name == "localhost" {
            true => Some(TcpHost { place: Place::Ip(IpAddr::from([127, 0, 0, 1])), port }),
            false => Some(TcpHost { place: Place::Name(name.to_owned()), port }),
        }
    }

    /// The address, where it needs no look-up: what can be listened on.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Place::Name(_) => None,
        }
    }

    /// Opens a connection to the first of its addresses that answers.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let name = match &self.place {
            Place::Ip(ip) => return TcpStream::connect((*ip, self.port)).await,
            Place::Name(name) => name,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
        for ip in look_up(name).await? {
            match TcpStream::connect((ip, self.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whom the certificate has to name.
    pub(super) fn server_name(&self) -> io::Result<ServerName<'static>> {
        match &self.place {
            Place::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Place::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        }
    }
}

/// All addresses of a name, by the machine's hosts file and name servers. The C library's own way needs shared
/// libraries, which a static program has not.
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let failed = |reason: String| io::Error::other(format!("cannot look {name} up: {reason}"));
    let resolver = hickory_resolver::TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| failed(error.to_string()))?;
    let found = resolver.lookup_ip(name).await.map_err(|error| failed(error.to_string()))?;
    Ok(found.iter().collect())
}

impl fmt::Display for TcpHost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(out),
            Place::Name(name) => write!(out, "{name}:{}", self.port),
        }
    }
}

//! Where lines go, and the connection that is kept there.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};

use super::{Facts, Line, fluentd, gelf, journald, syslog};

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    UnixDatagrams(String),
    UnixStream(String),
}

impl Place {
    /// Reads `udp://IP:PORT`, `tcp://IP:PORT`, `unix://PATH`, `unixgram://PATH`.
    pub fn parse(text: &str, default_port: u16) -> Result<Place, String> {
        let wrong = || {
            format!(
                "the address {text:?} is none of udp://IP:PORT, tcp://IP:PORT, unix://PATH and unixgram://PATH"
            )
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let socket = || -> Result<SocketAddr, String> {
            let rest = match rest.strip_prefix("localhost") {
                Some(port) => format!("127.0.0.1{port}"),
                None => rest.to_owned(),
            };
            rest.parse().or_else(|_| format!("{rest}:{default_port}").parse()).map_err(|_| wrong())
        };
        match scheme {
            "udp" => socket().map(Place::Udp),
            "tcp" => socket().map(Place::Tcp),
            "unix" if rest.starts_with('/') => Ok(Place::UnixStream(rest.to_owned())),
            "unixgram" if rest.starts_with('/') => Ok(Place::UnixDatagrams(rest.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Udp(address) => write!(out, "udp://{address}"),
            Place::Tcp(address) => write!(out, "tcp://{address}"),
            Place::UnixDatagrams(path) => write!(out, "unixgram://{path}"),
            Place::UnixStream(path) => write!(out, "unix://{path}"),
        }
    }
}

#[derive(Debug)]
enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
    UnixDatagrams(UnixDatagram),
    UnixStream(UnixStream),
}

impl Open {
    async fn connect(place: &Place) -> io::Result<Open> {
        match place {
            Place::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                    SocketAddr::V6(_) => ([0u16; 8], 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok(Open::Udp(socket))
            }
            Place::Tcp(address) => Ok(Open::Tcp(TcpStream::connect(address).await?)),
            Place::UnixDatagrams(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Open::UnixDatagrams(socket))
            }
            Place::UnixStream(path) => Ok(Open::UnixStream(UnixStream::connect(path).await?)),
        }
    }

    async fn write(&mut self, packets: &[Vec<u8>]) -> io::Result<()> {
        for packet in packets {
            match self {
                Open::Udp(socket) => socket.send(packet).await.map(|_| ())?,
                Open::UnixDatagrams(socket) => socket.send(packet).await.map(|_| ())?,
                Open::Tcp(stream) => stream.write_all(packet).await?,
                Open::UnixStream(stream) => stream.write_all(packet).await?,
            }
        }
        Ok(())
    }
}

/// How a line is written.
#[derive(Debug)]
enum Protocol {
    Syslog(syslog::Style),
    Journald,
    Fluentd,
    Gelf,
}

/// A receiver of lines.
#[derive(Debug)]
pub struct Target {
    place: Place,
    protocol: Protocol,
    open: Option<Open>,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(out)
    }
}

impl Target {
    /// The receiver that a driver's options name.
    pub fn parse(driver: &str, options: &BTreeMap<String, String>) -> Result<Target, String> {
        let option = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let (place, protocol) = match driver {
            "syslog" => {
                let place = Place::parse(option("syslog-address").unwrap_or("unixgram:///dev/log"), 514)?;
                let style = syslog::Style::parse(option("syslog-facility"), option("syslog-format"), &place)?;
                (place, Protocol::Syslog(style))
            }
            "journald" => (Place::UnixDatagrams(journald::SOCKET.to_owned()), Protocol::Journald),
            "fluentd" => {
                let place =
                    Place::parse(option("fluentd-address").unwrap_or("tcp://127.0.0.1:24224"), 24224)?;
                match place {
                    Place::Tcp(_) | Place::UnixStream(_) => (place, Protocol::Fluentd),
                    _ => return Err(format!("fluentd takes tcp:// and unix:// addresses, not {place}")),
                }
            }
            "gelf" => {
                let address = option("gelf-address").ok_or("gelf-address is a required parameter")?;
                match Place::parse(address, 12201)? {
                    place @ (Place::Udp(_) | Place::Tcp(_)) => (place, Protocol::Gelf),
                    place => return Err(format!("gelf takes udp:// and tcp:// addresses, not {place}")),
                }
            }
            other => return Err(format!("no log driver named {other:?} sends lines")),
        };
        if let Some(kind) = option("gelf-compression-type")
            && !matches!(kind, "none" | "gzip" | "zlib")
        {
            return Err(format!("gelf-compression-type {kind:?} is none of gzip, zlib and none"));
        }
        Ok(Target { place, protocol, open: None })
    }

    /// Sends one line; connects where there is no connection.
    pub async fn send(&mut self, line: &Line<'_>, facts: &Facts) -> io::Result<()> {
        let packets = self.packets(line, facts);
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::connect(&self.place).await?,
        };
        // What was refused is sent again over a fresh connection.
        open.write(&packets).await?;
        self.open = Some(open);
        Ok(())
    }

    fn packets(&self, line: &Line<'_>, facts: &Facts) -> Vec<Vec<u8>> {
        match &self.protocol {
            Protocol::Syslog(style) => vec![style.packet(line, facts)],
            Protocol::Journald => vec![journald::packet(line, facts)],
            Protocol::Fluentd => vec![fluentd::packet(line, facts)],
            Protocol::Gelf => {
                let message = gelf::message(line, facts);
                match self.place {
                    Place::Udp(_) => gelf::datagrams(message, line),
                    _ => vec![[message, vec![0]].concat()],
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, wanted) in [
            ("udp://127.0.0.1:514", Some("udp://127.0.0.1:514")),
            ("udp://127.0.0.1", Some("udp://127.0.0.1:514")),
            ("localhost:24224", Some("tcp://127.0.0.1:24224")),
            ("unix:///dev/log", Some("unix:///dev/log")),
            ("unixgram:///dev/log", Some("unixgram:///dev/log")),
            ("udp://name.example:514", None),
            ("unix://relative", None),
            ("tcp+tls://127.0.0.1:1", None),
        ] {
            let found = Place::parse(text, 514).ok().map(|place| place.to_string());
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
        assert!(Target::parse("gelf", &BTreeMap::new()).is_err());
    }
}

//! Health probes that need nothing in the image: a connection, or an HTTP request, made in the container's
//! network namespace by a thread of the engine.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_sys::network_namespace::NetworkNamespace;

/// Of an answer only the first line counts; some of the rest is kept for people.
const ANSWER_MAX: usize = 4096;

/// What is asked of the container's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Something takes a connection.
    Tcp(SocketAddr),
    /// Something answers `GET` with a status below 400.
    Http {
        /// Where.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
}

impl Request {
    /// Reads `TCP` and `[ADDRESS:]PORT`, or `HTTP` and `PORT[/PATH]` or `http://ADDRESS[:PORT][/PATH]`.
    pub fn parse(kind: &str, text: &str) -> Option<Request> {
        if kind == "TCP" {
            return address(text).map(Request::Tcp);
        }
        let rest = text.strip_prefix("http://");
        let (place, path) = match rest.unwrap_or(text).split_once('/') {
            Some((place, path)) => (place, format!("/{path}")),
            None => (rest.unwrap_or(text), "/".to_owned()),
        };
        // In a URL the port may be left away, and alone it is none.
        let address = match rest {
            Some(_) => address(place).filter(|_| place.parse::<u16>().is_err()).or_else(|| host(place, 80)),
            None => address(place),
        };
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        address.filter(|_| plain).map(|address| Request::Http { address, path })
    }
}

/// `PORT`, `ADDRESS:PORT`, `localhost:PORT`.
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return (port > 0).then_some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return address(port);
    }
    text.parse().ok().filter(|address: &SocketAddr| address.port() > 0)
}

fn host(text: &str, port: u16) -> Option<SocketAddr> {
    let text = if text == "localhost" { "127.0.0.1" } else { text };
    let ip: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// Asks within the network namespace at `namespace`; exit code and words as a probe's command would give them.
pub async fn ask(namespace: &Path, request: Request, timeout: Duration) -> (i64, String) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let namespace = namespace.to_owned();
    // A thread of its own, that ends afterwards: none of a pool may be in another network.
    let spawned = std::thread::Builder::new().name("probe".into()).spawn(move || {
        let result = enter(&namespace).and_then(|()| perform(&request, timeout));
        // Nobody waits any more where the container has ended.
        let _ = sender.send(result);
    });
    if let Err(error) = spawned {
        return (1, format!("cannot start a probe: {error}"));
    }
    match receiver.await {
        Ok(Ok((healthy, text))) => (i64::from(!healthy), text),
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            (-1, format!("Health check exceeded timeout ({}s)", timeout.as_secs_f64()))
        }
        Ok(Err(error)) => (1, error.to_string()),
        Err(_) => (1, "the probe ended without an answer".into()),
    }
}

fn enter(namespace: &Path) -> io::Result<()> {
    let path = namespace.to_str().ok_or_else(|| io::Error::other("a namespace's path is no text"))?;
    Ok(NetworkNamespace::open(path)?.enter()?)
}

fn perform(request: &Request, timeout: Duration) -> io::Result<(bool, String)> {
    let deadline = Instant::now() + timeout;
    let connect = |address: &SocketAddr| {
        TcpStream::connect_timeout(address, timeout)
            .map_err(|error| io::Error::new(error.kind(), format!("connect to {address}: {error}")))
    };
    match request {
        Request::Tcp(address) => connect(address).map(|_| (true, format!("{address} takes connections"))),
        Request::Http { address, path } => get(connect(address)?, address, path, deadline),
    }
}

fn get(
    mut stream: TcpStream,
    address: &SocketAddr,
    path: &str,
    deadline: Instant,
) -> io::Result<(bool, String)> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_write_timeout(Some(left()))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: ferry-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < ANSWER_MAX && !answer.contains(&b'\n') {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let first = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).trim_end().to_owned();
    let status = first.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
    Ok(match status {
        Some(status) => ((200..400).contains(&status), format!("{first} from http://{address}{path}")),
        None => (false, format!("no HTTP answer from {address}: {first:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read() {
        let http = |address: &str, path: &str| {
            Some(Request::Http { address: address.parse().unwrap(), path: path.into() })
        };
        for (kind, text, wanted) in [
            ("TCP", "80", Some(Request::Tcp("127.0.0.1:80".parse().unwrap()))),
            ("TCP", "[::1]:80", Some(Request::Tcp("[::1]:80".parse().unwrap()))),
            ("TCP", "0", None),
            ("TCP", "web:80", None),
            ("HTTP", "8080", http("127.0.0.1:8080", "/")),
            ("HTTP", "8080/healthz?x=1", http("127.0.0.1:8080", "/healthz?x=1")),
            ("HTTP", "http://localhost/up", http("127.0.0.1:80", "/up")),
            ("HTTP", "http://localhost:81", http("127.0.0.1:81", "/")),
            ("HTTP", "https://localhost/", None),
            ("HTTP", "80/a b", None),
        ] {
            assert_eq!(Request::parse(kind, text), wanted, "{kind} {text}");
        }
    }
}

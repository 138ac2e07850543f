//! The sockets the API is served on: inherited from the keeper, or bound here.
//!
//! The keeper holds the listening socket and engines inherit it, so that clients queue on it while one
//! engine takes over from another; an engine without a keeper (tests) binds its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ferry_sys::rights::Rights;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::carried::Carried;
use crate::spec::mounts::Caller;

/// The socket's mode: root and its group, as Docker's.
const SOCKET_MODE: u32 = 0o660;

/// The user of whom nothing is known.
const NOBODY: u32 = 65534;

/// A socket that cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is of a kind that is not served.
    #[error("host {0:?} is neither unix://PATH nor tcp://ADDRESS:PORT")]
    UnknownHost(String),
    /// An address that is not on this machine only.
    #[error(
        "host {0:?} is reachable from other machines, and whoever reaches it is root here; use unix:// or tcp://127.0.0.1:PORT"
    )]
    Exposed(String),
    /// The kernel refused.
    #[error("listen on {host}")]
    Bind {
        /// What was asked for.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A listening API socket.
pub enum Listener {
    /// A socket file.
    Unix(UnixListener),
    /// A loopback port.
    Tcp(TcpListener),
}

impl Listener {
    /// Takes over a listening unix socket made by another process.
    pub fn inherited(fd: OwnedFd) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { host: "the inherited socket".into(), source };
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true).map_err(bind)?;
        Ok(Self::Unix(UnixListener::from_std(listener).map_err(bind)?))
    }

    /// Binds `unix://PATH` or `tcp://ADDRESS:PORT`.
    pub async fn bind(host: &str) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { host: host.to_owned(), source };
        if let Some(path) = host.strip_prefix("unix://") {
            return bind_unix(Path::new(path)).map(Self::Unix).map_err(failed);
        }
        let Some(address) = host.strip_prefix("tcp://") else {
            return Err(ListenError::UnknownHost(host.to_owned()));
        };
        let address: std::net::SocketAddr =
            address.parse().map_err(|_| ListenError::UnknownHost(host.to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(ListenError::Exposed(host.to_owned()));
        }
        TcpListener::bind(address).await.map(Self::Tcp).map_err(failed)
    }

    /// The next client.
    pub async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Connection::Unix { stream, carried: Carried::default(), begun: false })
            }
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
        }
    }
}

/// Binds the socket file, replacing one that nobody listens on any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another engine listens on this socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let temporary = temporary_beside(path);
    let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
    // Mode before name: nobody finds the socket while it is open to everyone.
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    std::fs::rename(&temporary, path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

impl Connection {
    /// Who is at the other end, where the kernel knows it.
    pub fn caller(&self) -> Option<Caller> {
        match self {
            Self::Unix { stream, .. } => {
                let credentials = stream.peer_cred().ok()?;
                Some(Caller { uid: credentials.uid(), gid: credentials.gid() })
            }
            Self::Tcp(_) => None,
        }
    }

    /// The rights on files of who is at the other end, where the engine has more: then files that a
    /// client names or hands over are opened with these.
    pub fn rights(&self) -> Option<Arc<Rights>> {
        let Self::Unix { stream, .. } = self else { return None };
        let own = rustix::process::geteuid();
        match Rights::of_peer(stream.as_fd()) {
            Ok(rights) if own.is_root() && rights.uid != own.as_raw() => Some(Arc::new(rights)),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the other end of a connection is not known; it counts as nobody");
                Some(Arc::new(Rights { uid: NOBODY, gid: NOBODY, groups: Vec::new() }))
            }
        }
    }

    /// The descriptors that come with the connection.
    pub fn carried(&self) -> Carried {
        match self {
            Self::Unix { carried, .. } => carried.clone(),
            Self::Tcp(_) => Carried::default(),
        }
    }
}

/// A client's connection.
pub enum Connection {
    /// Through the socket file.
    Unix {
        /// The bytes.
        stream: UnixStream,
        /// What comes with the first of them.
        carried: Carried,
        /// The first of them were read.
        begun: bool,
    },
    /// Through a loopback port.
    Tcp(TcpStream),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Connection::Unix { stream: $stream, .. } => $call,
            Connection::Tcp($stream) => $call,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Connection::Unix { stream, carried, begun } = &mut *self
            && !*begun
        {
            let polled = carried.poll_read(stream, cx, buf);
            *begun = polled.is_ready();
            return polled;
        }
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

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

use ferry_api::{Host, TlsError};
use ferry_sys::rights::Rights;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::carried::Carried;
use super::hangup::Watch;
use super::tls::ServerTls;
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
    /// Its certificates.
    #[error("cannot serve TLS on {host}")]
    Tls {
        /// What was asked for.
        host: String,
        /// Why not.
        #[source]
        source: TlsError,
    },
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
    /// A port, with TLS where there is something to make it with.
    Tcp(TcpListener, Option<TlsAcceptor>),
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
    pub async fn bind(host: &str, tls: Option<&ServerTls>) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { host: host.to_owned(), source };
        if let Some(path) = host.strip_prefix("unix://") {
            return bind_unix(Path::new(path)).map(Self::Unix).map_err(failed);
        }
        let address = match Host::parse_for(host, tls.is_some()) {
            Ok(Host::Tcp(tcp)) => tcp.address(),
            Ok(Host::Unix(_) | Host::Ssh(_)) | Err(_) => None,
        };
        let address = address.ok_or_else(|| ListenError::UnknownHost(host.to_owned()))?;
        let acceptor = tls.map(ServerTls::acceptor).transpose();
        let acceptor = acceptor.map_err(|source| ListenError::Tls { host: host.to_owned(), source })?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        warn_of_exposure(bound, tls);
        tracing::info!(address = %format!("tcp://{bound}"), tls = tls.is_some(), "API listens");
        Ok(Self::Tcp(listener, acceptor))
    }

    /// The next client, with TLS not yet begun.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let carried = Carried::default();
                Ok(Accepted::Ready(Connection::Unix { stream, carried, begun: false }))
            }
            Self::Tcp(listener, acceptor) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(match acceptor {
                    None => Accepted::Ready(Connection::Tcp(stream)),
                    Some(acceptor) => Accepted::Tls(acceptor.clone(), stream),
                })
            }
        }
    }
}

/// Whoever reaches the port is root here: said loudly where it is not only this machine.
fn warn_of_exposure(address: std::net::SocketAddr, tls: Option<&ServerTls>) {
    let lets_anybody_in = tls.is_none_or(|tls| tls.authorities.is_none());
    if !lets_anybody_in {
        return;
    }
    let reach = if address.ip().is_loopback() { "every user of this machine" } else { "the network" };
    let how = if tls.is_none() { "without encryption" } else { "without checking who asks" };
    tracing::warn!(
        "[SECURITY] API is accessible on tcp://{address} {how}: access to it is equivalent to root access on this host, and {reach} has it. Use --tlsverify with --tlscacert, --tlscert and --tlskey"
    );
}

/// A client that connected.
pub enum Accepted {
    /// It can be served.
    Ready(Connection),
    /// TLS has to be agreed first.
    Tls(TlsAcceptor, TcpStream),
}

impl Accepted {
    /// Agrees on TLS where there is some; takes as long as the client does.
    pub async fn ready(self) -> io::Result<Connection> {
        match self {
            Self::Ready(connection) => Ok(connection),
            Self::Tls(acceptor, stream) => Ok(Connection::Tls(Box::new(acceptor.accept(stream).await?))),
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
            Self::Tcp(_) | Self::Tls(_) => None,
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

    /// Whether the client has yet to read something that was sent; not known over a network.
    pub fn has_unread(&self) -> Option<bool> {
        match self {
            Self::Unix { stream, .. } => {
                ferry_sys::descriptor::unread(stream.as_fd()).ok().map(|bytes| bytes > 0)
            }
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }

    /// A handle that sees the client leave.
    pub fn watch(&self) -> io::Result<Watch> {
        match self {
            Self::Unix { stream, .. } => Watch::local(stream),
            Self::Tcp(stream) => Watch::remote(stream),
            Self::Tls(stream) => Watch::remote(stream.get_ref().0),
        }
    }

    /// The descriptors that come with the connection.
    pub fn carried(&self) -> Carried {
        match self {
            Self::Unix { carried, .. } => carried.clone(),
            Self::Tcp(_) | Self::Tls(_) => Carried::default(),
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
    /// Through a port.
    Tcp(TcpStream),
    /// Through a port, with TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Connection::Unix { stream: $stream, .. } => $call,
            Connection::Tcp($stream) => $call,
            Connection::Tls($stream) => $call,
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

//! Connecting, and the few idle connections that are kept.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::carry::Carrying;
use super::{ClientError, Host};

/// The request side of one connection.
pub(super) type Sender = http1::SendRequest<UnsyncBoxBody<bytes::Bytes, io::Error>>;

/// How many connections wait for a next call: more than calls that one command makes at a time.
const MAX_IDLE: usize = 4;

/// Connections between calls.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Sender>>);

impl Idle {
    pub(super) fn take(&self) -> Option<Sender> {
        let mut list = self.0.lock().expect("no holder of the idle list panics");
        while let Some(sender) = list.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    pub(super) fn put(&self, sender: Sender) {
        let mut list = self.0.lock().expect("no holder of the idle list panics");
        if list.len() < MAX_IDLE && !sender.is_closed() {
            list.push(sender);
        }
    }
}

/// Opens a connection that hands over descriptors with its first byte, over TLS where there is some.
pub(super) async fn connect(
    host: &Host,
    tls: Option<&TlsConnector>,
    descriptors: &Arc<Vec<OwnedFd>>,
) -> Result<Sender, ClientError> {
    let refuse = |source| ClientError::Connect { host: host.to_string(), source };
    match host {
        Host::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(refuse)?;
            match descriptors.is_empty() {
                true => handshake(host, stream).await,
                false => handshake(host, Carrying::new(stream, Arc::clone(descriptors))).await,
            }
        }
        Host::Ssh(ssh) => handshake(host, ssh.connect().map_err(refuse)?).await,
        Host::Tcp(tcp) => {
            let stream = tcp.connect().await.map_err(refuse)?;
            // Small messages go back and forth in raw streams.
            stream.set_nodelay(true).map_err(refuse)?;
            match tls {
                None => handshake(host, stream).await,
                Some(tls) => {
                    let name = tcp.server_name().map_err(refuse)?;
                    handshake(host, tls.connect(name, stream).await.map_err(refuse)?).await
                }
            }
        }
    }
}

/// Speaks HTTP over an open stream and leaves the connection's driver running in the background.
pub(super) async fn handshake<S>(host: &Host, stream: S) -> Result<Sender, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ClientError::Request { host: host.to_string(), source })?;
    tokio::spawn(async move {
        // A failure reaches the call through its own response future.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

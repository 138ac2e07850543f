//! The HTTP client of the engine's socket.
//!
//! One call is one HTTP/1.1 request over the Unix socket; connections whose answer was read whole are
//! kept for the next call. Attach and exec turn their connection into a raw stream ([`Hijacked`]).

mod call;
mod carry;
mod connection;
mod error;
mod hijack;
mod host;
mod response;
mod ssh;
mod tcp;
pub mod tls;

pub use call::{Body, Call};
pub use error::ClientError;
pub use hijack::Hijacked;
pub use host::{Host, HostError};
pub use response::{JsonLines, Response};
pub use ssh::{SshHost, SshStream};
pub use tcp::TcpHost;
pub use tls::{TlsError, TlsOptions};

use std::sync::{Arc, Mutex, OnceLock};

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use self::connection::{Idle, Sender};
use crate::{API_VERSION, ApiError};

/// A client of one engine.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    /// Speaks TLS at a TCP address.
    tls: Option<Tls>,
    /// Connections with nothing under way. Few calls run at once, so few are ever kept.
    idle: Idle,
    /// The version put before every path; lowered when the engine says that it is too new.
    version: Mutex<String>,
    /// What the user's settings add to every call.
    headers: OnceLock<Vec<(String, String)>>,
}

/// What makes TLS connections; its inside shows nothing.
#[derive(Clone)]
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tls")
    }
}

impl Client {
    /// A client that connects at its first call.
    pub fn new(host: Host) -> Client {
        Client::made(host, None)
    }

    /// A client that speaks TLS at a TCP address.
    pub fn with_tls(host: Host, options: &TlsOptions) -> Result<Client, TlsError> {
        Ok(Client::made(host, Some(Tls(options.connector()?))))
    }

    fn made(host: Host, tls: Option<Tls>) -> Client {
        let version = Mutex::new(API_VERSION.to_owned());
        Client {
            shared: Arc::new(Shared { host, tls, idle: Idle::default(), version, headers: OnceLock::new() }),
        }
    }

    /// A client whose first call goes over a connection that is open already.
    pub async fn with_connection(host: Host, stream: UnixStream) -> Result<Client, ClientError> {
        let sender = connection::handshake(&host, stream).await?;
        let client = Client::new(host);
        client.shared.keep(sender);
        Ok(client)
    }

    /// The engine this client talks to.
    pub fn host(&self) -> &Host {
        &self.shared.host
    }

    /// The API version that calls are made with.
    pub fn version(&self) -> String {
        self.shared.version.lock().expect("no holder of the version panics").clone()
    }

    /// Fixes the version, as `DOCKER_API_VERSION` asks.
    pub fn set_version(&self, version: &str) {
        *self.shared.version.lock().expect("no holder of the version panics") = version.to_owned();
    }

    /// Adds headers to every call; those that a call has itself go before them. Counts once.
    pub fn set_headers(&self, headers: Vec<(String, String)>) {
        let _ = self.shared.headers.set(headers);
    }

    /// Asks the engine which versions it speaks and settles on the highest common one.
    pub async fn negotiate(&self) -> Result<(), ClientError> {
        let response = self.send(&mut Call::head("/_ping").unversioned()).await?;
        if let Some(offered) = response.header("api-version")
            && version_key(offered) < version_key(&self.version())
        {
            self.set_version(offered);
        }
        response.discard().await
    }

    /// Makes a call; any status from 400 on becomes an error.
    pub async fn call(&self, mut call: Call) -> Result<Response, ClientError> {
        if call.has_stream_body() {
            self.negotiate().await?;
        }
        let response = self.send(&mut call).await?;
        let error = match response.into_result().await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        // An answer to HEAD has no text to tell what is wrong with the request.
        let untold = call.is_head() && error.status() == Some(400);
        if call.has_stream_body() || !(error.is_version_too_new() || untold) {
            return Err(error);
        }
        self.negotiate().await?;
        self.send(&mut call).await?.into_result().await
    }

    /// Makes a call whose connection then carries a raw stream.
    pub async fn hijack(&self, call: Call) -> Result<Hijacked, ClientError> {
        let mut call = call.header(CONNECTION.as_str(), "Upgrade").header(UPGRADE.as_str(), "tcp");
        let mut response = self.send_on_new(&mut call).await?;
        if response.status().is_client_error() {
            match response.into_result().await {
                Err(error) if error.is_version_too_new() => {}
                Err(error) => return Err(error),
                Ok(_) => return Err(ClientError::protocol("a client error without an error")),
            }
            self.negotiate().await?;
            response = self.send_on_new(&mut call).await?;
        }
        let response = response.into_result().await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::protocol(format!(
                "the engine answered {} where 101 Switching Protocols was wanted",
                response.status()
            )));
        }
        Hijacked::from_response(response).await
    }

    async fn send(&self, call: &mut Call) -> Result<Response, ClientError> {
        // Descriptors travel with the first byte of a connection.
        if call.carried().is_empty()
            && let Some(sender) = self.shared.idle.take()
        {
            let retry = call.body_is_repeatable();
            match self.send_on(sender, call).await {
                // The engine may have been replaced since the last call; a fresh connection tells.
                Err(ClientError::Request { .. }) if retry => {}
                other => return other,
            }
        }
        self.send_on_new(call).await
    }

    async fn send_on_new(&self, call: &mut Call) -> Result<Response, ClientError> {
        let tls = self.shared.tls.as_ref().map(|tls| &tls.0);
        let sender = connection::connect(&self.shared.host, tls, call.carried()).await?;
        self.send_on(sender, call).await
    }

    fn added_headers<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a (String, String)> {
        let own = |name: &str| call.headers().iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let fixed = |name: &str| {
            let fixed =
                [HOST, USER_AGENT, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE];
            fixed.iter().any(|fixed| name.eq_ignore_ascii_case(fixed.as_str()))
        };
        let added = self.shared.headers.get().into_iter().flatten();
        added.filter(move |(name, _)| !own(name) && !fixed(name))
    }

    async fn send_on(&self, mut sender: Sender, call: &mut Call) -> Result<Response, ClientError> {
        let path = call.target(&self.version());
        let mut builder = http::Request::builder().method(call.method().clone()).uri(&path);
        builder = builder.header(HOST, self.shared.host.authority());
        builder = builder.header(USER_AGENT, concat!("ferry/", env!("CARGO_PKG_VERSION")));
        if let Some(kind) = call.content_type() {
            builder = builder.header(CONTENT_TYPE, kind);
        }
        for (name, value) in call.headers().iter().chain(self.added_headers(call)) {
            builder = builder.header(name, value);
        }
        let request =
            builder.body(call.take_body()).map_err(|error| ClientError::protocol(error.to_string()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| ClientError::Request { host: self.shared.host.to_string(), source })?;
        Ok(Response::new(response, sender, self.shared.clone(), call))
    }
}

impl Shared {
    fn keep(&self, sender: Sender) {
        self.idle.put(sender);
    }
}

/// `1.47` as a pair that compares as versions do; what is no version is the lowest.
fn version_key(version: &str) -> (u32, u32) {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

impl ClientError {
    fn is_version_too_new(&self) -> bool {
        matches!(self, ClientError::Api(ApiError { status: 400, message }) if message.contains("is too new"))
    }
}

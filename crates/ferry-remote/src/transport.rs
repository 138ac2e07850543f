//! Connections: names to addresses without the C library, TLS with the operator's certificates, proxies from the
//! environment, kept connections, and time limits. Knows HTTP, nothing of registries.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::error::{RemoteError, show, show_host};
use crate::settings::{Settings, host_of};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body: nothing, bytes, or a stream.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of bytes at hand.
#[must_use]
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes of one read. Larger ones save next to nothing, and each layer in transit holds several of them.
const READ_MAX: usize = 128 << 10;

/// Sends requests; cheap to clone, connections are shared.
#[derive(Clone)]
pub struct Transport {
    client: Client<Connector, Body>,
    shared: Arc<Shared>,
}

impl Transport {
    /// A transport with no connection yet; files are read and names looked up when first needed.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        let proxies = proxies(&settings);
        let shared = Arc::new(Shared {
            settings,
            proxies,
            resolver: OnceLock::new(),
            roots: OnceLock::new(),
            tls: Mutex::new(HashMap::new()),
        });
        let connector = Connector(Arc::clone(&shared));
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(16)
            .http1_max_buf_size(READ_MAX)
            .build(connector);
        Self { client, shared }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Sends a request and waits for the head of the answer. Time counts from the last piece of the body that went out:
    /// a large upload may take as long as it moves.
    ///
    /// # Errors
    /// Where no connection comes about, it breaks, or nothing comes in time.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, RemoteError> {
        let place = show(request.uri());
        let authority = show_host(request.uri());
        if let Ok(agent) = HeaderValue::from_str(&self.settings().user_agent) {
            request.headers_mut().insert(header::USER_AGENT, agent);
        }
        if let Some(proof) = self.shared.proof_for_proxy(request.uri()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, proof);
        }
        let after = self.settings().answer_timeout;
        let moved = Arc::new(Mutex::new(Instant::now()));
        let request = request.map(|body| watched(body, &moved));
        let last = || *moved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = std::pin::pin!(self.client.request(request));
        loop {
            match tokio::time::timeout_at(last() + after, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(classify(error, place, authority)),
                Err(_) if Instant::now() < last() + after => {}
                Err(_) => return Err(RemoteError::Timeout { place, after }),
            }
        }
    }
}

/// The same body, noting when its last piece was asked for. One whose length is known is at hand and needs no watching.
fn watched(body: Body, moved: &Arc<Mutex<Instant>>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let moved = Arc::clone(moved);
    let note = move |frame| {
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        frame
    };
    body.map_frame(note).boxed_unsync()
}

/// Our own errors come back wrapped by the client; the innermost one says most.
fn classify(error: hyper_util::client::legacy::Error, place: String, authority: String) -> RemoteError {
    if !error.is_connect() {
        return RemoteError::Exchange { place, source: Box::new(error) };
    }
    let mut texts: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        if let Some(RemoteError::Resolve { host, source }) = one.downcast_ref() {
            return RemoteError::Resolve { host: host.clone(), source: source.to_string().into() };
        }
        let text = one.to_string();
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        cause = one.source();
    }
    let source = if texts.is_empty() { error.into() } else { texts.join(": ").into() };
    RemoteError::Connect { authority, source }
}

/// What the resolver's answer means to people.
fn no_address(error: hickory_resolver::net::NetError) -> BoxError {
    match error.is_no_records_found() {
        true => "the name servers know no such name".into(),
        false => error.into(),
    }
}

/// The operator's proxies; else those of the environment.
fn proxies(settings: &Settings) -> Matcher {
    match &settings.proxies {
        None => Matcher::from_env(),
        Some(proxies) => Matcher::builder()
            .http(proxies.http.clone())
            .https(proxies.https.clone())
            .no(proxies.none.clone())
            .build(),
    }
}

struct Shared {
    settings: Arc<Settings>,
    proxies: Matcher,
    resolver: OnceLock<hickory_resolver::TokioResolver>,
    roots: OnceLock<Arc<RootCertStore>>,
    tls: Mutex<HashMap<String, (Vec<Stamp>, Arc<rustls::ClientConfig>)>>,
}

/// A file of certificates as it was when it was read.
type Stamp = (PathBuf, Option<SystemTime>);

/// Makes connections for the client's pool.
#[derive(Clone)]
struct Connector(Arc<Shared>);

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.connect(&uri).await })
    }
}

impl Shared {
    /// The proxy for an address. As in Go's libraries, loopback addresses are asked directly whatever the settings say.
    fn proxy_for(&self, uri: &Uri) -> Option<Intercept> {
        let host = uri.host()?;
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        match host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
            true => None,
            false => self.proxies.intercept(uri),
        }
    }

    /// What proves identity to a proxy that is handed the request itself; a tunnel is asked for with it instead.
    fn proof_for_proxy(&self, uri: &Uri) -> Option<HeaderValue> {
        let plain = uri.scheme_str() == Some("http");
        let mut proof = self.proxy_for(uri).filter(|_| plain)?.basic_auth()?.clone();
        proof.set_sensitive(true);
        Some(proof)
    }

    async fn connect(&self, uri: &Uri) -> Result<Stream, BoxError> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or("the address names no host")?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let (tcp, proxied) = match self.proxy_for(uri) {
            None => (self.dial(host, port).await?, false),
            Some(proxy) => {
                let proxy_host = proxy.uri().host().ok_or("the proxy's address names no host")?;
                let proxy_port = proxy.uri().port_u16().unwrap_or(3128);
                let mut tcp = self.dial(proxy_host, proxy_port).await?;
                if secure {
                    tunnel(&mut tcp, host, port, proxy.basic_auth()).await?;
                }
                (tcp, !secure)
            }
        };
        if !secure {
            return Ok(Stream { io: TokioIo::new(Box::new(tcp)), proxied, http2: false });
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or(host);
        let config = self.tls_config(authority)?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(explain)?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Stream { io: TokioIo::new(Box::new(tls)), proxied: false, http2 })
    }

    /// Connects to the first address that answers.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, BoxError> {
        let mut last: BoxError = format!("{host} has no address").into();
        for address in self.addresses(host).await? {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, BoxError> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        if host == "localhost" {
            return Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
        }
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let built = hickory_resolver::TokioResolver::builder_tokio()?.build()?;
                self.resolver.get_or_init(|| built)
            }
        };
        let found = resolver
            .lookup_ip(host)
            .await
            .map_err(|error| RemoteError::Resolve { host: host.to_owned(), source: no_address(error) })?;
        Ok(found.iter().collect())
    }

    /// The TLS settings for a registry, made anew when its certificates change: system roots, the operator's
    /// certificates, or no check at all.
    fn tls_config(&self, authority: &str) -> Result<Arc<rustls::ClientConfig>, BoxError> {
        let stamps = OwnCertificates::stamps(&self.settings, authority);
        let mut configs = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = configs.get(authority)
            && *known == stamps
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make_tls_config(authority)?);
        configs.insert(authority.to_owned(), (stamps, Arc::clone(&config)));
        Ok(config)
    }

    fn make_tls_config(&self, authority: &str) -> Result<rustls::ClientConfig, BoxError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let own = OwnCertificates::read(&self.settings, authority)?;
        let builder = if self.settings.is_insecure(authority) && own.authorities.is_empty() {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            let mut roots = RootCertStore::clone(self.system_roots());
            for certificate in own.authorities {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match own.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The system's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` first); Mozilla's where there are none.
    fn system_roots(&self) -> &RootCertStore {
        self.roots.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(roots)
        })
    }
}

/// An answer that is no TLS at all most often comes from a server that speaks plain HTTP.
fn explain(error: io::Error) -> BoxError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "server gave HTTP response to HTTPS client".into()
        }
        _ => error.into(),
    }
}

/// Asks a proxy for a connection to the host (RFC 9110, section 9.3.6).
async fn tunnel(
    tcp: &mut TcpStream,
    host: &str,
    port: u16,
    proof: Option<&HeaderValue>,
) -> Result<(), BoxError> {
    const ANSWER_MAX: usize = 8192;
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(proof) = proof {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(proof.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    tcp.write_all(&request).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the empty line belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_MAX {
            return Err("the proxy's answer does not end".into());
        }
        answer.push(tcp.read_u8().await?);
    }
    let status = String::from_utf8_lossy(&answer);
    match status.split_whitespace().nth(1) {
        Some(code) if code.starts_with('2') => Ok(()),
        _ => Err(format!("the proxy refused: {}", status.lines().next().unwrap_or_default()).into()),
    }
}

/// What stands in `certs.d/<host[:port]>`.
#[derive(Default)]
struct OwnCertificates {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl OwnCertificates {
    fn read(settings: &Settings, authority: &str) -> Result<Self, RemoteError> {
        let mut own = Self::default();
        for folder in Self::folders(settings, authority) {
            own.read_folder(&folder)?;
        }
        Ok(own)
    }

    fn folders(settings: &Settings, authority: &str) -> impl Iterator<Item = PathBuf> {
        let names = [authority, host_of(authority)];
        settings.certificates.iter().flat_map(move |folder| names.map(|name| folder.join(name)))
    }

    /// By which a change of the files is seen.
    fn stamps(settings: &Settings, authority: &str) -> Vec<Stamp> {
        let entries = Self::folders(settings, authority).filter_map(|folder| std::fs::read_dir(folder).ok());
        let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
        let mut stamps: Vec<Stamp> =
            entries.flatten().flatten().map(|entry| (entry.path(), changed(&entry.path()))).collect();
        stamps.sort();
        stamps
    }

    fn read_folder(&mut self, folder: &Path) -> Result<(), RemoteError> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let bad = |reason: String| RemoteError::Certificates { path: path.display().to_string(), reason };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.authorities.extend(certificates(&path).map_err(bad)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    let key = PrivateKeyDer::from_pem_file(&key)
                        .map_err(|error| bad(format!("{}: {error}", key.display())))?;
                    self.client = Some((certificates(&path).map_err(bad)?, key));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    all.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Takes any certificate: only for registries that the operator called insecure.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, plain or TLS.
struct Stream {
    io: TokioIo<Box<dyn Io>>,
    proxied: bool,
    http2: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.proxied);
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
/// The first address of a host, for whoever has to hand an address to the kernel.
pub async fn look_up(host: &str) -> std::io::Result<IpAddr> {
    let resolver = hickory_resolver::TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let found = resolver.map_err(std::io::Error::other)?.lookup_ip(host).await;
    let first = found.map_err(std::io::Error::other)?.iter().next();
    first.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address"))
}

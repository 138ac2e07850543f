//! Listening: connections, their limits, TLS, and an end that lets requests finish.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::body::Body;
use crate::connection::Connection;
use crate::log;
use crate::refusal::Refusal;
use crate::registry::{OpenError, Registry};
use crate::routes::{self, Connected, UserName};
use crate::settings::{Settings, Tls};
use crate::tls::{self, TlsError};

/// A client must have sent its whole head by then; an idle connection is closed then too.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// A handshake must be done by then.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that one connection may hold in memory, which limits a request's head too.
const BUFFER_MAX: usize = 128 << 10;
/// Most headers.
const HEADERS_MAX: usize = 100;
/// Requests that run get so long to finish when the registry ends.
const GOODBYE: Duration = Duration::from_secs(10);
/// Threads that may wait for the disk at a time.
const BLOCKING_MAX: usize = 16;
/// Waits so long after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the registry cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The root.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Threads or signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Serves until asked to end by SIGTERM or SIGINT. Blocking; needs a process of its own.
pub fn run(settings: Settings) -> Result<(), ServeError> {
    ferry_sys::monitor::return_large_buffers();
    allow_descriptors();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_MAX).build()?;
    let result = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Raises the limit of open files as far as it goes: each connection and each upload that gets on needs one.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, fewer clients are served at a time.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

async fn serve(settings: Settings) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let registry = Arc::new(Registry::open(settings)?);
    let settings = &registry.settings;
    let acceptor = tls::acceptor(&settings.tls, &registry.files.certificates())?;
    let address = settings.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr()?;
    let scheme = if settings.tls == Tls::Off { "http" } else { "https" };
    log::note(&format!("serves {} at {scheme}://{address}", settings.root.display()));
    let keeper = tokio::spawn(keep_house(Arc::clone(&registry)));
    let graceful = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, &registry, acceptor, &graceful) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(listener);
    keeper.abort();
    log::note("ends: requests that run may finish");
    // Whoever is not done by then is cut off; uploads can go on after the next start.
    let _ = tokio::time::timeout(GOODBYE, graceful.shutdown()).await;
    Ok(())
}

/// Collects garbage from time to time.
async fn keep_house(registry: Arc<Registry>) {
    match registry.remove_orphans().await {
        Ok(0) => {}
        Ok(count) => log::note(&format!("removed {count} files that a kill had left behind")),
        Err(refusal) => log::fault(&format!("looking for left files: {refusal:?}")),
    }
    // What only the start needed; a kernel that refuses keeps it.
    let _ = ferry_sys::monitor::shrink();
    let settings = &registry.settings;
    let sweeps = every(Some(settings.sweep_interval), "collecting garbage", || async {
        registry.collect().await.map(|_| ())
    });
    let retains = !settings.retention.is_empty() && !settings.read_only;
    let retention = every(retains.then_some(settings.retention_interval), "retention", || async {
        registry.retain().await.map(|_| ())
    });
    let scrubs = every(settings.scrub_interval, "scrub", || async { registry.scrub().await.map(|_| ()) });
    tokio::join!(sweeps, retention, scrubs);
}

/// Does something again and again; never where there is no interval.
async fn every<F: Future<Output = Result<(), Refusal>>>(
    interval: Option<Duration>,
    what: &str,
    act: impl Fn() -> F,
) {
    let Some(interval) = interval else { return };
    loop {
        tokio::time::sleep(interval).await;
        if let Err(refusal) = act().await {
            log::fault(&format!("{what}: {refusal:?}"));
        }
    }
}

async fn accept(
    listener: &TcpListener,
    registry: &Arc<Registry>,
    acceptor: Option<TlsAcceptor>,
    graceful: &GracefulShutdown,
) {
    let room = Arc::new(Semaphore::new(registry.settings.max_connections));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::fault(&format!("accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        registry.metrics.connected();
        // Answers are written whole; waiting for more to send would only delay small ones.
        let _ = stream.set_nodelay(true);
        let (registry, acceptor, watcher) = (Arc::clone(registry), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) => encrypted(registry, acceptor, stream, peer, watcher).await,
                None => {
                    let connection = Connection::new(stream);
                    let outbox = Some(connection.outbox());
                    let connected = Connected { outbox, tls: false, client: peer.ip() };
                    converse(registry, connected, connection, peer, watcher).await;
                }
            }
            drop(permit);
        });
    }
}

async fn encrypted(
    registry: Arc<Registry>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // A client that speaks no TLS, or does not trust the certificate, needs no answer.
    if let Ok(Ok(stream)) =
        tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(Connection::new(stream))).await
    {
        let connected = Connected { outbox: None, tls: true, client: peer.ip() };
        converse(registry, connected, stream, peer, watcher).await;
    }
}

async fn converse<S>(
    registry: Arc<Registry>,
    connected: Connected,
    stream: S,
    peer: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = peer.to_string();
    let service = service_fn(move |request: Request<Incoming>| {
        let (registry, connected, peer) = (Arc::clone(&registry), connected.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(registry, connected, request, &peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(BUFFER_MAX)
        .max_headers(HEADERS_MAX)
        .writev(true)
        .serve_connection(TokioIo::new(stream), service);
    // What a client breaks off is its own affair.
    let _ = watcher.watch(connection).await;
}

async fn answer(
    registry: Arc<Registry>,
    connected: Connected,
    request: Request<Incoming>,
    peer: &str,
) -> Response<Body> {
    let begun = Instant::now();
    let method = request.method().clone();
    let told = registry.settings.access_log.then(|| {
        let agent = request.headers().get(http::header::USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
        (request.uri().to_string(), agent.unwrap_or_default())
    });
    let served = routes::serve(Arc::clone(&registry), connected, request);
    let response = match method {
        Method::GET | Method::HEAD => served.await,
        // A client that goes away must not stop a change in the middle, nor take an upload with it.
        _ => match tokio::spawn(served).await {
            Ok(response) => response,
            Err(error) => crate::refusal::Refusal::fault(error).into_response(),
        },
    };
    let bytes =
        if method == Method::HEAD { 0 } else { response.body().size_hint().exact().unwrap_or_default() };
    registry.metrics.answered(response.status(), bytes);
    if let Some((target, agent)) = told {
        log::access(&log::Line {
            peer,
            method: method.as_str(),
            target: &target,
            user: response.extensions().get::<UserName>().map_or("-", |name| &name.0),
            status: response.status().as_u16(),
            bytes,
            agent: &agent,
            took: begun.elapsed(),
        });
    }
    response
}

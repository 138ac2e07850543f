//! The HTTP side: listeners, the accept loop, API versions and the headers every answer carries.
//!
//! Owns connections; never touches a container. What a request does is in `routes/`.

pub mod body;
pub mod bridge;
pub mod carried;
pub mod drain;
pub mod hangup;
pub mod hijack;
pub mod listen;
pub mod params;
pub mod routes;
pub mod scope;
pub mod sockets;
pub mod tls;
pub mod version;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Request, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::engine::Engine;
use crate::error::HttpError;
use crate::spec::mounts::Caller;
use drain::Drained;
use ferry_sys::rights::Rights;
use hangup::UnderWay;
use listen::{Accepted, Listener};
use scope::Scope;
use version::{ApiVersion, MAX_API_VERSION, split_path};

/// Largest JSON body read; create requests with thousands of labels stay far below.
const MAX_JSON_BODY: usize = 8 * 1024 * 1024;
/// Largest request head; Docker's clients put build arguments and filters into the query.
const MAX_HEAD: usize = 1024 * 1024;
/// How long a client may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// An engine that nobody asks for so long makes itself small; it is quick to grow again.
const IDLE: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `Server:` header of every answer.
const SERVER: &str = concat!("Ferry/", env!("CARGO_PKG_VERSION"), " (linux)");
const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const OSTYPE: HeaderName = HeaderName::from_static("ostype");
const EXPERIMENTAL: HeaderName = HeaderName::from_static("docker-experimental");

/// Accepts and serves until `stop` turns true; running requests are left to finish on their own.
pub async fn serve(listener: Listener, engine: Arc<Engine>, stop: watch::Receiver<bool>) {
    serve_within(listener, engine, None, stop).await;
}

/// As [`serve`], on a socket that lets only a part through.
pub async fn serve_limited(
    listener: Listener,
    engine: Arc<Engine>,
    scope: Arc<Scope>,
    stop: watch::Receiver<bool>,
) {
    serve_within(listener, engine, Some(scope), stop).await;
}

/// What the requests of a listener are answered with.
#[derive(Clone)]
struct Answering {
    router: Router,
    limits: Option<(Arc<Engine>, Arc<Scope>)>,
}

async fn serve_within(
    listener: Listener,
    engine: Arc<Engine>,
    scope: Option<Arc<Scope>>,
    mut stop: watch::Receiver<bool>,
) {
    let limits = scope.map(|scope| (Arc::clone(&engine), scope));
    let router = routes::router(engine).layer(DefaultBodyLimit::max(MAX_JSON_BODY));
    let answering = Answering { router, limits };
    let mut large = true;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(IDLE), if large => {
                // Being smaller is all there is to gain, so nothing is lost where it fails.
                let _ = ferry_sys::monitor::shrink();
                large = false;
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => return,
        };
        large = true;
        match accepted {
            Ok(connection) => {
                tokio::spawn(serve_connection(connection, answering.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept on the API socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(accepted: Accepted, answering: Answering) {
    let connection = match tokio::time::timeout(HEAD_TIMEOUT, accepted.ready()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::info!(%error, "TLS handshake"),
        Err(_) => return tracing::info!("TLS handshake: the client said nothing"),
    };
    let (caller, rights, carried) = (connection.caller(), connection.rights(), connection.carried());
    let watch = connection.watch();
    let under_way = UnderWay::default();
    let noted = under_way.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        noted.note(request.uri().path(), request.uri().query());
        request.extensions_mut().insert::<Option<Caller>>(caller);
        request.extensions_mut().insert::<Option<Arc<Rights>>>(rights.clone());
        request.extensions_mut().insert(carried.clone());
        answer(request, answering.clone())
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    let served = match watch {
        Ok(watch) => tokio::select! {
            served = served => served,
            () = watch.client_is_gone(under_way) => return,
        },
        Err(error) => return tracing::warn!(%error, "watch a connection"),
    };
    if let Err(error) = served {
        // A client that goes away in the middle is everyday life, not a fault.
        tracing::debug!(%error, "connection ended early");
    }
}

async fn answer(request: Request<Incoming>, answering: Answering) -> Result<Response, Infallible> {
    let Answering { router, limits } = answering;
    let admitted = route(Drained::wrap(request).map(Body::new)).and_then(|mut request| {
        if let Some((engine, scope)) = &limits {
            scope.admit(engine, &mut request)?;
        }
        Ok(request)
    });
    let response = match admitted {
        Ok(request) => router.oneshot(request).await.unwrap_or_else(|never| match never {}),
        Err(error) => error.into_response(),
    };
    Ok(with_common_headers(response))
}

/// Takes the version off the path and hands it to the handlers as an extension.
fn route(mut request: Request<Body>) -> Result<Request<Body>, HttpError> {
    let split = split_path(request.uri().path())?;
    let version = split.version;
    let dated = reads_old_shapes_only(request.headers());
    let explicit = split.explicit && !dated;
    if split.explicit {
        let rest = match request.uri().query() {
            Some(query) => format!("{}?{query}", split.path),
            None => split.path.to_owned(),
        };
        *request.uri_mut() = rest
            .parse::<Uri>()
            .map_err(|error| HttpError::bad_request(format!("invalid path {rest:?}: {error}")))?;
    }
    request.extensions_mut().insert(RequestVersion { version, explicit, dated });
    Ok(request)
}

/// docker-compose 1.x and Docker's Python SDK ask for whatever version the engine names as its newest, and then
/// they and the scripts written for them read fields that went away long before: with Docker's own engine they
/// break for that.
fn reads_old_shapes_only(headers: &http::HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| {
        agent.starts_with("docker-compose/1.") || agent.starts_with("docker-sdk-python/")
    })
}

fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    headers.insert(OSTYPE, HeaderValue::from_static("linux"));
    headers.insert(EXPERIMENTAL, HeaderValue::from_static("false"));
    if let Ok(version) = HeaderValue::try_from(MAX_API_VERSION.to_string()) {
        headers.insert(API_VERSION, version);
    }
    response
}

/// The API version a request is answered in.
#[derive(Debug, Clone, Copy)]
pub struct RequestVersion {
    /// The version.
    pub version: ApiVersion,
    /// Whether the path named it. Without a name the newest counts, but fields that only older versions had
    /// are kept in the answer: such callers (docker-py, dockerode, curl) never said they can do without.
    pub explicit: bool,
    /// Whether the client is one that knows the old ways alone, whatever version it names.
    pub dated: bool,
}

impl RequestVersion {
    /// `true` when the shapes of 1.`minor` apply.
    pub fn at_least(self, minor: u16) -> bool {
        self.version.at_least(minor)
    }

    /// `true` when what changed in 1.`minor` is to be as it was before.
    pub fn precedes(self, minor: u16) -> bool {
        self.dated || !self.version.at_least(minor)
    }

    /// `true` when fields removed in 1.`minor` are still to be given.
    pub fn keeps_fields_removed_in(self, minor: u16) -> bool {
        !self.explicit || !self.version.at_least(minor)
    }
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for RequestVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _state: &S) -> Result<Self, Infallible> {
        let found = parts.extensions.get::<Self>().copied();
        Ok(found.unwrap_or(Self { version: MAX_API_VERSION, explicit: false, dated: false }))
    }
}

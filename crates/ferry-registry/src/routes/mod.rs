//! The protocol: from a request's path to the function that answers it.

mod base;
mod blob;
mod listing;
mod manage;
mod manifest;
mod page;
pub mod path;
pub mod range;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use ferry_oci::Digest;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use crate::access::{Action, User};
use crate::body::{Body, Outbox};
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::registry::Registry;
use crate::webhook::Event;
use path::{Query, Route};

/// Who sent a request and how.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Where files can be sent from without copies.
    pub outbox: Option<Outbox>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// From where.
    pub client: std::net::IpAddr,
}

/// A request on its way: what every function needs of it.
pub(crate) struct Call {
    registry: Arc<Registry>,
    connected: Connected,
    user: User,
    method: Method,
    path: String,
    query: Query,
    headers: http::HeaderMap,
}

/// What an event is about.
#[derive(Default)]
struct What<'a> {
    digest: Option<&'a Digest>,
    tag: Option<&'a str>,
    media_type: Option<&'a str>,
    size: Option<u64>,
}

type Answer = Result<Response<Body>, Refusal>;

/// `Docker-Content-Digest`.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request, whatever happens.
pub async fn serve(
    registry: Arc<Registry>,
    connected: Connected,
    request: Request<Incoming>,
) -> Response<Body> {
    let in_api = request.uri().path().starts_with("/v2");
    let mut response = match route(registry, connected, request).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(internal) = &refusal.internal {
                crate::log::fault(internal);
            }
            refusal.into_response()
        }
    };
    if in_api {
        response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    }
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

async fn route(registry: Arc<Registry>, connected: Connected, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    check_rate(&registry, &connected)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let mut route = Route::parse(parts.uri.path())?;
    if let (Some(domain), Some(upstreams)) = (query.get("ns"), &registry.upstreams) {
        route = route.renamed(|name| upstreams.local_name(domain, name));
    }
    let actions = needed(&route, &parts.method, &query);
    let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let scheme = if connected.tls { "https" } else { "http" };
    let origin = format!("{scheme}://{}", host.unwrap_or_default());
    let for_browsers = matches!(route, Route::Manage(_));
    let user = registry.guard.admit(&parts.headers, &actions, &origin, for_browsers).await?;
    if needs_fresh(&route) {
        registry.catalog.refresh().await.map_err(away)?;
    }
    let who = UserName(user.name().to_owned());
    let path = parts.uri.path().to_owned();
    let call = Call { registry, connected, user, method: parts.method, path, query, headers: parts.headers };
    let answer = dispatch(call, route, body).await;
    answer.map(|mut response| {
        response.extensions_mut().insert(who);
        response
    })
}

/// Whether an answer depends on what other instances over the same bucket did; the bytes of an upload do not.
fn needs_fresh(route: &Route) -> bool {
    !matches!(route, Route::Open | Route::Base | Route::Upload(..))
}

/// Better no answer than one that may have been right once.
fn away(error: crate::database::DatabaseError) -> Refusal {
    Refusal::fault(error).status(StatusCode::SERVICE_UNAVAILABLE).header(http::header::RETRY_AFTER, "1")
}

/// Refuses a client that sends more requests than it may.
fn check_rate(registry: &Registry, connected: &Connected) -> Result<(), Refusal> {
    let Some(limiter) = &registry.limiter else { return Ok(()) };
    limiter.take(connected.client, Instant::now()).map_err(|wait| {
        registry.metrics.limited();
        Refusal::new(Code::TooManyRequests, "this client sends more requests than it may")
            .header(http::header::RETRY_AFTER, &wait.as_secs_f64().ceil().to_string())
    })
}

/// Who sent a request, for the log; among an answer's extensions.
#[derive(Clone, Debug)]
pub struct UserName(pub String);

/// What a user must be allowed to do for a request.
fn needed(route: &Route, method: &Method, query: &Query) -> Vec<(String, Action)> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Open => Vec::new(),
        Route::Base => vec![(String::new(), Action::Ping)],
        // The repository is checked when it is known; a login is asked for where that may help.
        Route::Manage(task) if task == "delete" => vec![(String::new(), Action::Ping)],
        Route::Manage(task) if !reads && task == "trash" => {
            vec![(query.get("repository").unwrap_or_default().to_owned(), Action::Push)]
        }
        Route::Manage(_) if !reads => vec![(String::new(), Action::Manage)],
        Route::Catalog | Route::Manage(_) => vec![(String::new(), Action::Catalog)],
        Route::Blob(name, _) | Route::Manifest(name, _) | Route::Tags(name) | Route::Referrers(name, _) => {
            let action = match *method {
                _ if reads => Action::Pull,
                Method::DELETE => Action::Delete,
                _ => Action::Push,
            };
            vec![(name.to_string(), action)]
        }
        Route::Uploads(name) | Route::Upload(name, _) => {
            let mut actions = vec![(name.to_string(), Action::Push)];
            // A mount takes from another repository what its user must be able to pull.
            actions.extend(query.get("from").map(|from| (from.to_owned(), Action::Mount)));
            actions
        }
    }
}

async fn dispatch(call: Call, route: Route, body: Incoming) -> Answer {
    match (route, call.method.as_str()) {
        (Route::Open, _) => base::open(&call, &call.path),
        (Route::Base, "GET" | "HEAD") => base::base(&call),
        (Route::Manage(task), "GET" | "HEAD" | "POST") => manage::task(&call, &task).await,
        (Route::Catalog, "GET" | "HEAD") => listing::catalog(&call).await,
        (Route::Tags(name), "GET" | "HEAD") => listing::tags(&call, &name).await,
        (Route::Referrers(name, subject), "GET" | "HEAD") => listing::referrers(&call, &name, &subject),
        (Route::Blob(name, digest), "GET" | "HEAD") => blob::get(&call, &name, &digest).await,
        (Route::Blob(name, digest), "DELETE") => blob::delete(&call, &name, &digest).await,
        (Route::Uploads(name), "POST") => upload::begin(&call, &name, body).await,
        (Route::Upload(name, id), "GET" | "HEAD") => upload::status_of(&call, &name, &id),
        (Route::Upload(name, id), "PATCH") => upload::patch(&call, &name, &id, body).await,
        (Route::Upload(name, id), "PUT") => upload::put(&call, &name, &id, body).await,
        (Route::Upload(name, id), "DELETE") => upload::cancel(&call, &name, &id),
        (Route::Manifest(name, reference), "GET" | "HEAD") => manifest::get(&call, &name, &reference).await,
        (Route::Manifest(name, reference), "PUT") => manifest::put(&call, &name, &reference, body).await,
        (Route::Manifest(name, reference), "DELETE") => manifest::delete(&call, &name, &reference).await,
        (route, method) => Err(Refusal::new(Code::Unsupported, format!("{method} is not possible here"))
            .header(http::header::ALLOW, route.methods())),
    }
}

impl Call {
    /// Tells the webhooks.
    fn tell(&self, action: &'static str, name: &Name, about: What<'_>) {
        self.registry.webhooks.tell(&Event {
            action,
            repository: name.as_str(),
            digest: about.digest.map(ToString::to_string),
            tag: about.tag,
            media_type: about.media_type,
            size: about.size,
            actor: self.user.name(),
        });
    }

    fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Body bytes that the client announced.
    fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The digest that the query must name.
    fn digest(&self) -> Result<Option<Digest>, Refusal> {
        self.query.get("digest").map(path::digest).transpose()
    }

    fn check_deletes(&self) -> Result<(), Refusal> {
        self.registry.check_writable()?;
        if self.registry.settings.shelf.is_some() {
            let text = "these images are an engine's: remove them there";
            return Err(Refusal::new(Code::Unsupported, text));
        }
        match self.registry.settings.deletes {
            true => Ok(()),
            false => Err(Refusal::new(Code::Unsupported, "deletes are switched off in this registry")),
        }
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header whose value is made of checked parts.
fn set(response: &mut Response<Body>, name: HeaderName, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        response.headers_mut().insert(name, value);
    }
}

fn created(location: &str, digest: &Digest) -> Response<Body> {
    let mut response = status(StatusCode::CREATED);
    set(&mut response, LOCATION, location);
    set(&mut response, CONTENT_DIGEST, digest.to_string());
    response
}

fn json(value: &impl Serialize, media_type: &'static str) -> Answer {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).map_err(Refusal::fault)?));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

fn blob_unknown(name: &Name, digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("{name} has no blob {digest}"))
        .detail(serde_json::json!({ "digest": digest }))
}

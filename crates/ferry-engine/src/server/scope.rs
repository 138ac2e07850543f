//! What a socket with limits lets through: the list of what is allowed, everything else is not.
//!
//! Tools that want `docker.sock` (proxies that look for labels, dashboards, log viewers) need a small part of the API, and
//! the whole of it is root on this machine.

use std::path::PathBuf;

use axum::body::Body;
use ferry_api::Filters;
use http::{Method, Request, Uri};
use serde::{Deserialize, Serialize};

use super::params::Params;
use crate::container::exec;
use crate::engine::Engine;
use crate::error::HttpError;

/// Parts of the API that can be allowed.
pub const PARTS: [&str; 6] = ["read", "logs", "lifecycle", "exec", "files", "remove"];

/// A socket with limits, as it is kept and shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Scope {
    /// The socket file.
    pub path: PathBuf,
    /// Some of [`PARTS`].
    pub allow: Vec<String>,
    /// Only what has all of these labels, `KEY` or `KEY=VALUE`.
    pub labels: Vec<String>,
    /// Permissions of the file.
    pub mode: u32,
}

/// What a request is about, for the labels.
#[derive(Debug, PartialEq, Eq)]
enum About {
    /// The engine as a whole, with nothing of any container.
    Engine,
    /// A list or stream that filters by labels.
    List,
    /// Everything at once: not for a part.
    Everything,
    Container(String),
    Exec(String),
    Image(String),
    Network(String),
    Volume(String),
}

impl Scope {
    /// Lets a request through, with the limits in its filters, or refuses it.
    ///
    /// # Errors
    /// 403 for what is not allowed, 404 for what has other labels.
    pub fn admit(&self, engine: &Engine, request: &mut Request<Body>) -> Result<(), HttpError> {
        let path = request.uri().path().to_owned();
        let segments: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let Some((part, about)) = part_of(request.method(), &segments) else {
            return Err(refused(
                request.method(),
                &path,
                "no part of the API that a limited socket can have",
            ));
        };
        if !part.is_empty() && !self.allow.iter().any(|allowed| allowed == part) {
            return Err(refused(request.method(), &path, &format!("`{part}` is not allowed on this socket")));
        }
        match self.labels.is_empty() {
            true => Ok(()),
            false => self.admit_labelled(engine, request, about),
        }
    }

    fn admit_labelled(
        &self,
        engine: &Engine,
        request: &mut Request<Body>,
        about: About,
    ) -> Result<(), HttpError> {
        let labels = match &about {
            About::Engine => return Ok(()),
            About::List => return self.narrow(request),
            About::Everything => {
                let path = request.uri().path().to_owned();
                return Err(refused(request.method(), &path, "this socket is for some labels alone"));
            }
            About::Container(id) => engine.containers.find(id)?.record().config.labels.unwrap_or_default(),
            About::Exec(id) => exec::find(engine, id)?.0.record().config.labels.unwrap_or_default(),
            About::Network(id) => engine.networks.find(id)?.network.labels,
            About::Volume(name) => engine.store.volumes().get(name)?.labels.clone(),
            About::Image(name) => {
                let image = engine.store.images().resolve(name);
                let found = image.map_err(|_| HttpError::not_found(format!("No such image: {name}")))?;
                found.config.config.labels.clone().unwrap_or_default().into_iter().collect()
            }
        };
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        match self.labels.iter().all(has) {
            true => Ok(()),
            // As where it does not exist: what others have is not told.
            false => Err(HttpError::not_found(format!("{}: not found on this socket", name_of(&about)))),
        }
    }

    /// Adds the labels to the filters that a list is asked with.
    fn narrow(&self, request: &mut Request<Body>) -> Result<(), HttpError> {
        let query = request.uri().query().unwrap_or("");
        let params = Params::parse(query);
        let mut filters = Filters::parse(params.get("filters").unwrap_or(""))
            .map_err(|error| HttpError::bad_request(error.to_string()))?;
        for label in &self.labels {
            filters.add("label", label);
        }
        let others = query.split('&').filter(|part| !part.is_empty() && *part != "filters");
        let mut parts: Vec<String> = others.filter(|part| !is_filters(part)).map(str::to_owned).collect();
        parts.push(format!("filters={}", encoded(&filters.to_json())));
        let uri = format!("{}?{}", request.uri().path(), parts.join("&"));
        *request.uri_mut() = uri.parse::<Uri>().map_err(|error| HttpError::bad_request(error.to_string()))?;
        Ok(())
    }
}

/// Whether a part of a query is the parameter `filters`, however it is written.
fn is_filters(part: &str) -> bool {
    Params::parse(part).all("filters").next().is_some()
}

fn refused(method: &Method, path: &str, why: &str) -> HttpError {
    HttpError::forbidden(format!("{method} {path}: {why}"))
}

fn name_of(about: &About) -> &str {
    match about {
        About::Container(name)
        | About::Exec(name)
        | About::Image(name)
        | About::Network(name)
        | About::Volume(name) => name,
        About::Engine | About::List | About::Everything => "",
    }
}

/// The part of the API that a request belongs to, and what it is about; None for what no limited socket has. Every
/// arm is written out: what is new in the API is refused until somebody decides.
fn part_of(method: &Method, segments: &[&str]) -> Option<(&'static str, About)> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let posts = *method == Method::POST;
    let container = |id: &str| About::Container(id.to_owned());
    Some(match segments {
        ["_ping" | "version" | "info"] if reads => ("", About::Engine),
        ["events"] | ["containers" | "images", "json"] | ["networks" | "volumes"] if reads => {
            ("read", About::List)
        }
        ["system", "df"] if reads => ("read", About::Everything),
        ["containers", id, "json" | "top" | "stats" | "changes"] if reads => ("read", container(id)),
        ["containers", id, "wait"] if posts => ("read", container(id)),
        ["containers", id, "logs"] if reads => ("logs", container(id)),
        ["containers", id, "start" | "stop" | "restart" | "kill" | "pause" | "unpause"] if posts => {
            ("lifecycle", container(id))
        }
        ["containers", id, "exec" | "attach" | "resize"] if posts => ("exec", container(id)),
        ["containers", id, "attach", "ws"] if reads => ("exec", container(id)),
        ["exec", id, "start" | "resize"] if posts => ("exec", About::Exec((*id).to_owned())),
        ["exec", id, "json"] if reads => ("read", About::Exec((*id).to_owned())),
        ["containers", id, "archive"] if reads || *method == Method::PUT => ("files", container(id)),
        ["containers", id, "export"] if reads => ("files", container(id)),
        ["containers", id] if *method == Method::DELETE => ("remove", container(id)),
        ["networks", id] if reads => ("read", About::Network((*id).to_owned())),
        ["volumes", name] if reads => ("read", About::Volume((*name).to_owned())),
        ["images", name @ .., "json" | "history"] if reads && !name.is_empty() => {
            ("read", About::Image(name.join("/")))
        }
        _ => return None,
    })
}

/// A segment as the router reads it.
fn decoded(segment: &str) -> String {
    let text = segment.replace('+', "%2B").replace('&', "%26");
    Params::parse(&format!("s={text}")).get("s").unwrap_or("").to_owned()
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_api() {
        let part = |method: Method, path: &str| {
            let segments: Vec<&str> = path.split('/').collect();
            part_of(&method, &segments).map(|(part, _)| part)
        };
        for (method, path, wanted) in [
            (Method::GET, "containers/json", Some("read")),
            (Method::GET, "images/a/b:1/json", Some("read")),
            (Method::GET, "images/a/b:1/get", None),
            (Method::GET, "containers/x/logs", Some("logs")),
            (Method::POST, "containers/x/stop", Some("lifecycle")),
            (Method::POST, "containers/x/update", None),
            (Method::POST, "containers/x/exec", Some("exec")),
            (Method::POST, "containers/create", None),
            (Method::PUT, "containers/x/archive", Some("files")),
            (Method::DELETE, "containers/x", Some("remove")),
            (Method::DELETE, "images/x", None),
            (Method::POST, "build", None),
            (Method::GET, "secrets", None),
            (Method::POST, "ferry/volumes/x/fill", None),
            (Method::GET, "ferry/sockets", None),
            (Method::GET, "containers//json", Some("read")),
        ] {
            assert_eq!(part(method.clone(), path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn filters_cannot_be_smuggled_past() {
        let scope = Scope { labels: vec!["tier=web".into()], ..Scope::default() };
        for query in ["", "?all=1&filters=%7B%7D", "?filters=&%66ilters=%7B%22label%22%3A%5B%22x%22%5D%7D"] {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = format!("/containers/json{query}").parse().unwrap();
            scope.narrow(&mut request).unwrap();
            let params = Params::parse(request.uri().query().unwrap());
            assert_eq!(params.all("filters").count(), 1, "{query}");
            assert!(params.get("filters").unwrap().contains("tier=web"), "{query}");
        }
    }
}

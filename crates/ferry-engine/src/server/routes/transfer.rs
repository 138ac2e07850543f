//! `/images/create?fromImage=`, `/images/{name}/push`, `/auth`, `/distribution/{name}/json`: images and registries.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ferry_oci::image::{Index, media_type};
use ferry_oci::{Digest, Platform, Reference};
use ferry_remote::Credentials;
use ferry_store::layer::Compression;
use ferry_store::publish::PackAs;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::body::GoJson;
use crate::server::params::Params;
use crate::transfer::pull::{self, PullRequest};
use crate::transfer::push::{self, PushRequest};
use crate::transfer::{credentials, progress};

/// The routes of this file; pull and push of an image are routed with the other `/images` paths.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/auth", post(auth)).route("/distribution/{*rest}", get(distribution))
}

/// `POST /images/create?fromImage=…`: resolves first, so that what cannot be found is a plain error, then streams.
/// Without a tag or digest anywhere, all tags of the repository come.
pub async fn pull_image(
    engine: Arc<Engine>,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, HttpError> {
    let reference = reference_of(params.get("fromImage").unwrap_or_default(), params.get("tag"))?;
    let (platform, credentials) = (platform_of(params)?, credentials(headers)?);
    let references = match reference.tag().is_some() || reference.digest().is_some() {
        true => vec![reference],
        false => all_remote_tags(&engine, &reference, credentials.as_ref()).await?,
    };
    let mut found = Vec::new();
    for reference in references {
        let request = PullRequest {
            reference,
            platform: platform.clone(),
            credentials: credentials.clone(),
            beside: false,
        };
        found.push((pull::resolve(&engine.transfers, &request).await?, request));
    }
    let (progress, response) = progress::channel();
    tokio::spawn(async move {
        for (resolved, request) in found {
            pull::pull(Arc::clone(&engine), request, resolved, progress.clone()).await;
        }
    });
    Ok(response)
}

async fn all_remote_tags(
    engine: &Engine,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Vec<Reference>, HttpError> {
    let registry = engine.transfers.registry();
    let tags = match registry.repository(reference, credentials).await {
        Ok(repository) => repository.tags().await?,
        // On a machine that only has a mirror, the mirror's tags are all there are.
        Err(unreachable) => tags_of_a_mirror(&registry, reference).await.ok_or(unreachable)?,
    };
    // A registry may hold what this grammar does not allow; such a tag cannot be pulled by name either.
    Ok(tags.iter().filter_map(|tag| reference.with_tag(tag).ok()).collect())
}

async fn tags_of_a_mirror(registry: &ferry_remote::Registry, reference: &Reference) -> Option<Vec<String>> {
    for repository in registry.candidates(reference, None).iter().filter(|it| it.endpoint().is_mirror) {
        if let Ok(tags) = repository.tags().await {
            return Some(tags);
        }
    }
    None
}

/// `POST /images/{name}/push`. Without a tag, all tags of the repository go; `image` (Ferry's own) names an image that
/// goes there by its digest alone.
pub async fn push_image(
    engine: Arc<Engine>,
    name: &str,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, HttpError> {
    let reference = reference_of(name, params.get("tag"))?;
    let credentials = credentials(headers)?;
    let (platform, packed) = (pushed_platform(params)?, pack_as(params)?);
    if let Some(id) = params.get("image") {
        let image = engine.store.images().resolve(id)?;
        let request = PushRequest { reference, image, credentials, packed, alone: false };
        let (progress, response) = progress::channel();
        tokio::spawn(push::push(engine, request, progress));
        return Ok(response);
    }
    let references = match reference.tag().is_some() || reference.digest().is_some() {
        true => vec![reference.clone()],
        false => all_local_tags(&engine, &reference),
    };
    let missing = || {
        let shown = reference.familiar_name();
        HttpError::not_found(format!("An image does not exist locally with the tag: {shown}"))
    };
    let mut requests = Vec::new();
    for reference in references {
        let image = engine.store.images().resolve(&reference.familiar()).map_err(|_| missing())?;
        let (image, alone) = match &platform {
            None => (image, false),
            Some(wanted) => (of_platform(&engine, &reference, &image, wanted)?, true),
        };
        requests.push(PushRequest { reference, image, credentials: credentials.clone(), packed, alone });
    }
    if requests.is_empty() {
        return Err(missing());
    }
    let (progress, response) = progress::channel();
    tokio::spawn(async move {
        for request in requests {
            push::push(Arc::clone(&engine), request, progress.clone()).await;
        }
    });
    Ok(response)
}

/// The image for a platform among those that a name stands for.
fn of_platform(
    engine: &Engine,
    reference: &Reference,
    image: &Arc<ferry_store::Image>,
    wanted: &Platform,
) -> Result<Arc<ferry_store::Image>, HttpError> {
    engine.store.images().member_for(image, wanted).ok_or_else(|| {
        HttpError::not_found(format!(
            "image with reference {} was found but does not provide the specified platform ({wanted}): it is for {}",
            reference.familiar(),
            image.config.platform()
        ))
    })
}

fn all_local_tags(engine: &Engine, repository: &Reference) -> Vec<Reference> {
    let images = engine.store.images().list();
    let all = images.iter().flat_map(|image| &image.references);
    all.filter(|reference| reference.tag().is_some() && reference.name() == repository.name())
        .cloned()
        .collect()
}

/// The image named by `fromImage` and `tag`; the tag may be a digest, as docker's clients send it.
fn reference_of(name: &str, tag: Option<&str>) -> Result<Reference, HttpError> {
    let wrong = |error: ferry_oci::ReferenceError| HttpError::bad_request(error.to_string());
    let reference = Reference::parse_name(name).map_err(wrong)?;
    match tag {
        Some(digest) if digest.contains(':') => {
            let digest = Digest::parse(digest).map_err(|error| HttpError::bad_request(error.to_string()))?;
            Ok(reference.with_digest(digest))
        }
        Some(tag) => reference.with_tag(tag).map_err(wrong),
        None => Ok(reference),
    }
}

/// The platform that is to be pushed: as text, or as the JSON object that docker's clients send.
fn pushed_platform(params: &Params) -> Result<Option<Platform>, HttpError> {
    let Some(text) = params.get("platform").filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |reason: String| HttpError::bad_request(format!("invalid platform {text:?}: {reason}"));
    match text.starts_with('{') {
        true => serde_json::from_str(text).map(Some).map_err(|error| wrong(error.to_string())),
        false => Platform::parse(text).map(Some).map_err(|error| wrong(error.to_string())),
    }
}

/// `compression` and `compression-level` of a push: Ferry's own.
fn pack_as(params: &Params) -> Result<Option<PackAs>, HttpError> {
    let level = params.number::<u32>("compression-level")?;
    let (compression, levels) = match params.get("compression").unwrap_or_default() {
        "" if level.is_none() => return Ok(None),
        "" => {
            return Err(HttpError::bad_request("a level of compression needs a compression: gzip or zstd"));
        }
        "gzip" => (Compression::Gzip, 1..=9),
        "zstd" => (Compression::Zstd, 1..=22),
        other => {
            return Err(HttpError::bad_request(format!(
                "unknown compression {other:?}: there are gzip and zstd"
            )));
        }
    };
    match level {
        Some(level) if !levels.contains(&level) => Err(HttpError::bad_request(format!(
            "compression level {level} is not between {} and {}",
            levels.start(),
            levels.end()
        ))),
        level => Ok(Some(PackAs { compression, level })),
    }
}

fn platform_of(params: &Params) -> Result<Platform, HttpError> {
    match params.get("platform") {
        None => Ok(Platform::host()),
        Some(text) => Platform::parse(text).map_err(|error| HttpError::bad_request(error.to_string())),
    }
}

/// Body of `POST /auth`.
#[derive(Deserialize)]
struct AuthBody {
    #[serde(flatten)]
    credentials: Credentials,
}

/// `POST /auth`: are these credentials good?
async fn auth(
    State(engine): State<Arc<Engine>>,
    GoJson(body): GoJson<AuthBody>,
) -> Result<Json<Value>, HttpError> {
    let credentials = body.credentials;
    let domain = registry_domain(&credentials.serveraddress);
    let reference = Reference::parse_name(&format!("{domain}/login"))
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    engine.transfers.registry().login(&reference, &credentials).await?;
    Ok(Json(json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
}

/// The domain in a server address as clients write it: with scheme and path, Docker Hub's old address, or nothing.
fn registry_domain(address: &str) -> String {
    let host = address.trim_start_matches("https://").trim_start_matches("http://");
    match host.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        domain => domain.to_owned(),
    }
}

/// `GET /distribution/{name}/json`: what a registry has under a name.
async fn distribution(
    State(engine): State<Arc<Engine>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let name = rest.strip_suffix("/json").ok_or_else(|| HttpError::not_found("page not found"))?;
    let reference = reference_of(name, None)?;
    let credentials = credentials(&headers)?;
    let registry = engine.transfers.registry();
    let wanted = reference
        .digest()
        .map_or_else(|| reference.tag().unwrap_or("latest").to_owned(), ToString::to_string);
    let mut last = None;
    for repository in registry.candidates(&reference, credentials.as_ref()) {
        match repository.manifest(&wanted).await {
            Ok(found) => {
                let platforms = platforms(&found);
                let descriptor = json!({ "mediaType": found.media_type, "digest": found.digest.to_string(), "size": found.bytes.len() });
                return Ok(Json(json!({ "Descriptor": descriptor, "Platforms": platforms })).into_response());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| HttpError::not_found(format!("no address for {reference}")), HttpError::from))
}

fn platforms(found: &ferry_remote::FetchedManifest) -> Vec<Platform> {
    if !media_type::is_index(&found.media_type) {
        return vec![Platform::host()];
    }
    let index = serde_json::from_slice::<Index>(&found.bytes);
    index
        .map(|index| index.manifests.into_iter().filter_map(|entry| entry.platform).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, tag, expected) in [
            ("busybox", None, "docker.io/library/busybox".to_owned()),
            ("busybox", Some("1.36"), "docker.io/library/busybox:1.36".to_owned()),
            ("a.example/b", Some(digest.as_str()), format!("a.example/b@{digest}")),
            ("localhost:5000/x:v1", None, "localhost:5000/x:v1".to_owned()),
        ] {
            assert_eq!(reference_of(name, tag).unwrap().to_string(), expected);
        }
        assert!(reference_of("Bad Name", None).is_err());
    }

    #[test]
    fn domains() {
        for (address, domain) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://r.example/v2/", "r.example"),
        ] {
            assert_eq!(registry_domain(address), domain);
        }
    }
}

//! `/images/search`, `/ferry/manifest` and `/ferry/artifact`: what registries have, and manifest lists and small
//! artifacts on them.
//!
//! Docker's client makes manifest lists by itself; ferry's asks the engine, which knows the way to registries.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use ferry_api::artifact::Artifact;
use ferry_api::image::SearchResult;
use ferry_oci::Reference;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::body::GoJson;
use crate::server::params::Params;
use crate::transfer::artifact;
use crate::transfer::{credentials, manifest};

/// Results that a search gives where nobody says how many, and at most, as in Docker.
const SEARCH_LIMIT: u32 = 25;
const SEARCH_LIMIT_MAX: u32 = 100;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/images/search", get(search))
        .route("/ferry/manifest", get(inspect_manifest).put(put_manifest))
        .route("/ferry/artifact", get(get_artifact).put(put_artifact))
}

async fn search(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Vec<SearchResult>>, HttpError> {
    let limit = match params.number::<u32>("limit")? {
        None | Some(0) => SEARCH_LIMIT,
        Some(limit @ 1..=SEARCH_LIMIT_MAX) => limit,
        Some(limit) => {
            return Err(HttpError::bad_request(format!(
                "invalid limit {limit}: it is to be between 1 and {SEARCH_LIMIT_MAX}"
            )));
        }
    };
    let filters = params.filters(&["is-automated", "is-official", "stars"])?;
    let official = filters.contains("is-official").then(|| filters.bool_value("is-official", false));
    let automated = filters.contains("is-automated").then(|| filters.bool_value("is-automated", false));
    let (official, automated) = (official.transpose()?, automated.transpose()?);
    let stars = filters.get("stars").map(|text| {
        text.parse::<i64>().map_err(|_| HttpError::bad_request(format!("invalid filter 'stars={text}'")))
    });
    let stars = stars.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0);
    let (domain, term) =
        split_term(params.get("term").ok_or_else(|| HttpError::bad_request("`term` is missing"))?)?;
    let credentials = credentials(&headers)?;
    let found = engine.transfers.registry().search(&domain, &term, limit, credentials.as_ref()).await?;
    let wanted = found.into_iter().filter(|it| {
        it.star_count >= stars
            && official.is_none_or(|official| it.is_official == official)
            && automated.is_none_or(|automated| it.is_automated == automated)
    });
    let results = wanted.map(|it| SearchResult {
        star_count: it.star_count,
        is_official: it.is_official,
        name: it.name,
        is_automated: it.is_automated,
        description: it.description,
    });
    Ok(Json(results.collect()))
}

/// Registry and term of `[HOST/]TERM`.
fn split_term(text: &str) -> Result<(String, String), HttpError> {
    if text.contains("://") {
        let reason = "invalid repository name: repository name should not have a scheme";
        return Err(HttpError::bad_request(format!("{reason} ({text})")));
    }
    match text.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => {
            let host = if host == "index.docker.io" { "docker.io" } else { host };
            Ok((host.to_owned(), term.to_owned()))
        }
        _ => Ok(("docker.io".to_owned(), text.strip_prefix("library/").unwrap_or(text).to_owned())),
    }
}

fn reference(params: &Params) -> Result<Reference, HttpError> {
    let name = params.get("name").unwrap_or_default();
    Reference::parse_normalized(name).map_err(|error| HttpError::bad_request(error.to_string()))
}

/// `GET /ferry/manifest?name=`: a manifest or list as a registry has it, with its descriptor.
async fn inspect_manifest(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Value>, HttpError> {
    let reference = reference(&params)?;
    let found = manifest::inspect(&engine, &reference, credentials(&headers)?.as_ref()).await?;
    let text = String::from_utf8_lossy(&found.bytes);
    Ok(Json(json!({ "Ref": reference.to_string(), "Descriptor": found.descriptor, "Manifest": text })))
}

/// `PUT /ferry/manifest?name=`: puts a manifest list under a name, and the manifests that it lists beside it.
async fn put_manifest(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
    GoJson(body): GoJson<manifest::PutRequest>,
) -> Result<Json<Value>, HttpError> {
    let reference = reference(&params)?;
    let digest = manifest::put(&engine, &reference, body, credentials(&headers)?.as_ref()).await?;
    Ok(Json(json!({ "Digest": digest.to_string() })))
}

/// `GET /ferry/artifact?name=`: an artifact's files as a registry has them.
async fn get_artifact(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Json<Artifact>, HttpError> {
    let reference = reference(&params)?;
    Ok(Json(artifact::get(&engine, &reference, credentials(&headers)?.as_ref()).await?))
}

/// `PUT /ferry/artifact?name=`: puts files as an artifact under a name.
async fn put_artifact(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
    GoJson(body): GoJson<Artifact>,
) -> Result<Json<Value>, HttpError> {
    let reference = reference(&params)?;
    let digest = artifact::put(&engine, &reference, body, credentials(&headers)?.as_ref()).await?;
    Ok(Json(json!({ "Digest": digest.to_string() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        for (text, domain, term) in [
            ("nginx", "docker.io", "nginx"),
            ("library/nginx", "docker.io", "nginx"),
            ("me/app", "docker.io", "me/app"),
            ("localhost:5000/app", "localhost:5000", "app"),
            ("index.docker.io/app", "docker.io", "app"),
        ] {
            assert_eq!(split_term(text).unwrap(), (domain.to_owned(), term.to_owned()));
        }
        assert!(split_term("https://x/app").is_err());
    }
}

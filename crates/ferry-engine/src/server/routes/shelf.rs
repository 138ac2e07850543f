//! `/ferry/shelf/…`: images as registries have them, for `ferry registry serve --engine`: names, manifests and blobs
//! as a push would send them, from where they lie.

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ferry_oci::{Digest, Reference};
use ferry_store::image::Image;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::server::params::Params;

/// The size of the whole blob, of which a part may be sent.
const SIZE: HeaderName = HeaderName::from_static("x-ferry-size");

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/ferry/shelf/images", get(images))
        .route("/ferry/shelf/manifest", get(manifest))
        .route("/ferry/shelf/blob", get(blob))
}

async fn images(State(engine): State<Arc<Engine>>) -> Response {
    let images = engine.store.images().list();
    let names: Vec<_> = images.iter().flat_map(|image| image.repo_tags.iter()).collect();
    axum::Json(json!({ "Names": names })).into_response()
}

/// Images that a repository's name stands for, as a registry's client writes it.
fn of_repository(engine: &Engine, name: &str) -> Result<Vec<(Reference, Arc<Image>)>, HttpError> {
    let wanted = Reference::parse_normalized(name)
        .map_err(|error| HttpError::bad_request(error_chain(&error)))?
        .familiar_name();
    let mut found = Vec::new();
    for image in engine.store.images().list() {
        for reference in image.references.iter().filter(|reference| reference.familiar_name() == wanted) {
            found.push((reference.clone(), Arc::clone(&image)));
        }
    }
    Ok(found)
}

async fn manifest(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let reference = params.get("reference").unwrap_or_default().to_owned();
    let named = of_repository(&engine, params.get("name").unwrap_or_default())?;
    let work = move || {
        let mut seen = Vec::new();
        for (name, image) in named {
            let by_digest = reference.contains(':');
            if seen.contains(&image.id) || (!by_digest && name.tag() != Some(reference.as_str())) {
                continue;
            }
            seen.push(image.id.clone());
            let given = engine.store.publishable_manifest(&image);
            let given = given.map_err(|error| HttpError::internal(error_chain(&error)))?;
            if !by_digest || Digest::sha256_of(&given.1).to_string() == reference {
                return Ok(given);
            }
        }
        Err(HttpError::not_found("no such manifest"))
    };
    let (media_type, bytes) =
        tokio::task::spawn_blocking(work).await.map_err(|error| HttpError::internal(error.to_string()))??;
    Ok(([(CONTENT_TYPE, media_type)], bytes).into_response())
}

async fn blob(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let digest = Digest::parse(params.get("digest").unwrap_or_default())
        .map_err(|error| HttpError::bad_request(error_chain(&error)))?;
    let (start, end) = (params.number::<u64>("start")?, params.number::<u64>("end")?);
    // Who may read one repository need not be allowed to read another one.
    let named = of_repository(&engine, params.get("name").unwrap_or_default())?;
    if !named.iter().any(|(_, image)| has_blob(&engine, image, &digest)) {
        return Err(HttpError::not_found("no such blob"));
    }
    // A configuration is no blob of the store: it stands in the image's record.
    if let Some(image) = engine.store.images().get(&digest) {
        let bytes = &image.config_bytes;
        let (start, end) = bounds(start, end, bytes.len() as u64);
        let part = bytes.get(start as usize..end as usize).unwrap_or_default().to_vec();
        return Ok(sized(bytes.len() as u64, (end - start, Body::from(part))));
    }
    let (mut file, size) =
        engine.store.blobs().open(&digest).map_err(|_| HttpError::not_found("no such blob"))?;
    let (start, end) = bounds(start, end, size);
    file.seek(SeekFrom::Start(start)).map_err(|error| HttpError::internal(error.to_string()))?;
    let part = tokio::fs::File::from_std(file).take(end - start);
    let stream = tokio_util::io::ReaderStream::with_capacity(part, 256 << 10);
    Ok(sized(size, (end - start, Body::from_stream(stream))))
}

/// Whether an image is made of a blob.
fn has_blob(engine: &Engine, image: &Image, digest: &Digest) -> bool {
    let layers = engine.store.layer_descriptors(image);
    image.id == *digest || layers.is_ok_and(|layers| layers.iter().any(|layer| layer.digest == *digest))
}

/// The part that is meant, within the size.
fn bounds(start: Option<u64>, end: Option<u64>, size: u64) -> (u64, u64) {
    let end = end.unwrap_or(size).min(size);
    (start.unwrap_or_default().min(end), end)
}

fn sized(size: u64, (length, body): (u64, Body)) -> Response {
    let headers = [(SIZE, size.to_string()), (CONTENT_LENGTH, length.to_string())];
    (headers, body).into_response()
}

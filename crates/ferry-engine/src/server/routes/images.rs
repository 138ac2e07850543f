//! `/images/...`: list, inspect, history, tag, remove, prune, load, save, import.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use ferry_api::image::{HistoryItem, Inspect, Summary};
use ferry_api::progress::Progress;
use ferry_oci::{Digest, Platform, Reference};
use ferry_store::image::{Annotation, Attestation};
use ferry_store::{ImportOptions, LoadProgress, RemoveOptions};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::image::filter::{ImageFilter, LIST_KEYS, PRUNE_KEYS};
use crate::image::{embedded, emit, manifests, remove, users_of, view};
use crate::server::RequestVersion;
use crate::server::bridge::{BodyReader, BodyWriter};
use crate::server::params::Params;
use crate::server::routes::transfer;

/// The routes of this file. Image names hold slashes, so what is asked of an image stands at the
/// end of a path of any length.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/load", post(load))
        .route("/images/create", post(create))
        .route("/images/prune", post(prune))
        .route("/images/get", get(save_several))
        .route("/images/{*rest}", get(get_one).post(post_one).merge(delete(delete_one)))
}

/// Runs what touches the disk on a thread for that.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, HttpError>
where
    T: Send + 'static,
    E: Into<HttpError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(HttpError::internal(format!("the request's work failed: {error}"))),
    }
}

async fn list(
    State(engine): State<Arc<Engine>>,
    version: RequestVersion,
    params: Params,
) -> Result<Json<Vec<Summary>>, HttpError> {
    let mut filters = params.filters(LIST_KEYS)?;
    // Before 1.25 there was a parameter for what is a filter now.
    if let Some(pattern) = params.get("filter") {
        filters.add("reference", pattern);
    }
    let filter = ImageFilter::new(&filters, &engine.store)?;
    let images = engine.store.images().list();
    let wanted: Vec<_> =
        images.into_iter().filter(|image| filter.matches(image)).map(|image| filter.narrow(image)).collect();
    let options = view::ListOptions {
        all: params.flag("all"),
        shared_size: params.flag("shared-size"),
        virtual_size: version.keeps_fields_removed_in(44),
    };
    let count = |id: &Digest| match version.at_least(51) {
        true => i64::try_from(users_of(&engine, id).len()).unwrap_or(i64::MAX),
        false => -1,
    };
    let mut list = view::list(&engine.store, &wanted, options, &count);
    if version.at_least(47) && params.flag("manifests") {
        for summary in &mut list {
            let image = engine.store.images().resolve(&summary.id)?;
            summary.manifests = manifests::of(&engine.store, &image, &|id| ids_of_users(&engine, id));
        }
    }
    Ok(Json(list))
}

async fn get_one(
    State(engine): State<Arc<Engine>>,
    version: RequestVersion,
    Path(rest): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    match rest.rsplit_once('/') {
        Some((name, "json")) => {
            embedded::ensure(&engine, name).await;
            Ok(inspect(&engine, version, name, &params)?.into_response())
        }
        Some((name, "attestations")) => Ok(attestations(&engine, name, &params)?.into_response()),
        Some((name, "history")) => Ok(history(&engine, name, &params)?.into_response()),
        Some((name, "get")) => {
            resolve_for(&engine, name, &params)?;
            save(engine, vec![name.to_owned()], platform(&params)?).await
        }
        _ => Err(HttpError::not_found("page not found")),
    }
}

async fn post_one(
    State(engine): State<Arc<Engine>>,
    Path(rest): Path<String>,
    params: Params,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, HttpError> {
    match rest.rsplit_once('/') {
        Some((name, "tag")) => {
            embedded::ensure(&engine, name).await;
            tag(engine, name.to_owned(), params).await
        }
        Some((name, "attestations")) => attest(engine, name.to_owned(), body).await,
        Some((name, "annotations")) => annotate(engine, name.to_owned(), body).await,
        Some((name, "platforms")) => group(engine, name.to_owned(), body).await,
        Some((name, "push")) => transfer::push_image(engine, name, &params, &headers).await,
        _ => Err(HttpError::not_found("page not found")),
    }
}

/// The ids of the containers made of an image.
fn ids_of_users(engine: &Engine, id: &Digest) -> Vec<String> {
    users_of(engine, id).into_iter().map(|user| user.container_id).collect()
}

fn inspect(
    engine: &Engine,
    version: RequestVersion,
    name: &str,
    params: &Params,
) -> Result<Json<Value>, HttpError> {
    let image = resolve_for(engine, name, params)?;
    let with_manifests = version.at_least(48) && params.flag("manifests");
    let old = view::OldFields {
        virtual_size: version.keeps_fields_removed_in(44),
        container: version.keeps_fields_removed_in(45),
    };
    let mut answer: Inspect = view::inspect(&engine.store, &image, old);
    // Where something is claimed of an image, its manifests are told without being asked for.
    if with_manifests || !image.attestations.is_empty() || !image.group.is_empty() {
        answer.manifests = manifests::of(&engine.store, &image, &|id| ids_of_users(engine, id));
        let target = manifests::target(&engine.store, &image);
        answer.descriptor = target.and_then(|target| serde_json::to_value(target).ok());
    }
    let mut answer = serde_json::to_value(answer).map_err(|error| HttpError::internal(error.to_string()))?;
    if let Some(of_container) = image.config.other.get("container_config").filter(|_| old.container) {
        answer["ContainerConfig"] = of_container.clone();
    }
    if version.keeps_fields_removed_in(50) {
        for config in ["Config", "ContainerConfig"] {
            if let Some(Value::Object(config)) = answer.get_mut(config) {
                view::fill_old_config(config);
            }
        }
    }
    Ok(Json(answer))
}

/// Finds an image; where the parameter `platform` names another platform than its own, it is not there.
fn resolve_for(engine: &Engine, name: &str, params: &Params) -> Result<Arc<ferry_store::Image>, HttpError> {
    let image = engine.store.images().resolve(name)?;
    if params.all("platform").filter(|text| !text.is_empty()).count() > 1 {
        return Err(HttpError::bad_request("only one platform is accepted"));
    }
    suits(engine, &image, name, params)
}

/// The image for the platform that the parameter `platform` names, among those that a name stands for; one for another
/// platform is not there.
pub(super) fn suits(
    engine: &Engine,
    image: &Arc<ferry_store::Image>,
    name: &str,
    params: &Params,
) -> Result<Arc<ferry_store::Image>, HttpError> {
    let Some(wanted) = platform(params)? else { return Ok(Arc::clone(image)) };
    engine.store.images().member_for(image, &wanted).ok_or_else(|| {
        HttpError::not_found(format!(
            "image with reference {name} was found but does not provide the specified platform ({wanted})"
        ))
    })
}

/// What is claimed of an image: the statements beside its manifest.
fn attestations(engine: &Engine, name: &str, params: &Params) -> Result<Json<Vec<Value>>, HttpError> {
    let image = resolve_for(engine, name, params)?;
    let kinds: Vec<&str> = params.all("type").collect();
    let told = view::statements(&engine.store, &image, params.flag("statement"));
    let chosen = told
        .into_iter()
        .filter(|one| kinds.is_empty() || kinds.iter().any(|kind| one["PredicateType"] == *kind));
    Ok(Json(chosen.collect()))
}

fn history(engine: &Engine, name: &str, params: &Params) -> Result<Json<Vec<HistoryItem>>, HttpError> {
    let image = resolve_for(engine, name, params)?;
    Ok(Json(view::history(&engine.store, &image)))
}

async fn tag(engine: Arc<Engine>, name: String, params: Params) -> Result<Response, HttpError> {
    let reference = repo_and_tag(params.get("repo"), params.get("tag"))?
        .ok_or_else(|| HttpError::bad_request("invalid reference format: no repository given"))?;
    blocking(move || {
        let image = engine.store.images().resolve(&name)?;
        engine.store.images().tag(&image.id, &reference)?;
        emit(&engine, "tag", &image.id.to_string(), &reference.familiar());
        Ok::<_, HttpError>(())
    })
    .await?;
    Ok(StatusCode::CREATED.into_response())
}

/// `POST /images/{name}/attestations`: keeps what is claimed of an image.
async fn attest(engine: Arc<Engine>, name: String, body: axum::body::Bytes) -> Result<Response, HttpError> {
    let claims: Vec<Attestation> = serde_json::from_slice(&body)
        .map_err(|error| HttpError::bad_request(format!("invalid attestations: {error}")))?;
    blocking(move || {
        let image = engine.store.images().resolve(&name)?;
        Ok::<_, HttpError>(engine.store.images().attest(&image.id, claims)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /images/{name}/annotations` (Ferry's own): notes annotations of an image, in the place of earlier ones.
async fn annotate(engine: Arc<Engine>, name: String, body: axum::body::Bytes) -> Result<Response, HttpError> {
    let asked: Vec<Annotation> = serde_json::from_slice(&body)
        .map_err(|error| HttpError::bad_request(format!("invalid annotations: {error}")))?;
    blocking(move || {
        let image = engine.store.images().resolve(&name)?;
        Ok::<_, HttpError>(engine.store.images().annotate(&image.id, asked)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /images/{name}/platforms` (Ferry's own): lets an image stand for these, in the order of their index.
async fn group(engine: Arc<Engine>, name: String, body: axum::body::Bytes) -> Result<Response, HttpError> {
    let names: Vec<String> = serde_json::from_slice(&body)
        .map_err(|error| HttpError::bad_request(format!("invalid list of images: {error}")))?;
    blocking(move || {
        let images = engine.store.images();
        let lead = images.resolve(&name)?;
        let mut members = Vec::with_capacity(names.len());
        for name in &names {
            members.push(images.resolve(name)?.id.clone());
        }
        if !members.is_empty() && !members.contains(&lead.id) {
            return Err(HttpError::bad_request(format!("{name} is not among its own images")));
        }
        Ok::<_, HttpError>(images.group(&lead.id, members)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A name given as repository and tag; the tag wins over one in the repository.
fn repo_and_tag(repo: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>, HttpError> {
    let Some(repo) = repo else { return Ok(None) };
    let bad = |error: ferry_oci::ReferenceError| HttpError::bad_request(error.to_string());
    let reference = Reference::parse_normalized(repo).map_err(bad)?;
    if reference.digest().is_some() {
        return Err(HttpError::bad_request("refusing to create a tag with a digest reference"));
    }
    match tag {
        Some(tag) => reference.with_tag(tag).map(Some).map_err(bad),
        None => Ok(Some(reference)),
    }
}

async fn delete_one(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    let options = RemoveOptions { force: params.flag("force"), no_prune: params.flag("noprune") };
    let removed = blocking(move || remove::remove(&engine, &name, options)).await?;
    Ok(Json(removed).into_response())
}

async fn prune(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let filters = params.filters(PRUNE_KEYS)?;
    let pruned = blocking(move || {
        // Unlike in a list, `dangling=false` means all unused images, not only named ones.
        let only_dangling = filters.bool_value("dangling", true)?;
        let mut rest = ferry_api::Filters::default();
        for (key, values) in filters.iter().filter(|(key, _)| *key != "dangling") {
            values.for_each(|value| rest.add(key, value));
        }
        let filter = ImageFilter::new(&rest, &engine.store)?;
        let wanted = |image: &ferry_store::Image| {
            filter.matches(image) && (!only_dangling || image.repo_tags.is_empty())
        };
        remove::prune(&engine, &wanted).map_err(HttpError::from)
    })
    .await?;
    Ok(Json(pruned).into_response())
}

/// One JSON object per line, as pull, load and import answer.
struct ProgressStream(BodyWriter);

impl ProgressStream {
    fn send(&mut self, line: &Progress) {
        use std::io::Write;
        let mut bytes = serde_json::to_vec(line).unwrap_or_default();
        bytes.extend_from_slice(b"\r\n");
        // A client that left does not stop a load that it began.
        let _ = self.0.write_all(&bytes).and_then(|()| self.0.flush());
    }
}

fn json_stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn platform(params: &Params) -> Result<Option<Platform>, HttpError> {
    let Some(text) = params.get("platform").filter(|text| !text.is_empty()) else { return Ok(None) };
    // Since 1.48 a JSON object, before that (import) a plain `os/arch`.
    let parsed = match text.starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| error.to_string()),
        false => Platform::parse(text).map_err(|error| error.to_string()),
    };
    parsed.map(Some).map_err(|error| HttpError::bad_request(format!("invalid platform {text:?}: {error}")))
}

async fn load(State(engine): State<Arc<Engine>>, params: Params, body: Body) -> Result<Response, HttpError> {
    let platform = platform(&params)?;
    let quiet = params.flag("quiet");
    let reader = BodyReader::new(body);
    let (writer, answer) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let stream = std::sync::Mutex::new(ProgressStream(writer));
        let send = |line: Progress| {
            stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send(&line);
        };
        let progress = |step: LoadProgress| match step {
            LoadProgress::LayerStarted(layer) if !quiet => {
                send(Progress::about(layer.short(), "Loading layer"));
            }
            LoadProgress::LayerFinished(layer) if !quiet => {
                send(Progress::about(layer.short(), "Loaded layer"))
            }
            _ => {}
        };
        match engine.store.load(reader, platform.as_ref(), &progress) {
            Ok(loaded) => {
                for image in loaded {
                    emit(&engine, "load", &image.id.to_string(), &image.id.to_string());
                    if image.names.is_empty() {
                        send(Progress::text(format!("Loaded image ID: {}\n", image.id)));
                    }
                    for name in &image.names {
                        send(Progress::text(format!("Loaded image: {name}\n")));
                    }
                }
            }
            Err(error) => send(Progress::failure(0, error_chain(&error))),
        }
    });
    Ok(json_stream(answer))
}

async fn create(
    State(engine): State<Arc<Engine>>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    match (params.get("fromImage"), params.get("fromSrc")) {
        (Some(_), _) => transfer::pull_image(engine, &params, &headers).await,
        (None, Some("-")) => import(engine, params, body).await,
        (None, Some(url)) => Err(HttpError::not_implemented(format!(
            "import from {url:?} is not supported; download it and import from standard input (-)"
        ))),
        (None, None) => Err(HttpError::bad_request("neither fromImage nor fromSrc is given")),
    }
}

async fn import(engine: Arc<Engine>, params: Params, body: Body) -> Result<Response, HttpError> {
    let options = ImportOptions {
        changes: params.all("changes").map(str::to_owned).collect(),
        message: params.get("message").unwrap_or_default().to_owned(),
        source: "-".to_owned(),
        reference: repo_and_tag(params.get("repo"), params.get("tag"))?,
        platform: platform(&params)?,
    };
    let reader = BodyReader::new(body);
    let image = blocking(move || {
        let image = engine.store.import_rootfs(reader, &options)?;
        let name = options.reference.map(|reference| reference.familiar()).unwrap_or_default();
        emit(&engine, "import", &image.id.to_string(), &name);
        Ok::<_, HttpError>(image)
    })
    .await?;
    let mut line = serde_json::to_vec(&Progress::status(image.id.to_string())).unwrap_or_default();
    line.extend_from_slice(b"\r\n");
    Ok(json_stream(Body::from(line)))
}

async fn save_several(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let names: Vec<String> = params.all("names").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(HttpError::bad_request("no image name given (parameter names)"));
    }
    for name in &names {
        resolve_for(&engine, name, &params)?;
    }
    let platform = platform(&params)?;
    save(engine, names, platform).await
}

async fn save(
    engine: Arc<Engine>,
    names: Vec<String>,
    platform: Option<Platform>,
) -> Result<Response, HttpError> {
    // Once the archive has begun, an error can only break it off.
    engine.store.check_saveable(&names, platform.as_ref()).map_err(|error| save_error(&error))?;
    let (mut writer, answer) = BodyWriter::new();
    tokio::task::spawn_blocking(move || match engine.store.save(&names, platform.as_ref(), &mut writer) {
        Ok(images) => {
            for id in images {
                emit(&engine, "save", &id.to_string(), &id.to_string());
            }
        }
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "save was broken off");
            writer.fail(std::io::Error::other(error_chain(&error)));
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], answer).into_response())
}

fn save_error(error: &ferry_store::SaveError) -> HttpError {
    use crate::error::HttpStatus;
    let status = match error {
        ferry_store::SaveError::Resolve(error) => error.status(),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    HttpError::new(status, error_chain(error))
}

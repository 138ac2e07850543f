//! `/networks...`: list, inspect, create, remove, connect, disconnect, prune.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ferry_api::Filters;
use ferry_api::network::{
    ConnectRequest, CreateRequest, CreateResponse, DisconnectRequest, EndpointResource, Network,
    PruneResponse,
};
use http::StatusCode;
use serde_json::Value;

use crate::clock;
use crate::container::list::NamePattern;
use crate::engine::Engine;
use crate::error::HttpError;
use crate::network::{self, NetworkRecord};
use crate::server::RequestVersion;
use crate::server::body::GoJson;
use crate::server::params::Params;

const LIST_KEYS: &[&str] = &["driver", "id", "label", "name", "scope", "type", "dangling"];
const PRUNE_KEYS: &[&str] = &["until", "label", "label!"];

type AppState = State<Arc<Engine>>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

async fn list(
    State(engine): AppState,
    version: RequestVersion,
    params: Params,
) -> Result<Json<Vec<Value>>, HttpError> {
    let filters = params.filters(LIST_KEYS)?;
    filters.bool_value("dangling", false)?;
    let names: Vec<NamePattern> = filters.get("name").map(NamePattern::new).collect::<Result<_, _>>()?;
    let by_name = |record: &NetworkRecord| {
        names.is_empty() || names.iter().any(|pattern| pattern.matches(&record.network.name))
    };
    let mut networks: Vec<Network> = engine
        .networks
        .all()
        .into_iter()
        .filter(|record| by_name(record) && matches(&engine, &filters, record))
        .map(|record| record.network)
        .collect();
    networks.sort_by(|one, other| one.name.cmp(&other.name));
    let shown = networks.iter().map(|network| {
        let mut shown =
            serde_json::to_value(network).map_err(|error| HttpError::internal(error.to_string()))?;
        // Which containers a network has, is told by its inspection alone since 1.52.
        if let Some(fields) = shown.as_object_mut().filter(|_| !version.keeps_fields_removed_in(52)) {
            fields.shift_remove("Containers");
        }
        Ok(shown)
    });
    shown.collect::<Result<_, HttpError>>().map(Json)
}

fn matches(engine: &Engine, filters: &Filters, record: &NetworkRecord) -> bool {
    let network = &record.network;
    let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
    let dangling = || !record.is_predefined() && network::users_of(engine, &network.id).is_empty();
    any("driver", &|driver| network.driver == driver)
        && any("id", &|id| network.id.starts_with(id))
        && any("scope", &|scope| network.scope == scope)
        && any("type", &|kind| record.is_predefined() == (kind == "builtin"))
        && any("dangling", &|wanted| dangling() == matches!(wanted, "1" | "true" | "True" | "t"))
        && filters.get("label").all(|label| has_label(network, label))
}

fn has_label(network: &Network, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(label),
    }
}

async fn inspect(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Network>, HttpError> {
    let record = engine.networks.find(&id)?;
    if params.get("scope").is_some_and(|scope| scope != record.network.scope) {
        return Err(HttpError::not_found(format!("network {id} not found")));
    }
    let containers = containers(&engine, &record);
    Ok(Json(Network { containers, ..record.network }))
}

fn containers(engine: &Engine, record: &NetworkRecord) -> BTreeMap<String, EndpointResource> {
    let mut found = BTreeMap::new();
    for container in engine.containers.all() {
        let inner = container.lock();
        let Some(settings) = inner.record.endpoints.get(&record.network.name) else { continue };
        if settings.endpoint_id.is_empty() {
            continue;
        }
        let with_prefix = |address: &str, prefix: i64| match address {
            "" => String::new(),
            address => format!("{address}/{prefix}"),
        };
        let resource = EndpointResource {
            name: inner.record.name.clone(),
            endpoint_id: settings.endpoint_id.clone(),
            mac_address: settings.mac_address.clone(),
            ipv4_address: with_prefix(&settings.ip_address, settings.ip_prefix_len),
            ipv6_address: with_prefix(&settings.global_ipv6_address, settings.global_ipv6_prefix_len),
        };
        found.insert(container.id.clone(), resource);
    }
    found
}

async fn create(
    State(engine): AppState,
    GoJson(request): GoJson<CreateRequest>,
) -> Result<Response, HttpError> {
    let id = network::create(&engine, request).await?;
    Ok((StatusCode::CREATED, Json(CreateResponse { id, warning: String::new() })).into_response())
}

async fn remove(State(engine): AppState, Path(id): Path<String>) -> Result<StatusCode, HttpError> {
    network::remove(&engine, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn connect(
    State(engine): AppState,
    Path(id): Path<String>,
    GoJson(request): GoJson<ConnectRequest>,
) -> Result<StatusCode, HttpError> {
    let record = engine.networks.find(&id)?;
    let container = engine.containers.find(&request.container)?;
    network::connect(&engine, &container, &record, request.endpoint_config.unwrap_or_default()).await?;
    Ok(StatusCode::OK)
}

async fn disconnect(
    State(engine): AppState,
    Path(id): Path<String>,
    GoJson(request): GoJson<DisconnectRequest>,
) -> Result<StatusCode, HttpError> {
    let record = engine.networks.find(&id)?;
    let container = engine.containers.find(&request.container)?;
    network::disconnect(&engine, &container, &record).await?;
    Ok(StatusCode::OK)
}

async fn prune(State(engine): AppState, params: Params) -> Result<Json<PruneResponse>, HttpError> {
    let filters = params.filters(PRUNE_KEYS)?;
    let until = crate::container::prune::until(&filters, jiff::Timestamp::now())?;
    let mut deleted = Vec::new();
    for record in engine.networks.all() {
        let network = &record.network;
        let young =
            until.is_some_and(|until| clock::parse(&network.created).is_none_or(|made| made >= until));
        let excluded = filters.get("label!").any(|label| has_label(network, label))
            || !filters.get("label").all(|label| has_label(network, label));
        let named =
            engine.containers.all().iter().any(|one| one.lock().record.endpoints.contains_key(&network.name));
        if record.is_predefined() || young || excluded || named {
            continue;
        }
        // One that got a container meanwhile simply stays.
        if network::remove(&engine, &network.id).await.is_ok() {
            deleted.push(network.name.clone());
        }
    }
    engine.events.emit("network", "prune", "", BTreeMap::from([("reclaimed".into(), "0".into())]));
    Ok(Json(PruneResponse { networks_deleted: Some(deleted) }))
}

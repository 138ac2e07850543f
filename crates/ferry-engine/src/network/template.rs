//! Configuration-only networks: settings that other networks are made from (`--config-only`,
//! `--config-from`). The kernel never hears of them.

use std::sync::Arc;

use ferry_api::network::{ConfigReference, CreateRequest, Ipam, Network};

use super::NetworkError;
use super::registry::NetworkRecord;
use crate::clock;
use crate::container::name::new_id;
use crate::engine::Engine;

/// The driver that inspect shows for one.
const DRIVER: &str = "null";

/// Refuses what no network of this engine can be.
pub fn check_scope(request: &CreateRequest) -> Result<(), NetworkError> {
    match request.scope.as_str() {
        _ if request.ingress => Err(NetworkError::NoSwarm),
        "" | "local" => Ok(()),
        "swarm" => Err(NetworkError::NoSwarm),
        other => Err(NetworkError::BadScope(other.to_owned())),
    }
}

/// A template as it is kept; its settings are not looked at before they are used.
pub fn record(request: &CreateRequest) -> Result<NetworkRecord, NetworkError> {
    if source(request).is_some() {
        return Err(NetworkError::TemplateOfTemplate);
    }
    if request.internal || request.attachable || !request.scope.is_empty() {
        return Err(NetworkError::OperatorFields);
    }
    let network = Network {
        name: request.name.clone(),
        id: new_id().map_err(NetworkError::Random)?,
        created: clock::now(),
        scope: "local".into(),
        driver: DRIVER.into(),
        enable_ipv4: request.enable_ipv4.unwrap_or(true),
        enable_ipv6: request.enable_ipv6.unwrap_or(false),
        ipam: request.ipam.clone().unwrap_or_else(|| Ipam { driver: "default".into(), ..Ipam::default() }),
        options: request.options.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
        config_only: true,
        ..Network::default()
    };
    Ok(NetworkRecord::new(network, None, Vec::new()))
}

/// The name of the template a request names.
pub fn source(request: &CreateRequest) -> Option<&str> {
    request.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty())
}

/// The request with the settings of the template it names.
pub fn apply(engine: &Arc<Engine>, request: CreateRequest) -> Result<CreateRequest, NetworkError> {
    let Some(name) = source(&request) else { return Ok(request) };
    let template = engine.networks.find(name)?.network;
    if !template.config_only {
        return Err(NetworkError::NotATemplate(template.name));
    }
    let ipam = request.ipam.iter();
    let own_subnets = ipam.clone().any(|ipam| ipam.config.iter().flatten().next().is_some());
    let own_ipam = ipam.clone().any(|ipam| {
        !matches!(ipam.driver.as_str(), "" | "default") || ipam.options.iter().flatten().next().is_some()
    });
    let own_options = request.options.iter().flatten().next().is_some();
    let own_labels = request.labels.iter().flatten().next().is_some();
    if own_subnets || own_ipam || own_options || own_labels || request.enable_ipv6 == Some(true) {
        return Err(NetworkError::SettingsBesideTemplate);
    }
    Ok(CreateRequest {
        config_from: Some(ConfigReference { network: template.name }),
        enable_ipv4: Some(template.enable_ipv4),
        enable_ipv6: Some(template.enable_ipv6),
        ipam: Some(template.ipam),
        options: Some(template.options),
        labels: Some(template.labels),
        ..request
    })
}

/// Refuses to remove a template that networks were made from.
pub fn refuse_used(engine: &Engine, template: &Network) -> Result<(), NetworkError> {
    let made_from_it = |record: &NetworkRecord| {
        record.network.config_from.network == template.name && !record.network.config_only
    };
    match template.config_only && engine.networks.all().iter().any(made_from_it) {
        true => Err(NetworkError::TemplateInUse(template.name.clone())),
        false => Ok(()),
    }
}

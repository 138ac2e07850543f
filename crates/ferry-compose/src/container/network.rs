//! Which networks a container joins, and under which names.

use super::Wanted;
use crate::model::Endpoint;
use ferry_api::container::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use std::collections::BTreeMap;

/// The key of the network a container is created on: the one of the highest priority, then by name.
pub fn primary_network(networks: &BTreeMap<String, Option<Endpoint>>) -> Option<&str> {
    let priority = |endpoint: &Option<Endpoint>| endpoint.as_ref().and_then(|e| e.priority).unwrap_or(0);
    networks
        .iter()
        .max_by(|(left_key, left), (right_key, right)| {
            priority(left).cmp(&priority(right)).then_with(|| right_key.cmp(left_key))
        })
        .map(|(key, _)| key.as_str())
}

/// `network_mode`, or the real name of the primary network.
pub(super) fn network_mode(wanted: &Wanted) -> String {
    if let Some(mode) = &wanted.service.network_mode {
        return mode.clone();
    }
    match primary_network(&wanted.service.networks) {
        Some(key) => real_name(wanted, key),
        None => "none".to_owned(),
    }
}

fn real_name(wanted: &Wanted, key: &str) -> String {
    wanted.networks.get(key).map_or_else(|| key.to_owned(), |network| network.name.clone())
}

pub(super) fn networking_config(wanted: &Wanted) -> Option<NetworkingConfig> {
    let endpoints = endpoints(wanted);
    if endpoints.is_empty() {
        return None;
    }
    let config = endpoints.into_iter().map(|(name, settings)| (name, Some(settings))).collect();
    Some(NetworkingConfig { endpoints_config: Some(config) })
}

/// Settings on every network, by the network's real name.
pub fn endpoints(wanted: &Wanted) -> BTreeMap<String, EndpointSettings> {
    let networks = wanted.service.networks.iter();
    networks.map(|(key, endpoint)| (real_name(wanted, key), settings(wanted, endpoint.as_ref()))).collect()
}

fn settings(wanted: &Wanted, endpoint: Option<&Endpoint>) -> EndpointSettings {
    let mut aliases = Vec::new();
    if wanted.aliases {
        aliases.push(wanted.container_name.to_owned());
        aliases.push(wanted.name.to_owned());
    }
    let Some(endpoint) = endpoint else {
        return EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
    };
    if wanted.aliases {
        aliases.extend(endpoint.aliases.iter().cloned());
    }
    let mut options: BTreeMap<String, String> =
        endpoint.driver_opts.iter().map(|(key, value)| (key.clone(), super::host::text(value))).collect();
    if let Some(name) = &endpoint.interface_name {
        options.insert("com.docker.network.endpoint.ifname".to_owned(), name.clone());
    }
    let ipam = EndpointIpamConfig {
        ipv4_address: endpoint.ipv4_address.clone().unwrap_or_default(),
        ipv6_address: endpoint.ipv6_address.clone().unwrap_or_default(),
        link_local_ips: endpoint.link_local_ips.clone(),
    };
    EndpointSettings {
        aliases: Some(aliases),
        ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
        driver_opts: (!options.is_empty()).then_some(options),
        gw_priority: endpoint.gw_priority.unwrap_or(0),
        mac_address: endpoint.mac_address.clone().unwrap_or_default(),
        ..EndpointSettings::default()
    }
}

//! Changes to the networks and ports of a container, most of them while it runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::container::PortMap;
use ferry_api::network::EndpointSettings;
use ferry_net::address::InterfaceAddress;
use ferry_net::client::ClientError;
use ferry_net::plan::EndpointPlan;
use ferry_net::protocol::{Reply, Request};

use super::attach::{self, ensure_up, release, release_settings};
use super::endpoint::{self, Planned};
use super::registry::NetworkRecord;
use super::{Mode, NetworkError, create, ports, refresh_host_names};
use crate::container::record::Record;
use crate::container::{Container, etc};
use crate::engine::Engine;

/// `network connect`.
pub async fn connect(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    network: &NetworkRecord,
    asked: EndpointSettings,
) -> Result<(), NetworkError> {
    let _lifecycle = container.lifecycle.lock().await;
    let before = container.record();
    let name = network.network.name.clone();
    if !matches!(Mode::parse(&before.host_config.network_mode), Mode::Network(_)) {
        return Err(NetworkError::NotCombinable(name));
    }
    network.refuse_unusable()?;
    if before.endpoints.contains_key(&name) {
        return Err(NetworkError::AlreadyConnected { container: before.name, network: name });
    }
    endpoint::check(network, &before, &asked)?;
    let mut settings = EndpointSettings { network_id: network.network.id.clone(), ..asked };
    let runs = before.state.status.has_process();
    if runs {
        settings = wire(engine, network, &before, &settings).await?;
    }
    container.lock().record.endpoints.insert(name, settings);
    let result = match runs {
        true => settle(engine, container, &before).await,
        false => Ok(()),
    };
    container.persist(&engine.store, container.is_durable())?;
    create::emit(engine, "connect", network, Some(&container.id));
    refresh_host_names(engine);
    result
}

/// Wires a running container to one more network; what inspect shows of it.
async fn wire(
    engine: &Arc<Engine>,
    network: &NetworkRecord,
    record: &Record,
    asked: &EndpointSettings,
) -> Result<EndpointSettings, NetworkError> {
    ensure_up(engine, network).await?;
    let mut all = current(engine, record);
    let interfaces = interfaces_of(engine, &record.id).await?;
    let planned = match engine.networks.lock().get_mut(&network.network.id) {
        Some(entry) => endpoint::plan(entry, record, asked, &interfaces)?,
        None => return Err(NetworkError::NotFound(network.network.name.clone())),
    };
    all.push(planned.clone());
    let request = Request::Connect {
        sandbox: record.id.clone(),
        endpoint: Box::new(planned.plan.clone()),
        gateways: endpoint::gateways(all.iter()),
    };
    match engine.networks.link.call(request).await {
        Ok(_) => Ok(planned.settings),
        Err(error) => {
            release(engine, &[planned]);
            Err(error.into())
        }
    }
}

/// `network disconnect`.
pub async fn disconnect(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    network: &NetworkRecord,
) -> Result<(), NetworkError> {
    let _lifecycle = container.lifecycle.lock().await;
    let before = container.record();
    let name = network.network.name.clone();
    let Some(settings) = before.endpoints.get(&name).cloned() else {
        return Err(NetworkError::NotConnected { container: before.name, network: name });
    };
    if network.plan.is_none() {
        return Err(NetworkError::NotCombinable(name));
    }
    let runs = before.state.status.has_process();
    if runs {
        unwire(engine, &before, network, &settings).await?;
    }
    container.lock().record.endpoints.remove(&name);
    let result = match runs {
        true => settle(engine, container, &before).await,
        false => Ok(()),
    };
    container.persist(&engine.store, container.is_durable())?;
    create::emit(engine, "disconnect", network, Some(&container.id));
    refresh_host_names(engine);
    result
}

pub(super) async fn unwire(
    engine: &Arc<Engine>,
    record: &Record,
    network: &NetworkRecord,
    settings: &EndpointSettings,
) -> Result<(), NetworkError> {
    let mut remaining = current(engine, record);
    remaining.retain(|one| one.network != network.network.name);
    let request = Request::Disconnect {
        sandbox: record.id.clone(),
        network: network.network.id.clone(),
        gateways: endpoint::gateways(remaining.iter()),
    };
    engine.networks.link.call(request).await?;
    release_settings(engine, settings);
    Ok(())
}

/// After a running container joined or left a network: published ports follow its default
/// route, its servers are those of its networks, `/etc` says the same.
async fn settle(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    before: &Record,
) -> Result<(), NetworkError> {
    let after = container.record();
    tell_names(engine, &after).await?;
    let (old, new) = (current(engine, before), current(engine, &after));
    let former = attach::view(engine, before, &old);
    etc::networks_changed(container, &after, &former, &attach::view(engine, &after, &new));
    let target = |planned: &[Planned]| {
        attach::publish_plan(engine, &after, planned, &endpoint::gateways(planned.iter()))
    };
    if !after.state.ports_given && target(&old)? != target(&new)? {
        let published = republish(engine, &after).await?;
        container.lock().record.state.published = published;
    }
    Ok(())
}

/// Makes the published ports of a running container be those of its record; the ports
/// as inspect shows them.
pub async fn republish(engine: &Arc<Engine>, record: &Record) -> Result<PortMap, NetworkError> {
    let planned = current(engine, record);
    let publish = attach::publish_plan(engine, record, &planned, &endpoint::gateways(planned.iter()))?;
    let request = Request::Publish { sandbox: record.id.clone(), publish };
    match engine.networks.link.call(request).await {
        Ok(Reply::Published(bound)) => Ok(ports::shown(record, &bound)),
        Ok(other) => Err(ClientError::Unexpected(format!("{other:?}")).into()),
        Err(error) => Err(attach::refusal(record, &planned, error)),
    }
}

/// Ports that `giver` has published lead to `taker` from now on, without a moment in which nobody answers.
pub async fn take_ports(
    engine: &Arc<Engine>,
    giver: &Arc<Container>,
    taker: &Arc<Container>,
) -> Result<(), NetworkError> {
    let record = taker.record();
    for container in [giver, taker] {
        if !container.status().has_process() {
            return Err(NetworkError::NoPorts(container.name()));
        }
    }
    let planned = current(engine, &record);
    let gateways = endpoint::gateways(planned.iter());
    let publish = attach::publish_plan(engine, &record, &planned, &gateways)?;
    let request = Request::HandOver { from: giver.id.clone(), to: taker.id.clone(), publish };
    let Reply::Published(bound) = engine.networks.link.call(request).await? else {
        return Err(NetworkError::Lost("the network service gave no ports".to_owned()));
    };
    let published = ports::shown(&record, &bound);
    {
        let state = &mut giver.lock().record.state;
        state.published.retain(|port, _| !published.contains_key(port));
        state.ports_given = true;
    }
    taker.lock().record.state.published = published;
    for container in [giver, taker] {
        container.persist(&engine.store, false)?;
    }
    Ok(())
}

/// The endpoints a running container has, as far as routes and files are concerned.
pub(super) fn current(engine: &Engine, record: &Record) -> Vec<Planned> {
    let planned = record.endpoints.iter().filter_map(|(name, settings)| {
        let network = engine.networks.find(name).ok()?;
        let pairs = [
            (&settings.ip_address, settings.ip_prefix_len),
            (&settings.global_ipv6_address, settings.global_ipv6_prefix_len),
        ];
        let addresses = pairs.iter().filter_map(|(text, prefix)| {
            Some(InterfaceAddress { address: text.parse().ok()?, prefix: u8::try_from(*prefix).ok()? })
        });
        let plan = EndpointPlan {
            id: settings.endpoint_id.clone(),
            network_id: network.network.id.clone(),
            interface: String::new(),
            mac: None,
            addresses: addresses.collect(),
            link_local: Vec::new(),
            gateways: Vec::new(),
            default_device_route: false,
            names: Vec::new(),
            sysctls: BTreeMap::new(),
        };
        Some(Planned { network: name.clone(), record: network, plan, settings: settings.clone() })
    });
    planned.collect()
}

async fn interfaces_of(engine: &Arc<Engine>, id: &str) -> Result<Vec<String>, NetworkError> {
    let Reply::Listed(listed) = engine.networks.link.call(Request::List).await? else {
        return Ok(Vec::new());
    };
    let sandbox = listed.sandboxes.into_iter().find(|(plan, _)| plan.id == id);
    Ok(sandbox
        .map(|(plan, _)| plan.endpoints.into_iter().map(|one| one.interface).collect())
        .unwrap_or_default())
}

/// Tells the DNS service what a renamed container is called now.
pub async fn renamed(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<(), NetworkError> {
    let record = container.record();
    if !record.state.status.has_process() || record.state.sandbox_key.is_empty() {
        return Ok(());
    }
    tell_names(engine, &record).await
}

/// Tells containers that were linked to this one before it was there.
pub(super) async fn tell_waiting_links(engine: &Arc<Engine>, arrived: &Record) -> Result<(), NetworkError> {
    if !engine.networks.links_wait() {
        return Ok(());
    }
    for container in engine.containers.all() {
        let record = container.record();
        if record.id == arrived.id
            || !record.state.status.has_process()
            || record.state.sandbox_key.is_empty()
        {
            continue;
        }
        if attach::links(engine, &record).values().any(|id| *id == arrived.id) {
            tell_names(engine, &record).await?;
        }
    }
    Ok(())
}

async fn tell_names(engine: &Arc<Engine>, record: &Record) -> Result<(), NetworkError> {
    let mut planned = current(engine, record);
    for one in &mut planned {
        one.plan.names = endpoint::names(&one.record, record, &one.settings);
    }
    let names = planned.iter().map(|one| (one.plan.network_id.clone(), one.plan.names.clone())).collect();
    let dns = endpoint::dns(record, &planned, attach::links(engine, record));
    let request = Request::Rename { sandbox: record.id.clone(), name: record.name.clone(), names, dns };
    engine.networks.link.call(request).await?;
    Ok(())
}

/// The addresses among `texts`.
pub(super) fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> impl Iterator<Item = IpAddr> {
    texts.into_iter().filter_map(|text| text.parse().ok())
}

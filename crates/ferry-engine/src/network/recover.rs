//! At an engine's start: what the network service holds and what the records say become one.
//!
//! The service is right about what is wired, the records about what shall be. An engine that
//! was killed between the two left one of these: a start whose addresses nobody wrote down
//! (written down now), a connect nobody recorded (taken back), a disconnect nobody recorded
//! (recorded now), ports published or taken back for a request that got no answer (as the
//! record has them), a container that ended (taken back).

use std::net::IpAddr;
use std::sync::Arc;

use ferry_net::plan::{EndpointPlan, PortPlan, PublishPlan, SandboxPlan};
use ferry_net::protocol::{Attached, Listed, Reply, Request};

use super::attach::release_settings;
use super::{BRIDGE, endpoint, live, ports};
use crate::container::{Container, etc};
use crate::engine::Engine;

/// Before any container is: addresses in use are marked.
pub async fn adopt(engine: &Arc<Engine>) {
    let Some(listed) = listed(engine).await else { return };
    follow_settings(engine, &listed).await;
    let mut entries = engine.networks.lock();
    for network in &listed.networks {
        if let Some(entry) = entries.get_mut(&network.id) {
            entry.up = entry.record.plan.as_ref() == Some(network);
        }
    }
    for endpoint in listed.sandboxes.iter().flat_map(|(plan, _)| &plan.endpoints) {
        if let Some(entry) = entries.get_mut(&endpoint.network_id) {
            endpoint.addresses.iter().for_each(|address| entry.addresses.adopt(address.address));
        }
    }
}

/// The default bridge as the operator wants it now, unless running containers are on it.
async fn follow_settings(engine: &Arc<Engine>, listed: &Listed) {
    let defaults = engine.defaults();
    let Ok(bridge) = engine.networks.find(BRIDGE) else { return };
    if !bridge.is_wanted_otherwise(&defaults.network) {
        return;
    }
    let id = bridge.network.id;
    let mut endpoints = listed.sandboxes.iter().flat_map(|(plan, _)| &plan.endpoints);
    if endpoints.any(|endpoint| endpoint.network_id == id) {
        tracing::warn!("daemon.json: the default bridge stays as it is while containers run on it");
        return;
    }
    let moving = Arc::clone(engine);
    let moved = tokio::task::spawn_blocking(move || {
        moving.networks.move_default_bridge(&moving.options, &defaults.network, &id)
    });
    match moved.await {
        Ok(Ok(_)) => tracing::info!("the default bridge follows daemon.json"),
        Ok(Err(error)) => tracing::error!("daemon.json: the default bridge stays as it was: {error:#}"),
        Err(error) => tracing::error!(%error, "change the default bridge"),
    }
}

/// Once containers are found again.
pub async fn recover(engine: &Arc<Engine>) {
    let Some(listed) = listed(engine).await else { return };
    for (plan, attached) in listed.sandboxes {
        match engine.containers.find(&plan.id) {
            Ok(container) if container.status().has_process() => {
                reconcile(engine, &container, &plan, &attached).await;
            }
            _ => take_back(engine, &plan).await,
        }
    }
    super::refresh_host_names(engine);
}

async fn take_back(engine: &Arc<Engine>, plan: &SandboxPlan) {
    if let Err(error) = engine.networks.link.call(Request::Detach { sandbox: plan.id.clone() }).await {
        tracing::error!(container = plan.id, %error, "take back the network of a container that ended");
    }
    plan.endpoints.iter().for_each(|endpoint| release(engine, endpoint));
}

fn release(engine: &Engine, endpoint: &EndpointPlan) {
    if let Some(entry) = engine.networks.lock().get_mut(&endpoint.network_id) {
        endpoint.addresses.iter().for_each(|address| entry.addresses.release(address.address));
    }
}

async fn reconcile(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    plan: &SandboxPlan,
    attached: &Attached,
) {
    let _lifecycle = container.lifecycle.lock().await;
    let mut changed = learn_started(engine, container, plan);
    changed |= forget_disconnected(engine, container, plan);
    undo_unrecorded(engine, container, plan).await;
    let record = container.record();
    let mut published = ports::shown(&record, &attached.ports);
    if !record.state.ports_given && wishes_differ(engine, &record, plan) {
        match live::republish(engine, &record).await {
            Ok(ports) => published = ports,
            Err(error) => tracing::error!(container = plan.id, %error, "publish a container's ports again"),
        }
    }
    {
        let mut inner = container.lock();
        let state = &mut inner.record.state;
        changed |= state.published != published || state.sandbox_key != attached.namespace;
        state.published = published;
        state.sandbox_key.clone_from(&attached.namespace);
    }
    if changed && let Err(error) = container.persist(&engine.store, container.is_durable()) {
        tracing::error!(container = plan.id, %error, "write a container's record");
    }
}

/// Endpoints that wait for a start in the record and are wired already.
fn learn_started(engine: &Engine, container: &Container, plan: &SandboxPlan) -> bool {
    let mut changed = false;
    for wired in &plan.endpoints {
        let Ok(network) = engine.networks.find(&wired.network_id) else { continue };
        let mut inner = container.lock();
        let endpoints = &mut inner.record.endpoints;
        let waiting = endpoints
            .iter()
            .find(|(name, settings)| waits_for(name, settings, &network.network))
            .map(|(name, _)| name.clone());
        if let Some(name) = waiting {
            let asked = endpoints.remove(&name).unwrap_or_default();
            let shown = endpoint::shown(&network, &asked, wired, wired.names.clone());
            endpoints.insert(network.network.name.clone(), shown);
            changed = true;
        }
    }
    changed
}

fn waits_for(
    name: &str,
    settings: &ferry_api::network::EndpointSettings,
    network: &ferry_api::network::Network,
) -> bool {
    settings.endpoint_id.is_empty() && (name == network.name || network.id.starts_with(name))
}

/// Endpoints of the record that are no longer wired.
fn forget_disconnected(engine: &Engine, container: &Container, plan: &SandboxPlan) -> bool {
    let wired = |id: &str| plan.endpoints.iter().any(|endpoint| endpoint.id == id);
    let mut gone = Vec::new();
    container.lock().record.endpoints.retain(|_, settings| {
        let stays = settings.endpoint_id.is_empty() || wired(&settings.endpoint_id);
        if !stays {
            gone.push(settings.clone());
        }
        stays
    });
    gone.iter().for_each(|settings| release_settings(engine, settings));
    !gone.is_empty()
}

/// Wired endpoints that no record has: nobody was told that they exist.
async fn undo_unrecorded(engine: &Arc<Engine>, container: &Container, plan: &SandboxPlan) {
    let record = container.record();
    let known = |id: &str| record.endpoints.values().any(|settings| settings.endpoint_id == id);
    for endpoint in plan.endpoints.iter().filter(|endpoint| !known(&endpoint.id)) {
        let gateways = endpoint::gateways(live::current(engine, &record).iter());
        let network = endpoint.network_id.clone();
        let request = Request::Disconnect { sandbox: plan.id.clone(), network, gateways };
        if let Err(error) = engine.networks.link.call(request).await {
            tracing::error!(container = plan.id, %error, "take back an interrupted connect");
            continue;
        }
        release(engine, endpoint);
        let addresses: Vec<IpAddr> = endpoint.addresses.iter().map(|one| one.address).collect();
        etc::forget_addresses(container, &addresses);
    }
}

fn wishes_differ(engine: &Engine, record: &crate::container::record::Record, plan: &SandboxPlan) -> bool {
    let planned = live::current(engine, record);
    let gateways = endpoint::gateways(planned.iter());
    // The default host address may be another one since; that waits for the next start.
    let essence = |plan: &PublishPlan| {
        let port = |port: &PortPlan| (port.container_port, port.protocol, port.host_ports);
        (plan.ipv4, plan.ipv6, plan.ports.iter().map(port).collect::<Vec<_>>())
    };
    super::attach::publish_plan(engine, record, &planned, &gateways)
        .is_ok_and(|wanted| essence(&wanted) != essence(&plan.publish))
}

async fn listed(engine: &Engine) -> Option<Listed> {
    match engine.networks.link.call(Request::List).await {
        Ok(Reply::Listed(listed)) => Some(listed),
        other => {
            let error = other.err().map(|error| error.to_string());
            tracing::warn!(?error, "the network service does not say what there is");
            None
        }
    }
}

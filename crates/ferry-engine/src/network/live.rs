//! Joining and leaving networks, at starts and ends and while a container runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::network::EndpointSettings;
use ferry_net::client::ClientError;
use ferry_net::dns::{DNS_ADDRESS, host_resolv_conf};
use ferry_net::plan::{NetworkPlan, PublishPlan, SandboxPlan, Wiring};
use ferry_net::protocol::{Attached, FailureKind, Gateways, Reply, Request};

use super::endpoint::{self, Planned};
use super::registry::{BRIDGE, NetworkRecord};
use super::{Attachment, Mode, NetworkError, create, ports};
use crate::container::Container;
use crate::container::record::Record;
use crate::engine::Engine;
use crate::spec::namespaces::Sharing;

/// Wires a container that is about to start to its networks.
pub async fn attach(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Attachment, NetworkError> {
    let record = container.record();
    let wanted = endpoint::wanted(&engine.networks, &record)?;
    for (network, _) in &wanted {
        ensure_up(engine, network).await?;
    }
    let planned = plan_all(engine, &record, &wanted)?;
    let without_ports = std::mem::take(&mut container.lock().ports_come_later);
    let result = wire(engine, &record, &planned, without_ports).await;
    if result.is_err() {
        release(engine, &planned);
    }
    let attached = result?;
    for one in &planned {
        create::emit(engine, "connect", &one.record, Some(&record.id));
    }
    Ok(attachment(engine, &record, planned, attached))
}

fn plan_all(
    engine: &Engine,
    record: &Record,
    wanted: &[(NetworkRecord, EndpointSettings)],
) -> Result<Vec<Planned>, NetworkError> {
    let mut planned: Vec<Planned> = Vec::new();
    for (network, asked) in wanted {
        let interfaces: Vec<String> = planned.iter().map(|one| one.plan.interface.clone()).collect();
        let result = match engine.networks.lock().get_mut(&network.network.id) {
            Some(entry) => endpoint::plan(entry, record, asked, &interfaces),
            None => Err(NetworkError::NotFound(network.network.name.clone())),
        };
        match result {
            Ok(one) => planned.push(one),
            Err(error) => {
                release(engine, &planned);
                return Err(error);
            }
        }
    }
    Ok(planned)
}

fn release(engine: &Engine, planned: &[Planned]) {
    let mut entries = engine.networks.lock();
    for one in planned {
        if let Some(entry) = entries.get_mut(&one.plan.network_id) {
            one.plan.addresses.iter().for_each(|address| entry.addresses.release(address.address));
        }
    }
}

async fn wire(
    engine: &Arc<Engine>,
    record: &Record,
    planned: &[Planned],
    without_ports: bool,
) -> Result<Attached, NetworkError> {
    let gateways = endpoint::gateways(planned.iter());
    let mut endpoints: Vec<_> = planned.iter().map(|one| one.plan.clone()).collect();
    for (network, gateway) in gateways.ipv4.iter().chain(&gateways.ipv6) {
        for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.network_id == *network) {
            endpoint.gateways.push(*gateway);
        }
    }
    if gateways == Gateways::default()
        && let Some(at) = planned.iter().position(|one| routes_by_device(&one.record))
    {
        endpoints[at].default_device_route = true;
    }
    let mut publish = publish_plan(engine, record, planned, &gateways)?;
    if without_ports {
        publish.ports.clear();
    }
    let plan = SandboxPlan {
        id: record.id.clone(),
        name: record.name.clone(),
        endpoints,
        publish,
        dns: endpoint::dns(record, planned, links(engine, record)),
    };
    let attached = match engine.networks.link.call(Request::Attach(Box::new(plan.clone()))).await {
        // A remnant of a run whose end nobody recorded.
        Err(ClientError::Refused(failure)) if failure.message.ends_with("is wired already") => {
            engine.networks.link.call(Request::Detach { sandbox: record.id.clone() }).await?;
            engine.networks.link.call(Request::Attach(Box::new(plan))).await
        }
        result => result,
    };
    match attached {
        Ok(Reply::Attached(attached)) => Ok(attached),
        Ok(other) => Err(ClientError::Unexpected(format!("{other:?}")).into()),
        Err(ClientError::Refused(failure)) if failure.kind == FailureKind::PortTaken => {
            Err(NetworkError::Port {
                container: record.name.clone(),
                endpoint: planned.first().map(|one| one.plan.id.clone()).unwrap_or_default(),
                message: failure.message,
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn routes_by_device(record: &NetworkRecord) -> bool {
    use ferry_net::plan::IpvlanMode;
    let Some(plan) = &record.plan else { return false };
    !plan.internal
        && matches!(&plan.wiring, Wiring::Ipvlan { child, mode, .. } if *mode != IpvlanMode::L2 && child.parent.is_some())
}

/// Ports lead to the endpoint that has the default route, when that is on a bridge.
fn publish_plan(
    engine: &Engine,
    record: &Record,
    planned: &[Planned],
    gateways: &Gateways,
) -> Result<PublishPlan, NetworkError> {
    use ferry_net::plan::GatewayMode;
    let target = |gateway: &Option<(String, IpAddr)>, ipv6: bool| -> Option<(&Planned, IpAddr)> {
        let (network, _) = gateway.as_ref()?;
        let one = planned.iter().find(|one| one.plan.network_id == *network)?;
        let address = one.plan.addresses.iter().find(|address| address.address.is_ipv6() == ipv6)?;
        let bridged = matches!(one.record.plan.as_ref()?.wiring, Wiring::Bridge(_));
        bridged.then_some((one, address.address))
    };
    let (ipv4, ipv6) = (target(&gateways.ipv4, false), target(&gateways.ipv6, true));
    let Some((main, _)) = ipv4.or(ipv6) else { return Ok(PublishPlan::default()) };
    let routed = match main.record.plan.as_ref().map(|plan| &plan.wiring) {
        Some(Wiring::Bridge(bridge)) => bridge.mode_ipv4 == GatewayMode::Routed,
        _ => false,
    };
    let default_host = main.record.host_binding.or(engine.options.publish_address);
    Ok(PublishPlan {
        ipv4: ipv4.map(|(_, address)| address),
        ipv6: ipv6.map(|(_, address)| address),
        routed,
        proxy_only: engine.options.publish_through_input_policy,
        ports: ports::wishes(record, default_host)?,
    })
}

/// `--link CONTAINER:ALIAS` on networks with DNS, as alias to container id.
fn links(engine: &Engine, record: &Record) -> BTreeMap<String, String> {
    let of_endpoints = record.endpoints.values().flat_map(|settings| settings.links.iter().flatten());
    let all = record.host_config.links.iter().flatten().chain(of_endpoints);
    let pairs = all.filter_map(|link| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        let found = engine.containers.find(target).ok()?;
        Some((alias.to_owned(), found.id.clone()))
    });
    pairs.collect()
}

fn attachment(engine: &Engine, record: &Record, planned: Vec<Planned>, attached: Attached) -> Attachment {
    let with_dns = planned.iter().any(|one| one.record.plan.as_ref().is_some_and(|plan| plan.dns));
    let asked = record.host_config.dns.as_ref().is_some_and(|servers| !servers.is_empty());
    // A host whose own resolver listens on loopback only: ferry asks it for the container.
    let unreachable = || host_resolv_conf().servers.iter().all(IpAddr::is_loopback);
    let name_servers =
        if with_dns || (!asked && unreachable()) { vec![IpAddr::V4(DNS_ADDRESS)] } else { Vec::new() };
    Attachment {
        namespace: Sharing::Path(attached.namespace.clone().into()),
        hosts: hosts(engine, record, &planned),
        name_servers,
        host_gateway: host_gateway(engine),
        published: ports::shown(record, &attached.ports),
        sandbox_key: attached.namespace,
        endpoints: planned.into_iter().map(|one| (one.network, one.settings)).collect(),
        warnings: Vec::new(),
    }
}

/// The address `host-gateway` stands for: the host on the default bridge.
pub fn host_gateway(engine: &Engine) -> Option<IpAddr> {
    Some(engine.networks.find(BRIDGE).ok()?.pools.first()?.gateway)
}

/// Lines of `/etc/hosts`: the container itself, and its links on the default bridge.
fn hosts(engine: &Engine, record: &Record, planned: &[Planned]) -> Vec<(IpAddr, Vec<String>)> {
    let config = &record.config;
    let own_names = match config.domainname.as_str() {
        "" => vec![config.hostname.clone()],
        domain => vec![format!("{}.{domain}", config.hostname), config.hostname.clone()],
    };
    let mut lines = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let Ok(found) = engine.containers.find(target) else { continue };
        let peer = found.record();
        let address = peer.endpoints.get(BRIDGE).and_then(|settings| settings.ip_address.parse().ok());
        let on_default = planned.iter().any(|one| one.network == BRIDGE);
        if let Some(address) = address.filter(|_| on_default) {
            let alias = alias.rsplit('/').next().unwrap_or(alias).to_owned();
            let mut names = vec![alias, peer.id[..12].to_owned(), peer.name.clone()];
            names.dedup();
            lines.push((address, names));
        }
    }
    let addresses = planned.iter().flat_map(|one| &one.plan.addresses);
    lines.extend(addresses.map(|address| (address.address, own_names.clone())));
    lines
}

/// Makes sure that the kernel has a network.
async fn ensure_up(engine: &Arc<Engine>, network: &NetworkRecord) -> Result<(), NetworkError> {
    let id = &network.network.id;
    let Some(plan) = network.plan.clone() else { return Ok(()) };
    if engine.networks.lock().get(id).is_some_and(|entry| entry.up) {
        return Ok(());
    }
    let mut result = up(engine, plan).await;
    let unused = || engine.networks.lock().get(id).is_some_and(|entry| entry.addresses.in_use() == 0);
    if let Err(error) = &result
        && error.is_subnet_taken()
        && network.network.name == BRIDGE
        && unused()
    {
        let (moving, id) = (Arc::clone(engine), id.clone());
        let moved =
            tokio::task::spawn_blocking(move || moving.networks.move_default_bridge(&moving.options, &id));
        let moved = moved.await.map_err(|error| NetworkError::Lost(error.to_string()))?;
        let moved = moved.map_err(|error| NetworkError::Lost(format!("{error:#}")))?;
        if let Some(plan) = moved.plan {
            result = up(engine, plan).await;
        }
    }
    result?;
    if let Some(entry) = engine.networks.lock().get_mut(id) {
        entry.up = true;
    }
    Ok(())
}

async fn up(engine: &Arc<Engine>, plan: NetworkPlan) -> Result<(), NetworkError> {
    engine.networks.link.call(Request::NetworkUp(Box::new(plan))).await?;
    Ok(())
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
    let publish = publish_plan(engine, &record, &planned, &gateways)?;
    let request = Request::HandOver { from: giver.id.clone(), to: taker.id.clone(), publish };
    let Reply::Published(bound) = engine.networks.link.call(request).await? else {
        return Err(NetworkError::Lost("the network service gave no ports".to_owned()));
    };
    let published = ports::shown(&record, &bound);
    giver.lock().record.state.published.retain(|port, _| !published.contains_key(port));
    taker.lock().record.state.published = published;
    for container in [giver, taker] {
        container.persist(&engine.store, false)?;
    }
    Ok(())
}

/// Takes everything of an ended container back. Idempotent.
pub async fn detach(engine: &Arc<Engine>, container: &Arc<Container>) {
    let _under_way = engine.networks.detaching.read().await;
    let endpoints = {
        let mut inner = container.lock();
        let endpoints = inner.record.endpoints.clone();
        for settings in inner.record.endpoints.values_mut() {
            forget_addresses(settings);
        }
        inner.record.state.published.clear();
        inner.record.state.sandbox_key.clear();
        endpoints
    };
    if endpoints.values().all(|settings| settings.endpoint_id.is_empty()) {
        return;
    }
    if let Err(error) = engine.networks.link.call(Request::Detach { sandbox: container.id.clone() }).await {
        tracing::error!(container = %container.id, %error, "take a container's network back");
    }
    for settings in endpoints.values().filter(|settings| !settings.endpoint_id.is_empty()) {
        release_settings(engine, settings);
        if let Ok(record) = engine.networks.find(&settings.network_id) {
            create::emit(engine, "disconnect", &record, Some(&container.id));
        }
    }
}

fn release_settings(engine: &Engine, settings: &EndpointSettings) {
    if let Some(entry) = engine.networks.lock().get_mut(&settings.network_id) {
        let texts = [&settings.ip_address, &settings.global_ipv6_address];
        texts
            .iter()
            .filter_map(|text| text.parse().ok())
            .for_each(|address| entry.addresses.release(address));
    }
}

/// What stays of an endpoint between runs: what was asked for.
fn forget_addresses(settings: &mut EndpointSettings) {
    let asked = std::mem::take(settings);
    *settings = EndpointSettings {
        ipam_config: asked.ipam_config,
        links: asked.links,
        aliases: asked.aliases,
        driver_opts: asked.driver_opts,
        gw_priority: asked.gw_priority,
        network_id: asked.network_id,
        ..EndpointSettings::default()
    };
}

/// `network connect`.
pub async fn connect(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    network: &NetworkRecord,
    asked: EndpointSettings,
) -> Result<(), NetworkError> {
    let _lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let name = network.network.name.clone();
    if !matches!(Mode::parse(&record.host_config.network_mode), Mode::Network(_)) || network.plan.is_none() {
        return Err(NetworkError::NotCombinable(name));
    }
    if record.endpoints.contains_key(&name) {
        return Err(NetworkError::AlreadyConnected { container: record.name, network: name });
    }
    let mut settings = EndpointSettings { network_id: network.network.id.clone(), ..asked };
    if record.state.status.has_process() {
        ensure_up(engine, network).await?;
        let mut all = current(engine, &record);
        let interfaces: Vec<String> = interfaces_of(engine, &record.id).await?;
        let planned = match engine.networks.lock().get_mut(&network.network.id) {
            Some(entry) => endpoint::plan(entry, &record, &settings, &interfaces)?,
            None => return Err(NetworkError::NotFound(name)),
        };
        all.push(planned.clone());
        let request = Request::Connect {
            sandbox: record.id.clone(),
            endpoint: Box::new(planned.plan.clone()),
            gateways: endpoint::gateways(all.iter()),
        };
        if let Err(error) = engine.networks.link.call(request).await {
            release(engine, &[planned]);
            return Err(error.into());
        }
        settings = planned.settings;
    }
    container.lock().record.endpoints.insert(name, settings);
    container.persist(&engine.store, container.is_durable())?;
    create::emit(engine, "connect", network, Some(&container.id));
    Ok(())
}

/// `network disconnect`.
pub async fn disconnect(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    network: &NetworkRecord,
) -> Result<(), NetworkError> {
    let _lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let name = network.network.name.clone();
    let Some(settings) = record.endpoints.get(&name).cloned() else {
        return Err(NetworkError::NotConnected { container: record.name, network: name });
    };
    if network.plan.is_none() {
        return Err(NetworkError::NotCombinable(name));
    }
    if record.state.status.has_process() {
        let remaining: Vec<Planned> =
            current(engine, &record).into_iter().filter(|one| one.network != name).collect();
        let request = Request::Disconnect {
            sandbox: record.id.clone(),
            network: network.network.id.clone(),
            gateways: endpoint::gateways(remaining.iter()),
        };
        engine.networks.link.call(request).await?;
        release_settings(engine, &settings);
    }
    container.lock().record.endpoints.remove(&name);
    container.persist(&engine.store, container.is_durable())?;
    create::emit(engine, "disconnect", network, Some(&container.id));
    Ok(())
}

/// The endpoints a running container has, as far as routes are concerned.
fn current(engine: &Engine, record: &Record) -> Vec<Planned> {
    use ferry_net::address::InterfaceAddress;
    use ferry_net::plan::EndpointPlan;
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
    let mut planned = current(engine, &record);
    for one in &mut planned {
        one.plan.names = endpoint::names(&one.record, &record, &one.settings);
    }
    let names = planned.iter().map(|one| (one.plan.network_id.clone(), one.plan.names.clone())).collect();
    let dns = endpoint::dns(&record, &planned, links(engine, &record));
    let request = Request::Rename { sandbox: record.id.clone(), name: record.name.clone(), names, dns };
    engine.networks.link.call(request).await?;
    Ok(())
}

/// At an engine's start, before any container is: addresses in use are marked.
pub async fn adopt(engine: &Arc<Engine>) {
    let Some(listed) = listed(engine).await else { return };
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

/// Once containers are found again: the wiring of those that no longer run is taken back.
pub async fn recover(engine: &Arc<Engine>) {
    let Some(listed) = listed(engine).await else { return };
    for (plan, _) in listed.sandboxes {
        let running =
            || engine.containers.find(&plan.id).is_ok_and(|container| container.status().has_process());
        if running() {
            continue;
        }
        if let Err(error) = engine.networks.link.call(Request::Detach { sandbox: plan.id.clone() }).await {
            tracing::error!(container = plan.id, %error, "take back the network of a container that ended");
        }
        let mut entries = engine.networks.lock();
        for endpoint in &plan.endpoints {
            if let Some(entry) = entries.get_mut(&endpoint.network_id) {
                endpoint.addresses.iter().for_each(|address| entry.addresses.release(address.address));
            }
        }
    }
}

async fn listed(engine: &Engine) -> Option<ferry_net::protocol::Listed> {
    match engine.networks.link.call(Request::List).await {
        Ok(Reply::Listed(listed)) => Some(listed),
        other => {
            let error = other.err().map(|error| error.to_string());
            tracing::warn!(?error, "the network service does not say what there is");
            None
        }
    }
}

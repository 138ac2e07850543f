//! Joining networks at a container's start and leaving them at its end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::network::EndpointSettings;
use ferry_net::address::MacAddress;
use ferry_net::client::ClientError;
use ferry_net::dns::{DNS_ADDRESS, host_resolv_conf};
use ferry_net::plan::{NetworkPlan, PublishPlan, SandboxPlan, Wiring};
use ferry_net::protocol::{FailureKind, Gateways, Reply, Request};

use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinHandle;

use super::endpoint::{self, Planned};
use super::registry::{BRIDGE, NetworkRecord};
use super::{Attachment, NetworkError, create, ports};
use crate::container::Container;
use crate::container::record::Record;
use crate::engine::Engine;
use crate::spec::namespaces::Sharing;

/// A container's networks while they are being made.
pub struct Joining {
    /// What is known ahead: all but the ports of the host.
    pub attachment: Attachment,
    work: Option<Work>,
}

struct Work {
    engine: Arc<Engine>,
    record: Record,
    planned: Vec<Planned>,
    wired: JoinHandle<Result<Reply, ClientError>>,
    _turn: OwnedMutexGuard<()>,
}

impl From<Attachment> for Joining {
    fn from(attachment: Attachment) -> Self {
        Self { attachment, work: None }
    }
}

impl Joining {
    /// Whether something is still being made.
    pub fn is_under_way(&self) -> bool {
        self.work.is_some()
    }

    /// Waits until all is made; a failure takes all back.
    pub async fn done(mut self) -> Result<Attachment, NetworkError> {
        let Some(work) = self.work.take() else { return Ok(self.attachment) };
        let Work { engine, record, planned, wired, _turn } = work;
        let reply = match wired.await {
            Ok(reply) => reply,
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        };
        let attached = match reply {
            Ok(Reply::Attached(attached)) => Ok(attached),
            Ok(other) => Err(ClientError::Unexpected(format!("{other:?}")).into()),
            Err(error) => Err(refusal(&record, &planned, error)),
        };
        let attached = attached.inspect_err(|_| release(&engine, &planned))?;
        if let Err(error) = super::live::tell_waiting_links(&engine, &record).await {
            tracing::warn!(container = %record.id, %error, "containers linked to this one do not know its name");
        }
        for one in &planned {
            create::emit(&engine, "connect", &one.record, Some(&record.id));
        }
        self.attachment.published = ports::shown(&record, &attached.ports);
        Ok(self.attachment.with_endpoints(planned))
    }
}

/// Begins to wire a container that is about to start to its networks; returns when its namespace is there.
pub async fn begin(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Joining, NetworkError> {
    let turn = Arc::clone(&container.network_turn).lock_owned().await;
    // The last run's end may not have come to this yet.
    take_back(engine, container, None).await;
    let record = container.record();
    let wanted = endpoint::wanted(&engine.networks, &record)?;
    for (network, _) in &wanted {
        ensure_up(engine, network).await?;
    }
    let planned = plan_all(engine, &record, &wanted)?;
    let without_ports = container.lock().ports_come_later;
    let plan = sandbox_plan(engine, &record, &planned, without_ports);
    let plan = plan.inspect_err(|_| release(engine, &planned))?;
    let (announce, announced) = oneshot::channel();
    let link = Arc::clone(&engine.networks.link);
    let wired = tokio::task::spawn_blocking(move || link.attach_ahead_blocking(&plan, announce));
    // Without an announcement it has failed already, which `done` tells.
    let namespace = announced.await.unwrap_or_default();
    let attachment = Attachment {
        namespace: Sharing::Path(namespace.clone().into()),
        sandbox_key: namespace.clone(),
        ..view(engine, &record, &planned)
    };
    let work = Work { engine: Arc::clone(engine), record, planned, wired, _turn: turn };
    let joining = Joining { attachment, work: Some(work) };
    if namespace.is_empty() { joining.done().await.map(Joining::from) } else { Ok(joining) }
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

pub(super) fn release(engine: &Engine, planned: &[Planned]) {
    let mut entries = engine.networks.lock();
    for one in planned {
        if let Some(entry) = entries.get_mut(&one.plan.network_id) {
            one.plan.addresses.iter().for_each(|address| entry.addresses.release(address.address));
        }
    }
}

fn sandbox_plan(
    engine: &Arc<Engine>,
    record: &Record,
    planned: &[Planned],
    without_ports: bool,
) -> Result<SandboxPlan, NetworkError> {
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
    Ok(SandboxPlan {
        id: record.id.clone(),
        name: record.name.clone(),
        endpoints,
        publish,
        dns: endpoint::dns(record, planned, links(engine, record)),
    })
}

/// What the network service's refusal means for a container: a taken port is told with its name.
pub(super) fn refusal(record: &Record, planned: &[Planned], error: ClientError) -> NetworkError {
    match error {
        ClientError::Refused(failure) if failure.kind == FailureKind::PortTaken => NetworkError::Port {
            container: record.name.clone(),
            endpoint: planned.first().map(|one| one.plan.id.clone()).unwrap_or_default(),
            message: failure.message,
        },
        error => error.into(),
    }
}

fn routes_by_device(record: &NetworkRecord) -> bool {
    use ferry_net::plan::IpvlanMode;
    let Some(plan) = &record.plan else { return false };
    !plan.internal
        && matches!(&plan.wiring, Wiring::Ipvlan { child, mode, .. } if *mode != IpvlanMode::L2 && child.parent.is_some())
}

/// Ports lead to the endpoint that has the default route, when that is on a bridge.
pub(super) fn publish_plan(
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
    let routed = |target: Option<(&Planned, IpAddr)>, ipv6: bool| {
        let plan = target.and_then(|(one, _)| one.record.plan.as_ref());
        match plan.map(|plan| &plan.wiring) {
            Some(Wiring::Bridge(bridge)) if ipv6 => bridge.mode_ipv6 == GatewayMode::Routed,
            Some(Wiring::Bridge(bridge)) => bridge.mode_ipv4 == GatewayMode::Routed,
            _ => false,
        }
    };
    let default_host = main.record.host_binding.or(engine.publish_address());
    Ok(PublishPlan {
        ipv4: ipv4.map(|(_, address)| address),
        ipv6: ipv6.map(|(_, address)| address),
        routed_ipv4: routed(ipv4, false),
        routed_ipv6: routed(ipv6, true),
        proxy_only: engine.options.publish_through_input_policy,
        ports: ports::wishes(record, default_host)?,
    })
}

/// `--link CONTAINER:ALIAS` on networks with DNS, as alias to container id.
pub(super) fn links(engine: &Engine, record: &Record) -> BTreeMap<String, String> {
    let of_endpoints = record.endpoints.values().flat_map(|settings| settings.links.iter().flatten());
    let all = record.host_config.links.iter().flatten().chain(of_endpoints);
    let pairs = all.filter_map(|link| match link_target(engine, link) {
        Ok((found, alias)) => Some((alias.to_owned(), found.id.clone())),
        Err(_) => {
            engine.networks.link_waits();
            None
        }
    });
    pairs.collect()
}

/// The part of an attachment that the files below `/etc` are made of.
pub(super) fn view(engine: &Engine, record: &Record, planned: &[Planned]) -> Attachment {
    let with_dns = planned.iter().any(|one| one.record.plan.as_ref().is_some_and(|plan| plan.dns));
    let asked = record.host_config.dns.as_ref().is_some_and(|servers| !servers.is_empty());
    // A host whose own resolver listens on loopback only: ferry asks it for the container.
    let unreachable = || host_resolv_conf().servers.iter().all(IpAddr::is_loopback);
    let name_servers =
        if with_dns || (!asked && unreachable()) { vec![IpAddr::V4(DNS_ADDRESS)] } else { Vec::new() };
    Attachment {
        hosts: hosts(engine, record, planned),
        name_servers,
        host_gateway: host_gateway(engine),
        ..Attachment::default()
    }
}

impl Attachment {
    fn with_endpoints(self, planned: Vec<Planned>) -> Self {
        Self { endpoints: planned.into_iter().map(|one| (one.network, one.settings)).collect(), ..self }
    }
}

/// The container and the name it gets in `CONTAINER:ALIAS`.
pub(super) fn link_target<'a>(
    engine: &Engine,
    link: &'a str,
) -> Result<(Arc<Container>, &'a str), NetworkError> {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    let found = engine.containers.find(target.trim_start_matches('/'));
    let found = found.map_err(|source| NetworkError::LinkTarget { target: target.to_owned(), source })?;
    Ok((found, alias))
}

/// What the environment says of linked containers on the default bridge, as Docker's first links did:
/// `ALIAS_NAME`, `ALIAS_PORT_80_TCP_ADDR`, `ALIAS_ENV_X` and the like.
pub fn link_environment(engine: &Engine, record: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let Ok((found, alias)) = link_target(engine, link) else { continue };
        let peer = found.record();
        let Some(on_bridge) = peer.endpoints.get(BRIDGE).filter(|_| record.endpoints.contains_key(BRIDGE))
        else {
            continue;
        };
        let prefix = alias.to_uppercase().replace('-', "_");
        lines.extend(ports_in_environment(&prefix, &on_bridge.ip_address, &peer));
        lines.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
        let own = peer.config.env.iter().flatten();
        let told = own.filter(|entry| !entry.starts_with("HOME=") && !entry.starts_with("PATH="));
        lines.extend(told.map(|entry| format!("{prefix}_ENV_{entry}")));
    }
    lines
}

fn ports_in_environment(prefix: &str, address: &str, peer: &Record) -> Vec<String> {
    let ports = peer.config.exposed_ports.iter().flatten().filter_map(|(port, _)| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        number.parse::<u16>().ok().map(|number| (number, protocol.to_owned()))
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort_by_key(|(number, protocol)| (protocol != "tcp", *number));
    let mut lines = Vec::new();
    for (at, (number, protocol)) in ports.iter().enumerate() {
        let url = format!("{protocol}://{address}:{number}");
        if at == 0 {
            lines.push(format!("{prefix}_PORT={url}"));
        }
        let name = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        lines.push(format!("{name}={url}"));
        lines.push(format!("{name}_ADDR={address}"));
        lines.push(format!("{name}_PORT={number}"));
        lines.push(format!("{name}_PROTO={protocol}"));
    }
    lines
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
    let of_default = record.endpoints.get(BRIDGE).into_iter();
    let of_default = of_default.flat_map(|settings| settings.links.iter().flatten());
    for link in record.host_config.links.iter().flatten().chain(of_default) {
        let Ok((found, alias)) = link_target(engine, link) else { continue };
        let peer = found.record();
        let address = peer.endpoints.get(BRIDGE).and_then(|settings| settings.ip_address.parse().ok());
        let on_default = planned.iter().any(|one| one.network == BRIDGE);
        if let Some(address) = address.filter(|_| on_default) {
            let mut names = vec![alias.to_owned(), peer.id[..12].to_owned(), peer.name.clone()];
            names.dedup();
            lines.push((address, names));
        }
    }
    let addresses = planned.iter().flat_map(|one| &one.plan.addresses);
    lines.extend(addresses.map(|address| (address.address, own_names.clone())));
    lines
}

/// Makes sure that the kernel has a network.
pub(super) async fn ensure_up(engine: &Arc<Engine>, network: &NetworkRecord) -> Result<(), NetworkError> {
    let id = &network.network.id;
    let Some(plan) = network.plan.clone() else { return Ok(()) };
    if engine.networks.lock().get(id).is_some_and(|entry| entry.up) {
        return Ok(());
    }
    let mut result = up(engine, plan).await;
    let unused = || engine.networks.lock().get(id).is_some_and(|entry| entry.addresses.in_use() == 0);
    for _ in 0..create::SUBNET_ATTEMPTS {
        let taken = result.as_ref().is_err_and(NetworkError::is_subnet_taken);
        if !taken || network.network.name != BRIDGE || !unused() {
            break;
        }
        let (moving, id) = (Arc::clone(engine), id.clone());
        let moved = tokio::task::spawn_blocking(move || {
            moving.networks.move_default_bridge(&moving.options, &moving.defaults().network, &id)
        });
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

/// Takes everything of a container back that does not run. Idempotent.
pub async fn detach(engine: &Arc<Engine>, container: &Arc<Container>) {
    let _turn = container.network_turn.lock().await;
    take_back(engine, container, None).await;
}

/// Takes everything of one ended run back, unless the next one did so already.
pub async fn detach_run(engine: &Arc<Engine>, container: &Arc<Container>, generation: u64) {
    let _turn = container.network_turn.lock().await;
    take_back(engine, container, Some(generation)).await;
}

async fn take_back(engine: &Arc<Engine>, container: &Arc<Container>, generation: Option<u64>) {
    let _under_way = engine.networks.detaching.read().await;
    let endpoints = {
        let mut inner = container.lock();
        if generation.is_some_and(|ended| ended != inner.record.state.generation) {
            return;
        }
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
    super::refresh_host_names(engine);
}

pub(super) fn release_settings(engine: &Engine, settings: &EndpointSettings) {
    if let Some(entry) = engine.networks.lock().get_mut(&settings.network_id) {
        let texts = [&settings.ip_address, &settings.global_ipv6_address];
        super::live::addresses(texts).for_each(|address| entry.addresses.release(address));
    }
}

/// What stays of an endpoint between runs: what was asked for.
fn forget_addresses(settings: &mut EndpointSettings) {
    let asked = std::mem::take(settings);
    let derived = [&asked.ip_address, &asked.global_ipv6_address]
        .into_iter()
        .find_map(|text| text.parse().ok())
        .map(|address| MacAddress::from_address(address).to_string());
    // One that does not come from the address was asked for.
    let mac_address =
        if derived.as_ref() == Some(&asked.mac_address) { String::new() } else { asked.mac_address };
    *settings = EndpointSettings {
        ipam_config: asked.ipam_config,
        links: asked.links,
        aliases: asked.aliases,
        driver_opts: asked.driver_opts,
        gw_priority: asked.gw_priority,
        network_id: asked.network_id,
        mac_address,
        ..EndpointSettings::default()
    };
}

//! One container's wiring: endpoints in its namespace, ports on the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ferry_sys::network_namespace::NetworkNamespace;
use rustix::io::Errno;

use crate::address::Subnet;
use crate::kernel::{
    AddressFlags, BridgePort, LinkKind, NewLink, Route, VethPair, add_address, add_route, delete_link,
    find_link, new_link, new_veth, read_sysctl, remove_default_routes, set_up, write_sysctl,
};
use crate::netlink::{Batch, Connection};
use crate::nft::PortRule;
use crate::plan::{
    BoundPort, EndpointPlan, IpvlanFlag, IpvlanMode, MacvlanMode, NetworkPlan, PortPlan, PublishPlan,
    SandboxPlan, Wiring,
};
use crate::port::{Protocol, Reservation, ReservedSocket, reserve};
use crate::protocol::Gateways;
use crate::proxy::{ProxiedPort, Proxy};

use super::ServiceError;
use super::network::{IPVLAN, MACVLAN, missing, parent_index};

/// Interface names hold fifteen characters: `veth` and eleven digits of the id.
const ENDPOINT_DIGITS: usize = 11;

/// A wired container.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) plan: SandboxPlan,
    pub(super) namespace: NetworkNamespace,
    /// An rtnetlink socket inside the namespace.
    pub(super) route: Connection,
    pub(super) ports: Vec<HeldPort>,
}

impl Sandbox {
    /// Its ports as the engine sees them.
    pub(super) fn bound(&self) -> Vec<BoundPort> {
        self.ports.iter().map(|port| port.bound.clone()).collect()
    }
}

/// A published port in force.
#[derive(Debug)]
pub(super) struct HeldPort {
    pub(super) wish: PortPlan,
    pub(super) bound: BoundPort,
    pub(super) rules: Vec<PortRule>,
    /// Closes the socket that holds the port when dropped.
    holding: Holding,
}

impl HeldPort {
    /// Whether it takes a port of the host; a routed one does not.
    pub(super) fn takes_a_host_port(&self) -> bool {
        !matches!(self.holding, Holding::Nothing)
    }

    /// Leads to another container from now on; the socket on the host stays open. Gives the rules it had.
    pub(super) fn lead_to(&mut self, publish: &PublishPlan) -> Result<Vec<PortRule>, ServiceError> {
        let address = self.bound.host;
        if let (Holding::Proxied(port), Some(container)) = (&mut self.holding, backend(publish, address)) {
            let backend = SocketAddr::new(container, self.wish.container_port);
            port.lead_to(backend).map_err(ServiceError::io(format!("serve the port {address}")))?;
        }
        let rules = translation(publish, &self.wish, address).into_iter().collect();
        Ok(std::mem::replace(&mut self.rules, rules))
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "the fields' only purpose is to stay open")]
enum Holding {
    Proxied(ProxiedPort),
    Bound(ReservedSocket),
    /// Routed ports take nothing on the host.
    Nothing,
}

/// The name of an endpoint's link on the host.
pub(super) fn host_link_name(endpoint: &EndpointPlan) -> String {
    let digits = endpoint.id.get(..ENDPOINT_DIGITS).unwrap_or(&endpoint.id);
    format!("veth{digits}")
}

/// Whether a link's name is one that [`host_link_name`] makes.
pub(super) fn is_host_link_name(name: &str) -> bool {
    let digits = name.strip_prefix("veth").unwrap_or_default();
    digits.len() == ENDPOINT_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where an endpoint is being wired.
pub(super) struct Site<'a> {
    pub(super) home: &'a NetworkNamespace,
    pub(super) host: &'a mut Connection,
    pub(super) namespace: &'a NetworkNamespace,
    pub(super) inside: &'a mut Connection,
    pub(super) mtu: u32,
}

/// Makes an endpoint's interface in the namespace, with addresses and routes.
pub(super) fn wire(
    site: &mut Site<'_>,
    network: &NetworkPlan,
    endpoint: &EndpointPlan,
) -> Result<(), ServiceError> {
    make_interface(site, network, endpoint)?;
    let vanished = || ServiceError::LinkVanished { name: endpoint.interface.clone() };
    let index = find_link(site.inside, &endpoint.interface)?.ok_or_else(vanished)?.index;
    let settings = || write_settings(endpoint);
    site.namespace
        .run_inside(site.home, settings)
        .map_err(ServiceError::errno("enter a network namespace"))??;
    let mut batch = Batch::new();
    for address in &endpoint.addresses {
        add_address(&mut batch, index, *address, AddressFlags { replace: true, link_scope: false });
    }
    for address in &endpoint.link_local {
        add_address(&mut batch, index, *address, AddressFlags { replace: true, link_scope: true });
    }
    set_up(&mut batch, &endpoint.interface);
    for gateway in &endpoint.gateways {
        add_route(&mut batch, &default_route(Some(*gateway), gateway.is_ipv6(), index));
    }
    if endpoint.default_device_route {
        add_route(&mut batch, &default_route(None, false, index));
    }
    Ok(site.inside.execute(&batch)?)
}

fn default_route(gateway: Option<IpAddr>, ipv6: bool, device: u32) -> Route {
    let any: IpAddr = if ipv6 { [0u16; 8].into() } else { [0; 4].into() };
    Route { destination: Subnet::containing(any, 0), gateway, device }
}

fn make_interface(
    site: &mut Site<'_>,
    network: &NetworkPlan,
    endpoint: &EndpointPlan,
) -> Result<(), ServiceError> {
    use std::os::fd::AsFd;
    let mut batch = Batch::new();
    let name = endpoint.interface.as_str();
    let namespace = site.namespace.as_fd();
    let (kind, feature) = match &network.wiring {
        Wiring::Bridge(bridge) => {
            let port = BridgePort {
                bridge: parent_index(site.host, &bridge.bridge)?,
                isolated: !bridge.icc,
                hairpin: bridged_frames_are_filtered(),
            };
            let pair = VethPair {
                host_name: &host_link_name(endpoint),
                peer_name: name,
                peer_mac: endpoint.mac,
                mtu: network.mtu.unwrap_or(site.mtu),
                port,
                namespace,
            };
            new_veth(&mut batch, &pair);
            return site.host.execute(&batch).map_err(|error| missing("veth support", error));
        }
        Wiring::Macvlan { child, mode } => {
            let parent = child.parent.as_ref().or(child.owned_parent.as_ref());
            let parent = parent_index(site.host, parent.map_or("", String::as_str))?;
            (LinkKind::Macvlan { parent, mode: macvlan_mode(*mode) }, MACVLAN)
        }
        Wiring::Ipvlan { child, mode, flag } => {
            let parent = child.parent.as_ref().or(child.owned_parent.as_ref());
            let parent = parent_index(site.host, parent.map_or("", String::as_str))?;
            let (mode, flag) = (ipvlan_mode(*mode), ipvlan_flag(*flag));
            (LinkKind::Ipvlan { parent, mode, flag }, IPVLAN)
        }
    };
    let (mtu, mac) = (network.mtu, endpoint.mac);
    new_link(&mut batch, &NewLink { name, kind, mtu, mac, up: false, namespace: Some(namespace) });
    site.host.execute(&batch).map_err(|error| missing(feature, error))
}

/// Where br_netfilter shows bridged frames to the firewall, a container's packet to
/// its own published port is translated and turned around inside the bridge, which
/// only hairpin ports allow. Everywhere else it takes the way through the host.
fn bridged_frames_are_filtered() -> bool {
    read_sysctl("net/bridge/bridge-nf-call-iptables").is_some_and(|value| value == "1")
}

fn macvlan_mode(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

fn ipvlan_mode(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

fn ipvlan_flag(flag: IpvlanFlag) -> u16 {
    match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    }
}

/// Per-interface settings, from inside the namespace.
fn write_settings(endpoint: &EndpointPlan) -> Result<(), ServiceError> {
    let name = &endpoint.interface;
    let disable_ipv6 = format!("net/ipv6/conf/{name}/disable_ipv6");
    let has_ipv6 = endpoint.addresses.iter().any(|address| address.address.is_ipv6());
    if has_ipv6 && read_sysctl(&disable_ipv6).is_some() {
        write_sysctl(&disable_ipv6, "0")?;
    }
    for (key, value) in &endpoint.sysctls {
        // Dots separate; an interface name with a dot comes in only through IFNAME.
        write_sysctl(&key.replace('.', "/").replace("IFNAME", name), value)?;
    }
    Ok(())
}

/// Removes an endpoint's interface; one that is gone is fine.
pub(super) fn unwire(
    host: &mut Connection,
    inside: &mut Connection,
    network: &NetworkPlan,
    endpoint: &EndpointPlan,
) -> Result<(), ServiceError> {
    match network.wiring {
        Wiring::Bridge(_) => delete_link(host, &host_link_name(endpoint))?,
        Wiring::Macvlan { .. } | Wiring::Ipvlan { .. } => delete_link(inside, &endpoint.interface)?,
    };
    Ok(())
}

/// Makes the namespace's default routes be these, and the plan say so.
pub(super) fn set_gateways(sandbox: &mut Sandbox, gateways: &Gateways) -> Result<(), ServiceError> {
    for (ipv6, wanted) in [(false, &gateways.ipv4), (true, &gateways.ipv6)] {
        for endpoint in &mut sandbox.plan.endpoints {
            endpoint.gateways.retain(|gateway| gateway.is_ipv6() != ipv6);
        }
        remove_default_routes(&mut sandbox.route, ipv6)?;
        let Some((network, gateway)) = wanted else { continue };
        let endpoint = sandbox.plan.endpoints.iter_mut().find(|one| one.network_id == *network);
        let endpoint = endpoint.ok_or_else(|| ServiceError::UnknownNetwork { id: network.clone() })?;
        endpoint.gateways.push(*gateway);
        let name = endpoint.interface.clone();
        let index = parent_index(&mut sandbox.route, &name)?;
        let mut batch = Batch::new();
        add_route(&mut batch, &default_route(Some(*gateway), ipv6, index));
        match sandbox.route.execute(&batch) {
            Err(error) if error.errno != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Holds the ports a plan wishes for and starts their proxies; nothing is
/// translated yet. Ports already in force are given as `kept`.
pub(super) fn hold_ports(
    publish: &PublishPlan,
    wishes: &[PortPlan],
    proxy: &Proxy,
    owner: impl Fn(Protocol, SocketAddr) -> Option<String>,
) -> Result<Vec<HeldPort>, ServiceError> {
    let mut held = Vec::new();
    for wish in wishes {
        let families = wish.host.map_or(vec![false, true], |host| vec![host.is_ipv6()]);
        let (direct, translated): (Vec<_>, Vec<_>) =
            families.into_iter().partition(|ipv6| publish.routed(*ipv6));
        held.extend(direct.iter().filter_map(|ipv6| routed(publish, wish, *ipv6)));
        let on_host = match translated[..] {
            [] => continue,
            // One family is routed, so the host's ports are of the other alone.
            [ipv6] => PortPlan { host: wish.host.or(Some(unspecified(ipv6))), ..wish.clone() },
            _ => wish.clone(),
        };
        for reservation in reserve(&on_host, &owner)? {
            held.push(hold(publish, wish, reservation, proxy)?);
        }
    }
    Ok(held)
}

fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A port that is open on the container's own address; `None` where it has none of the family.
fn routed(publish: &PublishPlan, wish: &PortPlan, ipv6: bool) -> Option<HeldPort> {
    let container = if ipv6 { publish.ipv6 } else { publish.ipv4 }?;
    let rule = PortRule {
        host: container,
        host_port: wish.container_port,
        protocol: wish.protocol,
        container,
        container_port: wish.container_port,
        routed: true,
    };
    let host = SocketAddr::new(container, wish.container_port);
    Some(HeldPort {
        wish: wish.clone(),
        bound: BoundPort { container_port: wish.container_port, protocol: wish.protocol, host },
        rules: vec![rule],
        holding: Holding::Nothing,
    })
}

fn hold(
    publish: &PublishPlan,
    wish: &PortPlan,
    reservation: Reservation,
    proxy: &Proxy,
) -> Result<HeldPort, ServiceError> {
    let Reservation { address, socket } = reservation;
    let rules = translation(publish, wish, address);
    let step = || format!("serve the port {address}");
    let holding = match (socket, backend(publish, address)) {
        (ReservedSocket::Tcp(listener), Some(container)) => {
            let backend = SocketAddr::new(container, wish.container_port);
            Holding::Proxied(proxy.add_stream(listener, backend).map_err(ServiceError::io(step()))?)
        }
        (ReservedSocket::Udp(socket), Some(container)) => {
            let backend = SocketAddr::new(container, wish.container_port);
            Holding::Proxied(proxy.add_datagram(socket, backend).map_err(ServiceError::io(step()))?)
        }
        (socket, _) => Holding::Bound(socket),
    };
    Ok(HeldPort {
        wish: wish.clone(),
        bound: BoundPort { container_port: wish.container_port, protocol: wish.protocol, host: address },
        rules: rules.into_iter().collect(),
        holding,
    })
}

/// The container's address behind an address of the host: of the same family where it has one.
fn backend(publish: &PublishPlan, address: SocketAddr) -> Option<IpAddr> {
    let (same, other) =
        if address.is_ipv6() { (publish.ipv6, publish.ipv4) } else { (publish.ipv4, publish.ipv6) };
    same.or(other)
}

/// The rule that sends packets to an address of the host straight to the container, where that can be.
fn translation(publish: &PublishPlan, wish: &PortPlan, address: SocketAddr) -> Option<PortRule> {
    let same = if address.is_ipv6() { publish.ipv6 } else { publish.ipv4 };
    let translate = same.filter(|_| !address.ip().is_loopback() && !publish.proxy_only);
    translate.map(|container| PortRule {
        host: address.ip(),
        host_port: address.port(),
        protocol: wish.protocol,
        container,
        container_port: wish.container_port,
        routed: false,
    })
}

//! From what a container asks for to its place on each network: addresses, names,
//! default routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::network::EndpointSettings;
use ferry_net::address::{InterfaceAddress, MacAddress};
use ferry_net::driver::interface_name;
use ferry_net::ipam::IpamError;
use ferry_net::plan::{DnsPlan, EndpointPlan, GatewayMode, IpvlanMode, Wiring};
use ferry_net::protocol::Gateways;

use super::registry::{BRIDGE, Entry, NetworkRecord, Networks};
use super::{Mode, NetworkError};
use crate::container::name::new_id;
use crate::container::record::Record;

const SHORT_ID: usize = 12;
const OPTION_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const OPTION_INTERFACE: &str = "com.docker.network.endpoint.ifname";
const INTERFACE_PREFIX: &str = "eth";

/// One endpoint with what inspect shows of it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Name of the network.
    pub network: String,
    /// The network as it is kept.
    pub record: NetworkRecord,
    /// What the kernel shall have.
    pub plan: EndpointPlan,
    /// What inspect shows.
    pub settings: EndpointSettings,
}

/// The networks of a container with the settings asked for, the one of its mode first.
pub fn wanted(
    networks: &Networks,
    record: &Record,
) -> Result<Vec<(NetworkRecord, EndpointSettings)>, NetworkError> {
    let Mode::Network(first) = Mode::parse(&record.host_config.network_mode) else { return Ok(Vec::new()) };
    let mut found: Vec<(NetworkRecord, EndpointSettings)> = Vec::new();
    for (name, settings) in &record.endpoints {
        let network = networks.find(name)?;
        if !found.iter().any(|(known, _)| known.network.id == network.network.id) {
            found.push((network, settings.clone()));
        }
    }
    let first = networks.find(first)?.network.id;
    found.sort_by_key(|(network, _)| (network.network.id != first, network.network.name.clone()));
    Ok(found)
}

/// Plans one endpoint; its addresses are in use from then on.
pub fn plan(
    entry: &mut Entry,
    record: &Record,
    asked: &EndpointSettings,
    taken_interfaces: &[String],
) -> Result<Planned, NetworkError> {
    let network = &entry.record.network;
    entry.record.refuse_unusable()?;
    let Some(network_plan) = entry.record.plan.clone() else {
        return Err(NetworkError::NotCombinable(network.name.clone()));
    };
    let interface = interface(entry, asked, taken_interfaces)?;
    let sysctls = sysctls(asked)?;
    let link_local = link_local(asked)?;
    let asked_mac = asked_mac(record, asked)?;
    let id = new_id().map_err(NetworkError::Random)?;
    let addresses = allocate(entry, asked)?;
    let names = names(&entry.record, record, asked);
    let derived = || addresses.first().map(|address| MacAddress::from_address(address.address));
    let mac = asked_mac.or_else(derived);
    let mac = mac.filter(|_| !matches!(network_plan.wiring, Wiring::Ipvlan { .. }));
    let plan = EndpointPlan {
        id,
        network_id: network_plan.id.clone(),
        interface,
        mac,
        addresses,
        link_local,
        gateways: Vec::new(),
        default_device_route: false,
        names: names.clone(),
        sysctls,
    };
    let settings = shown(&entry.record, asked, &plan, names);
    Ok(Planned { network: entry.record.network.name.clone(), record: entry.record.clone(), plan, settings })
}

fn asked_mac(record: &Record, asked: &EndpointSettings) -> Result<Option<MacAddress>, NetworkError> {
    match [asked.mac_address.as_str(), record.config.mac_address.as_str()] {
        ["", ""] => Ok(None),
        ["", text] | [text, _] => Ok(Some(text.parse()?)),
    }
}

/// Refuses what could not be followed at a start, before anything is kept of it.
pub fn check(network: &NetworkRecord, record: &Record, asked: &EndpointSettings) -> Result<(), NetworkError> {
    sysctls(asked)?;
    asked_mac(record, asked)?;
    link_local(asked)?;
    if let Some((_, name)) = asked.driver_opts.iter().flatten().find(|(key, _)| *key == OPTION_INTERFACE) {
        interface_name(OPTION_INTERFACE, name)?;
    }
    let config = asked.ipam_config.clone().unwrap_or_default();
    for (ipv6, text) in [(false, &config.ipv4_address), (true, &config.ipv6_address)] {
        if text.is_empty() {
            continue;
        }
        if network.network.name == BRIDGE {
            return Err(NetworkError::FixedAddressOnDefault);
        }
        let address = read_address(text, ipv6)?;
        if !network.pools.iter().any(|pool| pool.subnet.contains(address)) {
            return Err(IpamError::NotInNetwork(address).into());
        }
    }
    Ok(())
}

fn read_address(text: &str, ipv6: bool) -> Result<IpAddr, NetworkError> {
    let parsed = text.parse::<IpAddr>().ok().filter(|address| address.is_ipv6() == ipv6);
    parsed.ok_or_else(|| NetworkError::BadAddress(text.to_owned()))
}

/// `--link-local-ip`.
fn link_local(asked: &EndpointSettings) -> Result<Vec<InterfaceAddress>, NetworkError> {
    const PREFIX_IPV4: u8 = 16;
    const PREFIX_IPV6: u8 = 64;
    let texts = asked.ipam_config.iter().flat_map(|config| &config.link_local_ips);
    let addresses = texts.map(|text| match text.parse() {
        Ok(IpAddr::V4(address)) if address.is_link_local() => {
            Ok(InterfaceAddress { address: address.into(), prefix: PREFIX_IPV4 })
        }
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            Ok(InterfaceAddress { address: address.into(), prefix: PREFIX_IPV6 })
        }
        _ => Err(NetworkError::NotLinkLocal(text.clone())),
    });
    addresses.collect()
}

fn interface(entry: &Entry, asked: &EndpointSettings, taken: &[String]) -> Result<String, NetworkError> {
    if let Some(name) = asked.driver_opts.iter().flatten().find(|(key, _)| *key == OPTION_INTERFACE) {
        return Ok(interface_name(OPTION_INTERFACE, name.1)?);
    }
    let prefix = entry.record.interface_prefix.as_deref().unwrap_or(INTERFACE_PREFIX);
    let mut names = (0..).map(|number| format!("{prefix}{number}"));
    Ok(names.find(|name| !taken.contains(name)).expect("numbers do not end"))
}

fn sysctls(asked: &EndpointSettings) -> Result<BTreeMap<String, String>, NetworkError> {
    let Some(text) = asked.driver_opts.iter().flatten().find(|(key, _)| *key == OPTION_SYSCTLS) else {
        return Ok(BTreeMap::new());
    };
    let settings = text.1.split(',').map(|setting| {
        // Some clients write the whole option in lower case.
        let setting = setting.trim().replace(".ifname.", ".IFNAME.");
        let pair = setting.split_once('=');
        let of_interface = |key: &str| key.starts_with("net.") && key.contains(".IFNAME.");
        match pair.filter(|(key, _)| of_interface(key) && !key.contains("..")) {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(NetworkError::BadSysctl(setting.clone())),
        }
    });
    settings.collect()
}

fn allocate(entry: &mut Entry, asked: &EndpointSettings) -> Result<Vec<InterfaceAddress>, NetworkError> {
    let config = asked.ipam_config.clone().unwrap_or_default();
    let mut given: Vec<InterfaceAddress> = Vec::new();
    for (ipv6, text) in [(false, &config.ipv4_address), (true, &config.ipv6_address)] {
        let result = match text.as_str() {
            "" if !entry.addresses.has_family(ipv6) => continue,
            "" => entry.addresses.allocate(ipv6).map_err(NetworkError::from),
            text => fixed(entry, text, ipv6),
        };
        match result {
            Ok(address) => given.push(address),
            Err(error) => {
                given.iter().for_each(|address| entry.addresses.release(address.address));
                return Err(error);
            }
        }
    }
    Ok(given)
}

fn fixed(entry: &mut Entry, text: &str, ipv6: bool) -> Result<InterfaceAddress, NetworkError> {
    if entry.record.network.name == BRIDGE {
        return Err(NetworkError::FixedAddressOnDefault);
    }
    let address = read_address(text, ipv6)?;
    Ok(entry.addresses.allocate_exactly(address)?)
}

/// What resolves to the container on a network: its name, its aliases, its short id.
pub fn names(network: &NetworkRecord, record: &Record, asked: &EndpointSettings) -> Vec<String> {
    if network.plan.as_ref().is_none_or(|plan| !plan.dns) {
        return Vec::new();
    }
    let short = record.id.get(..SHORT_ID).unwrap_or(&record.id).to_owned();
    let mut names = vec![record.name.clone()];
    let aliases = asked.aliases.iter().flatten().cloned();
    for name in aliases.chain([short, record.config.hostname.clone()]) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What inspect shows of an endpoint.
pub(super) fn shown(
    network: &NetworkRecord,
    asked: &EndpointSettings,
    plan: &EndpointPlan,
    names: Vec<String>,
) -> EndpointSettings {
    let of = |ipv6: bool| plan.addresses.iter().find(|address| address.address.is_ipv6() == ipv6);
    let gateway = |ipv6: bool| {
        let found = of(ipv6).and_then(|address| gateway_for(network, address.address));
        found.map(|gateway| gateway.to_string()).unwrap_or_default()
    };
    let text = |ipv6| of(ipv6).map(|address| address.address.to_string()).unwrap_or_default();
    let prefix = |ipv6| of(ipv6).map_or(0, |address| i64::from(address.prefix));
    EndpointSettings {
        network_id: plan.network_id.clone(),
        endpoint_id: plan.id.clone(),
        gateway: gateway(false),
        ip_address: text(false),
        ip_prefix_len: prefix(false),
        ipv6_gateway: gateway(true),
        global_ipv6_address: text(true),
        global_ipv6_prefix_len: prefix(true),
        mac_address: plan.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        dns_names: (!names.is_empty()).then_some(names),
        ..asked.clone()
    }
}

/// The next hop of an address, where its network leads anywhere.
fn gateway_for(network: &NetworkRecord, address: IpAddr) -> Option<IpAddr> {
    let plan = network.plan.as_ref()?;
    let isolated = match &plan.wiring {
        Wiring::Bridge(bridge) if address.is_ipv6() => bridge.mode_ipv6 == GatewayMode::Isolated,
        Wiring::Bridge(bridge) => bridge.mode_ipv4 == GatewayMode::Isolated,
        // Children of a dummy interface have nobody to route for them.
        Wiring::Macvlan { child, .. } => child.parent.is_none(),
        Wiring::Ipvlan { child, mode, .. } => child.parent.is_none() || *mode != IpvlanMode::L2,
    };
    let pool = network.pools.iter().find(|pool| pool.subnet.contains(address))?;
    (!plan.internal && !isolated).then_some(pool.gateway)
}

/// The default routes of a container with these endpoints: of those that lead
/// anywhere the one with the highest priority, then the first by name.
pub fn gateways<'a>(endpoints: impl Iterator<Item = &'a Planned> + Clone) -> Gateways {
    let best = |ipv6: bool| {
        let leading = endpoints.clone().filter_map(|endpoint| {
            let address = endpoint.plan.addresses.iter().find(|one| one.address.is_ipv6() == ipv6)?;
            let gateway = gateway_for(&endpoint.record, address.address)?;
            Some((endpoint, gateway))
        });
        leading
            .min_by_key(|(endpoint, _)| (-endpoint.settings.gw_priority, endpoint.network.clone()))
            .map(|(endpoint, gateway)| (endpoint.plan.network_id.clone(), gateway))
    };
    Gateways { ipv4: best(false), ipv6: best(true) }
}

/// Servers, forwarding and links of a container.
pub fn dns(record: &Record, endpoints: &[Planned], links: BTreeMap<String, String>) -> DnsPlan {
    let config = &record.host_config;
    let servers = config.dns.iter().flatten().filter_map(|server| server.parse().ok()).collect();
    let forward =
        endpoints.iter().any(|endpoint| endpoint.record.plan.as_ref().is_some_and(|plan| !plan.internal));
    let ndots_set = config.dns_options.iter().flatten().any(|option| {
        option.strip_prefix("ndots:").and_then(|number| number.parse::<u32>().ok()).is_some_and(|n| n > 0)
    });
    DnsPlan { servers, forward, ndots_set, links }
}

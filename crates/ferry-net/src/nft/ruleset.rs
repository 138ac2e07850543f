//! From networks and published ports to the table's sets, chains and rules.
//!
//! The rules are the same however many networks and ports there are: what differs
//! lives in sets and maps, so that adding or removing one costs one element.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address::Subnet;
use crate::port::Protocol;

use super::expression::interface_name;
use super::message::{Element, Set, TableFamily, Transaction};
use super::rules::add_chains;
use super::sets::{
    BRIDGES, INTERNAL, LOCAL4, LOCAL6, MASQUERADE4, MASQUERADE6, OWN_ADDRESS4, OWN_ADDRESS6, OWN4, OWN6,
    PAIRS, PUBLISH_ADDRESS4, PUBLISH_ADDRESS6, PUBLISH4, PUBLISH6, ROUTED4, ROUTED6, SETS, SOURCE4, SOURCE6,
    UNPROTECTED4, UNPROTECTED6, UPLINKS,
};

/// How the outside reaches the containers of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Published ports only, translated.
    #[default]
    Nat,
    /// Published ports translated, all ports open to who routes to them.
    NatUnprotected,
    /// No translation; published ports are open to who routes to them.
    Routed,
    /// The host has no address on the bridge.
    Isolated,
}

/// What the firewall needs to know about a bridge network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    pub(crate) bridge: String,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) masquerade: bool,
    pub(crate) internal: bool,
    /// Whether its containers may talk to each other.
    pub(crate) icc: bool,
    pub(crate) mode_ipv4: GatewayMode,
    pub(crate) mode_ipv6: GatewayMode,
    /// Host interfaces whose neighbours may reach every port.
    pub(crate) trusted: Vec<String>,
    /// What packets to the outside have as source, instead of the address they leave by.
    pub(crate) sources: Vec<IpAddr>,
}

impl NetworkRules {
    fn mode(&self, ipv6: bool) -> GatewayMode {
        if ipv6 { self.mode_ipv6 } else { self.mode_ipv4 }
    }
}

/// One published port as the firewall sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortRule {
    /// The host address it is bound to; unspecified for all of the family.
    pub(crate) host: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) container: IpAddr,
    pub(crate) container_port: u16,
    /// Open on the container's own address instead of translated.
    pub(crate) routed: bool,
}

/// All that the table shall say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) networks: BTreeMap<String, NetworkRules>,
    pub(crate) ports: BTreeSet<PortRule>,
    /// Interfaces between which the host did not route before ferry switched
    /// forwarding on, and shall not now.
    pub(crate) uplinks: Vec<String>,
}

/// The transaction that replaces the whole table by what is wanted.
pub(crate) fn replace(table: &str, wanted: &Wanted) -> Transaction {
    let mut transaction = Transaction::begin(TableFamily::Inet, table, None);
    // Adding first makes the deletion valid whether or not the table exists.
    transaction.add_table();
    transaction.delete_table();
    transaction.add_table();
    SETS.iter().for_each(|set| transaction.add_set(set));
    add_chains(&mut transaction);
    wanted.networks.values().for_each(|network| add_network(&mut transaction, network));
    add_ports(&mut transaction, &wanted.networks, wanted.ports.iter());
    let uplinks: Vec<_> = wanted.uplinks.iter().map(|name| plain(interface_name(name))).collect();
    transaction.add_elements(&UPLINKS, &uplinks);
    transaction
}

/// The transaction that removes the table.
pub(crate) fn remove(table: &str) -> Transaction {
    let mut transaction = Transaction::begin(TableFamily::Inet, table, None);
    transaction.add_table();
    transaction.delete_table();
    transaction
}

/// Adds what one network contributes to the sets.
pub(crate) fn add_network(transaction: &mut Transaction, network: &NetworkRules) {
    for (set, elements) in network_elements(network) {
        transaction.add_elements(&set, &elements);
    }
}

/// Removes what one network contributed.
pub(crate) fn remove_network(transaction: &mut Transaction, network: &NetworkRules) {
    for (set, elements) in network_elements(network) {
        transaction.delete_elements(&set, &elements);
    }
}

/// The networks there are, by id.
type Networks = BTreeMap<String, NetworkRules>;

/// Adds published ports.
pub(crate) fn add_ports<'a>(
    transaction: &mut Transaction,
    networks: &Networks,
    ports: impl Iterator<Item = &'a PortRule>,
) {
    for (set, elements) in port_elements(networks, ports) {
        transaction.add_elements(&set, &elements);
    }
}

/// Removes published ports.
pub(crate) fn remove_ports<'a>(
    transaction: &mut Transaction,
    networks: &Networks,
    ports: impl Iterator<Item = &'a PortRule>,
) {
    for (set, elements) in port_elements(networks, ports) {
        transaction.delete_elements(&set, &elements);
    }
}

fn plain(key: Vec<u8>) -> Element {
    Element { key, end: None, data: Vec::new() }
}

fn network_elements(network: &NetworkRules) -> Vec<(Set, Vec<Element>)> {
    let bridge = interface_name(&network.bridge);
    let mut elements = vec![(BRIDGES, vec![plain(bridge.clone())])];
    let mut pairs: Vec<_> =
        network.trusted.iter().map(|name| plain([interface_name(name), bridge.clone()].concat())).collect();
    if network.icc {
        pairs.push(plain([bridge.clone(), bridge.clone()].concat()));
    }
    elements.push((PAIRS, pairs));
    if network.internal {
        elements.push((INTERNAL, vec![plain(bridge.clone())]));
    }
    for (ipv6, unprotected) in [(false, UNPROTECTED4), (true, UNPROTECTED6)] {
        if network.mode(ipv6) == GatewayMode::NatUnprotected {
            elements.push((unprotected, vec![plain(bridge.clone())]));
        }
    }
    for subnet in &network.subnets {
        let (local, masquerade) =
            if subnet.is_ipv6() { (LOCAL6, MASQUERADE6) } else { (LOCAL4, MASQUERADE4) };
        let (first, last) = (bytes(subnet.address()), bytes(subnet.last()));
        let key = [bridge.clone(), first.clone()].concat();
        let end = [bridge.clone(), last.clone()].concat();
        elements.push((local, vec![Element { key, end: Some(end), data: Vec::new() }]));
        let translated =
            !matches!(network.mode(subnet.is_ipv6()), GatewayMode::Routed | GatewayMode::Isolated);
        if network.masquerade && translated && !network.internal {
            let source = network.sources.iter().find(|source| source.is_ipv6() == subnet.is_ipv6());
            let set = match (source, subnet.is_ipv6()) {
                (None, _) => masquerade,
                (Some(_), false) => SOURCE4,
                (Some(_), true) => SOURCE6,
            };
            let data = source.map(|source| bytes(*source)).unwrap_or_default();
            elements.push((set, vec![Element { key: first, end: Some(last), data }]));
        }
    }
    elements.retain(|(_, elements)| !elements.is_empty());
    elements
}

fn port_elements<'a>(
    networks: &Networks,
    ports: impl Iterator<Item = &'a PortRule>,
) -> Vec<(Set, Vec<Element>)> {
    let mut by_set: Vec<(Set, Vec<Element>)> = Vec::new();
    for port in ports {
        for (set, element) in [port_element(port)].into_iter().chain(own_element(networks, port)) {
            match by_set.iter_mut().find(|(known, _)| known.name == set.name) {
                Some((_, elements)) => elements.push(element),
                None => by_set.push((set, vec![element])),
            }
        }
    }
    by_set
}

/// The mark of a port whose container's neighbours reach it through the host's own socket. SCTP has no such.
fn own_element(networks: &Networks, port: &PortRule) -> Option<(Set, Element)> {
    let at = |network: &&NetworkRules| network.subnets.iter().any(|subnet| subnet.contains(port.container));
    let network = networks.values().find(at)?;
    if network.icc || port.routed || port.protocol == Protocol::Sctp {
        return None;
    }
    let service = [&[port.protocol.number(), 0, 0, 0][..], &port.host_port.to_be_bytes(), &[0; 2]].concat();
    let (everywhere, ipv6) = (port.host.is_unspecified(), port.container.is_ipv6());
    let address = if everywhere { Vec::new() } else { bytes(port.host) };
    let set = match (everywhere, ipv6) {
        (true, false) => OWN4,
        (true, true) => OWN6,
        (false, false) => OWN_ADDRESS4,
        (false, true) => OWN_ADDRESS6,
    };
    Some((set, plain([interface_name(&network.bridge), address, service].concat())))
}

fn port_element(port: &PortRule) -> (Set, Element) {
    let ipv6 = port.container.is_ipv6();
    let service = |number: u16| [&number.to_be_bytes()[..], &[0; 2]].concat();
    let protocol = vec![port.protocol.number(), 0, 0, 0];
    if port.routed {
        let key = [bytes(port.container), protocol, service(port.container_port)].concat();
        return (if ipv6 { ROUTED6 } else { ROUTED4 }, plain(key));
    }
    let data = [bytes(port.container), service(port.container_port)].concat();
    let mut key = [protocol, service(port.host_port)].concat();
    let set = match (port.host.is_unspecified(), ipv6) {
        (true, false) => PUBLISH4,
        (true, true) => PUBLISH6,
        (false, false) => PUBLISH_ADDRESS4,
        (false, true) => PUBLISH_ADDRESS6,
    };
    if !port.host.is_unspecified() {
        key = [bytes(port.host), key].concat();
    }
    (set, Element { key, end: None, data })
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: &str, container: &str) -> PortRule {
        PortRule {
            host: host.parse().unwrap(),
            host_port: 8080,
            protocol: Protocol::Tcp,
            container: container.parse().unwrap(),
            container_port: 80,
            routed: false,
        }
    }

    #[test]
    fn a_port_is_one_element_of_the_map_for_its_binding() {
        for (host, container, set, key) in [
            ("0.0.0.0", "172.17.0.2", "publish4", vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0]),
            ("10.0.0.1", "172.17.0.2", "publish-address4", vec![10, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]),
            ("::", "fd00::2", "publish6", vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0]),
        ] {
            let (found, element) = port_element(&port(host, container));
            assert_eq!((found.name, element.key), (set, key));
            assert_eq!(element.data[element.data.len() - 4..], [0, 80, 0, 0]);
        }
    }

    #[test]
    fn an_internal_network_is_never_masqueraded() {
        let mut network = NetworkRules {
            bridge: "br0".into(),
            subnets: vec!["10.0.0.0/24".parse().unwrap()],
            masquerade: true,
            icc: true,
            ..NetworkRules::default()
        };
        let sets = |network: &NetworkRules| -> Vec<_> {
            network_elements(network).iter().map(|(set, _)| set.name).collect()
        };
        assert_eq!(sets(&network), ["bridges", "pairs", "local4", "masquerade4"]);
        network.internal = true;
        assert_eq!(sets(&network), ["bridges", "pairs", "internal", "local4"]);
    }
}

//! From networks and published ports to the table's sets, chains and rules.
//!
//! The rules are the same however many networks and ports there are: what differs
//! lives in sets and maps, so that adding or removing one costs one element.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address::Subnet;
use crate::port::Protocol;

use super::expression::{Base, Conntrack, Expression as E, Meta, Register, Verdict, interface_name};
use super::message::{Element, Hook, Set, TableFamily, Transaction, Type, hook};

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

const NAME: &[Type] = &[Type::InterfaceName];
const fn set(name: &'static str, key: &'static [Type]) -> Set {
    Set { name, key, data: &[], interval: false }
}

const BRIDGES: Set = set("bridges", NAME);
const INTERNAL: Set = set("internal", NAME);
const UPLINKS: Set = set("uplinks", NAME);
/// Published ports of containers on a bridge that keeps its containers apart, by that bridge.
const OWN4: Set = set("own4", &[Type::InterfaceName, Type::Protocol, Type::Port]);
const OWN6: Set = set("own6", &[Type::InterfaceName, Type::Protocol, Type::Port]);
const OWN_ADDRESS4: Set = set("own-address4", &[Type::InterfaceName, Type::Ipv4, Type::Protocol, Type::Port]);
const OWN_ADDRESS6: Set = set("own-address6", &[Type::InterfaceName, Type::Ipv6, Type::Protocol, Type::Port]);
const UNPROTECTED4: Set = set("unprotected4", NAME);
const UNPROTECTED6: Set = set("unprotected6", NAME);
/// Pairs of input and output interface between which everything passes.
const PAIRS: Set = set("pairs", &[Type::InterfaceName, Type::InterfaceName]);
/// Which addresses live behind which bridge.
const LOCAL4: Set =
    Set { name: "local4", key: &[Type::InterfaceName, Type::Ipv4], data: &[], interval: true };
const LOCAL6: Set =
    Set { name: "local6", key: &[Type::InterfaceName, Type::Ipv6], data: &[], interval: true };
const MASQUERADE4: Set = Set { name: "masquerade4", key: &[Type::Ipv4], data: &[], interval: true };
const MASQUERADE6: Set = Set { name: "masquerade6", key: &[Type::Ipv6], data: &[], interval: true };
const PUBLISH4: Set = Set {
    name: "publish4",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
const PUBLISH6: Set = Set {
    name: "publish6",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
const PUBLISH_ADDRESS4: Set = Set {
    name: "publish-address4",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
const PUBLISH_ADDRESS6: Set = Set {
    name: "publish-address6",
    key: &[Type::Ipv6, Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
/// The address of the host that a subnet's packets to the outside carry.
const SOURCE4: Set = Set { name: "source4", key: &[Type::Ipv4], data: &[Type::Ipv4], interval: true };
const SOURCE6: Set = Set { name: "source6", key: &[Type::Ipv6], data: &[Type::Ipv6], interval: true };
const ROUTED4: Set = set("routed4", &[Type::Ipv4, Type::Protocol, Type::Port]);
const ROUTED6: Set = set("routed6", &[Type::Ipv6, Type::Protocol, Type::Port]);

const SETS: &[Set] = &[
    BRIDGES,
    INTERNAL,
    UPLINKS,
    UNPROTECTED4,
    UNPROTECTED6,
    PAIRS,
    LOCAL4,
    LOCAL6,
    MASQUERADE4,
    MASQUERADE6,
    SOURCE4,
    SOURCE6,
    PUBLISH4,
    PUBLISH6,
    PUBLISH_ADDRESS4,
    PUBLISH_ADDRESS6,
    OWN4,
    OWN6,
    OWN_ADDRESS4,
    OWN_ADDRESS6,
    ROUTED4,
    ROUTED6,
];

const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// The chain that translates the destination of packets to published ports.
const PUBLISH_CHAIN: &str = "publish";

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

fn add_chains(t: &mut Transaction) {
    let filter = |number, priority| Some(Hook { kind: "filter", number, priority });
    let nat = |number, priority| Some(Hook { kind: "nat", number, priority });
    t.add_chain(PUBLISH_CHAIN, None);
    t.add_chain("raw-prerouting", filter(hook::PREROUTING, PRIORITY_RAW));
    t.add_chain("nat-prerouting", nat(hook::PREROUTING, PRIORITY_DESTINATION_NAT));
    t.add_chain("nat-output", nat(hook::OUTPUT, PRIORITY_DESTINATION_NAT));
    t.add_chain("filter-forward", filter(hook::FORWARD, PRIORITY_FILTER));
    t.add_chain("nat-postrouting", nat(hook::POSTROUTING, PRIORITY_SOURCE_NAT));

    t.add_rule("raw-prerouting", &from_outside_to_loopback(), None, false);
    for ipv6 in [false, true] {
        t.add_rule("nat-prerouting", &to_a_neighbour_on_address(ipv6), None, false);
        t.add_rule("nat-prerouting", &to_a_neighbour(ipv6), None, false);
    }
    t.add_rule("nat-prerouting", &to_this_host(), None, false);
    // Loopback traffic belongs to the proxy: a translated 127.0.0.1 would need
    // route_localnet, and ::1 cannot be translated at all.
    t.add_rule("nat-output", &[to_loopback4(), vec![E::Verdict(Verdict::Return)]].concat(), None, false);
    t.add_rule("nat-output", &[to_loopback6(), vec![E::Verdict(Verdict::Return)]].concat(), None, false);
    t.add_rule("nat-output", &to_this_host(), None, false);
    for ipv6 in [false, true] {
        t.add_rule(PUBLISH_CHAIN, &publish_on_address(ipv6), None, false);
    }
    for ipv6 in [false, true] {
        t.add_rule(PUBLISH_CHAIN, &publish_everywhere(ipv6), None, false);
    }
    forward_rules().iter().for_each(|rule| t.add_rule("filter-forward", rule, None, false));
    for ipv6 in [false, true] {
        t.add_rule("nat-postrouting", &hairpin(ipv6), None, false);
        // First, because it ends the matter for nearly all: on a busy machine some first packets were seen to pass the map
        // below although it was empty, and to go out as they were.
        t.add_rule("nat-postrouting", &masquerade(ipv6), None, false);
        t.add_rule("nat-postrouting", &chosen_source(ipv6), None, false);
    }
}

const FIRST: Register = Register(0);

fn family(ipv6: bool) -> Vec<E> {
    vec![
        E::Meta { key: Meta::NetworkProtocol, into: FIRST },
        E::Compare { register: FIRST, equal: true, value: vec![if ipv6 { 10 } else { 2 }] },
    ]
}

fn destination(ipv6: bool, into: Register) -> E {
    let (offset, length) = if ipv6 { (24, 16) } else { (16, 4) };
    E::Payload { base: Base::Network, offset, length, into }
}

fn source(ipv6: bool, into: Register) -> E {
    let (offset, length) = if ipv6 { (8, 16) } else { (12, 4) };
    E::Payload { base: Base::Network, offset, length, into }
}

fn destination_port(into: Register) -> E {
    E::Payload { base: Base::Transport, offset: 2, length: 2, into }
}

fn input_in(set: &'static str) -> Vec<E> {
    vec![E::Meta { key: Meta::InputName, into: FIRST }, E::Lookup { set, key: FIRST, inverted: false }]
}

fn output_in(set: &'static str, inverted: bool) -> Vec<E> {
    vec![E::Meta { key: Meta::OutputName, into: FIRST }, E::Lookup { set, key: FIRST, inverted }]
}

fn bits_set(key: Conntrack, mask: u32) -> Vec<E> {
    vec![
        E::Conntrack { key, into: FIRST },
        E::Mask { register: FIRST, mask },
        E::Compare { register: FIRST, equal: false, value: vec![0; 4] },
    ]
}

/// `ct status dnat`: the destination was translated, so the port is published.
fn translated() -> Vec<E> {
    const DESTINATION_TRANSLATED: u32 = 1 << 5;
    bits_set(Conntrack::Status, DESTINATION_TRANSLATED)
}

fn to_loopback4() -> Vec<E> {
    let first_octet = E::Payload { base: Base::Network, offset: 16, length: 1, into: FIRST };
    [family(false), vec![first_octet, E::Compare { register: FIRST, equal: true, value: vec![127] }]].concat()
}

fn to_loopback6() -> Vec<E> {
    let mut loopback = vec![0; 16];
    loopback[15] = 1;
    let compare = E::Compare { register: FIRST, equal: true, value: loopback };
    [family(true), vec![destination(true, FIRST), compare]].concat()
}

fn from_outside_to_loopback() -> Vec<E> {
    let outside = vec![
        E::Meta { key: Meta::InputName, into: FIRST },
        E::Compare { register: FIRST, equal: false, value: interface_name("lo") },
    ];
    [outside, to_loopback4(), vec![E::Counter, E::Verdict(Verdict::Drop)]].concat()
}

fn to_this_host() -> Vec<E> {
    const ROUTE_TYPE_LOCAL: u32 = 2;
    vec![
        E::DestinationType { into: FIRST },
        E::Compare { register: FIRST, equal: true, value: ROUTE_TYPE_LOCAL.to_ne_bytes().to_vec() },
        E::Verdict(Verdict::Jump(PUBLISH_CHAIN)),
    ]
}

fn translate(ipv6: bool, map: &'static str) -> Vec<E> {
    let port = Register(if ipv6 { 4 } else { 1 });
    vec![E::Map { map, key: FIRST, into: FIRST }, E::DestinationNat { ipv6, address: FIRST, port }]
}

fn publish_everywhere(ipv6: bool) -> Vec<E> {
    let key = vec![E::Meta { key: Meta::TransportProtocol, into: FIRST }, destination_port(Register(1))];
    let map = if ipv6 { PUBLISH6.name } else { PUBLISH4.name };
    [family(ipv6), key, translate(ipv6, map)].concat()
}

/// Containers that may not talk to each other are isolated ports of their bridge. Where the bridge itself
/// calls the firewall (br_netfilter), a translated packet would go from one such port straight to the other
/// and be lost; the host's own socket, and behind it the proxy, is reached either way.
fn to_a_neighbour(ipv6: bool) -> Vec<E> {
    let key = vec![
        E::Meta { key: Meta::InputName, into: FIRST },
        E::Meta { key: Meta::TransportProtocol, into: Register(4) },
        destination_port(Register(5)),
        E::Lookup { set: if ipv6 { OWN6.name } else { OWN4.name }, key: FIRST, inverted: false },
    ];
    [family(ipv6), key, vec![E::Verdict(Verdict::Accept)]].concat()
}

fn to_a_neighbour_on_address(ipv6: bool) -> Vec<E> {
    let after = if ipv6 { 8 } else { 5 };
    let set = if ipv6 { OWN_ADDRESS6.name } else { OWN_ADDRESS4.name };
    let key = vec![
        E::Meta { key: Meta::InputName, into: FIRST },
        destination(ipv6, Register(4)),
        E::Meta { key: Meta::TransportProtocol, into: Register(after) },
        destination_port(Register(after + 1)),
        E::Lookup { set, key: FIRST, inverted: false },
    ];
    [family(ipv6), key, vec![E::Verdict(Verdict::Accept)]].concat()
}

fn destination_service(ipv6: bool) -> Vec<E> {
    let after = if ipv6 { 4 } else { 1 };
    let key = vec![
        destination(ipv6, FIRST),
        E::Meta { key: Meta::TransportProtocol, into: Register(after) },
        destination_port(Register(after + 1)),
    ];
    [family(ipv6), key].concat()
}

fn publish_on_address(ipv6: bool) -> Vec<E> {
    let map = if ipv6 { PUBLISH_ADDRESS6.name } else { PUBLISH_ADDRESS4.name };
    [destination_service(ipv6), translate(ipv6, map)].concat()
}

fn routed_port(ipv6: bool) -> Vec<E> {
    let set = if ipv6 { ROUTED6.name } else { ROUTED4.name };
    let found = E::Lookup { set, key: FIRST, inverted: false };
    [destination_service(ipv6), vec![found, E::Verdict(Verdict::Accept)]].concat()
}

/// A container that reaches a neighbour on its own bridge through the host: the
/// answer must come back the same way, so the bridge's address becomes the source.
fn hairpin(ipv6: bool) -> Vec<E> {
    let set = if ipv6 { LOCAL6.name } else { LOCAL4.name };
    let key = vec![
        E::Meta { key: Meta::OutputName, into: FIRST },
        source(ipv6, Register(4)),
        E::Lookup { set, key: FIRST, inverted: false },
    ];
    [family(ipv6), translated(), key, vec![E::Masquerade]].concat()
}

fn masquerade(ipv6: bool) -> Vec<E> {
    let set = if ipv6 { MASQUERADE6.name } else { MASQUERADE4.name };
    let from_containers = vec![source(ipv6, FIRST), E::Lookup { set, key: FIRST, inverted: false }];
    [family(ipv6), from_containers, output_in(BRIDGES.name, true), vec![E::Masquerade]].concat()
}

/// Packets of subnets that have an address of the host for their own (`host_ipv4`, `host_ipv6`).
fn chosen_source(ipv6: bool) -> Vec<E> {
    let map = if ipv6 { SOURCE6.name } else { SOURCE4.name };
    let outside = output_in(BRIDGES.name, true);
    let chosen = vec![
        source(ipv6, FIRST),
        E::Map { map, key: FIRST, into: FIRST },
        E::SourceNat { ipv6, address: FIRST },
    ];
    [family(ipv6), outside, chosen].concat()
}

fn forward_rules() -> Vec<Vec<E>> {
    const ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;
    let accept = || vec![E::Verdict(Verdict::Accept)];
    let drop = || vec![E::Counter, E::Verdict(Verdict::Drop)];
    let pair = vec![
        E::Meta { key: Meta::InputName, into: FIRST },
        E::Meta { key: Meta::OutputName, into: Register(4) },
        E::Lookup { set: PAIRS.name, key: FIRST, inverted: false },
    ];
    vec![
        [bits_set(Conntrack::State, ESTABLISHED_OR_RELATED), accept()].concat(),
        [pair, accept()].concat(),
        [input_in(INTERNAL.name), drop()].concat(),
        [output_in(INTERNAL.name, false), drop()].concat(),
        [output_in(BRIDGES.name, false), translated(), accept()].concat(),
        routed_port(false),
        routed_port(true),
        [input_in(BRIDGES.name), output_in(BRIDGES.name, false), drop()].concat(),
        [family(false), output_in(UNPROTECTED4.name, false), accept()].concat(),
        [family(true), output_in(UNPROTECTED6.name, false), accept()].concat(),
        [output_in(BRIDGES.name, false), drop()].concat(),
        [input_in(UPLINKS.name), output_in(UPLINKS.name, false), drop()].concat(),
    ]
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

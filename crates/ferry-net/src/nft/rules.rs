//! The table's chains and rules, which are the same however many networks and ports there are.

use super::expression::{Base, Conntrack, Expression as E, Meta, Register, Verdict, interface_name};
use super::message::{Hook, Transaction, hook};
use super::sets::{
    BRIDGES, INTERNAL, LOCAL4, LOCAL6, MASQUERADE4, MASQUERADE6, OWN_ADDRESS4, OWN_ADDRESS6, OWN4, OWN6,
    PAIRS, PUBLISH_ADDRESS4, PUBLISH_ADDRESS6, PUBLISH4, PUBLISH6, ROUTED4, ROUTED6, SOURCE4, SOURCE6,
    UNPROTECTED4, UNPROTECTED6, UPLINKS,
};

const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// The chain that translates the destination of packets to published ports.
const PUBLISH_CHAIN: &str = "publish";

/// Adds the chains with their rules, which are the same whatever the sets hold.
pub(super) fn add_chains(t: &mut Transaction) {
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

//! The redirect inside a container's network namespace that leads port 53 of
//! 127.0.0.11 to the DNS service's random ports.

use std::net::Ipv4Addr;

use ferry_sys::netlink::Family;

use crate::netlink::{Connection, NetlinkError};

use super::expression::{Base, Expression as E, Meta, Register};
use super::message::{Hook, TableFamily, Transaction, hook};

const TABLE: &str = "ferry-dns";
const CHAIN: &str = "output";
const DNS_PORT: u16 = 53;
const PRIORITY: i32 = -100;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Writes the redirect in the calling thread's network namespace.
pub(crate) fn redirect_dns(address: Ipv4Addr, udp_port: u16, tcp_port: u16) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::begin(TableFamily::Ipv4, TABLE, None);
    transaction.add_table();
    transaction.delete_table();
    transaction.add_table();
    transaction.add_chain(CHAIN, Some(Hook { kind: "nat", number: hook::OUTPUT, priority: PRIORITY }));
    for (protocol, port) in [(UDP, udp_port), (TCP, tcp_port)] {
        transaction.add_rule(CHAIN, &rule(address, protocol, port), None, false);
    }
    Connection::open(Family::Netfilter)?.execute(&transaction.finish())
}

fn rule(address: Ipv4Addr, protocol: u8, port: u16) -> Vec<E> {
    let first = Register(0);
    let equal = |value: Vec<u8>| E::Compare { register: first, equal: true, value };
    let octets = address.octets().to_vec();
    vec![
        E::Payload { base: Base::Network, offset: 16, length: 4, into: first },
        equal(octets.clone()),
        E::Meta { key: Meta::TransportProtocol, into: first },
        equal(vec![protocol]),
        E::Payload { base: Base::Transport, offset: 2, length: 2, into: first },
        equal(DNS_PORT.to_be_bytes().to_vec()),
        E::Load { value: octets, into: first },
        E::Load { value: port.to_be_bytes().to_vec(), into: Register(1) },
        E::DestinationNat { ipv6: false, address: first, port: Register(1) },
    ]
}

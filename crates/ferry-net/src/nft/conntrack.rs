//! Forgetting tracked connections: without it, datagrams of an old flow keep
//! going where a port pointed before it was published or taken back.

use std::net::IpAddr;

use ferry_sys::netlink::Family;

use crate::netlink::{Attribute, Batch, Connection, NetlinkError, attributes, flags};

use super::message::header;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
/// Address families (`AF_UNSPEC`, `AF_INET`, `AF_INET6`).
const UNSPECIFIED: u8 = 0;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Deletions per write, so that a busy host's thousands of flows make no huge message.
const DELETIONS_PER_BATCH: usize = 256;

/// One end of a flow.
pub(crate) type End = (IpAddr, u16);

/// A tracked connection, as far as ports care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    /// Whom the client addressed.
    pub(crate) addressed: End,
    /// Who answers.
    pub(crate) answering: End,
}

/// Deletes every tracked connection that `gone` picks; the number deleted.
pub(crate) fn forget(gone: impl Fn(&Flow) -> bool) -> Result<usize, NetlinkError> {
    let mut connection = Connection::open(Family::Netfilter)?;
    let mut doomed = Vec::new();
    let mut batch = Batch::new();
    // The kernel walks its whole table, however few connections there are: once for both families.
    batch.message("list tracked connections", SUBSYSTEM | GET, flags::DUMP, &header(UNSPECIFIED, 0), |_| {});
    connection.dump(&batch, |_, payload| {
        if let Some((flow, identity)) = parse(payload)
            && gone(&flow)
        {
            let family = if flow.addressed.0.is_ipv4() { IPV4 } else { IPV6 };
            doomed.push((family, identity));
        }
    })?;
    for chunk in doomed.chunks(DELETIONS_PER_BATCH) {
        let mut batch = Batch::new();
        for (family, identity) in chunk {
            let label = "forget a tracked connection";
            batch.message(label, SUBSYSTEM | DELETE, flags::ACK, &header(*family, 0), |a| {
                a.put(TUPLE_ORIGINAL | NESTED, &identity.original);
                a.put(ID, &identity.id);
            });
        }
        // One that ended by itself meanwhile is as good as deleted.
        connection.execute_all(&batch);
    }
    Ok(doomed.len())
}

const NESTED: u16 = 1 << 15;

/// What the kernel needs to find a connection again.
#[derive(Clone, Debug)]
struct Identity {
    original: Vec<u8>,
    id: Vec<u8>,
}

fn parse(payload: &[u8]) -> Option<(Flow, Identity)> {
    let (mut original, mut reply, mut id) = (None, None, Vec::new());
    for attribute in attributes(payload.get(4..)?) {
        match attribute.kind {
            TUPLE_ORIGINAL => original = Some(attribute),
            TUPLE_REPLY => reply = Some(attribute),
            ID => id = attribute.payload.to_vec(),
            _ => {}
        }
    }
    let original = original?;
    let (protocol, _, addressed) = tuple(original)?;
    let (_, answering, _) = tuple(reply?)?;
    Some((Flow { protocol, addressed, answering }, Identity { original: original.payload.to_vec(), id }))
}

/// Protocol, source and destination of a tuple.
fn tuple(tuple: Attribute<'_>) -> Option<(u8, End, End)> {
    let (mut protocol, mut source, mut destination) = (0, None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for part in attributes(tuple.payload) {
        for value in attributes(part.payload) {
            match (part.kind, value.kind) {
                (TUPLE_IP, 1 | 3) => source = address(value.payload),
                (TUPLE_IP, 2 | 4) => destination = address(value.payload),
                (TUPLE_PROTOCOL, 1) => protocol = *value.payload.first()?,
                (TUPLE_PROTOCOL, 2) => source_port = port(value.payload)?,
                (TUPLE_PROTOCOL, 3) => destination_port = port(value.payload)?,
                _ => {}
            }
        }
    }
    Some((protocol, (source?, source_port), (destination?, destination_port)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

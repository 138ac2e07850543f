//! Routes: the default routes of a container, static ones, removal of old defaults.

use std::net::IpAddr;

use crate::address::Subnet;
use crate::netlink::{Batch, Connection, NetlinkError, attributes, flags};

use super::link::octets;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;

/// A route to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) destination: Subnet,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) device: u32,
}

fn header(family: u8, prefix: u8, scope: u8) -> [u8; 12] {
    [family, prefix, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, TYPE_UNICAST, 0, 0, 0, 0]
}

/// Appends a route.
pub(crate) fn add_route(batch: &mut Batch, route: &Route) {
    let (family, destination) = octets(route.destination.address());
    let scope = if route.gateway.is_none() { SCOPE_LINK } else { 0 };
    let label = match route.gateway {
        Some(gateway) => format!("add the route {} via {gateway}", route.destination),
        None => format!("add the route {}", route.destination),
    };
    let flags = flags::CREATE | flags::REPLACE | flags::ACK;
    batch.message(label, RTM_NEWROUTE, flags, &header(family, route.destination.prefix(), scope), |a| {
        if route.destination.prefix() > 0 {
            a.put(RTA_DST, &destination);
        }
        if let Some(gateway) = route.gateway {
            a.put(RTA_GATEWAY, &octets(gateway).1);
        }
        a.u32(RTA_OIF, route.device);
    });
}

/// Removes the static default routes of one family; none is fine.
pub(crate) fn remove_default_routes(connection: &mut Connection, ipv6: bool) -> Result<(), NetlinkError> {
    let family = if ipv6 { 10 } else { 2 };
    for (prefix, route) in dump(connection, family)? {
        if prefix != 0 || route.protocol != PROTOCOL_STATIC {
            continue;
        }
        let mut batch = Batch::new();
        let label = "remove the default route";
        batch.message(label, RTM_DELROUTE, flags::ACK, &header(family, 0, 0), |a| {
            if let Some(device) = route.device {
                a.u32(RTA_OIF, device);
            }
            if route.metric != 0 {
                a.u32(RTA_PRIORITY, route.metric);
            }
        });
        connection.execute(&batch)?;
    }
    Ok(())
}

/// A route as the kernel lists it.
#[derive(Clone, Debug)]
pub(super) struct FoundRoute {
    pub(super) destination: Option<IpAddr>,
    pub(super) device: Option<u32>,
    pub(super) metric: u32,
    pub(super) table: u8,
    pub(super) kind: u8,
    protocol: u8,
}

/// All routes of one family with their prefix lengths.
pub(super) fn dump(connection: &mut Connection, family: u8) -> Result<Vec<(u8, FoundRoute)>, NetlinkError> {
    let mut batch = Batch::new();
    let mut header = [0; 12];
    header[0] = family;
    batch.message("list the routes", RTM_GETROUTE, flags::DUMP, &header, |_| {});
    let mut routes = Vec::new();
    connection.dump(&batch, |_, payload| routes.extend(parse(payload)))?;
    Ok(routes)
}

fn parse(payload: &[u8]) -> Option<(u8, FoundRoute)> {
    let [_, prefix, _, _, table, protocol, _, kind] = *payload.first_chunk::<8>()?;
    let mut route = FoundRoute { destination: None, device: None, metric: 0, table, kind, protocol };
    for attribute in attributes(payload.get(12..)?) {
        match attribute.kind {
            RTA_DST => route.destination = address(attribute.payload),
            RTA_OIF => route.device = attribute.u32(),
            RTA_PRIORITY => route.metric = attribute.u32()?,
            _ => {}
        }
    }
    Some((prefix, route))
}

fn address(payload: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(payload) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(payload).ok().map(IpAddr::from)
}

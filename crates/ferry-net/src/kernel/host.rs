//! What the host's network looks like: which addresses are taken, and the
//! largest packet its way out carries.

use ferry_sys::netlink::Family;

use crate::address::Subnet;
use crate::netlink::{Connection, NetlinkError};

use super::{link_names, route};

/// Packet size assumed where the host has no default route.
const DEFAULT_MTU: u32 = 1500;
const TYPE_UNICAST: u8 = 1;
const TABLE_LOCAL: u8 = 255;

/// The host's side of address and size decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostView {
    /// Every routed range except default routes.
    pub(crate) routes: Vec<(Subnet, String)>,
    /// MTU of the device of the default route.
    pub(crate) mtu: u32,
}

/// Reads routes and links of the calling thread's namespace.
pub(crate) fn host_view() -> Result<HostView, NetlinkError> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let mut connection = Connection::open(Family::Route)?;
    let links = link_names(&mut connection)?;
    let device = |index: u32| links.iter().find(|link| link.index == index);
    let mut view = HostView { routes: Vec::new(), mtu: DEFAULT_MTU };
    let mut best_metric = None;
    for family in [AF_INET, AF_INET6] {
        for (prefix, found) in route::dump(&mut connection, family)? {
            let link = found.device.and_then(device);
            if prefix == 0 {
                let better = best_metric.is_none_or(|best| found.metric < best);
                if let Some(link) = link.filter(|link| better && link.name != "lo") {
                    best_metric = Some(found.metric);
                    view.mtu = link.mtu;
                }
            } else if found.kind == TYPE_UNICAST && found.table != TABLE_LOCAL {
                let name = link.map(|link| link.name.clone()).unwrap_or_default();
                if let Some(destination) = found.destination.filter(|_| name != "lo") {
                    view.routes.push((Subnet::containing(destination, prefix), name));
                }
            }
        }
    }
    Ok(view)
}

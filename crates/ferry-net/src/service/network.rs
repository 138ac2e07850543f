//! Networks in the kernel: bridges and parent interfaces, made and removed.

use std::fs::File;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::kernel::{
    AddressFlags, HostView, LinkKind, NewLink, add_address, delete_link, find_link, host_view, new_link,
    read_sysctl, set_up, write_sysctl,
};
use crate::netlink::{Batch, Connection, NetlinkError};
use crate::nft::NetworkRules;
use crate::plan::{BridgeWiring, ChildWiring, GatewayMode, NetworkPlan, Wiring};

use super::ServiceError;

/// Several engines on one host take turns between looking for a free subnet and
/// taking it.
const HOST_LOCK: &str = "/run/ferry-network.lock";

/// What kernels may lack, as errors name it.
pub(super) const MACVLAN: &str = "macvlan support";
pub(super) const IPVLAN: &str = "ipvlan support";

/// The turn of this engine. An ordinary user's engine is alone in its network namespace.
fn host_lock() -> Result<Option<File>, ServiceError> {
    if ferry_sys::namespace::in_user_namespace() {
        return Ok(None);
    }
    let lock = File::create(HOST_LOCK).map_err(ServiceError::io(format!("open {HOST_LOCK}")))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(ServiceError::errno(format!("lock {HOST_LOCK}")))?;
    Ok(Some(lock))
}

/// Makes what a network needs exist; what exists already is adopted.
pub(super) fn bring_up(route: &mut Connection, plan: &NetworkPlan) -> Result<(), ServiceError> {
    match &plan.wiring {
        Wiring::Bridge(bridge) => bring_up_bridge(route, plan, bridge),
        Wiring::Macvlan { child, .. } => {
            probe(route, LinkKind::Macvlan { parent: 0, mode: 0 }, MACVLAN)?;
            bring_up_parent(route, child)
        }
        Wiring::Ipvlan { child, .. } => {
            probe(route, LinkKind::Ipvlan { parent: 0, mode: 0, flag: 0 }, IPVLAN)?;
            bring_up_parent(route, child)
        }
    }
}

/// Asks for a link of a kind without the parent that it needs: a kernel that has the kind
/// calls that invalid, one that has not does not know the kind. Nothing is made either way.
fn probe(route: &mut Connection, kind: LinkKind, feature: &'static str) -> Result<(), ServiceError> {
    const NAME: &str = "ferry-probe";
    let mut batch = Batch::new();
    new_link(&mut batch, &NewLink { name: NAME, kind, mtu: None, mac: None, up: false, namespace: None });
    match route.execute(&batch) {
        Err(error) if error.errno == Errno::OPNOTSUPP => Err(missing(feature, error)),
        _ => Ok(()),
    }
}

/// Removes what [`bring_up`] made.
pub(super) fn take_down(route: &mut Connection, plan: &NetworkPlan) -> Result<(), ServiceError> {
    let owned = match &plan.wiring {
        Wiring::Bridge(bridge) => Some(&bridge.bridge),
        Wiring::Macvlan { child, .. } | Wiring::Ipvlan { child, .. } => child.owned_parent.as_ref(),
    };
    if let Some(name) = owned {
        delete_link(route, name)?;
    }
    Ok(())
}

/// What the firewall needs to know; `None` for networks that bypass the host.
pub(super) fn firewall_rules(plan: &NetworkPlan) -> Option<NetworkRules> {
    let Wiring::Bridge(bridge) = &plan.wiring else { return None };
    Some(NetworkRules {
        bridge: bridge.bridge.clone(),
        subnets: plan.subnets.clone(),
        masquerade: bridge.masquerade,
        internal: plan.internal,
        icc: bridge.icc,
        mode_ipv4: bridge.mode_ipv4,
        mode_ipv6: bridge.mode_ipv6,
        trusted: bridge.trusted_interfaces.clone(),
        sources: bridge.sources.clone(),
    })
}

fn bring_up_bridge(
    route: &mut Connection,
    plan: &NetworkPlan,
    bridge: &BridgeWiring,
) -> Result<(), ServiceError> {
    let _lock = host_lock()?;
    let name = bridge.bridge.as_str();
    let found = find_link(route, name)?;
    let made = found.is_none();
    match &found {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            return Err(ServiceError::NotABridge { bridge: name.to_owned() });
        }
        Some(_) => {}
        None => make_bridge(route, plan, name)?,
    }
    let result = configure_bridge(route, plan, bridge);
    if result.is_err() && made {
        // The first error is the one to tell; a bridge that stays is adopted next time.
        let _ = delete_link(route, name);
    }
    result
}

fn make_bridge(route: &mut Connection, plan: &NetworkPlan, name: &str) -> Result<(), ServiceError> {
    let view = host_view()?;
    refuse_taken(&view, plan)?;
    let mtu = Some(plan.mtu.unwrap_or(view.mtu));
    let mut batch = Batch::new();
    let link = NewLink { name, kind: LinkKind::Bridge, mtu, mac: None, up: false, namespace: None };
    new_link(&mut batch, &link);
    route.execute(&batch).map_err(|error| missing("bridge support", error))
}

fn refuse_taken(view: &HostView, plan: &NetworkPlan) -> Result<(), ServiceError> {
    for subnet in &plan.subnets {
        if let Some((route, device)) = view.routes.iter().find(|(route, _)| route.overlaps(subnet)) {
            let (route, device) = (*route, device.clone());
            return Err(ServiceError::SubnetTaken { subnet: *subnet, route, device });
        }
    }
    Ok(())
}

fn configure_bridge(
    route: &mut Connection,
    plan: &NetworkPlan,
    bridge: &BridgeWiring,
) -> Result<(), ServiceError> {
    let name = bridge.bridge.as_str();
    let vanished = || ServiceError::LinkVanished { name: name.to_owned() };
    let index = find_link(route, name)?.ok_or_else(vanished)?.index;
    let disable_ipv6 = format!("net/ipv6/conf/{name}/disable_ipv6");
    if read_sysctl(&disable_ipv6).is_some() {
        // While its link-local address waits for duplicates the bridge cannot ask for neighbours,
        // and packets to the first containers would be lost.
        write_sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        write_sysctl(&disable_ipv6, if plan.has_ipv6() { "0" } else { "1" })?;
        write_sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
    }
    let mut batch = Batch::new();
    for gateway in &plan.gateways {
        let absent = match gateway.address.is_ipv6() {
            false => bridge.inhibit_ipv4 || bridge.mode_ipv4 == GatewayMode::Isolated,
            true => bridge.mode_ipv6 == GatewayMode::Isolated,
        };
        if !absent {
            add_address(&mut batch, index, *gateway, AddressFlags { replace: true, link_scope: false });
        }
    }
    set_up(&mut batch, name);
    Ok(route.execute(&batch)?)
}

fn bring_up_parent(route: &mut Connection, child: &ChildWiring) -> Result<(), ServiceError> {
    if let Some(name) = &child.owned_parent
        && find_link(route, name)?.is_none()
    {
        let kind = match name.rsplit_once('.').and_then(|(parent, id)| Some((parent, id.parse().ok()?))) {
            Some((parent, id)) => LinkKind::Vlan { parent: parent_index(route, parent)?, id },
            None => LinkKind::Dummy,
        };
        let feature = if matches!(kind, LinkKind::Dummy) { "dummy interfaces" } else { "VLAN support" };
        let mut batch = Batch::new();
        new_link(&mut batch, &NewLink { name, kind, mtu: None, mac: None, up: true, namespace: None });
        route.execute(&batch).map_err(|error| missing(feature, error))?;
    }
    let parent = child.parent.as_ref().or(child.owned_parent.as_ref());
    parent.map_or(Ok(()), |parent| parent_index(route, parent).map(drop))
}

/// The index of an interface that must exist.
pub(super) fn parent_index(route: &mut Connection, parent: &str) -> Result<u32, ServiceError> {
    let link = find_link(route, parent)?;
    link.map(|link| link.index).ok_or_else(|| ServiceError::NoParent { parent: parent.to_owned() })
}

/// A kernel without a link type says "operation not supported".
pub(super) fn missing(feature: &'static str, error: NetlinkError) -> ServiceError {
    match error.errno {
        Errno::OPNOTSUPP => ServiceError::MissingFeature { feature, source: error },
        _ => ServiceError::Netlink(error),
    }
}

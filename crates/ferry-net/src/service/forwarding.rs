//! Switching on the host's packet forwarding, without making the host a router
//! between its own interfaces.

use crate::kernel::{link_names, read_sysctl, write_sysctl};
use crate::netlink::Connection;
use crate::nft::Firewall;

use super::ServiceError;
use super::state::{ForwardingRecord, StateDirectory};

const FORWARD_IPV4: &str = "net/ipv4/ip_forward";
const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";
const FOLDER: &str = ".";
const RECORD: &str = "forwarding";

/// Tells the firewall what an earlier service wrote down.
pub(super) fn restore(state: &StateDirectory, firewall: &mut Firewall) -> Result<(), ServiceError> {
    let record: Option<ForwardingRecord> =
        state.read(FOLDER, RECORD).map_err(ServiceError::io("read forwarding.json"))?;
    firewall.set_uplinks(record.unwrap_or_default().uplinks);
    Ok(())
}

/// Makes the host forward packets of a family. Where it did not before, the
/// interfaces it has by now shall still not be routed between.
pub(super) fn enable(
    ipv6: bool,
    route: &mut Connection,
    state: &StateDirectory,
    firewall: &mut Firewall,
) -> Result<(), ServiceError> {
    let key = if ipv6 { FORWARD_IPV6 } else { FORWARD_IPV4 };
    if read_sysctl(key).is_some_and(|value| value != "0") {
        return Ok(());
    }
    let bridges = firewall.bridges();
    let uplinks: Vec<String> = link_names(route)?
        .into_iter()
        .map(|link| link.name)
        .filter(|name| name != "lo" && !bridges.contains(name))
        .collect();
    if ipv6 {
        keep_router_advertisements(&uplinks)?;
    }
    state
        .write(FOLDER, RECORD, &ForwardingRecord { uplinks: uplinks.clone() })
        .map_err(ServiceError::io("write forwarding.json"))?;
    firewall.set_uplinks(uplinks);
    firewall.install()?;
    Ok(write_sysctl(key, "1")?)
}

/// A forwarding host ignores router advertisements unless told otherwise, and a
/// host that lives from them would lose its own default route.
fn keep_router_advertisements(uplinks: &[String]) -> Result<(), ServiceError> {
    const ACCEPT: &str = "1";
    const ACCEPT_THOUGH_FORWARDING: &str = "2";
    for uplink in uplinks {
        let key = format!("net/ipv6/conf/{uplink}/accept_ra");
        if read_sysctl(&key).as_deref() == Some(ACCEPT) {
            write_sysctl(&key, ACCEPT_THOUGH_FORWARDING)?;
        }
    }
    Ok(())
}

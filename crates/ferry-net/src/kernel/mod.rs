//! The kernel's links, addresses, routes and per-interface settings.
//!
//! Everything over rtnetlink and `/proc/sys`; what shall exist is decided by
//! [`crate::plan`], what traffic may do by [`crate::nft`].

mod host;
mod link;
mod route;
mod sysctl;

pub(crate) use host::{HostView, host_view};
pub(crate) use link::{AddressFlags, add_address, delete_link, new_link, new_veth, set_up};
pub(crate) use link::{BridgePort, Link, LinkKind, NewLink, VethPair, find_link, link_names};
pub(crate) use route::{Route, add_route, remove_default_routes};
pub(crate) use sysctl::{SysctlError, read as read_sysctl, write as write_sysctl};

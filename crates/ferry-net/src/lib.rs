//! Networks: plans, bridges, addresses, nftables, published ports, DNS answers.
//!
//! A library of two processes. The engine decides: it reads what users ask for with
//! [`driver`] and [`ipam`] (both pure) and writes a [`plan`]. The keeper does: its
//! [`service`] makes kernel and plan agree, holds what must outlive engines and
//! serves traffic. Between them goes [`protocol`] over `<run root>/network.sock`.
//! Nothing here ever runs `ip`, `iptables` or `nft`.
//!
//! ```text
//! engine                       keeper: service::worker
//!  driver  options -> wiring    network   bridge, parent links        (kernel::link)
//!  ipam    subnet, address      pool      namespaces made ahead       (lo up, DNS sockets)
//!  plan ----- protocol ----->   sandbox   veth into the namespace, addresses, routes
//!                               firewall  one nftables table          (nft::ruleset)
//!                               ports     bound sockets               (port::reserve)
//!                               proxy     loopback, IPv6 to IPv4      (epoll, splice)
//!                               dns       127.0.0.11 of every container
//! ```
//!
//! **A packet from outside** to a published port meets one map look-up
//! (`publish4`: protocol . port -> container . port) and is translated; its source
//! stays. Maps and sets hold all that differs between hosts, so publishing a port is
//! one element and the rules are always the same twenty. **From the host's loopback**
//! it reaches the socket that holds the port, and the proxy passes it on. **From a
//! container** on another bridge it takes the first way, source kept; on the same
//! bridge the bridge's address becomes the source, or the answer would take a
//! shortcut and never be translated back. **A name** asked at 127.0.0.11:53 is
//! redirected inside the container's namespace to a random port, so that port 53
//! stays the container's; the answer comes from the name table or, cached, from the
//! host's servers.
//!
//! **Others' firewalls.** Ferry owns one table and restores it within a second of
//! anybody's flush ([`service`] listens to nftables events). Where another program
//! drops forwarded packets, two tagged accept rules per bridge go into its chain.
//!
//! **Crashes.** Everything wired is on disk below the run root before it is answered.
//! A new keeper finds namespaces again by inode, binds the same ports, serves the
//! same names; the data path (bridges, nftables) never stopped. A new engine asks
//! for the list and goes on from there, so no address is given twice.
//!
//! Start reading at [`plan`], then `service/worker.rs`, then `nft/ruleset.rs`.

pub mod address;
pub mod client;
pub mod dns;
pub mod driver;
pub mod ipam;
mod kernel;
mod legacy;
mod netlink;
mod nft;
pub mod plan;
pub mod port;
pub mod protocol;
mod proxy;
pub mod service;

/// Commands that let packets to and from these bridges pass where a FORWARD policy of `iptables-legacy` drops
/// them and ferry's own chain there does not let them pass; empty otherwise. No rule of nftables could help.
#[must_use]
pub fn remedies_for_older_filters(bridges: &[String]) -> Vec<String> {
    legacy::remedies(bridges)
}

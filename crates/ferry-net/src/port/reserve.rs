//! Host ports held by bound sockets, so that no other program gets them and a
//! taken one is noticed before anything else happens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::Protocol;
use super::holder::{Holder, find_holder};
use crate::plan::PortPlan;

/// Connections that may wait for the proxy.
const BACKLOG: i32 = 1024;
/// What the kernel uses where its range cannot be read.
const FALLBACK_RANGE: (u16, u16) = (32768, 60999);
/// How far from a taken port a free one is looked for.
const NEIGHBOURHOOD: u16 = 100;

/// Where the search for a random port goes on, so that a port just given back is
/// not handed out again at once.
static NEXT_RANDOM: AtomicU16 = AtomicU16::new(0);

/// A held port.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) address: SocketAddr,
    pub(crate) socket: ReservedSocket,
}

/// The socket that holds it; the proxy serves the first two.
#[derive(Debug)]
pub(crate) enum ReservedSocket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    /// Held only: sctp has no proxy.
    Sctp(#[allow(dead_code, reason = "its only purpose is to stay open")] OwnedFd),
}

/// A port that could not be held.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Someone has it.
    #[error("Bind for {address} failed: port is already allocated{}", explain(.holder.as_deref(), *.free))]
    Taken {
        /// The address and port asked for.
        address: SocketAddr,
        /// Who has it, where that can be seen.
        holder: Option<String>,
        /// A free port near it.
        free: Option<u16>,
    },
    /// Nothing of a range is free.
    #[error("Bind for {address}:{first}-{last} failed: port is already allocated: all {} ports of the range are taken", u32::from(*.last) - u32::from(*.first) + 1)]
    RangeTaken {
        /// The address asked for.
        address: IpAddr,
        /// First port tried.
        first: u16,
        /// Last port tried.
        last: u16,
    },
    /// The address is not one of this host's.
    #[error("cannot bind {address}: {} is not an address of this host", .address.ip())]
    NotLocal {
        /// The address and port asked for.
        address: SocketAddr,
    },
    /// The kernel does not speak the protocol.
    #[error("cannot publish {address}/{protocol}: the kernel has no {protocol} support")]
    NoProtocol {
        /// The address and port asked for.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
    },
    /// Any other refusal.
    #[error("cannot bind the {protocol} port {address}: {source}")]
    Refused {
        /// The address and port asked for.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn explain(holder: Option<&str>, free: Option<u16>) -> String {
    let holder = holder.map(|holder| format!(": it is held by {holder}")).unwrap_or_default();
    let free = free.map(|free| format!("; port {free} is free")).unwrap_or_default();
    format!("{holder}{free}")
}

/// Holds the host port (or one port of the range) a plan asks for, on one address
/// or on all addresses of both families. `owner` names the container that holds
/// an address, if one does.
pub(crate) fn reserve(
    plan: &PortPlan,
    owner: impl Fn(Protocol, SocketAddr) -> Option<String>,
) -> Result<Vec<Reservation>, ReserveError> {
    let addresses = match plan.host {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let (first, last) = plan.host_ports;
    if first == last && first != 0 {
        return match hold_all(&addresses, first, plan) {
            Err(ReserveError::Taken { address, .. }) => Err(taken(address, plan, &owner)),
            result => result,
        };
    }
    let random = first == 0;
    let (first, last) = if random { ephemeral_range() } else { (first, last) };
    for port in candidates(first, last, random) {
        match hold_all(&addresses, port, plan) {
            Err(ReserveError::Taken { .. }) => {}
            result => {
                if random {
                    NEXT_RANDOM.store(port.wrapping_add(1), Ordering::Relaxed);
                }
                return result;
            }
        }
    }
    Err(ReserveError::RangeTaken { address: addresses[0], first, last })
}

fn candidates(first: u16, last: u16, random: bool) -> impl Iterator<Item = u16> {
    let next = NEXT_RANDOM.load(Ordering::Relaxed);
    let start = if random && (first..=last).contains(&next) { next } else { first };
    (start..=last).chain(first..start)
}

fn taken(
    address: SocketAddr,
    plan: &PortPlan,
    owner: &impl Fn(Protocol, SocketAddr) -> Option<String>,
) -> ReserveError {
    let holder = owner(plan.protocol, address)
        .map(|container| format!("the container {container}"))
        .or_else(|| find_holder(plan.protocol, address).as_ref().map(Holder::to_string));
    let port = address.port();
    let free = (1..=NEIGHBOURHOOD)
        .filter_map(|distance| port.checked_add(distance))
        .find(|port| hold(SocketAddr::new(address.ip(), *port), plan.protocol).is_ok());
    ReserveError::Taken { address, holder, free }
}

fn hold_all(addresses: &[IpAddr], port: u16, plan: &PortPlan) -> Result<Vec<Reservation>, ReserveError> {
    let mut held = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        match hold(address, plan.protocol) {
            Ok(socket) => held.push(Reservation { address, socket }),
            // A host without IPv6 publishes "everywhere" on IPv4 alone.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if plan.host.is_none() && address.is_ipv6() => {}
            Err(Errno::ADDRINUSE) => {
                return Err(ReserveError::Taken { address, holder: None, free: None });
            }
            Err(Errno::PROTONOSUPPORT) => {
                return Err(ReserveError::NoProtocol { address, protocol: plan.protocol });
            }
            Err(Errno::ADDRNOTAVAIL) => return Err(ReserveError::NotLocal { address }),
            Err(errno) => {
                let (protocol, source) = (plan.protocol, errno.into());
                return Err(ReserveError::Refused { address, protocol, source });
            }
        }
    }
    Ok(held)
}

fn hold(address: SocketAddr, protocol: Protocol) -> Result<ReservedSocket, Errno> {
    let socket = super::outside::hold(address, protocol).unwrap_or_else(|| hold_here(address, protocol))?;
    Ok(match protocol {
        Protocol::Tcp => ReservedSocket::Tcp(socket.into()),
        Protocol::Udp => ReservedSocket::Udp(socket.into()),
        Protocol::Sctp => ReservedSocket::Sctp(socket),
    })
}

/// Holds a port in the network namespace of this process.
pub(super) fn hold_here(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, Some(number))?;
    if protocol == Protocol::Tcp {
        // Connections of a former owner in TIME_WAIT do not make a port taken.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        // One of sctp is held only: nobody would serve what is accepted there.
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn ephemeral_range() -> (u16, u16) {
    let text = crate::kernel::read_sysctl("net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last && first > 0 => (first, last),
        _ => FALLBACK_RANGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(host_ports: (u16, u16), protocol: Protocol) -> PortPlan {
        let host = Some(Ipv4Addr::LOCALHOST.into());
        PortPlan { host, host_ports, container_port: 80, protocol }
    }

    #[test]
    fn a_taken_port_names_its_holder_and_a_free_one() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let held = reserve(&plan((0, 0), protocol), |_, _| None).expect("a random port");
            let port = held[0].address.port();
            let again = reserve(&plan((port, port), protocol), |_, _| None).unwrap_err().to_string();
            let start =
                format!("Bind for 127.0.0.1:{port} failed: port is already allocated: it is held by ");
            assert!(again.starts_with(&start), "{again}");
            assert!(again.contains(&format!("(pid {})", std::process::id())), "{again}");
            assert!(again.ends_with(" is free"), "{again}");
            let named = reserve(&plan((port, port), protocol), |_, _| Some("web".into())).unwrap_err();
            assert!(named.to_string().contains("held by the container web; port"), "{named}");
        }
    }

    #[test]
    fn a_range_gives_its_first_free_port() {
        let first = reserve(&plan((0, 0), Protocol::Tcp), |_, _| None).unwrap();
        let port = first[0].address.port();
        let only = reserve(&plan((port, port), Protocol::Tcp), |_, _| None);
        assert!(only.is_err());
        if port < u16::MAX {
            let next = reserve(&plan((port, port.saturating_add(20)), Protocol::Tcp), |_, _| None).unwrap();
            assert_ne!(next[0].address.port(), port);
        }
    }

    #[test]
    fn everywhere_means_both_families() {
        let everywhere =
            PortPlan { host: None, host_ports: (0, 0), container_port: 80, protocol: Protocol::Tcp };
        let held = reserve(&everywhere, |_, _| None).unwrap();
        assert!(held.iter().all(|one| one.address.port() == held[0].address.port()));
        assert_eq!(held[0].address.ip().to_string(), "0.0.0.0");
    }
}

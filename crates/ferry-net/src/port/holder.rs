//! Who holds a port: the socket's line under `/proc/net`, then the process with
//! that socket among its descriptors.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Protocol;

/// A process with the port open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    process: Option<(i32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "{name} (pid {pid})"),
            None => f.write_str("a process that cannot be seen from here"),
        }
    }
}

/// Finds who keeps `address` from being bound; `None` when no such socket is open.
pub(crate) fn find_holder(protocol: Protocol, address: SocketAddr) -> Option<Holder> {
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = files.iter().find_map(|file| {
        let text = std::fs::read_to_string(format!("/proc/net/{file}")).ok()?;
        text.lines().skip(1).find_map(|line| conflicting_inode(line, protocol, address))
    })?;
    Some(Holder { process: process_with(inode) })
}

/// The socket's inode when this line's socket keeps `wanted` from being bound.
fn conflicting_inode(line: &str, protocol: Protocol, wanted: SocketAddr) -> Option<u64> {
    const LISTENING: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let open = protocol == Protocol::Udp || state == LISTENING;
    let same_port = local.port() == wanted.port();
    let same_address = local.ip() == wanted.ip()
        || local.ip().is_unspecified()
        || (wanted.ip().is_unspecified() && local.is_ipv4() == wanted.is_ipv4());
    (open && same_port && same_address && inode != 0).then_some(inode)
}

/// `0100007F:1F90`: every 32-bit word in the host's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let octets: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn process_with(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let inode = |wanted: &str| conflicting_inode(line, Protocol::Tcp, wanted.parse().unwrap());
        assert_eq!(inode("127.0.0.1:8080"), Some(4711));
        assert_eq!(inode("0.0.0.0:8080"), Some(4711));
        assert_eq!(inode("10.0.0.1:8080"), None);
        assert_eq!(inode("127.0.0.1:8081"), None);
        assert_eq!(parse_address("00000000000000000000000001000000:0050"), "[::1]:80".parse().ok());
    }
}

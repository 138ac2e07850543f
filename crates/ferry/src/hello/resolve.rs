//! Names to addresses: `/etc/hosts`, then the servers of `/etc/resolv.conf`, for A records.
//!
//! The C library's resolver loads plug-ins, which a static program in an empty image cannot.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer over UDP.
const MAX_ANSWER: usize = 4096;
/// Servers asked, as the C library asks them.
const MAX_SERVERS: usize = 3;

/// The address of a host; None where nobody knows it.
pub fn resolve(host: &str) -> io::Result<Option<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(Some(ip));
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    if let Some(ip) = in_hosts(&hosts, host) {
        return Ok(Some(ip));
    }
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers =
        config.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    for server in servers.take(MAX_SERVERS) {
        // A server that does not answer leaves the question to the next.
        if let Ok(Some(ip)) = ask(server, host) {
            return Ok(Some(ip));
        }
    }
    Ok(None)
}

fn in_hosts(text: &str, host: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
    })
}

fn ask(server: IpAddr, host: &str) -> io::Result<Option<IpAddr>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    let id = std::process::id() as u16;
    let Some(question) = question(id, host) else { return Ok(None) };
    socket.send(&question)?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut answer)?;
    Ok(first_address(&answer[..length], id).map(IpAddr::V4))
}

/// The question for the A records of a name.
fn question(id: u16, host: &str) -> Option<Vec<u8>> {
    let mut out = Vec::from(id.to_be_bytes());
    // Recursion desired, one question.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    Some(out)
}

/// The first A record of an answer.
fn first_address(answer: &[u8], id: u16) -> Option<Ipv4Addr> {
    if answer.get(..2)? != id.to_be_bytes() || answer.get(3)? & 0x0f != 0 {
        return None;
    }
    let count = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..count(4)? {
        at = skip_name(answer, at)? + 4;
    }
    for _ in 0..count(6)? {
        at = skip_name(answer, at)?;
        let (kind, length) = (count(at)?, usize::from(count(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        if let (1, [a, b, c, d]) = (kind, data) {
            return Some(Ipv4Addr::new(*a, *b, *c, *d));
        }
        at += 10 + length;
    }
    None
}

/// Where a name ends; a pointer ends it too.
fn skip_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut answer = question(7, "store").unwrap();
        answer[2] = 0x81;
        answer[7] = 2;
        // A CNAME first, then the address, both with pointers for names.
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 5]);
        assert_eq!(first_address(&answer, 7), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(first_address(&answer, 8), None);
        for length in 0..answer.len() {
            assert_eq!(first_address(&answer[..length], 7), None);
        }
        assert_eq!(question(1, "a..b"), None);
        assert_eq!(
            in_hosts("127.0.0.1 localhost\n10.0.0.9 Store # x\n", "store"),
            Some("10.0.0.9".parse().unwrap())
        );
    }
}

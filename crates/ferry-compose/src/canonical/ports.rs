//! The short syntax of ports.

use crate::tree::{Mapping, Node, Value};
use std::net::IpAddr;

/// Entries one range may expand to: all ports there are.
const MAX_RANGE: u32 = 65_536;

/// One published port in its long form.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Address on the host, if one is named.
    pub host_ip: Option<String>,
    /// Port in the container.
    pub target: u16,
    /// Port or range on the host, if one is named.
    pub published: Option<String>,
    /// tcp, udp or sctp.
    pub protocol: String,
}

impl Port {
    /// The canonical node, at the place of the short one.
    pub fn into_node(self, at: &Node) -> Node {
        let node = |value: Value| Node::new(value, at.origin);
        let mut mapping = Mapping::new();
        mapping.insert("mode".to_owned(), node("ingress".into()));
        if let Some(ip) = self.host_ip {
            mapping.insert("host_ip".to_owned(), node(ip.into()));
        }
        mapping.insert("target".to_owned(), node(i64::from(self.target).into()));
        if let Some(published) = self.published {
            mapping.insert("published".to_owned(), node(published.into()));
        }
        mapping.insert("protocol".to_owned(), node(self.protocol.into()));
        node(Value::Mapping(mapping))
    }
}

/// Fills in what a long port leaves out.
pub fn complete(mut item: Node) -> Node {
    let origin = item.origin;
    if let Some(published) = item.get_mut("published")
        && let Some(text) = published.scalar_text()
    {
        published.value = Value::String(text);
    }
    if let Some(target) = item.get_mut("target")
        && let Some(number) = target.as_str().and_then(|text| text.parse::<u16>().ok())
    {
        target.value = Value::Integer(i64::from(number));
    }
    if let Some(mapping) = item.as_mapping_mut() {
        mapping.entry("mode".to_owned()).or_insert(Node { origin, ..Node::derived("ingress") });
        mapping.entry("protocol".to_owned()).or_insert(Node { origin, ..Node::derived("tcp") });
    }
    item
}

/// `[IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]`, a range expanded to its entries.
pub fn parse_port(text: &str) -> Result<Vec<Port>, String> {
    let bad = |why: &str| format!("invalid port \"{text}\": {why}");
    let (spec, protocol) = match text.split_once('/') {
        Some((spec, protocol)) => (spec, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad(&format!("the protocol \"{protocol}\" is none of tcp, udp, sctp")));
    }
    let (rest, container) = spec.rsplit_once(':').map_or(("", spec), |(rest, last)| (rest, last));
    let (ip, host) = rest.rsplit_once(':').map_or(("", rest), |(ip, host)| (ip, host));
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(bad(&format!("\"{ip}\" is not an IP address")));
    }
    if container.is_empty() {
        return Err(bad("the container port is missing"));
    }
    let container = parse_range(container).map_err(|why| bad(&why))?;
    let host = if host.is_empty() { None } else { Some(parse_range(host).map_err(|why| bad(&why))?) };
    let host_ip = (!ip.is_empty()).then(|| ip.to_owned());
    expand(container, host, host_ip, &protocol).map_err(|why| bad(&why))
}

fn expand(
    container: (u16, u16),
    host: Option<(u16, u16)>,
    host_ip: Option<String>,
    protocol: &str,
) -> Result<Vec<Port>, String> {
    let length = |range: (u16, u16)| u32::from(range.1 - range.0) + 1;
    let port = |target: u16, published: Option<String>| Port {
        host_ip: host_ip.clone(),
        target,
        published,
        protocol: protocol.to_owned(),
    };
    match host {
        Some(host) if length(container) == 1 && length(host) > 1 => {
            Ok(vec![port(container.0, Some(format!("{}-{}", host.0, host.1)))])
        }
        Some(host) if length(host) != length(container) => Err(format!(
            "the host range has {} ports, the container range {}",
            length(host),
            length(container)
        )),
        _ => {
            debug_assert!(length(container) <= MAX_RANGE);
            let entries = (0..length(container)).map(|offset| {
                let published = host.map(|host| (u32::from(host.0) + offset).to_string());
                port((u32::from(container.0) + offset) as u16, published)
            });
            Ok(entries.collect())
        }
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let number = |part: &str| {
        part.parse::<u16>().map_err(|_| format!("\"{part}\" is not a port number from 0 to 65535"))
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(format!("the range {text} runs backwards")) } else { Ok((first, last)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse_port(text) {
            Ok(ports) => ports
                .iter()
                .map(|p| {
                    let ip = p.host_ip.as_deref().map(|ip| format!("{ip}|")).unwrap_or_default();
                    format!("{ip}{}>{}/{}", p.published.as_deref().unwrap_or(""), p.target, p.protocol)
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error,
        }
    }

    #[test]
    fn short_syntax() {
        for (text, expected) in [
            ("80", ">80/tcp"),
            ("8080:80", "8080>80/tcp"),
            ("8080:80/udp", "8080>80/udp"),
            ("8080:80/UDP", "8080>80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|>80/tcp"),
            ("[::1]:6000:6000", "::1|6000>6000/tcp"),
            ("::1:6000:6000", "::1|6000>6000/tcp"),
            ("3000-3002", ">3000/tcp >3001/tcp >3002/tcp"),
            ("9000-9001:3000-3001", "9000>3000/tcp 9001>3001/tcp"),
            ("8000-9000:80", "8000-9000>80/tcp"),
            ("127.0.0.1:5000-5001:5000-5001/udp", "127.0.0.1|5000>5000/udp 127.0.0.1|5001>5001/udp"),
            (
                "9000-9002:3000-3001",
                "invalid port \"9000-9002:3000-3001\": the host range has 3 ports, the container range 2",
            ),
            ("80:abc", "invalid port \"80:abc\": \"abc\" is not a port number from 0 to 65535"),
            ("99999:80", "invalid port \"99999:80\": \"99999\" is not a port number from 0 to 65535"),
            ("80/http", "invalid port \"80/http\": the protocol \"http\" is none of tcp, udp, sctp"),
            ("1.2.3:80:80", "invalid port \"1.2.3:80:80\": \"1.2.3\" is not an IP address"),
            ("8080:", "invalid port \"8080:\": the container port is missing"),
            ("90-80", "invalid port \"90-80\": the range 90-80 runs backwards"),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
    }
}

//! `-p` and `--expose`: `[ip:][host port or range:]container port or range[/protocol]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::container::{Empty, PortBinding, PortMap, Set};

/// What the flags publish and expose.
pub struct Ports {
    /// Every port named.
    pub exposed: Set,
    /// Those bound on the host.
    pub bindings: PortMap,
}

/// Reads the flags.
pub fn ports(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports { exposed: BTreeMap::new(), bindings: BTreeMap::new() };
    for spec in publish {
        for (port, binding) in parse_publish(spec)? {
            ports.exposed.insert(port.clone(), Empty {});
            ports.bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for spec in expose {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (range, protocol) = split_protocol(spec)?;
        let (first, last) = parse_range(range)
            .map_err(|reason| format!("invalid range format for --expose: {spec}, error: {reason}"))?;
        for port in first..=last {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

fn parse_publish(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    if spec.contains('=') {
        return parse_long(spec);
    }
    let (rest, protocol) = split_protocol(spec)?;
    let (ip, host, container) =
        split_parts(rest).map_err(|reason| format!("invalid publish {spec:?}: {reason}"))?;
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (first, last) =
        parse_range(container).map_err(|reason| format!("invalid containerPort: {container}: {reason}"))?;
    expand(&ip, host, (first, last), protocol)
}

/// One binding per container port; a range on the host goes to one container port as a choice.
fn expand(
    ip: &str,
    host: &str,
    (first, last): (u16, u16),
    protocol: &str,
) -> Result<Vec<(String, PortBinding)>, String> {
    let host_range = match host {
        "" => None,
        host => Some(parse_range(host).map_err(|reason| format!("invalid hostPort: {host}: {reason}"))?),
    };
    if let Some((low, high)) = host_range
        && high - low != last - first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {first}-{last} and {host}"
        ));
    }
    let bindings = (first..=last).enumerate().map(|(index, port)| {
        let host_port = match host_range {
            None => String::new(),
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + index as u16).to_string(),
        };
        (format!("{port}/{protocol}"), PortBinding { host_ip: ip.to_owned(), host_port })
    });
    Ok(bindings.collect())
}

/// `target=80,published=8080,protocol=tcp,mode=host`.
fn parse_long(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in spec.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", _)) => {}
            _ => return Err(format!("invalid field {field:?} in {spec:?}")),
        }
    }
    let range = parse_range(target).map_err(|reason| format!("invalid target in {spec:?}: {reason}"))?;
    expand("", published, range, split_protocol(&format!("0/{protocol}"))?.1)
}

fn split_protocol(spec: &str) -> Result<(&str, &'static str), String> {
    let (rest, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(format!("invalid proto: {other}")),
    };
    Ok((rest, protocol))
}

/// Address, host part and container part.
fn split_parts(text: &str) -> Result<(String, &str, &str), String> {
    let Some((front, container)) = text.rsplit_once(':') else {
        return Ok((String::new(), "", text));
    };
    if let Some(rest) = front.strip_prefix('[') {
        let (ip, host) = rest.split_once(']').ok_or("the address has no closing bracket")?;
        let host = host.strip_prefix(':').unwrap_or(host);
        return checked_address(ip).map(|ip| (ip, host, container));
    }
    match front.rsplit_once(':') {
        Some((ip, host)) => checked_address(ip).map(|ip| (ip, host, container)),
        None => Ok((String::new(), front, container)),
    }
}

fn checked_address(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    text.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| format!("invalid IP address: {text}"))
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(0) | Err(_) if text != "0" => Err(format!("{text:?} is not a port from 1 to 65535")),
        Ok(port) => Ok(port),
        Err(_) => Err(format!("{text:?} is not a port from 1 to 65535")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("the range {text} ends before it begins"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, wanted: &str) {
        let found = match ports(&[spec.to_owned()], &[]) {
            Ok(ports) => ports
                .bindings
                .iter()
                .flat_map(|(port, list)| {
                    list.iter().flatten().map(move |b| format!("{port}<{}:{}", b.host_ip, b.host_port))
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(reason) => format!("! {reason}"),
        };
        assert_eq!(found, wanted, "{spec}");
    }

    #[test]
    fn published() {
        check("80", "80/tcp<:");
        check("8080:80", "80/tcp<:8080");
        check("8080:80/udp", "80/udp<:8080");
        check("127.0.0.1:8080:80", "80/tcp<127.0.0.1:8080");
        check("127.0.0.1::80", "80/tcp<127.0.0.1:");
        check("[::1]:8080:80", "80/tcp<::1:8080");
        check("8000-8001:80-81", "80/tcp<:8000 81/tcp<:8001");
        check("8000-8010:80", "80/tcp<:8000-8010");
        check("target=80,published=8080,protocol=udp", "80/udp<:8080");
        check("x:80", "! invalid hostPort: x: \"x\" is not a port from 1 to 65535");
        check("8080:", "! no port specified: 8080:<empty>");
        check("1.2.3:8080:80", "! invalid publish \"1.2.3:8080:80\": invalid IP address: 1.2.3");
        check("8080:80/icmp", "! invalid proto: icmp");
        check("70000:80", "! invalid hostPort: 70000: \"70000\" is not a port from 1 to 65535");
        check(
            "8000-8005:80-81",
            "! invalid ranges specified for container and host Ports: 80-81 and 8000-8005",
        );
    }

    #[test]
    fn exposed() {
        let found = ports(&[], &["80".into(), "90-91/udp".into()]).unwrap().exposed;
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
        assert!(ports(&[], &["80:80".into()]).is_err());
    }
}

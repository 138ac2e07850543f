//! Published ports: what was asked for to a plan, and what came to be to what inspect shows.

use std::net::IpAddr;

use ferry_api::container::{PortBinding, PortMap};
use ferry_net::plan::{BoundPort, PortPlan, Wiring};
use ferry_net::port::Protocol;
use ferry_net::protocol::{HostFacts, Reply, Request};

use super::{Mode, NetworkError};
use crate::container::record::Record;
use crate::engine::Engine;

/// Reads the wishes of a record. `default_host` is where ports without an address go.
pub fn wishes(record: &Record, default_host: Option<IpAddr>) -> Result<Vec<PortPlan>, NetworkError> {
    let config = &record.host_config;
    let mut plans = Vec::new();
    let bound = config.port_bindings.iter().flatten();
    for (port, bindings) in bound.clone() {
        for binding in bindings.iter().flatten() {
            plans.push(wish(port, binding, default_host)?);
        }
        // `-p 80` asks for a random port through an empty list of bindings.
        if bindings.as_ref().is_none_or(Vec::is_empty) {
            plans.push(wish(port, &PortBinding::default(), default_host)?);
        }
    }
    if config.publish_all_ports {
        for (port, _) in record.config.exposed_ports.iter().flatten() {
            if !bound.clone().any(|(known, _)| known == port) {
                plans.push(wish(port, &PortBinding::default(), default_host)?);
            }
        }
    }
    Ok(plans)
}

/// `80/tcp` and `80` to number and protocol.
pub fn parse_port(text: &str) -> Result<(u16, Protocol), NetworkError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || NetworkError::BadPort(text.to_owned());
    let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(bad)?;
    Ok((number, protocol.parse().map_err(|_| bad())?))
}

fn wish(port: &str, binding: &PortBinding, default_host: Option<IpAddr>) -> Result<PortPlan, NetworkError> {
    let (container_port, protocol) = parse_port(port)?;
    let host = match binding.host_ip.trim_matches(['[', ']']) {
        "" => default_host,
        text => Some(text.parse().map_err(|_| NetworkError::BadAddress(text.to_owned()))?),
    };
    let bad = || NetworkError::BadPort(binding.host_port.clone());
    let host_ports = match binding.host_port.as_str() {
        "" | "0" => (0, 0),
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            if range.0 == 0 || range.1 < range.0 {
                return Err(bad());
            }
            range
        }
    };
    Ok(PortPlan { host, host_ports, container_port, protocol })
}

/// Bound ports by container port, with exposed ones that are not published.
pub fn shown(record: &Record, bound: &[BoundPort]) -> PortMap {
    let exposed = record.config.exposed_ports.iter().flatten().map(|(port, _)| (port.clone(), None));
    let mut ports: PortMap = exposed.collect();
    for port in bound {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let binding =
            PortBinding { host_ip: port.host.ip().to_string(), host_port: port.host.port().to_string() };
        ports.entry(key).or_default().get_or_insert_default().push(binding);
    }
    ports
}

/// What keeps a container's published ports from being reached though ferry does its part.
pub fn obstacles(engine: &Engine, record: &Record) -> Vec<String> {
    let config = &record.host_config;
    if !config.publish_all_ports && config.port_bindings.as_ref().is_none_or(PortMap::is_empty) {
        return Vec::new();
    }
    let Mode::Network(name) = Mode::parse(&config.network_mode) else { return Vec::new() };
    let bridge =
        match engine.networks.find(name).ok().and_then(|network| network.plan).map(|plan| plan.wiring) {
            Some(Wiring::Bridge(wiring)) => wiring.bridge,
            _ => return Vec::new(),
        };
    let remedies = ferry_net::remedies_for_older_filters(&[bridge]);
    if remedies.is_empty() {
        return Vec::new();
    }
    // Asked for the host, the service looks at its filters too, and says what it cannot mend.
    let Ok(Reply::Host(HostFacts { older_filter_refused: Some(reason), .. })) =
        engine.networks.link.call_blocking(&Request::Host)
    else {
        return Vec::new();
    };
    let say = |remedy: String| {
        format!(
            "The FORWARD chain of iptables-legacy on this host drops packets to published ports, and ferry cannot \
             put a chain of its own there ({reason}). To let them pass: {remedy}"
        )
    };
    remedies.into_iter().map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(port: &str, host_ip: &str, host_port: &str) -> Result<PortPlan, String> {
        let binding = PortBinding { host_ip: host_ip.into(), host_port: host_port.into() };
        wish(port, &binding, None).map_err(|error| error.to_string())
    }

    #[test]
    fn bindings_read() {
        let plan = check("53/udp", "127.0.0.1", "5300-5310").unwrap();
        assert_eq!((plan.container_port, plan.protocol), (53, Protocol::Udp));
        assert_eq!((plan.host, plan.host_ports), (Some("127.0.0.1".parse().unwrap()), (5300, 5310)));
        assert_eq!(check("80", "", "").unwrap().host_ports, (0, 0));
        assert_eq!(check("80", "[::1]", "81").unwrap().host, Some("::1".parse().unwrap()));
        for (port, ip, host_port) in
            [("0", "", ""), ("80/x", "", ""), ("80", "nowhere", ""), ("80", "", "9-8"), ("80", "", "70000")]
        {
            assert!(check(port, ip, host_port).is_err(), "{port} {ip} {host_port}");
        }
    }
}

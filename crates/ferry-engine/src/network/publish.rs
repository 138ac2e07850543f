//! `update --publish` and `--publish-rm`: what a container publishes, changed after its creation.

use ferry_api::container::{Config, Empty, HostConfig, PortBinding, PortMap};

use super::ports::parse_port;
use super::{Mode, NetworkError};

/// Why the ports of a container were not changed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It has no ports of its own.
    #[error("container {container} cannot publish ports: its network is {mode}")]
    NoPorts {
        /// Its name.
        container: String,
        /// `host`, `none` or `container:X`.
        mode: String,
    },
    /// Nothing to take back.
    #[error("container {container} does not publish {port}")]
    NotPublished {
        /// Its name.
        container: String,
        /// What was to be taken back.
        port: String,
    },
    /// A port or address that cannot be, or is taken.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Puts a request's changes into the settings of a container. `published` are its ports as
/// they came to be, by which random host ports are known.
pub fn change(
    name: &str,
    (config, host_config): (&mut Config, &mut HostConfig),
    published: &PortMap,
    (publish, unpublish): (Option<PortMap>, Option<PortMap>),
) -> Result<(), PublishError> {
    if !matches!(Mode::parse(&host_config.network_mode), Mode::Network(_)) {
        let mode = host_config.network_mode.clone();
        return Err(PublishError::NoPorts { container: name.to_owned(), mode });
    }
    spell_out_all(config, host_config);
    let bindings = host_config.port_bindings.get_or_insert_default();
    for (port, given_up) in unpublish.into_iter().flatten() {
        let port = normal(&port)?;
        for binding in given_up.unwrap_or_default() {
            take_back(name, bindings, published, &port, &binding)?;
        }
    }
    for (port, new) in publish.into_iter().flatten() {
        let port = normal(&port)?;
        config.exposed_ports.get_or_insert_default().insert(port.clone(), Empty {});
        let known = bindings.entry(port).or_default().get_or_insert_default();
        for binding in new.unwrap_or_else(|| vec![PortBinding::default()]) {
            if !known.contains(&binding) {
                known.push(binding);
            }
        }
    }
    Ok(())
}

fn normal(port: &str) -> Result<String, NetworkError> {
    let (number, protocol) = parse_port(port)?;
    Ok(format!("{number}/{protocol}"))
}

/// `--publish-all` becomes what it stands for, so that single ports can be taken back.
fn spell_out_all(config: &Config, host_config: &mut HostConfig) {
    if !std::mem::take(&mut host_config.publish_all_ports) {
        return;
    }
    let bindings = host_config.port_bindings.get_or_insert_default();
    for (port, _) in config.exposed_ports.iter().flatten() {
        bindings.entry(port.clone()).or_insert_with(|| Some(vec![PortBinding::default()]));
    }
}

fn take_back(
    name: &str,
    bindings: &mut PortMap,
    published: &PortMap,
    port: &str,
    given_up: &PortBinding,
) -> Result<(), PublishError> {
    let not_published = || PublishError::NotPublished {
        container: name.to_owned(),
        port: match (given_up.host_ip.as_str(), given_up.host_port.as_str()) {
            ("", "") => port.to_owned(),
            ("", host_port) => format!("{host_port}:{port}"),
            (host_ip, host_port) => format!("{host_ip}:{host_port}:{port}"),
        },
    };
    let list = bindings.get_mut(port).ok_or_else(not_published)?;
    let mut kept = list.take().unwrap_or_else(|| vec![PortBinding::default()]);
    let before = kept.len();
    let came_to_be: Vec<_> = published.get(port).iter().flat_map(|found| found.iter().flatten()).collect();
    let addresses: Vec<String> = kept.iter().map(|binding| binding.host_ip.clone()).collect();
    // A binding without an address has those that no other one names.
    let of = |binding: &PortBinding, found: &PortBinding| match binding.host_ip.as_str() {
        "" => !addresses.contains(&found.host_ip),
        host_ip => found.host_ip == host_ip,
    };
    kept.retain(|binding| {
        let own: Vec<_> = came_to_be.iter().filter(|found| of(binding, found)).copied().collect();
        !meant(binding, given_up, &own)
    });
    let changed = kept.len() != before;
    if kept.is_empty() {
        bindings.remove(port);
    } else {
        *list = Some(kept);
    }
    if changed { Ok(()) } else { Err(not_published()) }
}

/// Whether a binding is the one given up: as it was asked for, or as it came to be.
fn meant(binding: &PortBinding, given_up: &PortBinding, came_to_be: &[&PortBinding]) -> bool {
    let random = matches!(binding.host_port.as_str(), "" | "0") || binding.host_port.contains('-');
    let address = given_up.host_ip.is_empty() || given_up.host_ip == binding.host_ip;
    let port = given_up.host_port.is_empty()
        || given_up.host_port == binding.host_port
        || (random && came_to_be.iter().any(|found| found.host_port == given_up.host_port));
    address && port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ports: &[(&str, &str, &str)]) -> PortMap {
        let mut map = PortMap::new();
        for (port, host_ip, host_port) in ports {
            let binding = PortBinding { host_ip: (*host_ip).into(), host_port: (*host_port).into() };
            map.entry((*port).into()).or_default().get_or_insert_default().push(binding);
        }
        map
    }

    fn changed(
        before: &[(&str, &str, &str)],
        published: &[(&str, &str, &str)],
        add: &[(&str, &str, &str)],
        remove: &[(&str, &str, &str)],
    ) -> Result<PortMap, String> {
        let mut config = Config::default();
        let mut host_config = HostConfig { port_bindings: Some(map(before)), ..HostConfig::default() };
        let wishes = (Some(map(add)), Some(map(remove)));
        change("web", (&mut config, &mut host_config), &map(published), wishes)
            .map_err(|error| error.to_string())?;
        Ok(host_config.port_bindings.unwrap_or_default())
    }

    #[test]
    fn ports_come_and_go() {
        let web = ("80/tcp", "", "8080");
        assert_eq!(changed(&[web], &[], &[("53/udp", "", "")], &[]), Ok(map(&[web, ("53/udp", "", "")])));
        assert_eq!(changed(&[web], &[], &[web], &[]), Ok(map(&[web])));
        assert_eq!(
            changed(&[web], &[], &[("80/tcp", "", "81")], &[("80/tcp", "", "")]),
            Ok(map(&[("80/tcp", "", "81")]))
        );
        let two = [web, ("80/tcp", "127.0.0.1", "81")];
        assert_eq!(changed(&two, &[], &[], &[("80/tcp", "", "8080")]), Ok(map(&two[1..])));
        let random = ("80/tcp", "", "");
        let bound = [("80/tcp", "0.0.0.0", "32768")];
        let both = [random, ("80/tcp", "127.0.0.1", "")];
        let two_bound = [bound[0], ("80/tcp", "127.0.0.1", "32769")];
        assert_eq!(changed(&both, &two_bound, &[], &[("80", "", "32768")]), Ok(map(&both[1..])));
        assert_eq!(changed(&both, &two_bound, &[], &[("80", "", "32769")]), Ok(map(&both[..1])));
        assert_eq!(changed(&[random], &bound, &[], &[("80", "", "32768")]), Ok(map(&[])));
    }

    #[test]
    fn what_is_not_there_is_said() {
        for (remove, text) in [
            (("81/tcp", "", ""), "container web does not publish 81/tcp"),
            (("80/tcp", "", "9"), "container web does not publish 9:80/tcp"),
            (("x", "", ""), "invalid port specification: \"x\""),
        ] {
            assert_eq!(changed(&[("80/tcp", "", "8080")], &[], &[], &[remove]), Err(text.to_owned()));
        }
    }

    #[test]
    fn published_all_is_spelt_out() {
        let exposed = ["80/tcp", "81/tcp"].map(|port| (port.to_owned(), Empty {}));
        let mut config = Config { exposed_ports: Some(exposed.into()), ..Config::default() };
        let mut host_config = HostConfig { publish_all_ports: true, ..HostConfig::default() };
        let remove = Some(map(&[("80/tcp", "", "")]));
        change("web", (&mut config, &mut host_config), &PortMap::new(), (None, remove)).unwrap();
        assert_eq!(host_config.port_bindings, Some(map(&[("81/tcp", "", "")])));
        assert!(!host_config.publish_all_ports);
    }
}

//! A network's driver and options, as users write them, to the wiring of a plan.
//! Every option is checked here, before anything changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::plan::{BridgeWiring, ChildWiring, GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode, Wiring};

/// Interface names hold fifteen bytes.
const LONGEST_INTERFACE_NAME: usize = 15;
/// Smallest packet size IPv4 hosts must take, and the largest a device header can say.
const MTU_LIMITS: (u32, u32) = (68, 65535);
const BRIDGE: &str = "com.docker.network.bridge.";

/// An option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// A driver nobody has.
    #[error("could not find plugin {0} in v1 plugin registry: plugin not found")]
    UnknownDriver(String),
    /// An option this driver does not have.
    #[error("unknown option {name} of the {driver} driver")]
    UnknownOption {
        /// The driver.
        driver: &'static str,
        /// The option.
        name: String,
    },
    /// A value the option cannot have.
    #[error("invalid value {value:?} of the option {name}: {expected}")]
    Value {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// What the options come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// How containers are wired.
    pub wiring: Wiring,
    /// Packet size.
    pub mtu: Option<u32>,
    /// Default host address of published ports.
    pub host_binding_ipv4: Option<IpAddr>,
    /// Start of interface names inside containers.
    pub interface_prefix: Option<String>,
}

/// Reads a driver's options. `name` is what interfaces of this network are called
/// where the user gives no name, `id` the network's id.
pub fn parse(
    driver: &str,
    options: &BTreeMap<String, String>,
    bridge_name: &str,
    id: &str,
) -> Result<Driver, DriverError> {
    match driver {
        "" | "default" | "bridge" => bridge(options, bridge_name),
        "macvlan" => macvlan(options, id),
        "ipvlan" => ipvlan(options, id),
        other => Err(DriverError::UnknownDriver(other.to_owned())),
    }
}

fn value_error(name: &str, value: &str, expected: &'static str) -> DriverError {
    DriverError::Value { name: name.to_owned(), value: value.to_owned(), expected }
}

fn boolean(name: &str, value: &str) -> Result<bool, DriverError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(value_error(name, value, "true or false")),
    }
}

/// Refuses what the kernel would refuse as an interface name.
pub fn interface_name(name: &str, value: &str) -> Result<String, DriverError> {
    let fits = (1..=LONGEST_INTERFACE_NAME).contains(&value.len());
    let plain = !value.contains(['/', ':']) && !value.contains(char::is_whitespace);
    if fits && plain && value != "." && value != ".." {
        return Ok(value.to_owned());
    }
    Err(value_error(name, value, "an interface name has 1 to 15 bytes without slash, colon or space"))
}

fn gateway_mode(name: &str, value: &str) -> Result<GatewayMode, DriverError> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(value_error(name, value, "nat, nat-unprotected, routed or isolated")),
    }
}

/// The host's address that packets to the outside are to carry.
fn own_source(name: &str, value: &str, ipv6: bool) -> Result<IpAddr, DriverError> {
    let parsed = value.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == ipv6);
    let expected = if ipv6 { "an IPv6 address of this host" } else { "an IPv4 address of this host" };
    parsed.ok_or_else(|| value_error(name, value, expected))
}

fn mtu(name: &str, value: &str) -> Result<u32, DriverError> {
    let (smallest, largest) = MTU_LIMITS;
    let parsed = value.parse().ok().filter(|mtu| (smallest..=largest).contains(mtu));
    parsed.ok_or_else(|| value_error(name, value, "a packet size from 68 to 65535"))
}

fn bridge(options: &BTreeMap<String, String>, bridge_name: &str) -> Result<Driver, DriverError> {
    let mut wiring = BridgeWiring {
        bridge: bridge_name.to_owned(),
        icc: true,
        masquerade: true,
        ..BridgeWiring::default()
    };
    let (mut packet_size, mut host_binding_ipv4, mut interface_prefix) = (None, None, None);
    for (name, value) in options {
        match name.strip_prefix(BRIDGE).unwrap_or(name) {
            "name" => wiring.bridge = interface_name(name, value)?,
            "enable_icc" => wiring.icc = boolean(name, value)?,
            "enable_ip_masquerade" => wiring.masquerade = boolean(name, value)?,
            "gateway_mode_ipv4" => wiring.mode_ipv4 = gateway_mode(name, value)?,
            "gateway_mode_ipv6" => wiring.mode_ipv6 = gateway_mode(name, value)?,
            "inhibit_ipv4" => wiring.inhibit_ipv4 = boolean(name, value)?,
            "trusted_host_interfaces" => {
                let names = value.split(':').filter(|one| !one.is_empty());
                wiring.trusted_interfaces =
                    names.map(|one| interface_name(name, one)).collect::<Result<_, _>>()?;
            }
            "host_binding_ipv4" => {
                let address = value.parse().map_err(|_| value_error(name, value, "an IPv4 address"))?;
                host_binding_ipv4 = Some(address);
            }
            "default_bridge" => {
                boolean(name, value)?;
            }
            "com.docker.network.driver.mtu" | "mtu" => packet_size = Some(mtu(name, value)?),
            "com.docker.network.container_iface_prefix" => {
                interface_prefix = Some(interface_name(name, value)?);
            }
            "com.docker.network.host_ipv4" => wiring.sources.push(own_source(name, value, false)?),
            "com.docker.network.host_ipv6" => wiring.sources.push(own_source(name, value, true)?),
            "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6" => {
                boolean(name, value)?;
            }
            _ => return Err(DriverError::UnknownOption { driver: "bridge", name: name.clone() }),
        }
    }
    Ok(Driver { wiring: Wiring::Bridge(wiring), mtu: packet_size, host_binding_ipv4, interface_prefix })
}

/// The parent of children: given, a VLAN of a given one, or a dummy of the network's own.
fn child(parent: Option<&String>, id: &str) -> Result<ChildWiring, DriverError> {
    const DIGITS: usize = 12;
    let Some(parent) = parent else {
        let owned = format!("dm-{}", &id[..DIGITS.min(id.len())]);
        return Ok(ChildWiring { parent: None, owned_parent: Some(owned) });
    };
    let parent = interface_name("parent", parent)?;
    let vlan = parent.rsplit_once('.').and_then(|(_, id)| id.parse::<u16>().ok());
    let owned_parent = match vlan {
        Some(1..=4094) => Some(parent.clone()),
        Some(_) => return Err(value_error("parent", &parent, "a VLAN id is from 1 to 4094")),
        None => None,
    };
    Ok(ChildWiring { parent: Some(parent), owned_parent })
}

fn macvlan(options: &BTreeMap<String, String>, id: &str) -> Result<Driver, DriverError> {
    let (mut mode, mut packet_size) = (MacvlanMode::default(), None);
    for (name, value) in options {
        match name.as_str() {
            "parent" => {}
            "macvlan_mode" => {
                mode = match value.as_str() {
                    "" | "bridge" => MacvlanMode::Bridge,
                    "private" => MacvlanMode::Private,
                    "vepa" => MacvlanMode::Vepa,
                    "passthru" => MacvlanMode::Passthru,
                    _ => return Err(value_error(name, value, "bridge, private, vepa or passthru")),
                }
            }
            "com.docker.network.driver.mtu" => packet_size = Some(mtu(name, value)?),
            _ => return Err(DriverError::UnknownOption { driver: "macvlan", name: name.clone() }),
        }
    }
    let wiring = Wiring::Macvlan { child: child(options.get("parent"), id)?, mode };
    Ok(Driver { wiring, mtu: packet_size, host_binding_ipv4: None, interface_prefix: None })
}

fn ipvlan(options: &BTreeMap<String, String>, id: &str) -> Result<Driver, DriverError> {
    let (mut mode, mut flag, mut packet_size) = (IpvlanMode::default(), IpvlanFlag::default(), None);
    for (name, value) in options {
        match name.as_str() {
            "parent" => {}
            "ipvlan_mode" => {
                mode = match value.as_str() {
                    "" | "l2" => IpvlanMode::L2,
                    "l3" => IpvlanMode::L3,
                    "l3s" => IpvlanMode::L3s,
                    _ => return Err(value_error(name, value, "l2, l3 or l3s")),
                }
            }
            "ipvlan_flag" => {
                flag = match value.as_str() {
                    "" | "bridge" => IpvlanFlag::Bridge,
                    "private" => IpvlanFlag::Private,
                    "vepa" => IpvlanFlag::Vepa,
                    _ => return Err(value_error(name, value, "bridge, private or vepa")),
                }
            }
            "com.docker.network.driver.mtu" => packet_size = Some(mtu(name, value)?),
            _ => return Err(DriverError::UnknownOption { driver: "ipvlan", name: name.clone() }),
        }
    }
    let wiring = Wiring::Ipvlan { child: child(options.get("parent"), id)?, mode, flag };
    Ok(Driver { wiring, mtu: packet_size, host_binding_ipv4: None, interface_prefix: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(driver: &str, options: &[(&str, &str)]) -> Result<Driver, String> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(driver, &options, "br-1", "0123456789abcdef").map_err(|error| error.to_string())
    }

    #[test]
    fn bridge_options() {
        let driver = check(
            "bridge",
            &[
                ("com.docker.network.bridge.enable_icc", "false"),
                ("com.docker.network.bridge.name", "mine0"),
                ("com.docker.network.driver.mtu", "1280"),
            ],
        )
        .unwrap();
        let Wiring::Bridge(wiring) = driver.wiring else { panic!("a bridge") };
        assert_eq!((wiring.bridge.as_str(), wiring.icc, wiring.masquerade), ("mine0", false, true));
        assert_eq!(driver.mtu, Some(1280));
    }

    #[test]
    fn bad_options_are_named() {
        for (driver, option, message) in [
            ("bridge", ("com.docker.network.bridge.enable_icc", "maybe"), "true or false"),
            ("bridge", ("com.docker.network.bridge.name", "much-too-long-a-name"), "1 to 15 bytes"),
            ("bridge", ("com.docker.network.driver.mtu", "9"), "68 to 65535"),
            ("bridge", ("com.docker.network.host_ipv4", "fd00::1"), "an IPv4 address of this host"),
            ("bridge", ("com.docker.network.host_ipv6", "10.0.0.1"), "an IPv6 address of this host"),
            ("bridge", ("parent", "eth0"), "unknown option parent of the bridge driver"),
            ("macvlan", ("macvlan_mode", "x"), "bridge, private, vepa or passthru"),
            ("macvlan", ("parent", "eth0.5000"), "VLAN id is from 1 to 4094"),
            ("overlay", ("x", "y"), "could not find plugin overlay"),
        ] {
            let error = check(driver, &[option]).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn parents_are_given_derived_or_owned() {
        let parent = |options: &[(&str, &str)]| match check("macvlan", options).unwrap().wiring {
            Wiring::Macvlan { child, .. } => (child.parent, child.owned_parent),
            other => panic!("{other:?}"),
        };
        assert_eq!(parent(&[("parent", "eth0")]), (Some("eth0".into()), None));
        assert_eq!(parent(&[("parent", "eth0.10")]), (Some("eth0.10".into()), Some("eth0.10".into())));
        assert_eq!(parent(&[]), (None, Some("dm-0123456789ab".into())));
    }
}

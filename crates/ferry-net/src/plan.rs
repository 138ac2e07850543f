//! What shall exist, as plain data: networks, sandboxes, endpoints, ports, names.
//!
//! The engine decides these (after validating what the user asked for), the
//! network service in the keeper makes the kernel agree and writes them to the
//! run root, so that a new keeper or engine finds everything again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::address::{InterfaceAddress, MacAddress, Subnet};
pub use crate::nft::GatewayMode;
use crate::port::Protocol;

/// How containers of a network are wired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "driver")]
pub enum Wiring {
    /// A bridge of the host with a veth pair per container.
    Bridge(BridgeWiring),
    /// A child of a host's interface with its own Ethernet address.
    Macvlan {
        /// The host's interface and mode.
        #[serde(flatten)]
        child: ChildWiring,
        /// How children reach each other.
        mode: MacvlanMode,
    },
    /// A child of a host's interface that shares its Ethernet address.
    Ipvlan {
        /// The host's interface.
        #[serde(flatten)]
        child: ChildWiring,
        /// Where packets are switched or routed.
        mode: IpvlanMode,
        /// How children reach each other.
        flag: IpvlanFlag,
    },
}

/// Details of a bridge network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeWiring {
    /// The bridge's interface name.
    pub bridge: String,
    /// Whether containers may talk to each other.
    pub icc: bool,
    /// Whether packets to the outside carry the host's address.
    pub masquerade: bool,
    /// How IPv4 reaches containers from outside.
    pub mode_ipv4: GatewayMode,
    /// How IPv6 reaches containers from outside.
    pub mode_ipv6: GatewayMode,
    /// Leaves the bridge without an IPv4 address.
    pub inhibit_ipv4: bool,
    /// Host interfaces whose neighbours reach every port.
    pub trusted_interfaces: Vec<String>,
    /// The host's addresses, at most one of a family, that packets to the outside carry; the one they leave
    /// by where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpAddr>,
}

/// Details shared by macvlan and ipvlan networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildWiring {
    /// The parent interface; a dummy named after the network when absent.
    pub parent: Option<String>,
    /// The name of the dummy or VLAN interface that ferry makes and removes.
    pub owned_parent: Option<String>,
}

/// Macvlan's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Children never talk to each other.
    Private,
    /// Children talk through an outside switch that turns frames around.
    Vepa,
    /// Children talk directly.
    #[default]
    Bridge,
    /// One child takes the parent over.
    Passthru,
}

/// Ipvlan's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Switched.
    #[default]
    L2,
    /// Routed.
    L3,
    /// Routed, with the host's connection tracking.
    L3s,
}

/// How ipvlan children see each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanFlag {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// Through an outside switch.
    Vepa,
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Full hexadecimal id.
    pub id: String,
    /// The user's name for it; part of DNS names.
    pub name: String,
    /// Driver and its details.
    #[serde(flatten)]
    pub wiring: Wiring,
    /// The host's addresses on a bridge, with the subnets' lengths.
    pub gateways: Vec<InterfaceAddress>,
    /// All subnets.
    pub subnets: Vec<Subnet>,
    /// No way to the outside.
    pub internal: bool,
    /// Packet size; the default route's when absent.
    pub mtu: Option<u32>,
    /// Whether containers get DNS for names on this network (all but the default bridge).
    pub dns: bool,
}

impl NetworkPlan {
    /// Whether any subnet is IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(Subnet::is_ipv6)
    }
}

/// One container's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPlan {
    /// Full hexadecimal id.
    pub id: String,
    /// The network's id.
    pub network_id: String,
    /// Interface name inside the container.
    pub interface: String,
    /// Its Ethernet address; `None` where the driver gives none.
    pub mac: Option<MacAddress>,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Link-local addresses besides them.
    #[serde(default)]
    pub link_local: Vec<InterfaceAddress>,
    /// Default routes through this endpoint; empty when another endpoint or none has them.
    pub gateways: Vec<IpAddr>,
    /// A default route without a next hop (ipvlan l3).
    pub default_device_route: bool,
    /// Names that resolve to it on this network.
    pub names: Vec<String>,
    /// Settings written under `net.` before the container starts, IFNAME replaced.
    pub sysctls: BTreeMap<String, String>,
}

/// A wish for a published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// The host's address; `None` for every address of both families.
    pub host: Option<IpAddr>,
    /// First and last acceptable host port; `0..=0` for any free one.
    pub host_ports: (u16, u16),
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A published port as it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPort {
    /// The container's port.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address and port.
    pub host: SocketAddr,
}

/// Where published ports of a sandbox lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishPlan {
    /// The container's IPv4 address on its gateway network.
    pub ipv4: Option<IpAddr>,
    /// The container's IPv6 address on its gateway network.
    pub ipv6: Option<IpAddr>,
    /// Not translated in IPv4: open on the container's own address.
    #[serde(default, rename = "routed", alias = "routed_ipv4")]
    pub routed_ipv4: bool,
    /// The same in IPv6.
    #[serde(default)]
    pub routed_ipv6: bool,
    /// Only through the keeper's proxy, so that the host's input policy applies.
    pub proxy_only: bool,
    /// The ports.
    pub ports: Vec<PortPlan>,
}

impl PublishPlan {
    /// Whether a binding to the host's addresses of a family is open on the container's own address instead.
    /// Where the container has no address of the family, the other one's packets are meant.
    pub(crate) fn routed(&self, ipv6: bool) -> bool {
        match (ipv6, self.ipv4.is_some(), self.ipv6.is_some()) {
            (false, true, _) | (true, true, false) => self.routed_ipv4,
            (true, _, true) | (false, false, _) => self.routed_ipv6,
            (true, false, false) => false,
        }
    }
}

/// How the names a container asks for are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPlan {
    /// Servers asked for names outside (`--dns`); the host's own when empty.
    pub servers: Vec<IpAddr>,
    /// Whether names outside are asked for at all (not from internal networks).
    pub forward: bool,
    /// The user set `ndots`: single-label names are then never asked outside.
    pub ndots_set: bool,
    /// Names that only this container knows (`--link`), to container ids.
    pub links: BTreeMap<String, String>,
}

/// One container's network namespace and all in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPlan {
    /// The container's full id.
    pub id: String,
    /// The container's name, for messages about taken ports.
    pub name: String,
    /// Its endpoints.
    pub endpoints: Vec<EndpointPlan>,
    /// Its published ports.
    pub publish: PublishPlan,
    /// Its DNS.
    pub dns: DnsPlan,
}

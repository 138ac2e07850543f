//! What the engine and the network service say to each other over
//! `network.sock`: one JSON request per frame, one JSON answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::Subnet;
use crate::plan::{BoundPort, DnsPlan, EndpointPlan, NetworkPlan, PublishPlan, SandboxPlan};

/// The version of this protocol. A service of an earlier one is that of a keeper which a newer engine has found, and is
/// spoken to as it understands.
pub const VERSION: u32 = 2;
/// The first one with [`Request::AttachAhead`].
pub const ATTACHES_AHEAD: u32 = 2;

/// A request to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there, and which version?
    Hello,
    /// Makes a network exist in the kernel; nothing happens when it does.
    NetworkUp(Box<NetworkPlan>),
    /// Removes a network without endpoints; nothing happens when there is none.
    NetworkDown {
        /// The network's id.
        id: String,
    },
    /// Wires a container: namespace, endpoints, ports, names. All of it or nothing.
    Attach(Box<SandboxPlan>),
    /// As `Attach` with two answers: first the namespace, which the container may be set up in meanwhile, then
    /// that it is wired.
    AttachAhead(Box<SandboxPlan>),
    /// Takes everything of a container back; nothing happens when there is nothing.
    Detach {
        /// The container's id.
        sandbox: String,
    },
    /// Adds an endpoint to a wired container.
    Connect {
        /// The container's id.
        sandbox: String,
        /// The new endpoint.
        endpoint: Box<EndpointPlan>,
        /// The default routes after it.
        gateways: Gateways,
    },
    /// Removes an endpoint of a wired container.
    Disconnect {
        /// The container's id.
        sandbox: String,
        /// The network left.
        network: String,
        /// The default routes after it.
        gateways: Gateways,
    },
    /// Makes the published ports of a wired container be these. Ports that stay keep
    /// their host port.
    Publish {
        /// The container's id.
        sandbox: String,
        /// All its ports from now on.
        publish: PublishPlan,
    },
    /// Gives ports that one wired container holds to another one. No moment passes in which nobody answers on
    /// them; connections that are there stay with the giver.
    HandOver {
        /// The id of the container that has them.
        from: String,
        /// The id of the container that gets them.
        to: String,
        /// The ports, and where they lead from now on. Those that the giver does not hold are published anew.
        publish: PublishPlan,
    },
    /// Makes names and servers of a wired container be these.
    Rename {
        /// The container's id.
        sandbox: String,
        /// The container's name for messages.
        name: String,
        /// Per network id, the endpoint's names.
        names: Vec<(String, Vec<String>)>,
        /// Servers and links.
        dns: DnsPlan,
    },
    /// The keeper ends for good: without containers nothing of ferry stays in the kernel.
    Retire,
    /// Everything that exists.
    List,
    /// The host's side of address decisions.
    Host,
}

/// Default routes of a container: gateway and the network it is reached through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateways {
    /// For IPv4.
    pub ipv4: Option<(String, IpAddr)>,
    /// For IPv6.
    pub ipv6: Option<(String, IpAddr)>,
}

/// An answer of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The service's version.
        version: u32,
    },
    /// Done.
    Done,
    /// First to `AttachAhead`: the path that opens the namespace, which nothing is wired to yet.
    Namespace(String),
    /// To `Attach`.
    Attached(Attached),
    /// To `Publish`.
    Published(Vec<BoundPort>),
    /// To `List`.
    Listed(Listed),
    /// To `Host`.
    Host(HostFacts),
    /// Refused; the text is for people.
    Failed(Failure),
}

/// A wired container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The container's id.
    pub sandbox: String,
    /// A path that opens its network namespace while the service lives.
    pub namespace: String,
    /// Its published ports.
    pub ports: Vec<BoundPort>,
}

/// Everything the service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// All networks.
    pub networks: Vec<NetworkPlan>,
    /// All wired containers with their namespace and bound ports.
    pub sandboxes: Vec<(SandboxPlan, Attached)>,
}

/// What the host's network looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Every routed range and the device it goes to.
    pub routes: Vec<(Subnet, String)>,
    /// MTU of the device of the default route.
    pub mtu: u32,
    /// Chains of other programs that ferry's rules stand in.
    pub foreign_chains: Vec<String>,
    /// Why ferry's chain could not be put into the tables of `iptables-legacy`, where it should stand.
    #[serde(default)]
    pub older_filter_refused: Option<String>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// A published port is taken.
    PortTaken,
    /// A subnet is in use on the host.
    SubnetTaken,
    /// The kernel lacks a feature.
    Unsupported,
    /// A name in the request is unknown to the service.
    Unknown,
    /// Anything else.
    Failed,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The whole story.
    pub message: String,
}

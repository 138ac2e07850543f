//! The networks of containers, as the verbs in `container/` see them: joined at a start, left at an end.
//!
//! `none`, `host` and `container:X` are decided here; every other mode is a network of its own.

mod attach;
mod create;
mod endpoint;
mod host_names;
mod link;
mod live;
mod ports;
mod publish;
mod recover;
mod registry;
mod template;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::container::PortMap;
use ferry_api::network::EndpointSettings;
use ferry_net::address::{MacAddressError, SubnetError};
use ferry_net::client::ClientError;
use ferry_net::driver::DriverError;
use ferry_net::ipam::IpamError;
use ferry_net::protocol::FailureKind;
use ferry_store::{DatabaseError, IoError};
use http::StatusCode;

pub use attach::{Joining, detach, detach_run, host_gateway, link_environment};
pub use create::{create, emit, remove};
pub use host_names::refresh as refresh_host_names;
pub use live::{connect, disconnect, renamed, republish, take_ports};
pub use ports::obstacles;
pub use publish::{PublishError, change as change_ports};
pub use recover::{adopt, recover};
use registry::BRIDGE;
pub use registry::{NetworkRecord, Networks};

use crate::container::Container;
use crate::container::record::Record;
use crate::container::registry::LookupError;
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::spec::namespaces::Sharing;

/// What a container got.
#[derive(Debug, Clone, Default)]
pub struct Attachment {
    /// Its network namespace.
    pub namespace: Sharing,
    /// Lines of `/etc/hosts` beyond localhost.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Name servers; the host's own file when there are none.
    pub name_servers: Vec<IpAddr>,
    /// What `host-gateway` stands for in `--add-host`.
    pub host_gateway: Option<IpAddr>,
    /// Its ports as inspect shows them.
    pub published: PortMap,
    /// A path to its network namespace, for tools.
    pub sandbox_key: String,
    /// Its place in each network, by name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Whatever can go wrong with networks.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `container:X` names nobody.
    #[error(transparent)]
    Container(#[from] LookupError),
    /// `--link` names nobody. Not a "not found": clients would take the image for missing.
    #[error("could not get container for {target}: {source}")]
    LinkTarget {
        /// What was named.
        target: String,
        /// Why it is not found.
        source: LookupError,
    },
    /// `container:X` does not run.
    #[error("cannot join network of a non running container: {0}")]
    NotRunning(String),
    /// One of two containers that hand ports over.
    #[error("container {0} does not run: it can neither give nor take ports")]
    NoPorts(String),
    /// `container:` itself.
    #[error("cannot join own network namespace")]
    Itself,
    /// Neither a name nor an id.
    #[error("network {0} not found")]
    NotFound(String),
    /// The beginning of several ids.
    #[error("network {0} is ambiguous: several ids begin with it")]
    Ambiguous(String),
    /// A name that another network has.
    #[error("network with name {0} already exists")]
    NameTaken(String),
    /// A name networks cannot have.
    #[error(
        "invalid network name {0:?}: only letters, digits, '_', '.', '-' and spaces within, beginning with a letter or digit"
    )]
    BadName(String),
    /// A name that every engine has already.
    #[error("operation is not permitted on predefined {0} network")]
    Predefined(String),
    /// The predefined ones stay.
    #[error("{0} is a pre-defined network and cannot be removed")]
    RemovePredefined(String),
    /// A second network of a kind there is one of.
    #[error("only one instance of {0:?} network is allowed")]
    SecondPredefined(String),
    /// A network with containers.
    #[error("error while removing network: network {name} id {id} has active endpoints ({users})")]
    InUse {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Containers on it.
        users: String,
    },
    /// Two networks on one bridge.
    #[error("the bridge {bridge} belongs to the network {network}")]
    BridgeTaken {
        /// The interface.
        bridge: String,
        /// Its network.
        network: String,
    },
    /// Docker's rule for networks that hold settings alone.
    #[error(
        "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
    )]
    OperatorFields,
    /// One template on top of another.
    #[error("a configuration network cannot depend on another configuration network")]
    TemplateOfTemplate,
    /// Settings beside a template.
    #[error(
        "user specified configurations are not supported if the network depends on a configuration network"
    )]
    SettingsBesideTemplate,
    /// A template that is not one.
    #[error("network {0:?} is not a configuration network")]
    NotATemplate(String),
    /// A template that networks were made from.
    #[error("configuration network {0:?} is in use")]
    TemplateInUse(String),
    /// A container on a template.
    #[error("configuration network {0:?} cannot have containers")]
    ContainerOnTemplate(String),
    /// Networks of a swarm.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NoSwarm,
    /// A scope nobody has.
    #[error("invalid network scope {0:?}: networks of this engine are local")]
    BadScope(String),
    /// Only the built-in one.
    #[error("unknown IPAM driver {0:?}: only \"default\" is built in")]
    IpamDriver(String),
    /// Neither IPv4 nor IPv6.
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    /// A gateway of nothing.
    #[error("the gateway {0} needs a subnet it belongs to")]
    GatewayWithoutSubnet(String),
    /// Host and none stand alone.
    #[error("container cannot be connected to {0} together with other networks")]
    NotCombinable(String),
    /// A second endpoint.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// No endpoint.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// Docker's rule.
    #[error("user specified IP address is supported on user defined networks only")]
    FixedAddressOnDefault,
    /// Not an address.
    #[error("invalid IP address: {0}")]
    BadAddress(String),
    /// Outside 169.254.0.0/16 and fe80::/10.
    #[error("invalid link-local IP address: {0}")]
    NotLinkLocal(String),
    /// Not a port.
    #[error("invalid port specification: {0:?}")]
    BadPort(String),
    /// Not a setting of an interface.
    #[error("invalid endpoint sysctl {0:?}: it must be net.*.IFNAME.*=VALUE")]
    BadSysctl(String),
    /// Not an Ethernet address.
    #[error(transparent)]
    Mac(#[from] MacAddressError),
    /// Not a subnet.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// An option that cannot be followed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No address or subnet.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// A host port that cannot be had.
    #[error(
        "driver failed programming external connectivity on endpoint {container} ({endpoint}): {message}"
    )]
    Port {
        /// The container.
        container: String,
        /// Its endpoint.
        endpoint: String,
        /// Whose it is.
        message: String,
    },
    /// The keeper said no, or nothing.
    #[error(transparent)]
    Service(#[from] ClientError),
    /// The records.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A container's record.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The kernel's randomness.
    #[error("cannot make an id")]
    Random(#[source] std::io::Error),
    /// A thread of the engine.
    #[error("the network operation was lost: {0}")]
    Lost(String),
}

impl HttpStatus for NetworkError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Container(error) => error.status(),
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NoSwarm => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotRunning(_) | Self::NoPorts(_) | Self::NameTaken(_) => StatusCode::CONFLICT,
            Self::Predefined(_)
            | Self::RemovePredefined(_)
            | Self::SecondPredefined(_)
            | Self::InUse { .. }
            | Self::BridgeTaken { .. }
            | Self::AlreadyConnected { .. }
            | Self::NotConnected { .. }
            | Self::NotCombinable(_)
            | Self::OperatorFields
            | Self::TemplateOfTemplate
            | Self::SettingsBesideTemplate
            | Self::NotATemplate(_)
            | Self::TemplateInUse(_)
            | Self::ContainerOnTemplate(_)
            | Self::Ipam(IpamError::Overlap { .. } | IpamError::InUse(_)) => StatusCode::FORBIDDEN,
            Self::Itself
            | Self::LinkTarget { .. }
            | Self::Ambiguous(_)
            | Self::BadName(_)
            | Self::BadScope(_)
            | Self::IpamDriver(_)
            | Self::NoFamily
            | Self::GatewayWithoutSubnet(_)
            | Self::FixedAddressOnDefault
            | Self::BadAddress(_)
            | Self::BadPort(_)
            | Self::NotLinkLocal(_)
            | Self::BadSysctl(_)
            | Self::Mac(_)
            | Self::Subnet(_)
            | Self::Driver(_)
            | Self::Ipam(_) => StatusCode::BAD_REQUEST,
            Self::Service(ClientError::Refused(failure)) => match failure.kind {
                FailureKind::SubnetTaken => StatusCode::FORBIDDEN,
                FailureKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
                FailureKind::PortTaken | FailureKind::Unknown | FailureKind::Failed => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            },
            Self::Port { .. }
            | Self::Service(_)
            | Self::Database(_)
            | Self::Io(_)
            | Self::Random(_)
            | Self::Lost(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Name and id of every container that has an endpoint on a network.
pub fn users_of(engine: &Engine, network_id: &str) -> Vec<(String, String)> {
    let uses = |container: &Arc<Container>| {
        let inner = container.lock();
        let mut endpoints = inner.record.endpoints.iter();
        // An endpoint without id waits for its container's start; it keeps nothing.
        let on = endpoints
            .any(|(_, settings)| settings.network_id == network_id && !settings.endpoint_id.is_empty());
        on.then(|| (inner.record.name.clone(), container.id.clone()))
    };
    engine.containers.all().iter().filter_map(uses).collect()
}

/// How a container is connected, from `HostConfig.NetworkMode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Only its loopback device.
    None,
    /// The host's network.
    Host,
    /// Another container's network.
    Container(&'a str),
    /// A network, by name or id.
    Network(&'a str),
}

impl<'a> Mode<'a> {
    /// Reads the mode; `default` and nothing mean the bridge.
    pub fn parse(text: &'a str) -> Self {
        match text {
            "none" => Self::None,
            "host" => Self::Host,
            "" | "default" => Self::Network("bridge"),
            _ => match text.strip_prefix("container:") {
                Some(other) => Self::Container(other),
                None => Self::Network(text),
            },
        }
    }
}

/// Refuses what a container asks of its networks, before anything of it is kept. A network
/// that does not exist yet may be made before its start.
pub fn check(engine: &Engine, record: &Record) -> Result<(), NetworkError> {
    for (name, asked) in &record.endpoints {
        if let Ok(network) = engine.networks.find(name) {
            endpoint::check(&network, record, asked)?;
        }
        // Elsewhere a link is another name in DNS, and whom it means may come later.
        for link in asked.links.iter().flatten().filter(|_| name == BRIDGE) {
            attach::link_target(engine, link)?;
        }
    }
    for link in record.host_config.links.iter().flatten() {
        attach::link_target(engine, link)?;
    }
    for server in record.host_config.dns.iter().flatten() {
        server.parse::<IpAddr>().map_err(|_| NetworkError::BadAddress(server.clone()))?;
    }
    ports::wishes(record, None).map(drop)
}

/// Connects a container that is about to start.
pub async fn attach(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Attachment, NetworkError> {
    begin(engine, container).await?.done().await
}

/// Begins to give a container its network; the rest is made while the container is.
pub async fn begin(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Joining, NetworkError> {
    let mode = container.lock().record.host_config.network_mode.clone();
    match Mode::parse(&mode) {
        Mode::None => Ok(Attachment::default().into()),
        Mode::Network(_) => attach::begin(engine, container).await,
        Mode::Host => Ok(Attachment {
            namespace: Sharing::Host,
            host_gateway: host_gateway(engine),
            ..Attachment::default()
        }
        .into()),
        Mode::Container(name) => {
            let other = engine.containers.find(name)?;
            if other.id == container.id {
                return Err(NetworkError::Itself);
            }
            let path =
                namespace_of(&other, "net").ok_or_else(|| NetworkError::NotRunning(name.to_owned()))?;
            Ok(Attachment { namespace: Sharing::Path(path), ..Attachment::default() }.into())
        }
    }
}

/// The namespace file of a running container's first process.
pub fn namespace_of(container: &Container, kind: &str) -> Option<PathBuf> {
    let inner = container.lock();
    let state = &inner.record.state;
    (state.status.has_process() && state.pid > 0)
        .then(|| PathBuf::from(format!("/proc/{}/ns/{kind}", state.pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read() {
        for (text, mode) in [
            ("none", Mode::None),
            ("host", Mode::Host),
            ("container:web", Mode::Container("web")),
            ("", Mode::Network("bridge")),
            ("default", Mode::Network("bridge")),
            ("backend", Mode::Network("backend")),
        ] {
            assert_eq!(Mode::parse(text), mode);
        }
    }
}

//! Why a request was refused, and how that is told over the wire.

use crate::address::Subnet;
use crate::kernel::SysctlError;
use crate::netlink::NetlinkError;
use crate::nft::FirewallError;
use crate::port::ReserveError;
use crate::protocol::{Failure, FailureKind};

/// Any failure of the network service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("the subnet {subnet} overlaps with the route {route} of the host's interface {device}")]
    SubnetTaken { subnet: Subnet, route: Subnet, device: String },
    #[error("the interface {bridge} exists and is not a bridge")]
    NotABridge { bridge: String },
    #[error("the parent interface {parent} does not exist")]
    NoParent { parent: String },
    #[error("the kernel has no {feature}: {source}")]
    MissingFeature { feature: &'static str, source: NetlinkError },
    #[error("network {id} is unknown to the network service")]
    UnknownNetwork { id: String },
    #[error("container {id} has no network namespace here")]
    UnknownSandbox { id: String },
    #[error("container {id} is wired already")]
    AlreadyAttached { id: String },
    #[error("network {id} still has endpoints")]
    NetworkInUse { id: String },
    #[error("the link {name} did not appear in the container's network namespace")]
    LinkVanished { name: String },
    #[error("cannot {step}: {source}")]
    Io { step: String, source: std::io::Error },
}

impl ServiceError {
    pub(crate) fn io(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }

    pub(crate) fn errno(step: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let step = step.into();
        move |errno| Self::Io { step, source: errno.into() }
    }

    /// The refusal as the engine gets it.
    pub(crate) fn to_failure(&self) -> Failure {
        let kind = match self {
            Self::Reserve(ReserveError::NoProtocol { .. }) => FailureKind::Unsupported,
            Self::Reserve(_) => FailureKind::PortTaken,
            Self::SubnetTaken { .. } => FailureKind::SubnetTaken,
            Self::MissingFeature { .. } | Self::Firewall(FirewallError::Unsupported(_)) => {
                FailureKind::Unsupported
            }
            Self::UnknownNetwork { .. } | Self::UnknownSandbox { .. } => FailureKind::Unknown,
            _ => FailureKind::Failed,
        };
        Failure { kind, message: self.to_string() }
    }
}

//! The table's sets and maps: what differs from network to network and from port to port. Their keys are what the
//! rules look up.

use super::message::{Set, Type};

const NAME: &[Type] = &[Type::InterfaceName];
const fn set(name: &'static str, key: &'static [Type]) -> Set {
    Set { name, key, data: &[], interval: false }
}

pub(super) const BRIDGES: Set = set("bridges", NAME);
pub(super) const INTERNAL: Set = set("internal", NAME);
pub(super) const UPLINKS: Set = set("uplinks", NAME);
/// Published ports of containers on a bridge that keeps its containers apart, by that bridge.
pub(super) const OWN4: Set = set("own4", &[Type::InterfaceName, Type::Protocol, Type::Port]);
pub(super) const OWN6: Set = set("own6", &[Type::InterfaceName, Type::Protocol, Type::Port]);
pub(super) const OWN_ADDRESS4: Set =
    set("own-address4", &[Type::InterfaceName, Type::Ipv4, Type::Protocol, Type::Port]);
pub(super) const OWN_ADDRESS6: Set =
    set("own-address6", &[Type::InterfaceName, Type::Ipv6, Type::Protocol, Type::Port]);
pub(super) const UNPROTECTED4: Set = set("unprotected4", NAME);
pub(super) const UNPROTECTED6: Set = set("unprotected6", NAME);
/// Pairs of input and output interface between which everything passes.
pub(super) const PAIRS: Set = set("pairs", &[Type::InterfaceName, Type::InterfaceName]);
/// Which addresses live behind which bridge.
pub(super) const LOCAL4: Set =
    Set { name: "local4", key: &[Type::InterfaceName, Type::Ipv4], data: &[], interval: true };
pub(super) const LOCAL6: Set =
    Set { name: "local6", key: &[Type::InterfaceName, Type::Ipv6], data: &[], interval: true };
pub(super) const MASQUERADE4: Set =
    Set { name: "masquerade4", key: &[Type::Ipv4], data: &[], interval: true };
pub(super) const MASQUERADE6: Set =
    Set { name: "masquerade6", key: &[Type::Ipv6], data: &[], interval: true };
pub(super) const PUBLISH4: Set = Set {
    name: "publish4",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
pub(super) const PUBLISH6: Set = Set {
    name: "publish6",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
pub(super) const PUBLISH_ADDRESS4: Set = Set {
    name: "publish-address4",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
pub(super) const PUBLISH_ADDRESS6: Set = Set {
    name: "publish-address6",
    key: &[Type::Ipv6, Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
/// The address of the host that a subnet's packets to the outside carry.
pub(super) const SOURCE4: Set =
    Set { name: "source4", key: &[Type::Ipv4], data: &[Type::Ipv4], interval: true };
pub(super) const SOURCE6: Set =
    Set { name: "source6", key: &[Type::Ipv6], data: &[Type::Ipv6], interval: true };
pub(super) const ROUTED4: Set = set("routed4", &[Type::Ipv4, Type::Protocol, Type::Port]);
pub(super) const ROUTED6: Set = set("routed6", &[Type::Ipv6, Type::Protocol, Type::Port]);

pub(super) const SETS: &[Set] = &[
    BRIDGES,
    INTERNAL,
    UPLINKS,
    UNPROTECTED4,
    UNPROTECTED6,
    PAIRS,
    LOCAL4,
    LOCAL6,
    MASQUERADE4,
    MASQUERADE6,
    SOURCE4,
    SOURCE6,
    PUBLISH4,
    PUBLISH6,
    PUBLISH_ADDRESS4,
    PUBLISH_ADDRESS6,
    OWN4,
    OWN6,
    OWN_ADDRESS4,
    OWN_ADDRESS6,
    ROUTED4,
    ROUTED6,
];

//! Links: bridges, veth pairs, macvlan and ipvlan children, VLANs; and addresses on them.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::address::{InterfaceAddress, MacAddress};
use crate::netlink::{Attributes, Batch, Connection, NetlinkError, attributes, flags, string};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;

const IFF_UP: u32 = 1;
const SCOPE_LINK: u8 = 253;

/// What a new link is.
#[derive(Clone, Debug)]
pub(crate) enum LinkKind {
    Bridge,
    /// A dummy stands in for the parent of a macvlan or ipvlan network without one.
    Dummy,
    Macvlan {
        parent: u32,
        mode: u32,
    },
    Ipvlan {
        parent: u32,
        mode: u16,
        flag: u16,
    },
    Vlan {
        parent: u32,
        id: u16,
    },
}

impl LinkKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Dummy => "dummy",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
        }
    }

    fn parent(&self) -> Option<u32> {
        match self {
            Self::Bridge | Self::Dummy => None,
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => {
                Some(*parent)
            }
        }
    }

    fn data(&self, a: &mut Attributes<'_>) {
        match *self {
            Self::Bridge | Self::Dummy => {}
            Self::Macvlan { mode, .. } => a.u32(IFLA_MACVLAN_MODE, mode),
            Self::Ipvlan { mode, flag, .. } => {
                a.u16(IFLA_IPVLAN_MODE, mode);
                a.u16(IFLA_IPVLAN_FLAGS, flag);
            }
            Self::Vlan { id, .. } => a.u16(IFLA_VLAN_ID, id),
        }
    }
}

/// A link to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewLink<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: LinkKind,
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) up: bool,
    /// The namespace it shall appear in; the connection's own when absent.
    pub(crate) namespace: Option<BorrowedFd<'a>>,
}

/// What a port does on its bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgePort {
    pub(crate) bridge: u32,
    /// An isolated port reaches the bridge but no other isolated port.
    pub(crate) isolated: bool,
    /// A hairpin port gives frames back to where they came from.
    pub(crate) hairpin: bool,
}

/// Both ends of a veth pair to be made.
#[derive(Clone, Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Option<MacAddress>,
    pub(crate) mtu: u32,
    pub(crate) port: BridgePort,
    pub(crate) namespace: BorrowedFd<'a>,
}

/// How an address is put on a link.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AddressFlags {
    /// Not an error when the link already has it.
    pub(crate) replace: bool,
    /// A link-local address.
    pub(crate) link_scope: bool,
}

fn link_header(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

fn link_info(a: &mut Attributes<'_>, kind: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    a.nest(IFLA_LINKINFO, |a| {
        a.string(IFLA_INFO_KIND, kind);
        a.nest(IFLA_INFO_DATA, data);
    });
}

/// Appends the making of a link.
pub(crate) fn new_link(batch: &mut Batch, link: &NewLink<'_>) {
    let label = format!("create the {} {}", link.kind.name(), link.name);
    let flags = flags::CREATE | flags::EXCL | flags::ACK;
    batch.message(label, RTM_NEWLINK, flags, &link_header(0, link.up), |a| {
        a.string(IFLA_IFNAME, link.name);
        if let Some(mtu) = link.mtu {
            a.u32(IFLA_MTU, mtu);
        }
        if let Some(mac) = link.mac {
            a.put(IFLA_ADDRESS, &mac.0);
        }
        if let Some(parent) = link.kind.parent().filter(|parent| *parent != 0) {
            a.u32(IFLA_LINK, parent);
        }
        if let Some(namespace) = link.namespace {
            a.u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        }
        link_info(a, link.kind.name(), |a| link.kind.data(a));
    });
}

/// Appends the making of a veth pair in one message: the host's end up and on its
/// bridge, the other end inside the namespace, still down, because the kernel
/// cannot bring up an end before the pair is whole.
pub(crate) fn new_veth(batch: &mut Batch, pair: &VethPair<'_>) {
    let flags = flags::CREATE | flags::EXCL | flags::ACK;
    let label = format!("create the veth pair {} and {}", pair.host_name, pair.peer_name);
    batch.message(label, RTM_NEWLINK, flags, &link_header(0, true), |a| {
        a.string(IFLA_IFNAME, pair.host_name);
        a.u32(IFLA_MTU, pair.mtu);
        a.u32(IFLA_MASTER, pair.port.bridge);
        link_info(a, "veth", |a| {
            a.nest_after(VETH_INFO_PEER, &link_header(0, false), |a| {
                a.string(IFLA_IFNAME, pair.peer_name);
                a.u32(IFLA_MTU, pair.mtu);
                if let Some(mac) = pair.peer_mac {
                    a.put(IFLA_ADDRESS, &mac.0);
                }
                a.u32(IFLA_NET_NS_FD, pair.namespace.as_raw_fd() as u32);
            });
        });
    });
    if pair.port.isolated || pair.port.hairpin {
        let label = format!("configure the bridge port {}", pair.host_name);
        batch.message(label, RTM_NEWLINK, self::flags::ACK, &link_header(0, false), |a| {
            a.string(IFLA_IFNAME, pair.host_name);
            a.nest(IFLA_LINKINFO, |a| {
                a.string(IFLA_INFO_SLAVE_KIND, "bridge");
                a.nest(IFLA_INFO_SLAVE_DATA, |a| {
                    a.u8(IFLA_BRPORT_MODE, u8::from(pair.port.hairpin));
                    a.u8(IFLA_BRPORT_ISOLATED, u8::from(pair.port.isolated));
                });
            });
        });
    }
}

/// Appends "up" for a link found by name.
pub(crate) fn set_up(batch: &mut Batch, name: &str) {
    let label = format!("set {name} up");
    batch.message(label, RTM_NEWLINK, flags::ACK, &link_header(0, true), |a| a.string(IFLA_IFNAME, name));
}

/// Deletes a link by name; `false` when there is none.
pub(crate) fn delete_link(connection: &mut Connection, name: &str) -> Result<bool, NetlinkError> {
    let mut batch = Batch::new();
    let label = format!("delete the link {name}");
    batch.message(label, RTM_DELLINK, flags::ACK, &link_header(0, false), |a| a.string(IFLA_IFNAME, name));
    match connection.execute(&batch) {
        Ok(()) => Ok(true),
        Err(error) if error.errno == Errno::NODEV => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is known about an existing link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) kind: Option<String>,
    pub(crate) mac: Option<MacAddress>,
    /// The bridge it is a port of.
    pub(crate) master: Option<u32>,
}

/// Finds a link by name.
pub(crate) fn find_link(connection: &mut Connection, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::new();
    let label = format!("find the link {name}");
    batch.message(label, RTM_GETLINK, flags::ACK, &link_header(0, false), |a| a.string(IFLA_IFNAME, name));
    let mut found = None;
    let result = connection.dump(&batch, |kind, payload| {
        if kind == RTM_NEWLINK {
            found = parse_link(payload);
        }
    });
    match result {
        Ok(()) => Ok(found),
        Err(error) if error.errno == Errno::NODEV => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every link of the connection's namespace.
pub(crate) fn link_names(connection: &mut Connection) -> Result<Vec<Link>, NetlinkError> {
    let mut batch = Batch::new();
    batch.message("list the links", RTM_GETLINK, flags::DUMP, &link_header(0, false), |_| {});
    let mut links = Vec::new();
    connection.dump(&batch, |_, payload| links.extend(parse_link(payload)))?;
    Ok(links)
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let mut link = Link { index, name: String::new(), mtu: 0, kind: None, mac: None, master: None };
    for attribute in attributes(payload.get(16..)?) {
        match attribute.kind {
            IFLA_IFNAME => link.name = string(attribute.payload),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_MASTER => link.master = attribute.u32(),
            IFLA_ADDRESS => link.mac = attribute.payload.try_into().ok().map(MacAddress),
            IFLA_LINKINFO => {
                link.kind = attributes(attribute.payload)
                    .find(|inner| inner.kind == IFLA_INFO_KIND)
                    .map(|inner| string(inner.payload));
            }
            _ => {}
        }
    }
    Some(link)
}

/// Appends an address on the link with this index.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: InterfaceAddress, options: AddressFlags) {
    let (family, bytes) = octets(address.address);
    let mut header = [family, address.prefix, 0, if options.link_scope { SCOPE_LINK } else { 0 }, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let existing = if options.replace { flags::REPLACE } else { flags::EXCL };
    let label = format!("add the address {address}");
    batch.message(label, RTM_NEWADDR, flags::CREATE | existing | flags::ACK, &header, |a| {
        a.put(IFA_LOCAL, &bytes);
        a.put(IFA_ADDRESS, &bytes);
        match address.address {
            IpAddr::V4(_) if address.prefix < 31 => {
                a.put(IFA_BROADCAST, &octets(address.subnet().last()).1);
            }
            IpAddr::V4(_) => {}
            // Addresses come from IPAM, which gives none twice; waiting a second
            // for duplicate detection would only delay the container.
            IpAddr::V6(_) => a.u32(IFA_FLAGS, IFA_F_NODAD),
        }
    });
}

/// The kernel's family number and the address in network order.
pub(super) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

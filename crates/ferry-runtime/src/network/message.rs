//! The few rtnetlink messages that moving a device takes: find it, read its addresses, hand it over.

use ferry_sys::netlink::NetlinkSocket;
use rustix::io::Errno;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// `RT_SCOPE_UNIVERSE`
const SCOPE_GLOBAL: u8 = 0;

/// Sizes of `nlmsghdr`, `ifinfomsg`, `ifaddrmsg` and an attribute's head.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;

/// A device's number in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

/// An address of a device, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    scope: u8,
    /// What is told back: the addresses themselves.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    pub fn is_permanent(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0
    }

    pub fn is_global(&self) -> bool {
        self.scope == SCOPE_GLOBAL
    }

    fn parse(payload: &[u8]) -> Option<(Link, Address)> {
        let header = payload.get(..ADDRESS_HEADER)?;
        let link = Link(u32::from_ne_bytes(header[4..8].try_into().ok()?));
        let mut address = Address {
            family: header[0],
            prefix: header[1],
            flags: u32::from(header[2]),
            scope: header[3],
            attributes: Vec::new(),
        };
        for (kind, value) in attributes(&payload[ADDRESS_HEADER..]) {
            match kind {
                IFA_FLAGS => address.flags = u32::from_ne_bytes(value.try_into().ok()?),
                IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => address.attributes.push((kind, value.to_vec())),
                _ => {}
            }
        }
        Some((link, address))
    }
}

/// Questions and answers with the kernel, in the namespace in which the socket was opened.
#[derive(Debug)]
pub(super) struct Conversation {
    socket: NetlinkSocket,
    sequence: u32,
}

impl Conversation {
    pub fn new(socket: NetlinkSocket) -> Conversation {
        Conversation { socket, sequence: 0 }
    }

    /// Finds a device by its name.
    pub fn link(&mut self, name: &str) -> Result<Link, Errno> {
        let body = with_attributes(&link_header(Link(0), 0, 0), &[(IFLA_IFNAME, zero_ended(name))]);
        let mut found = None;
        self.ask(RTM_GETLINK, ACK, &body, |kind, payload| {
            if kind == RTM_NEWLINK
                && let Some(index) = payload.get(4..8)
            {
                found = index.try_into().ok().map(u32::from_ne_bytes).map(Link);
            }
        })?;
        found.ok_or(Errno::NODEV)
    }

    /// The addresses of a device.
    pub fn addresses(&mut self, link: Link) -> Result<Vec<Address>, Errno> {
        let mut found = Vec::new();
        self.ask(RTM_GETADDR, DUMP, &[0; ADDRESS_HEADER], |kind, payload| {
            if kind == RTM_NEWADDR {
                found.extend(
                    Address::parse(payload).filter(|(of, _)| *of == link).map(|(_, address)| address),
                );
            }
        })?;
        Ok(found)
    }

    pub fn set_up(&mut self, link: Link, up: bool) -> Result<(), Errno> {
        let body = link_header(link, if up { IFF_UP } else { 0 }, IFF_UP);
        self.ask(RTM_NEWLINK, ACK, &body, |_, _| {})
    }

    /// Moves a device to the namespace behind a descriptor, under another name.
    pub fn hand_over(&mut self, link: Link, namespace: i32, name: &str) -> Result<(), Errno> {
        let attributes =
            [(IFLA_NET_NS_FD, namespace.to_ne_bytes().to_vec()), (IFLA_IFNAME, zero_ended(name))];
        let body = with_attributes(&link_header(link, 0, 0), &attributes);
        self.ask(RTM_NEWLINK, ACK, &body, |_, _| {})
    }

    pub fn add_address(&mut self, link: Link, address: &Address) -> Result<(), Errno> {
        let mut header = vec![address.family, address.prefix, 0, address.scope];
        header.extend_from_slice(&link.0.to_ne_bytes());
        let body = with_attributes(&header, &address.attributes);
        match self.ask(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &body, |_, _| {}) {
            // It has moved along with the device.
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// Sends one message and reads what the kernel says until it has answered.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut told: impl FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(body);
        self.socket.send(&message)?;
        loop {
            let datagram = self.socket.receive(true)?.ok_or(Errno::IO)?;
            for (kind, sequence, payload) in messages(datagram) {
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return answer(payload),
                    kind => told(kind, payload),
                }
            }
        }
    }
}

fn answer(payload: &[u8]) -> Result<(), Errno> {
    let number = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(number.wrapping_neg())),
        None => Err(Errno::BADMSG),
    }
}

fn link_header(link: Link, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    for number in [link.0, flags, change] {
        header.extend_from_slice(&number.to_ne_bytes());
    }
    debug_assert_eq!(header.len(), LINK_HEADER);
    header
}

fn zero_ended(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

fn with_attributes(header: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for (kind, value) in attributes {
        bytes.extend_from_slice(&((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Messages of a datagram: kind, sequence number, payload.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let payload = bytes.get(HEADER..length)?;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        let sequence = u32::from_ne_bytes(header[8..12].try_into().ok()?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, payload))
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..ATTRIBUTE_HEADER)?;
        let length = usize::from(u16::from_ne_bytes(header[..2].try_into().ok()?));
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        let kind = u16::from_ne_bytes(header[2..4].try_into().ok()?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let mut payload = vec![2, 24, 0x80, 0, 7, 0, 0, 0];
        payload = with_attributes(&payload, &[(IFA_LOCAL, vec![10, 0, 0, 1]), (3, b"eth0\0".to_vec())]);
        let (link, address) = Address::parse(&payload).expect("an address");
        assert_eq!((link, address.prefix, address.is_permanent()), (Link(7), 24, true));
        assert_eq!(address.attributes, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!(Address::parse(&payload[..5]), None);
    }

    #[test]
    fn broken_datagrams_end() {
        assert_eq!(messages(&[255; 16]).count(), 0);
        assert_eq!(messages(&[0; 16]).count(), 0);
        assert_eq!(attributes(&[1, 0, 0, 0, 9]).count(), 0);
    }
}

//! Netlink sockets: open, join multicast groups, send a buffer, receive datagrams.
//!
//! Owns the socket and its options only. Messages are built and read by the
//! callers; nothing here knows what a link or a rule is.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType,
};

/// Largest batch a socket must take in one message: a ruleset with some ten
/// thousand published ports is about 2 MB.
const SEND_BUFFER_BYTES: usize = 16 << 20;
/// Room for the answers of one batch and for bursts of multicast events.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Kernels never send a larger datagram than this to a dump reader that offers it.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Which kernel subsystem a netlink socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes (`NETLINK_ROUTE`).
    Route,
    /// nf_tables and conntrack (`NETLINK_NETFILTER`).
    Netfilter,
}

/// An open netlink socket with a kernel-given port.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
    port: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket in the calling thread's network namespace, subscribed to
    /// the multicast `groups` (bit n-1 = group n; 0 for none).
    pub fn open(family: Family, groups: u32) -> Result<Self, Errno> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let port = SocketAddrNetlink::try_from(rustix::net::getsockname(&fd)?)?.pid();
        enlarge_buffers(fd.as_fd())?;
        // Both make refusals explain themselves; kernels before 4.12 lack them,
        // and errors then carry the number alone.
        let _ = set_flag(fd.as_fd(), libc::NETLINK_EXT_ACK);
        let _ = set_flag(fd.as_fd(), libc::NETLINK_CAP_ACK);
        Ok(Self { fd, port, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// The port the kernel gave this socket: what `nlmsg_pid` of an event says
    /// when the event is the effect of a message sent here.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends one or more complete messages to the kernel.
    pub fn send(&self, messages: &[u8]) -> Result<(), Errno> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendmsg_addr(
            &self.fd,
            &kernel,
            &[IoSlice::new(messages)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::empty(),
        )?;
        Ok(())
    }

    /// Receives one datagram. Without `wait`, `Ok(None)` says that none is queued.
    /// `ENOBUFS` says that multicast events were lost.
    pub fn receive(&mut self, wait: bool) -> Result<Option<&[u8]>, Errno> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            let received = rustix::net::recvmsg(
                &self.fd,
                &mut [IoSliceMut::new(&mut self.buffer)],
                &mut RecvAncillaryBuffer::default(),
                flags,
            );
            return match received {
                Ok(message) => Ok(Some(&self.buffer[..message.bytes])),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(errno) => Err(errno),
            };
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The forced sizes need `CAP_NET_ADMIN` over the initial user namespace; the
/// plain ones are what an unprivileged caller gets.
fn enlarge_buffers(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    use rustix::net::sockopt;
    sockopt::set_socket_send_buffer_size_force(fd, SEND_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, SEND_BUFFER_BYTES))?;
    sockopt::set_socket_recv_buffer_size_force(fd, RECEIVE_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, RECEIVE_BUFFER_BYTES))
}

fn set_flag(fd: BorrowedFd<'_>, option: libc::c_int) -> Result<(), Errno> {
    let one: libc::c_int = 1;
    // SAFETY: `fd` is an open socket for the length of the borrow, and the
    // pointer and length describe the live local `one`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

//! Handing a terminal's master side to whoever asked for it on a socket.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use crate::error::CliError;

/// What the descriptor is called in the message; readers want a name and do not look at it.
const NAME: &[u8] = b"/dev/ptmx";

/// Sends the master side to the socket at `path`.
pub(crate) fn send(path: &str, master: BorrowedFd<'_>) -> Result<(), CliError> {
    try_send(path, master).map_err(|errno| CliError::file("send the terminal to", path)(errno.into()))
}

fn try_send(path: &str, master: BorrowedFd<'_>) -> Result<(), rustix::io::Errno> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(rustix::io::Errno::NOBUFS);
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(NAME)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

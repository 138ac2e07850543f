//! Ports of the host for an engine in a network namespace of its own: a process outside binds them and passes the
//! sockets in.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use ferry_sys::channel::{Channel, ChannelError};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Protocol;
use super::reserve::hold_here;

/// The socket of the process outside.
static SOCKET: OnceLock<PathBuf> = OnceLock::new();

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    address: SocketAddr,
    protocol: Protocol,
}

/// Zero, with the socket beside it, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    errno: i32,
}

/// From now on all ports of this process are had from the one that listens at `socket`.
pub fn hold_through(socket: PathBuf) {
    // The first counts: a process has one place all its life.
    let _ = SOCKET.set(socket);
}

/// The port from outside; None where ports are held by this process itself.
pub(super) fn hold(address: SocketAddr, protocol: Protocol) -> Option<Result<OwnedFd, Errno>> {
    SOCKET.get().map(|socket| {
        let mut channel = Channel::connect(socket).map_err(|_| Errno::CONNREFUSED)?;
        ask(&mut channel, &Question { address, protocol }).unwrap_or(Err(Errno::CONNRESET))
    })
}

fn ask(channel: &mut Channel, question: &Question) -> Result<Result<OwnedFd, Errno>, ChannelError> {
    channel.send(&serde_json::to_vec(question).unwrap_or_default(), &[])?;
    let (frame, mut fds) = channel.recv()?;
    let reply = serde_json::from_slice(&frame).unwrap_or(Reply { errno: Errno::PROTO.raw_os_error() });
    Ok(match (reply.errno, fds.pop()) {
        (0, Some(socket)) => Ok(socket),
        (errno, _) => Err(Errno::from_raw_os_error(errno)),
    })
}

/// Answers one question, in the process outside.
pub fn answer(channel: &mut Channel) -> Result<(), ChannelError> {
    let (frame, _) = channel.recv()?;
    let held = match serde_json::from_slice::<Question>(&frame) {
        Ok(question) => hold_here(question.address, question.protocol),
        Err(_) => Err(Errno::INVAL),
    };
    let errno = held.as_ref().err().map_or(0, |errno| errno.raw_os_error());
    let sockets: Vec<BorrowedFd<'_>> = held.iter().map(AsFd::as_fd).collect();
    channel.send(&serde_json::to_vec(&Reply { errno }).unwrap_or_default(), &sockets)
}

//! Handing a seccomp filter's listener to the agent that answers for it.
//!
//! The socket is connected while the host is in sight; the listener exists only when the filter does, and then nothing
//! but one sendmsg(2) is done before the agent can answer.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use serde_json::json;

use super::plan::AgentPlan;
use crate::create::Step;
use crate::error::StepError;
use crate::hooks::Described;

/// A connected agent, and what it will be told.
#[derive(Debug)]
pub(crate) struct Agent {
    pub socket: OwnedFd,
    pub message: Vec<u8>,
}

impl Agent {
    /// Connects to it. Must run while the host's tree and its `/proc` are in sight. `init` is the container's first
    /// process where the calling one is a further one.
    pub fn connect(plan: &AgentPlan, described: &Described, init: Option<i32>) -> Result<Agent, StepError> {
        let fail =
            |errno| StepError::new(Step::Seccomp, format!("agent at {}", plan.socket.display()), errno);
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(fail)?;
        let address = SocketAddrUnix::new(plan.socket.as_path()).map_err(fail)?;
        rustix::net::connect(&socket, &address).map_err(fail)?;
        // The link of the host's procfs says who we are there.
        let own = rustix::fs::readlink("/proc/self", Vec::new()).map_err(fail)?;
        let pid: i32 =
            own.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| fail(Errno::BADMSG))?;
        let (status, container) = match init {
            Some(init) => ("running", init),
            None => ("creating", pid),
        };
        let message = json!({
            "ociVersion": described.version,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": plan.metadata,
            "state": described.state(status, Some(container)),
        });
        Ok(Agent { socket, message: message.to_string().into_bytes() })
    }
}

/// Sends the listener.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

//! The conversation between the caller and the process it has cloned.
//!
//! Owns the messages' form on a close-on-exec socket pair: the child reports, the parent controls.
//! The end of the stream after [`Report::Executing`] means that `execve` succeeded.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::error::{CommandError, StepError};
use crate::hooks::HookError;

/// The longest report: one shortened value, every byte of it escaped, and a few words.
const REPORT_MAX: usize = 16 << 10;

/// More hierarchies than a machine can have: the kernel knows 14 controllers, and systemd adds one.
const DESCRIPTORS_MAX: usize = 32;

/// What the child tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Something asked for was not granted, and the start goes on.
    Warning(String),
    /// The terminal's master side comes along.
    Console,
    /// The root file system's mount comes along.
    Rootfs,
    /// The root is assembled and not entered; the child waits for [`Control::Hooked`].
    Assembled,
    /// Everything is set up; the child waits for [`Control::Start`].
    Created,
    /// The command is about to run.
    Executing,
    /// The start has failed; the child ends.
    Failed(Failure),
}

/// Why a start failed in the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Step(StepError),
    Command(CommandError),
    Hook(HookError),
}

impl From<HookError> for Failure {
    fn from(error: HookError) -> Failure {
        Failure::Hook(error)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Failure {
        Failure::Step(error)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        Failure::Command(error)
    }
}

/// What the parent allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Control {
    /// The user namespace's id maps are written.
    Mapped = b'm',
    /// The cgroups are made, and the entrances to those of version 1 come along.
    CgroupMade = b'c',
    /// The hooks that run in the caller's namespaces have run.
    Hooked = b'h',
    /// The command may run.
    Start = b's',
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
}

/// The parent's and the child's end.
pub(crate) fn pair() -> Result<(Link, Link), Errno> {
    let (one, other) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((Link { socket: one }, Link { socket: other }))
}

impl Link {
    /// The socket itself, to be kept open where others are closed.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// An end made of a socket put in another place.
    pub fn from_socket(socket: OwnedFd) -> Link {
        Link { socket }
    }

    /// Parent: allows the child to go on, and hands it descriptors.
    pub fn allow_with(&self, control: Control, descriptors: &[OwnedFd]) -> Result<(), Errno> {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::NOBUFS);
        }
        rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(&[control as u8])],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Child: as [`Link::wait_for`], with the descriptors that come along.
    pub fn wait_with(&self, control: Control) -> Result<Vec<OwnedFd>, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0u8];
        let message = rustix::io::retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut byte)];
            rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut received = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received.extend(descriptors);
            }
        }
        match message.bytes {
            0 => Err(Errno::PIPE),
            _ if message.flags.contains(ReturnFlags::CTRUNC) => Err(Errno::MSGSIZE),
            _ if byte[0] == control as u8 => Ok(received),
            _ => Err(Errno::PROTO),
        }
    }

    /// Child: tells the parent, perhaps with a descriptor.
    pub fn report(&self, report: &Report, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(report).map_err(|_| Errno::INVAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors;
        if let Some(descriptor) = descriptor {
            descriptors = [descriptor];
            if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(Errno::NOBUFS);
            }
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Parent: the next report, `None` when the child's end is closed.
    pub fn next_report(&self) -> Result<Option<(Report, Option<OwnedFd>)>, Errno> {
        let mut buffer = [0; REPORT_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                // A child that ends with control messages unread resets the connection; the kernel tells
                // so once, before it hands out what the child has sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                result => break result?,
            }
        };
        let mut descriptor = None;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                descriptor = descriptors.last();
            }
        }
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(Errno::MSGSIZE);
        }
        if message.bytes == 0 {
            return Ok(None);
        }
        let report = serde_json::from_slice(&buffer[..message.bytes]).map_err(|_| Errno::BADMSG)?;
        Ok(Some((report, descriptor)))
    }

    /// Child: waits until the parent allows `control`. EPIPE when the parent has gone.
    pub fn wait_for(&self, control: Control) -> Result<(), Errno> {
        let mut byte = [0u8];
        loop {
            match rustix::io::read(&self.socket, &mut byte) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok(0) => return Err(Errno::PIPE),
                Ok(_) if byte[0] == control as u8 => return Ok(()),
                Ok(_) => return Err(Errno::PROTO),
            }
        }
    }
}

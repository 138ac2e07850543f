//! The conversation: send a batch, wait for what the kernel says to it.

use std::os::fd::{AsFd, BorrowedFd};

use ferry_sys::netlink::{Family, NetlinkSocket};
use rustix::io::Errno;

use super::{Batch, MessageView, attributes, messages, string};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_ACK_TLVS`: attributes with the kernel's own words follow the error.
const ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: the request is not repeated in the error.
const CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump that was interrupted by a change is asked again at most this often.
const DUMP_RETRIES: usize = 5;
const DUMP_INTERRUPTED: u16 = 0x10;

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {}{}", describe(*.errno), .detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub struct NetlinkError {
    /// What was to be done, as it completes "cannot ...".
    pub step: String,
    /// The kernel's error number.
    pub errno: Errno,
    /// The kernel's own explanation where it gave one.
    pub detail: Option<String>,
}

impl NetlinkError {
    fn new(step: impl Into<String>, errno: Errno) -> Self {
        Self { step: step.into(), errno, detail: None }
    }
}

fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A netlink socket with request-and-answer on top.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: NetlinkSocket,
}

impl Connection {
    pub(crate) fn open(family: Family) -> Result<Self, NetlinkError> {
        Self::subscribe(family, 0)
    }

    /// Opens a socket that also hears the multicast `groups`.
    pub(crate) fn subscribe(family: Family, groups: u32) -> Result<Self, NetlinkError> {
        let socket = NetlinkSocket::open(family, groups)
            .map_err(|errno| NetlinkError::new(format!("open a {family:?} netlink socket"), errno))?;
        Ok(Self { socket })
    }

    pub(crate) fn socket_mut(&mut self) -> &mut NetlinkSocket {
        &mut self.socket
    }

    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Sends the batch and collects every refusal.
    ///
    /// A netlink write is carried out before it returns, so all answers are
    /// queued by then and nothing here ever waits.
    pub(crate) fn execute_all(&mut self, batch: &Batch) -> Vec<NetlinkError> {
        if batch.is_empty() {
            return Vec::new();
        }
        if let Err(errno) = self.socket.send(batch.bytes()) {
            return vec![NetlinkError::new(batch.label(1), errno)];
        }
        let mut refusals = Vec::new();
        let mut answered = false;
        loop {
            match self.socket.receive(false) {
                Ok(Some(datagram)) => {
                    for message in messages(datagram).filter(|message| message.kind == NLMSG_ERROR) {
                        answered = true;
                        refusals.extend(refusal(&message, batch));
                    }
                }
                Ok(None) => break,
                Err(errno) => {
                    refusals.push(NetlinkError::new(batch.label(1), errno));
                    break;
                }
            }
        }
        if !answered && refusals.is_empty() {
            refusals.push(NetlinkError::new(batch.label(batch.len() as u32), Errno::PROTO));
        }
        refusals
    }

    /// Sends the batch; the first refusal is the error.
    pub(crate) fn execute(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        match self.execute_all(batch).into_iter().next() {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// Sends a batch of one get request and hands every answer to `visit`.
    pub(crate) fn dump(
        &mut self,
        batch: &Batch,
        mut visit: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        let fail = |errno| NetlinkError::new(batch.label(1), errno);
        for _ in 0..DUMP_RETRIES {
            self.socket.send(batch.bytes()).map_err(fail)?;
            let mut collected: Vec<(u16, Vec<u8>)> = Vec::new();
            if self.collect(batch, &mut collected)? {
                for (kind, payload) in &collected {
                    visit(*kind, payload);
                }
                return Ok(());
            }
        }
        Err(fail(Errno::INTR))
    }

    /// Reads answers to the end of a dump; `false` when it was interrupted by a change.
    fn collect(&mut self, batch: &Batch, into: &mut Vec<(u16, Vec<u8>)>) -> Result<bool, NetlinkError> {
        let mut consistent = true;
        loop {
            let datagram = match self.socket.receive(true) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => continue,
                Err(errno) => return Err(NetlinkError::new(batch.label(1), errno)),
            };
            for message in messages(datagram) {
                consistent &= message.flags & DUMP_INTERRUPTED == 0 || message.kind == NLMSG_ERROR;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => {
                        return match refusal(&message, batch) {
                            Some(error) => Err(error),
                            None => Ok(consistent),
                        };
                    }
                    kind => into.push((kind, message.payload.to_vec())),
                }
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What an error message says; `None` for an acknowledgement.
fn refusal(message: &MessageView<'_>, batch: &Batch) -> Option<NetlinkError> {
    let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let errno = Errno::from_raw_os_error(-code);
    let detail = (message.flags & ACK_TLVS != 0).then(|| explanation(message)).flatten();
    Some(NetlinkError { step: batch.label(message.sequence).to_owned(), errno, detail })
}

fn explanation(message: &MessageView<'_>) -> Option<String> {
    let request = u32::from_ne_bytes(message.payload.get(4..8)?.try_into().ok()?) as usize;
    let repeated = if message.flags & CAPPED != 0 { super::MESSAGE_HEADER } else { super::align(request) };
    attributes(message.payload.get(4 + repeated..)?)
        .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
        .map(|attribute| string(attribute.payload))
}

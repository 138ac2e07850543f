//! Blocking helpers that speak the protocol: for tests and chores, not for an engine, which has many
//! containers to wait for at once.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_sys::channel::{Channel, ChannelError};

use crate::protocol::{
    LAUNCHER_SOCKET, LaunchConfig, LauncherReply, LauncherRequest, SHIM_SOCKET, ShimEnvelope, ShimError,
    ShimEvent, ShimMessage, ShimReply, ShimRequest, VERSION, decode, decode_message, encode,
};

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The socket could not be connected.
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    /// The other side's words.
    #[error("malformed message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The launcher refused.
    #[error("{0}")]
    Launch(String),
    /// The shim refused.
    #[error(transparent)]
    Shim(#[from] ShimError),
}

/// A connection to a launcher.
#[derive(Debug)]
pub struct LauncherClient(Channel);

impl LauncherClient {
    /// Connects to the launcher of a run root.
    pub fn connect(run_root: &Path) -> Result<LauncherClient, ClientError> {
        Ok(LauncherClient(Channel::connect(&run_root.join(LAUNCHER_SOCKET))?))
    }

    /// Sends any request and waits for the answer.
    pub fn call(
        &mut self,
        request: &LauncherRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<LauncherReply, ClientError> {
        self.0.send(&encode(request), fds)?;
        Ok(decode(&self.0.recv()?.0)?)
    }

    /// Starts a shim; its process id and the control connection.
    pub fn launch(&mut self, config: LaunchConfig) -> Result<(i32, ShimClient), ClientError> {
        let (ours, theirs) = Channel::pair()?;
        match self.call(&LauncherRequest::Launch(Box::new(config)), &[theirs.as_fd()])? {
            LauncherReply::Launched { shim_pid } => Ok((shim_pid, ShimClient::new(ours))),
            LauncherReply::Failed { message } => Err(ClientError::Launch(message)),
            LauncherReply::Pong { .. } => Err(ClientError::Launch("answered a launch with a pong".into())),
        }
    }
}

/// A connection to a shim.
#[derive(Debug)]
pub struct ShimClient {
    channel: Channel,
    next_seq: u64,
    events: VecDeque<ShimEvent>,
}

impl ShimClient {
    /// Speaks over an open connection.
    pub fn new(channel: Channel) -> ShimClient {
        ShimClient { channel, next_seq: 1, events: VecDeque::new() }
    }

    /// Connects to a running shim and says hello.
    pub fn connect(run_dir: &Path) -> Result<ShimClient, ClientError> {
        let mut client = ShimClient::new(Channel::connect(&run_dir.join(SHIM_SOCKET))?);
        client.call(ShimRequest::Hello { version: VERSION })?;
        Ok(client)
    }

    /// Sends a request and waits for its answer; events that come meanwhile are kept.
    pub fn call(&mut self, request: ShimRequest) -> Result<ShimReply, ClientError> {
        Ok(self.call_with(request, &[])?.0)
    }

    /// As [`ShimClient::call`], with descriptors both ways.
    pub fn call_with(
        &mut self,
        request: ShimRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(ShimReply, Vec<OwnedFd>), ClientError> {
        let wanted = self.next_seq;
        self.next_seq += 1;
        self.channel.send(&encode(&ShimEnvelope { seq: wanted, request }), fds)?;
        loop {
            let (frame, fds) = self.channel.recv()?;
            match decode_message(&frame)? {
                Some(ShimMessage::Reply { seq, result }) if seq == wanted => return Ok((result?, fds)),
                Some(ShimMessage::Event(event)) => self.events.push_back(event),
                _ => {}
            }
        }
    }

    /// Waits for the next event.
    pub fn event(&mut self) -> Result<ShimEvent, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(ShimMessage::Event(event)) = decode_message(&self.channel.recv()?.0)? {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event that `wanted` picks, dropping others.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(&ShimEvent) -> Option<T>) -> Result<T, ClientError> {
        loop {
            if let Some(found) = wanted(&self.event()?) {
                return Ok(found);
            }
        }
    }

    /// True once the shim has closed the connection.
    pub fn wait_closed(&mut self) -> bool {
        loop {
            match self.channel.recv() {
                Ok(_) => {}
                Err(ChannelError::Closed) => return true,
                Err(_) => return false,
            }
        }
    }
}

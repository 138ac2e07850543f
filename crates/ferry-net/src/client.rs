//! The engine's end of `network.sock`: one blocking request at a time.

use std::io;
use std::path::Path;

use ferry_sys::channel::{Channel, ChannelError};

use crate::plan::SandboxPlan;
use crate::protocol::{ATTACHES_AHEAD, Failure, Reply, Request, VERSION};

/// A request that brought no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach the network service")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the network service is gone")]
    Channel(#[from] ChannelError),
    /// The answer makes no sense.
    #[error("the network service answered {0}")]
    Unexpected(String),
    /// The service is of another version.
    #[error("the network service speaks version {found}, not {VERSION}")]
    Version {
        /// What it speaks.
        found: u32,
    },
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// A connection to the network service.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    /// What the service speaks.
    version: u32,
}

impl Client {
    /// Connects to the service of a run root and checks its version.
    pub fn connect(run_root: &Path) -> Result<Self, ClientError> {
        let path = crate::service::socket_path(run_root);
        let channel = Channel::connect(&path).map_err(ClientError::Connect)?;
        let mut client = Self { channel, version: VERSION };
        match client.call(&Request::Hello)? {
            Reply::Hello { version } if (1..=VERSION).contains(&version) => Ok(Self { version, ..client }),
            Reply::Hello { version } => Err(ClientError::Version { found: version }),
            other => Err(ClientError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sends a request and waits for its answer; a refusal is an error.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send(request)?;
        self.receive()
    }

    /// [`Request::AttachAhead`]: `announce` is given the namespace before anything is wired to it.
    pub fn attach_ahead(
        &mut self,
        plan: Box<SandboxPlan>,
        announce: &mut dyn FnMut(String),
    ) -> Result<Reply, ClientError> {
        if self.version < ATTACHES_AHEAD {
            let reply = self.call(&Request::Attach(plan))?;
            if let Reply::Attached(attached) = &reply {
                announce(attached.namespace.clone());
            }
            return Ok(reply);
        }
        self.send(&Request::AttachAhead(plan))?;
        match self.receive()? {
            Reply::Namespace(path) => announce(path),
            other => return Err(ClientError::Unexpected(format!("{other:?}"))),
        }
        self.receive()
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let bytes =
            serde_json::to_vec(request).map_err(|error| ClientError::Unexpected(error.to_string()))?;
        Ok(self.channel.send(&bytes, &[])?)
    }

    fn receive(&mut self) -> Result<Reply, ClientError> {
        let (frame, _) = self.channel.recv()?;
        match serde_json::from_slice(&frame) {
            Ok(Reply::Failed(failure)) => Err(ClientError::Refused(failure)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        }
    }
}

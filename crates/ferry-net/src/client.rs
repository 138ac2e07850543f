//! The engine's end of `network.sock`: one blocking request at a time.

use std::io;
use std::path::Path;

use ferry_sys::channel::{Channel, ChannelError};

use crate::protocol::{Failure, Reply, Request, VERSION};

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
}

impl Client {
    /// Connects to the service of a run root and checks its version.
    pub fn connect(run_root: &Path) -> Result<Self, ClientError> {
        let path = crate::service::socket_path(run_root);
        let channel = Channel::connect(&path).map_err(ClientError::Connect)?;
        let mut client = Self { channel };
        match client.call(&Request::Hello)? {
            Reply::Hello { version: VERSION } => Ok(client),
            Reply::Hello { version } => Err(ClientError::Version { found: version }),
            other => Err(ClientError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sends a request and waits for its answer; a refusal is an error.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let unexpected = |error: serde_json::Error| ClientError::Unexpected(error.to_string());
        let bytes = serde_json::to_vec(request).map_err(unexpected)?;
        self.channel.send(&bytes, &[])?;
        let (frame, _) = self.channel.recv()?;
        match serde_json::from_slice(&frame).map_err(unexpected)? {
            Reply::Failed(failure) => Err(ClientError::Refused(failure)),
            reply => Ok(reply),
        }
    }
}

//! What can go wrong with a call.

use std::io;

use crate::ApiError;

/// A call that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answers at the engine's address.
    #[error("cannot connect to the engine at {host}")]
    Connect {
        /// The address.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer came.
    #[error("the engine at {host} broke off before it answered")]
    Request {
        /// The address.
        host: String,
        /// What hyper saw.
        #[source]
        source: hyper::Error,
    },
    /// The connection broke within the answer.
    #[error("the engine's answer broke off")]
    Body(#[source] hyper::Error),
    /// The engine refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The answer is not what this endpoint gives.
    #[error("cannot read the engine's answer to {path}")]
    Decode {
        /// The path asked.
        path: String,
        /// Where it fails.
        #[source]
        source: crate::DecodeError,
    },
    /// The peer does not speak the protocol.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// A raw stream failed.
    #[error("the stream to the engine failed")]
    Stream(#[source] io::Error),
}

impl ClientError {
    pub(super) fn protocol(text: impl Into<String>) -> Self {
        ClientError::Protocol(text.into())
    }

    /// The HTTP status, where the engine refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Api(error) => Some(error.status),
            _ => None,
        }
    }

    /// Did the engine say that the thing does not exist?
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

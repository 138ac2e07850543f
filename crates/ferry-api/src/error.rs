//! The error body of the API and the status each class of failure answers with.

use serde::{Deserialize, Serialize};

/// A refusal: the HTTP status and the text that clients show (and match on).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub status: u16,
    /// The text, as Docker words it.
    pub message: String,
}

/// The JSON body of an error answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// The text of the error.
    pub message: String,
}

impl ApiError {
    /// An error with this status and text.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into() }
    }

    /// 400: the request is wrong in itself.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 401: credentials are missing or wrong.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, message)
    }

    /// 403: the caller may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404: the thing named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 409: the state of things does not allow this now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// 500: the engine failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    /// 501: known, and not served.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, message)
    }

    /// 503: not in this state of the node.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message)
    }

    /// `No such container: NAME`.
    pub fn no_such_container(name: &str) -> Self {
        Self::not_found(format!("No such container: {name}"))
    }

    /// `No such image: NAME`.
    pub fn no_such_image(name: &str) -> Self {
        Self::not_found(format!("No such image: {name}"))
    }

    /// The JSON body that carries this error.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { message: self.message.clone() }
    }

    /// Reads an error answer: the JSON body where there is one, else the body as text.
    pub fn from_response(status: u16, body: &[u8]) -> Self {
        let message = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) if !body.message.is_empty() => body.message,
            _ => String::from_utf8_lossy(body).trim().to_owned(),
        };
        ApiError { status, message }
    }
}

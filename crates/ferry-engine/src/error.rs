//! How a failure becomes Docker's answer: a status code and `{"message": ...}`.
//!
//! Every operation has its own error enum beside it; this file only turns one into HTTP. The texts are
//! part of the API (clients match on them), so they are written where the failure is known, never here.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// An operation's error that knows which HTTP status Docker answers for it.
pub trait HttpStatus: std::error::Error {
    /// The status of the answer.
    fn status(&self) -> StatusCode;
}

impl HttpStatus for ferry_api::ApiError {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A refusal or failure as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// Status of the answer.
    pub status: StatusCode,
    /// The text clients show.
    pub message: String,
}

impl HttpError {
    /// An answer with this status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 409: the request clashes with what is there.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 500: the engine or the host failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 501: a part of the API that this platform does not have.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 503: not now, or not on this node.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// 304: already as asked; the answer has no body.
    pub fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "")
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl<E: HttpStatus> From<E> for HttpError {
    fn from(error: E) -> Self {
        Self::new(error.status(), error_chain(&error))
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        let body = serde_json::json!({ "message": self.message }).to_string() + "\n";
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// An error with its causes, `a: b: c`, each said once: many errors already repeat their source.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("write record {path}")]
    struct Outer {
        path: &'static str,
        #[source]
        source: std::io::Error,
    }

    impl HttpStatus for Outer {
        fn status(&self) -> StatusCode {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }

    #[test]
    fn causes_are_told_once() {
        let error = HttpError::from(Outer { path: "/x", source: std::io::Error::other("disk full") });
        assert_eq!(error.message, "write record /x: disk full");
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

//! Why a request is not served: status, the specification's code, and a message for people.

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use crate::body::Body;

/// The specification's error codes, and the one that registries add for catalogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    TagInvalid,
    PaginationNumberInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl Code {
    /// The code on the wire and the status that goes with it.
    fn on_the_wire(self) -> (&'static str, StatusCode) {
        match self {
            Code::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Code::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST),
            Code::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Code::DigestInvalid => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Code::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Code::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST),
            Code::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Code::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Code::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Code::SizeInvalid => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Code::TagInvalid => ("TAG_INVALID", StatusCode::BAD_REQUEST),
            Code::PaginationNumberInvalid => ("PAGINATION_NUMBER_INVALID", StatusCode::BAD_REQUEST),
            Code::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
            Code::Denied => ("DENIED", StatusCode::FORBIDDEN),
            Code::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Code::TooManyRequests => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
            Code::Unknown => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// A request that is refused.
#[derive(Debug)]
pub struct Refusal {
    code: Code,
    status: StatusCode,
    message: String,
    detail: Option<Box<serde_json::Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What only the operator is told.
    pub(crate) internal: Option<String>,
}

impl Refusal {
    /// A refusal with its code's own status.
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        let (_, status) = code.on_the_wire();
        Refusal { code, status, message: message.into(), detail: None, headers: Vec::new(), internal: None }
    }

    /// A fault of this registry; the client learns nothing of its inside.
    pub fn fault(error: impl std::fmt::Display) -> Refusal {
        Refusal {
            internal: Some(error.to_string()),
            ..Refusal::new(Code::Unknown, "the registry cannot do this now; its log says why")
        }
    }

    /// With another status.
    pub fn status(mut self, status: StatusCode) -> Refusal {
        self.status = status;
        self
    }

    /// With details for programs.
    pub fn detail(mut self, detail: serde_json::Value) -> Refusal {
        self.detail = Some(Box::new(detail));
        self
    }

    /// With a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Refusal {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The answer on the wire.
    pub fn into_response(self) -> Response<Body> {
        let (code, _) = self.code.on_the_wire();
        let mut error = json!({ "code": code, "message": self.message });
        if let Some(detail) = self.detail {
            error["detail"] = *detail;
        }
        let mut response = Response::new(Body::from(json!({ "errors": [error] }).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Refusal {
                internal: Some(error.to_string()),
                ..Refusal::new(Code::Denied, "the registry's disk is full")
                    .status(StatusCode::INSUFFICIENT_STORAGE)
            },
            _ => Refusal::fault(error),
        }
    }
}

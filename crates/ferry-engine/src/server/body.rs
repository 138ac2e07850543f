//! Request bodies: JSON read by Go's rules, with a limit, and absent bodies where Docker allows them.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::HttpError;

/// Largest JSON body read; create requests with thousands of labels stay far below.
const MAX_JSON_BODY: usize = 8 * 1024 * 1024;

/// A JSON body. An absent one reads as `{}` when the type allows it.
pub struct GoJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for GoJson<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, HttpError> {
        let (head, body) = request.into_parts();
        read(&head.headers, body).await.map(Self)
    }
}

/// Reads the JSON body of a request with these headers, for handlers that need the rest of the request themselves.
pub async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, HttpError> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let kind = content_type.map(|value| value.to_str().unwrap_or(""));
    let bytes = read_limited(body).await?;
    if let Some(found) = kind.filter(|kind| !bytes.is_empty() && !is_json(kind)) {
        return Err(HttpError::bad_request(format!(
            "unsupported Content-Type header ({found}): must be 'application/json'"
        )));
    }
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
    ferry_api::from_slice(text).map_err(|error| HttpError::bad_request(error.to_string()))
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("text/json")
}

async fn read_limited(body: Body) -> Result<bytes::Bytes, HttpError> {
    match Limited::new(body, MAX_JSON_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(HttpError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("request body is larger than {MAX_JSON_BODY} bytes"),
        )),
        Err(error) => Err(HttpError::bad_request(format!("read request body: {error}"))),
    }
}

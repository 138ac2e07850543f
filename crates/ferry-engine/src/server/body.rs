//! Request bodies: JSON read by Go's rules, with a limit, and absent bodies where Docker allows them.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::{StatusCode, header};
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
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type.is_some_and(|text| {
            let kind = text.split(';').next().unwrap_or("").trim();
            kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("text/json")
        });
        let found = content_type.unwrap_or("").to_owned();
        let bytes = read_limited(request.into_body()).await?;
        if !bytes.is_empty() && typed && !is_json {
            return Err(HttpError::bad_request(format!(
                "unsupported Content-Type header ({found}): must be 'application/json'"
            )));
        }
        let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
        Ok(Self(ferry_api::from_slice(text).map_err(|error| HttpError::bad_request(error.to_string()))?))
    }
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

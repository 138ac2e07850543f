//! `/v2/`, and what stands beside the API.

use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::{Answer, Call, json, page, status};
use crate::body::Body;
use crate::refusal::{Code, Refusal};

/// Says that this is a registry.
pub(super) fn base(_call: &Call) -> Answer {
    json(&serde_json::json!({}), "application/json")
}

/// Whatever is not under `/v2/`.
pub(super) fn open(call: &Call, path: &str) -> Answer {
    if !matches!(call.method, http::Method::GET | http::Method::HEAD) {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    match path {
        "/metrics" => {
            let totals = call.registry.catalog.totals().map_err(Refusal::fault)?;
            let text = call.registry.metrics.text(&totals, call.registry.uploads.count());
            Ok(text_answer(text, "text/plain; version=0.0.4"))
        }
        "/token" => token(call),
        "/healthz" => Ok(text_answer("ok\n".to_owned(), "text/plain")),
        path => Ok(page::file(path).unwrap_or_else(|| status(StatusCode::NOT_FOUND))),
    }
}

/// Gives a token, where the registry has users.
fn token(call: &Call) -> Answer {
    let guard = &call.registry.guard;
    if !guard.has_users() {
        return Ok(status(StatusCode::NOT_FOUND));
    }
    let scopes: Vec<&str> = call.query.all("scope").collect();
    let Some((token, seconds)) = guard.token(&call.user, &scopes) else {
        return Err(Refusal::new(Code::Unauthorized, "a token is given for a user's name and password")
            .header(WWW_AUTHENTICATE, &guard.basic_challenge()));
    };
    let issued = jiff::Timestamp::now().to_string();
    json(
        &serde_json::json!({ "token": token, "access_token": token, "expires_in": seconds, "issued_at": issued }),
        "application/json",
    )
}

fn text_answer(text: String, media_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

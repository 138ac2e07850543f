//! Blobs: sent whole or in part, and deleted.

use ferry_oci::Digest;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
};
use http::{Method, Response, StatusCode};

use super::{Answer, CONTENT_DIGEST, Call, blob_unknown, set, status};
use crate::body::Body;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::registry::{Registry, now};
use crate::routes::range::{Range, parse_range};

/// `GET` and `HEAD` of a blob.
pub(super) async fn get(call: &Call, name: &Name, digest: &Digest) -> Answer {
    let registry = &call.registry;
    let own = registry.catalog.blob(name, digest)?;
    let shelf = registry.settings.shelf.as_ref().filter(|_| own.is_none());
    let shelved = match shelf {
        Some(shelf) => Registry::shelved_size(shelf, name, digest).await?,
        None => None,
    };
    let (size, coming) = match own.or(shelved) {
        Some(size) => (size, None),
        None => match registry.pull_blob(name, digest).await? {
            Some(coming) => (coming.size, Some(coming)),
            None => return Err(blob_unknown(name, digest)),
        },
    };
    let head = call.method == Method::HEAD;
    if head && own.is_some() && !registry.settings.read_only {
        registry.catalog.touch(name, digest, now(), registry.settings.grace.as_secs()).await?;
    }
    let etag = format!("\"{digest}\"");
    if call.header(IF_NONE_MATCH).is_some_and(|wanted| wanted.split(',').any(|one| one.trim() == etag)) {
        return Ok(described(status(StatusCode::NOT_MODIFIED), digest));
    }
    let (code, start, end) = match call.header(RANGE).map(|range| parse_range(range, size)) {
        Some(Range::Part(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Range::Outside) => {
            return Err(Refusal::new(Code::SizeInvalid, format!("the blob has {size} bytes"))
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(CONTENT_RANGE, &format!("bytes */{size}")));
        }
        Some(Range::Ignored) | None => (StatusCode::OK, 0, size),
    };
    let mut response = described(status(code), digest);
    set(&mut response, CONTENT_TYPE, "application/octet-stream");
    set(&mut response, CONTENT_LENGTH, (end - start).to_string());
    if code == StatusCode::PARTIAL_CONTENT {
        set(&mut response, CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
    }
    if let (false, Some(coming)) = (head, coming) {
        let stream = Box::pin(coming.bytes(start, end));
        *response.body_mut() = Body::Coming { stream, length: end - start };
    } else if !head {
        let outbox = call.connected.outbox.clone();
        *response.body_mut() = match shelf {
            Some(shelf) => Registry::shelved_body(shelf, name, digest, (start, end)).await?,
            None => registry.blob_body(digest, size, (start, end), outbox).await?,
        };
    }
    Ok(response)
}

fn described(mut response: Response<Body>, digest: &Digest) -> Response<Body> {
    set(&mut response, CONTENT_DIGEST, digest.to_string());
    set(&mut response, ETAG, format!("\"{digest}\""));
    set(&mut response, ACCEPT_RANGES, "bytes");
    set(&mut response, CACHE_CONTROL, "max-age=31536000, immutable");
    response
}

/// `DELETE` of a blob.
pub(super) async fn delete(call: &Call, name: &Name, digest: &Digest) -> Answer {
    call.check_deletes()?;
    match call.registry.catalog.delete_blob(name, digest).await? {
        true => Ok(status(StatusCode::ACCEPTED)),
        false => Err(blob_unknown(name, digest)),
    }
}

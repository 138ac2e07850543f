//! Uploads: monolithic, streamed, in chunks; mounts; status and cancel.

use ferry_oci::{Algorithm, Digest};
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::{Answer, Call, What, created, path, set, status};
use crate::body::Body;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::registry::now;
use crate::routes::range::parse_chunk;
use crate::upload::Held;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

fn blob_location(name: &Name, digest: &Digest) -> String {
    format!("/v2/{name}/blobs/{digest}")
}

/// Where an upload stands: its place, and the bytes that are there.
fn progress(code: StatusCode, name: &Name, held: &Held<'_>) -> Response<Body> {
    let mut response = status(code);
    set(&mut response, LOCATION, format!("/v2/{name}/blobs/uploads/{}", held.id()));
    // Docker's own registry says `0-0` for nothing too.
    set(&mut response, RANGE, format!("0-{}", held.size().saturating_sub(1)));
    set(&mut response, UPLOAD_ID, held.id());
    response
}

/// `POST`: a mount, a whole blob, or the begin of an upload.
pub(super) async fn begin(call: &Call, name: &Name, body: Incoming) -> Answer {
    let registry = &call.registry;
    registry.check_push(name)?;
    if let Some(text) = call.query.get("mount") {
        let digest = path::digest(text)?;
        if mount(call, name, &digest).await? {
            call.tell("mount", name, What { digest: Some(&digest), ..What::default() });
            return Ok(created(&blob_location(name, &digest), &digest));
        }
    }
    let digest = call.digest()?;
    let algorithm = match (&digest, call.query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(other)) => {
            return Err(Refusal::new(
                Code::DigestInvalid,
                format!("digests of kind {other:?} are not supported"),
            ));
        }
    };
    let mut held = registry.uploads.begin(name, algorithm)?;
    match digest {
        Some(digest) => finish(call, name, held, &digest, body).await,
        None if body.is_end_stream() => Ok(progress(StatusCode::ACCEPTED, name, &held)),
        // Some clients send the first bytes at once.
        None => {
            append(call, &mut held, body).await?;
            Ok(progress(StatusCode::ACCEPTED, name, &held))
        }
    }
}

/// Takes a blob from the repository that the query names, or from any that its user may pull from.
async fn mount(call: &Call, name: &Name, digest: &Digest) -> Result<bool, Refusal> {
    let registry = &call.registry;
    let sources = match call.query.get("from") {
        Some(from) => vec![from.to_owned()],
        None => registry.catalog.holders(digest)?,
    };
    let sources: Vec<String> =
        sources.into_iter().filter(|source| registry.guard.may_pull(&call.user, source)).collect();
    let Some(size) = registry.catalog.blob_anywhere(digest)? else { return Ok(false) };
    if registry.catalog.blob(name, digest)?.is_none() {
        registry.check_quota(name, size)?;
    }
    Ok(registry.catalog.mount(name, digest, sources, now()).await?)
}

/// `GET`: how far it is.
pub(super) fn status_of(call: &Call, name: &Name, id: &str) -> Answer {
    let held = call.registry.uploads.take(name, id)?;
    Ok(progress(StatusCode::NO_CONTENT, name, &held))
}

/// `DELETE`: gives it up.
pub(super) fn cancel(call: &Call, name: &Name, id: &str) -> Answer {
    call.registry.uploads.take(name, id)?.finish();
    Ok(status(StatusCode::NO_CONTENT))
}

/// `PATCH`: a chunk, or all of it as a stream.
pub(super) async fn patch(call: &Call, name: &Name, id: &str, body: Incoming) -> Answer {
    call.registry.check_push(name)?;
    let mut held = call.registry.uploads.take(name, id)?;
    check_chunk(call, name, &held)?;
    append(call, &mut held, body).await?;
    Ok(progress(StatusCode::ACCEPTED, name, &held))
}

/// `PUT`: the last bytes, and the digest of them all.
pub(super) async fn put(call: &Call, name: &Name, id: &str, body: Incoming) -> Answer {
    call.registry.check_push(name)?;
    let digest = call.digest()?.ok_or_else(|| {
        Refusal::new(
            Code::DigestInvalid,
            "the upload cannot be finished without its digest: ?digest=ALGORITHM:HEX",
        )
    })?;
    let held = call.registry.uploads.take(name, id)?;
    check_chunk(call, name, &held)?;
    finish(call, name, held, &digest, body).await
}

async fn finish(call: &Call, name: &Name, mut held: Held<'_>, digest: &Digest, body: Incoming) -> Answer {
    if !body.is_end_stream() {
        append(call, &mut held, body).await?;
    }
    call.registry.finish_upload(held, name, digest).await?;
    Ok(created(&blob_location(name, digest), digest))
}

async fn append(call: &Call, held: &mut Held<'_>, body: Incoming) -> Result<(), Refusal> {
    let pieces = body.into_data_stream().map_err(|error| error.to_string());
    held.append(pieces, call.registry.settings.max_blob, |_| {}).await
}

/// A chunk must begin where the upload ends, and be as long as it says.
fn check_chunk(call: &Call, name: &Name, held: &Held<'_>) -> Result<(), Refusal> {
    let Some(text) = call.header(CONTENT_RANGE) else { return Ok(()) };
    let Some((first, last)) = parse_chunk(text) else {
        return Err(Refusal::new(
            Code::BlobUploadInvalid,
            format!("Content-Range {text:?} is not FIRST-LAST"),
        ));
    };
    if first != held.size() {
        let message =
            format!("the upload has {} bytes, so the next chunk begins there, not at {first}", held.size());
        let now = progress(StatusCode::RANGE_NOT_SATISFIABLE, name, held);
        let mut refusal =
            Refusal::new(Code::BlobUploadInvalid, message).status(StatusCode::RANGE_NOT_SATISFIABLE);
        for (name, value) in now.headers() {
            refusal = refusal.header(name.clone(), value.to_str().unwrap_or_default());
        }
        return Err(refusal);
    }
    match call.content_length() {
        Some(length) if length != last - first + 1 => Err(Refusal::new(
            Code::SizeInvalid,
            format!("Content-Range {text} does not have the Content-Length's {length} bytes"),
        )),
        _ => Ok(()),
    }
}

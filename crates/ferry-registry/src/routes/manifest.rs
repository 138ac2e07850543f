//! Manifests: sent, put, deleted.

use ferry_oci::{Digest, Hasher};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, WARNING};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;

use super::{Answer, CONTENT_DIGEST, Call, What, created, path, set, status};
use crate::body::Body;
use crate::catalog::{ManifestRecord, NewManifest};
use crate::manifest::{self, Parsed, SIZE_MAX};
use crate::name::{Name, Reference, is_tag};
use crate::refusal::{Code, Refusal};
use crate::registry::now;
use crate::upstream::Found;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Most tags that one request may set.
const TAGS_MAX: usize = 32;

pub(super) fn unknown(name: &Name, reference: &Reference) -> Refusal {
    let text = match reference {
        Reference::Tag(tag) => tag.clone(),
        Reference::Digest(digest) => digest.to_string(),
    };
    Refusal::new(Code::ManifestUnknown, format!("{name} has no manifest {text}"))
        .detail(json!({ "name": name.as_str(), "reference": text }))
}

fn tag_of(reference: &Reference) -> Option<&str> {
    match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    }
}

/// `GET` and `HEAD` of a manifest.
pub(super) async fn get(call: &Call, name: &Name, reference: &Reference) -> Answer {
    let found = match &call.registry.settings.shelf {
        Some(shelf) => {
            let found = call.registry.shelved_manifest(shelf, name, reference).await?;
            found.map(|manifest| Found { manifest, stale: false })
        }
        None => call.registry.pull_manifest(name, reference).await?,
    };
    let Some(Found { manifest: found, stale }) = found else { return Err(unknown(name, reference)) };
    let digest = found.digest.to_string();
    if call.method == Method::GET {
        let tag = tag_of(reference);
        let (size, kind) = (found.record.size, found.record.media_type.as_str());
        let about = What { digest: Some(&found.digest), tag, media_type: Some(kind), size: Some(size) };
        call.tell("pull", name, about);
    }
    let etag = format!("\"{digest}\"");
    let known =
        call.header(IF_NONE_MATCH).is_some_and(|wanted| wanted.split(',').any(|one| one.trim() == etag));
    let mut response = status(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    set(&mut response, CONTENT_DIGEST, &digest);
    set(&mut response, ETAG, etag);
    if stale {
        set(&mut response, WARNING, "299 - \"the upstream does not answer; this is what it had before\"");
    }
    if !known {
        set(&mut response, CONTENT_TYPE, &found.record.media_type);
        set(&mut response, CONTENT_LENGTH, found.bytes.len().to_string());
        if call.method != Method::HEAD {
            *response.body_mut() = Body::from(found.bytes);
        }
    }
    Ok(response)
}

/// `PUT` of a manifest.
pub(super) async fn put(call: &Call, name: &Name, reference: &Reference, body: Incoming) -> Answer {
    let registry = &call.registry;
    registry.check_push(name)?;
    let bytes = collect(call, body).await?;
    let parsed = manifest::parse(call.header(CONTENT_TYPE), &bytes)?;
    let (digest, tags) = identity(call, reference, &bytes)?;
    let missing_children = missing_children(call, name, &parsed)?;
    let descriptor = manifest::descriptor(&parsed, &digest, bytes.len());
    let subject = parsed.subject.clone();
    let record = ManifestRecord::new(parsed, bytes.len() as u64, now());
    let (media_type, size) = (record.media_type.clone(), record.size);
    let new = NewManifest {
        name: name.clone(),
        digest: digest.clone(),
        record,
        bytes,
        tags: tags.clone(),
        descriptor,
        blobs_may_miss: registry.settings.sparse,
    };
    let put = match &registry.settings.shelf {
        Some(shelf) => registry.shelve(shelf, name, &tags, &new.record, &new.bytes).await.map(Ok)?,
        None => registry.catalog.put_manifest(new).await?,
    };
    if let Err(blob) = put {
        return Err(Refusal::new(
            Code::ManifestBlobUnknown,
            format!("{name} has no blob {blob}, which the manifest refers to"),
        )
        .detail(json!({ "digest": blob })));
    }
    for tag in tags.iter().map(|tag| Some(tag.as_str())).chain(tags.is_empty().then_some(None)) {
        let about = What { digest: Some(&digest), tag, media_type: Some(&media_type), size: Some(size) };
        call.tell("push", name, about);
    }
    let mut response = created(&format!("/v2/{name}/manifests/{digest}"), &digest);
    if let Some(subject) = subject {
        set(&mut response, SUBJECT, subject.to_string());
    }
    for tag in call.query.all("tag").take(TAGS_MAX) {
        if let Ok(tag) = http::HeaderValue::from_str(tag) {
            response.headers_mut().append(TAG, tag);
        }
    }
    if missing_children > 0 {
        let text =
            format!("299 - \"{missing_children} of the manifests that this index lists are not in {name}\"");
        set(&mut response, WARNING, text);
    }
    Ok(response)
}

async fn collect(call: &Call, body: Incoming) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        Refusal::new(Code::SizeInvalid, format!("a manifest has at most {SIZE_MAX} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if call.content_length().is_some_and(|length| length > SIZE_MAX) {
        return Err(too_large());
    }
    match Limited::new(body, SIZE_MAX as usize).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Refusal::new(Code::ManifestInvalid, format!("the body broke off: {error}"))),
    }
}

/// Its digest, and the tags that shall point to it.
fn identity(call: &Call, reference: &Reference, bytes: &[u8]) -> Result<(Digest, Vec<String>), Refusal> {
    match reference {
        Reference::Tag(tag) => Ok((Digest::sha256_of(bytes), vec![tag.clone()])),
        Reference::Digest(wanted) => {
            let mut hasher = Hasher::new(wanted.algorithm());
            hasher.update(bytes);
            let found = hasher.finish();
            if found != *wanted {
                let text = format!("the manifest sent has the digest {found}, not {wanted}");
                return Err(Refusal::new(Code::DigestInvalid, text)
                    .detail(json!({ "found": found, "expected": wanted })));
            }
            let tags: Vec<String> = call.query.all("tag").map(str::to_owned).collect();
            if tags.len() > TAGS_MAX {
                return Err(Refusal::new(
                    Code::TagInvalid,
                    format!("at most {TAGS_MAX} tags can be set at once"),
                ));
            }
            if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
                path::reference(tag)?;
                return Err(Refusal::new(Code::TagInvalid, "a tag is not valid"));
            }
            Ok((found, tags))
        }
    }
}

/// How many manifests of an index are not there. An index may be pushed for some of its platforms only.
fn missing_children(call: &Call, name: &Name, parsed: &Parsed) -> Result<usize, Refusal> {
    let mut missing = 0;
    for child in &parsed.children {
        missing += usize::from(call.registry.catalog.manifest_record(name.as_str(), child)?.is_none());
    }
    Ok(missing)
}

/// `DELETE` of a tag, or of a manifest with all its tags.
pub(super) async fn delete(call: &Call, name: &Name, reference: &Reference) -> Answer {
    call.check_deletes()?;
    let registry = &call.registry;
    let keep = !registry.settings.trash.is_zero();
    let deleted = match reference {
        Reference::Tag(tag) => registry.catalog.delete_tag(name, tag).await?,
        Reference::Digest(digest) => registry.catalog.delete_manifest(name, digest, keep, now()).await?,
    };
    match deleted {
        true => {
            let digest = match reference {
                Reference::Digest(digest) => Some(digest),
                Reference::Tag(_) => None,
            };
            call.tell("delete", name, What { digest, tag: tag_of(reference), ..What::default() });
            Ok(status(StatusCode::ACCEPTED))
        }
        false => Err(unknown(name, reference)),
    }
}

/// `POST /ferry/v1/trash?repository=NAME&digest=DIGEST`: has a deleted manifest back.
pub(super) async fn undelete(call: &Call) -> Answer {
    call.registry.check_writable()?;
    let name = path::name(call.query.get("repository").unwrap_or_default())?;
    let digest = call.digest()?.ok_or_else(|| Refusal::new(Code::DigestInvalid, "?digest= is not given"))?;
    match call.registry.catalog.undelete(&name, &digest, now()).await? {
        true => Ok(created(&format!("/v2/{name}/manifests/{digest}"), &digest)),
        false => Err(unknown(&name, &Reference::Digest(digest))),
    }
}

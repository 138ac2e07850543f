//! The web page, which is three files in this program, and what it asks for.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Call, json, manifest, path, set, status};
use crate::access::Action;
use crate::body::Body;
use crate::catalog::ManifestRecord;
use crate::manifest::is_index;
use crate::name::Name;
use crate::refusal::{Code, Refusal};

const JSON: &str = "application/json";
/// Most repositories in one answer.
const PAGE_MAX: usize = 500;
/// Repositories that are looked at for one search.
const SEARCH_MAX: usize = 100_000;
/// Largest configuration of an image that is shown.
const CONFIG_MAX: u64 = 1 << 20;
/// Nothing from elsewhere, and no page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
pub(super) fn file(path: &str) -> Option<Response<Body>> {
    let (text, media_type) = match path {
        "/" => (include_str!("../page/index.html"), "text/html; charset=utf-8"),
        "/page.css" => (include_str!("../page/page.css"), "text/css; charset=utf-8"),
        "/page.js" => (include_str!("../page/page.js"), "text/javascript; charset=utf-8"),
        _ => return None,
    };
    let mut response = Response::new(Body::from(text));
    set(&mut response, CONTENT_TYPE, media_type);
    set(&mut response, CONTENT_SECURITY_POLICY, POLICY);
    // A new version of the program has a new page.
    set(&mut response, CACHE_CONTROL, "no-cache");
    Some(response)
}

/// Refuses requests that another site's page makes with this user's login.
pub(super) fn check_origin(call: &Call) -> Result<(), Refusal> {
    let Some(origin) = call.header(ORIGIN) else { return Ok(()) };
    let (_, from) = origin.split_once("://").unwrap_or(("", origin));
    match call.header(HOST) == Some(from) {
        true => Ok(()),
        false => Err(Refusal::new(Code::Denied, "pages of other sites may not ask for this")),
    }
}

fn name_of(call: &Call, action: Action) -> Result<Name, Refusal> {
    let name = path::name(call.query.get("repository").unwrap_or_default())?;
    match call.registry.guard.may(&call.user, name.as_str(), action) {
        true => Ok(name),
        false => Err(Refusal::new(Code::Denied, format!("you may not do this in {name}"))),
    }
}

/// `GET repositories`: a part of the list, with numbers.
pub(super) fn repositories(call: &Call) -> Answer {
    let catalog = &call.registry.catalog;
    let wanted = call.query.get("q").unwrap_or_default();
    let limit = call.query.get("n").and_then(|n| n.parse().ok()).unwrap_or(100).clamp(1, PAGE_MAX);
    let mut last = call.query.get("last").map(str::to_owned);
    let (mut found, mut looked_at, mut more) = (Vec::new(), 0, true);
    while more && found.len() < limit && looked_at < SEARCH_MAX {
        let page = catalog.repositories(last.as_deref(), PAGE_MAX)?;
        more = page.more;
        for name in page.names {
            if found.len() == limit {
                more = true;
                break;
            }
            looked_at += 1;
            if name.contains(wanted) && call.registry.guard.may_pull(&call.user, &name) {
                found.push(catalog.summary(&name)?);
            }
            last = Some(name);
        }
    }
    let value = json!({ "repositories": found, "last": last, "more": more, "totals": catalog.totals()? });
    json(&value, JSON)
}

/// `GET tags`: the tags of a repository with what they point to.
pub(super) fn tags(call: &Call) -> Answer {
    let name = name_of(call, Action::Pull)?;
    let catalog = &call.registry.catalog;
    let mut tags = Vec::new();
    for (tag, record) in catalog.tag_records(name.as_str())? {
        let Some(found) = catalog.manifest_record(name.as_str(), &record.digest)? else { continue };
        tags.push(json!({
            "tag": tag, "digest": record.digest, "set": record.set,
            "size": whole_size(call, &name, &found)?, "mediaType": found.media_type,
        }));
    }
    json(&tags, JSON)
}

/// Bytes of an image, or of all images of an index that are here.
fn whole_size(call: &Call, name: &Name, record: &ManifestRecord) -> Result<u64, Refusal> {
    let mut size =
        record.size.saturating_add(if is_index(&record.media_type) { 0 } else { record.listed_size });
    for child in &record.children {
        if let Some(child) = call.registry.catalog.manifest_record(name.as_str(), child)? {
            size = size.saturating_add(child.size).saturating_add(child.listed_size);
        }
    }
    Ok(size)
}

/// `GET manifest`: a manifest, and its image's configuration where it has one.
pub(super) async fn manifest(call: &Call) -> Answer {
    let name = name_of(call, Action::Pull)?;
    let reference = path::reference(call.query.get("reference").unwrap_or_default())?;
    let found = call.registry.pull_manifest(&name, &reference).await?;
    let found = found.ok_or_else(|| manifest::unknown(&name, &reference))?.manifest;
    let document: Value = serde_json::from_slice(&found.bytes).map_err(Refusal::fault)?;
    let mut value = json!({ "digest": found.digest, "mediaType": found.record.media_type, "config": null });
    if let Some(config) = config(call, &name, &document["config"]) {
        value["config"] = config;
    }
    value["manifest"] = document;
    json(&value, JSON)
}

/// The configuration, where it is an image's and here.
fn config(call: &Call, name: &Name, descriptor: &Value) -> Option<Value> {
    let digest = path::digest(descriptor["digest"].as_str()?).ok()?;
    let size = call.registry.catalog.blob(name, &digest).ok()??;
    let text = (size <= CONFIG_MAX).then(|| std::fs::read(call.registry.files.blob(&digest)).ok())??;
    serde_json::from_slice::<Value>(&text).ok().filter(Value::is_object)
}

/// `POST delete`: a tag, or a manifest with its tags.
pub(super) async fn delete(call: &Call) -> Answer {
    let name = name_of(call, Action::Delete)?;
    let reference = path::reference(call.query.get("reference").unwrap_or_default())?;
    manifest::delete(call, &name, &reference).await?;
    Ok(status(StatusCode::ACCEPTED))
}

//! Lists: repositories, tags, referrers.

use ferry_oci::Digest;
use http::Response;
use http::header::{HeaderName, LINK};
use serde_json::json;

use super::{Answer, Call, json, set};
use crate::body::Body;
use crate::catalog::Page;
use crate::manifest::OCI_INDEX;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::registry::Registry;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Names in one answer where the client does not say.
const CATALOG_DEFAULT: usize = 100;
/// Most names in one answer, whatever the client says.
const PAGE_MAX: usize = 10_000;

fn limit(call: &Call, default: usize) -> Result<usize, Refusal> {
    match call.query.get("n") {
        None => Ok(default),
        Some(text) => text.parse::<usize>().map(|limit| limit.min(PAGE_MAX)).map_err(|_| {
            Refusal::new(Code::PaginationNumberInvalid, "n is not a number")
                .detail(json!({ "n": text.chars().take(100).collect::<String>() }))
        }),
    }
}

/// Names the next page, where there is one.
fn link(response: &mut Response<Body>, path: &str, page: &Page, limit: usize) {
    if let (true, Some(last)) = (page.more, page.names.last()) {
        set(response, LINK, format!("<{path}?n={limit}&last={}>; rel=\"next\"", last.replace('/', "%2F")));
    }
}

/// `GET /v2/_catalog`, in Docker's form.
pub(super) async fn catalog(call: &Call) -> Answer {
    let (limit, last) = (limit(call, CATALOG_DEFAULT)?, call.query.get("last"));
    let mut page = match &call.registry.settings.shelf {
        Some(shelf) => Registry::shelved_names(shelf, last, limit).await?,
        None => call.registry.catalog.repositories(last, limit)?,
    };
    let whole = Page { names: page.names.clone(), more: page.more };
    page.names.retain(|name| call.registry.guard.may_pull(&call.user, name));
    let mut response = json(&json!({ "repositories": page.names }), "application/json")?;
    link(&mut response, "/v2/_catalog", &whole, limit);
    Ok(response)
}

/// `GET /v2/NAME/tags/list`.
pub(super) async fn tags(call: &Call, name: &Name) -> Answer {
    let (limit, last) = (limit(call, PAGE_MAX)?, call.query.get("last"));
    let page = match &call.registry.settings.shelf {
        Some(shelf) => Registry::shelved_tags(shelf, name, last, limit).await?,
        None if !call.registry.catalog.has_repository(name)? => None,
        None => Some(call.registry.catalog.tags(name, last, limit)?),
    };
    let unknown = || {
        Refusal::new(Code::NameUnknown, format!("there is no repository {name}"))
            .detail(json!({ "name": name.as_str() }))
    };
    let page = page.ok_or_else(unknown)?;
    let mut response = json(&json!({ "name": name.as_str(), "tags": page.names }), "application/json")?;
    link(&mut response, &format!("/v2/{name}/tags/list"), &page, limit);
    Ok(response)
}

/// `GET /v2/NAME/referrers/DIGEST`: an index, empty where nothing refers to it.
pub(super) fn referrers(call: &Call, name: &Name, subject: &Digest) -> Answer {
    let mut manifests = call.registry.catalog.referrers(name, subject)?;
    let wanted = call.query.get("artifactType");
    if let Some(wanted) = wanted {
        manifests.retain(|manifest| manifest["artifactType"] == wanted);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut response = json(&index, OCI_INDEX)?;
    if wanted.is_some() {
        set(&mut response, FILTERS_APPLIED, "artifactType");
    }
    Ok(response)
}

//! `/ferry/v1/`: what the web page asks for, and the trash, scrub, retention and collection, now rather than at their time.

use http::{Method, StatusCode};
use serde_json::json;

use super::{Answer, Call, json, manifest, page, status};

const JSON: &str = "application/json";

/// Does a task.
pub(super) async fn task(call: &Call, task: &str) -> Answer {
    let reads = call.method != Method::POST;
    page::check_origin(call)?;
    let registry = &call.registry;
    match (task, reads) {
        ("trash", true) => {
            let mut entries = registry.catalog.trash()?;
            entries.retain(|entry| registry.guard.may_pull(&call.user, &entry.repository));
            json(&entries, JSON)
        }
        ("repositories", true) => page::repositories(call),
        ("tags", true) => page::tags(call),
        ("manifest", true) => page::manifest(call).await,
        ("delete", false) => page::delete(call).await,
        ("trash", false) => manifest::undelete(call).await,
        ("scrub", false) => json(&registry.scrub().await?, JSON),
        ("retain", false) => {
            registry.check_writable()?;
            json(&registry.retain().await?, JSON)
        }
        ("collect", false) => json(&json!({ "freed": registry.collect().await? }), JSON),
        _ => Ok(status(StatusCode::NOT_FOUND)),
    }
}

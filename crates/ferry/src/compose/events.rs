//! `events`.

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_api::event::Event;
use ferry_api::{Call, Filters};
use ferry_compose::labels;
use serde_json::json;

crate::flags! {
    /// Flags of `events`.
    pub struct EventsFlags {
        json: bool = '-' "json" "Output events as a stream of json objects";
        since: String = '-' "since" <string> "Show all events created since timestamp";
        until: String = '-' "until" <string> "Stream events until this timestamp";
    }
}

/// Runs `events`.
pub async fn events(compose: &Compose, flags: EventsFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let mut filters = Filters::default();
    filters.add("type", "container");
    filters.add("label", labels::of_project(&target.project.name));
    let time = |text: &str| {
        if text.is_empty() { Ok(String::new()) } else { output::time::query(text).map_err(Failure::new) }
    };
    let call = Call::get("/events")
        .query("filters", filters.to_json())
        .query_text("since", &time(&flags.since)?)
        .query_text("until", &time(&flags.until)?);
    let mut events = engine.client.call(call).await?.json_lines::<Event>();
    loop {
        let next = tokio::select! {
            next = events.next() => next?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::silent(130)),
        };
        let Some(event) = next else { return Ok(0) };
        let service = event.actor.attributes.get(labels::SERVICE).cloned().unwrap_or_default();
        if services.is_empty() || services.contains(&service) {
            output::line(&show(&event, &service, flags.json))?;
        }
    }
}

fn show(event: &Event, service: &str, as_json: bool) -> String {
    let attributes: serde_json::Map<String, serde_json::Value> = event
        .actor
        .attributes
        .iter()
        .filter(|(key, _)| !key.starts_with("com.docker.compose."))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let time = output::time::local_nanoseconds(event.time_nano);
    if as_json {
        return json!({
            "time": time, "type": "container", "action": event.action, "id": event.actor.id,
            "service": service, "attributes": attributes,
        })
        .to_string();
    }
    let shown: Vec<String> = attributes
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    format!("{time} container {} {} ({})", event.action, event.actor.id, shown.join(", "))
}

//! `events`.

use ferry_api::Call;
use ferry_api::event::Event;

use crate::commands::filters;
use crate::failure::{Failure, Outcome};
use crate::output::{self, format, time};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `events`.
    pub struct EventsFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Format output using a custom template: 'json' or 'TEMPLATE'";
        since: String = '-' "since" <string> "Show all events created since timestamp";
        until: String = '-' "until" <string> "Stream events until this timestamp";
    }
}

/// Runs `events`.
pub async fn events(session: &Session, flags: EventsFlags, _arguments: Vec<String>) -> Outcome {
    let filters = filters(&flags.filter)?;
    let moment = |flag: &str, value: &str| {
        time::query(value).map_err(|reason| Failure::new(format!("invalid value for --{flag}: {reason}")))
    };
    let mut call = Call::get("/events")
        .query_text("since", &moment("since", &flags.since)?)
        .query_text("until", &moment("until", &flags.until)?);
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let mut stream = session.engine().await?.call(call).await?.json_lines::<serde_json::Value>();
    while let Some(json) = stream.next().await? {
        let text = match flags.format.as_str() {
            "" => {
                let event: Event =
                    serde_json::from_value(json).map_err(|error| Failure::from_error(&error))?;
                text(&event)
            }
            "json" => format!("{json}\n"),
            format => format::object(format, &Value::from(&json))?,
        };
        output::write(text.as_bytes())?;
    }
    Ok(0)
}

/// `TIME container start ID (image=busybox, name=web)`
fn text(event: &Event) -> String {
    let when = match event.time_nano {
        0 => time::local(event.time),
        nanoseconds => time::local_nanoseconds(nanoseconds),
    };
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let attributes = match attributes.is_empty() {
        true => String::new(),
        false => format!(" ({})", attributes.join(", ")),
    };
    format!("{when} {} {} {}{attributes}\n", event.kind, event.action, event.actor.id)
}

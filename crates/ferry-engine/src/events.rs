//! What happened, told to whoever listens: the last events in a ring and a live feed.
//!
//! Subscribing and looking back are one step under one lock, so a listener neither misses nor repeats an
//! event between the two. A listener too slow for the feed loses events; it never holds anyone up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use ferry_api::Filters;
use ferry_api::event::{Actor, Event};
use jiff::Timestamp;
use tokio::sync::broadcast;

/// How many past events `since` can reach, as in Docker.
const REMEMBERED: usize = 256;
/// How many events a live listener may be behind.
const FEED: usize = 4096;

/// Keys that `filters` of the events endpoint may have.
pub const FILTER_KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The engine's events.
pub struct EventHub {
    ring: Mutex<VecDeque<Arc<Event>>>,
    feed: broadcast::Sender<Arc<Event>>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self { ring: Mutex::new(VecDeque::new()), feed: broadcast::Sender::new(FEED) }
    }
}

impl EventHub {
    /// Tells everyone that `action` happened to the object `id` of this kind.
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = Timestamp::now();
        let event = Arc::new(Event {
            kind: kind.into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes },
            scope: "local".into(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            ..Event::default()
        });
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == REMEMBERED {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // Nobody listening is no error.
        let _ = self.feed.send(event);
    }

    /// The remembered events from `since` on (none without it) and every later one.
    pub fn subscribe(&self, since: Option<Timestamp>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let past = since.map(|since| {
            ring.iter()
                .filter(|event| i128::from(event.time_nano) >= since.as_nanosecond())
                .cloned()
                .collect()
        });
        (past.unwrap_or_default(), self.feed.subscribe())
    }

    /// How many listen now.
    pub fn listeners(&self) -> usize {
        self.feed.receiver_count()
    }
}

/// Does the event pass the filters?
pub fn matches(filters: &Filters, event: &Event) -> bool {
    let attributes = &event.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    let by_name = |key| {
        !filters.contains(key)
            || filters.get(key).any(|wanted| {
                event.kind == key && (event.actor.id.starts_with(wanted) || name.starts_with(wanted))
            })
    };
    matches_action(filters, &event.action)
        && filters.exact_match("type", &event.kind)
        && filters.exact_match("scope", &event.scope)
        && ["container", "network", "volume", "plugin", "daemon", "node", "service", "secret", "config"]
            .into_iter()
            .all(by_name)
        && matches_image(filters, event)
        && filters.match_labels("label", attributes)
}

/// `exec_start: sh` and `health_status: healthy` are also found by their first word.
fn matches_action(filters: &Filters, action: &str) -> bool {
    let word = action.split(':').next().unwrap_or(action);
    filters.exact_match("event", action) || filters.exact_match("event", word)
}

fn matches_image(filters: &Filters, event: &Event) -> bool {
    if !filters.contains("image") {
        return true;
    }
    let attribute = if event.kind == "image" { "name" } else { "image" };
    let name = event.actor.attributes.get(attribute).map_or("", String::as_str);
    let without_tag = |name: &str| match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
        _ => name.to_owned(),
    };
    let (short_id, short_name) = (without_tag(&event.actor.id), without_tag(name));
    filters.get("image").any(|wanted| {
        [event.actor.id.as_str(), name, &short_id, &short_name].into_iter().any(|it| it == wanted)
    })
}

/// The event as clients before 1.52 read it: who and what repeated at the top.
pub fn with_legacy_fields(event: &Event) -> Event {
    let mut event = event.clone();
    if event.kind == "container" || event.kind == "image" {
        event.status.clone_from(&event.action);
        event.id.clone_from(&event.actor.id);
    }
    if event.kind == "container" {
        event.from = event.actor.attributes.get("image").cloned().unwrap_or_default();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Event {
            kind: kind.into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes },
            scope: "local".into(),
            ..Event::default()
        }
    }

    #[test]
    fn filters_choose() {
        let die =
            event("container", "die", "abc123", &[("name", "web"), ("image", "nginx:1"), ("tier", "front")]);
        let probe = event("container", "exec_start: /bin/sh", "abc123", &[("name", "web")]);
        let pull = event("image", "pull", "nginx:1", &[("name", "nginx:1")]);
        for (filter, event, expected) in [
            (r#"{}"#, &die, true),
            (r#"{"event":["die"]}"#, &die, true),
            (r#"{"event":["start","die"]}"#, &die, true),
            (r#"{"event":["start"]}"#, &die, false),
            (r#"{"event":["exec_start"]}"#, &probe, true),
            (r#"{"container":["web"]}"#, &die, true),
            (r#"{"container":["abc"]}"#, &die, true),
            (r#"{"container":["other"]}"#, &die, false),
            (r#"{"container":["nginx"]}"#, &pull, false),
            (r#"{"image":["nginx"]}"#, &die, true),
            (r#"{"image":["nginx:1"]}"#, &pull, true),
            (r#"{"image":["redis"]}"#, &pull, false),
            (r#"{"label":["tier=front"]}"#, &die, true),
            (r#"{"label":["tier=back"]}"#, &die, false),
            (r#"{"type":["image"]}"#, &die, false),
            (r#"{"scope":["swarm"]}"#, &die, false),
        ] {
            let filters = Filters::parse(filter).unwrap();
            assert_eq!(matches(&filters, event), expected, "{filter} on {} {}", event.kind, event.action);
        }
    }

    #[test]
    fn the_ring_keeps_the_last_and_the_feed_goes_on() {
        let hub = EventHub::default();
        for number in 0..REMEMBERED + 3 {
            hub.emit("container", "start", &number.to_string(), BTreeMap::new());
        }
        let (past, mut live) = hub.subscribe(Some(Timestamp::UNIX_EPOCH));
        assert_eq!(past.len(), REMEMBERED);
        assert_eq!(past[0].actor.id, "3");
        hub.emit("container", "die", "x", BTreeMap::new());
        assert_eq!(live.try_recv().unwrap().action, "die");
        assert!(hub.subscribe(None).0.is_empty());
    }

    #[test]
    fn old_clients_get_their_fields() {
        let old = with_legacy_fields(&event("container", "die", "abc", &[("image", "nginx")]));
        assert_eq!((old.status.as_str(), old.id.as_str(), old.from.as_str()), ("die", "abc", "nginx"));
        assert_eq!(with_legacy_fields(&event("network", "create", "n", &[])).status, "");
    }
}

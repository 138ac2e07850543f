//! `docker ps`: one line per container, chosen by filters.

mod lines;

use std::sync::Arc;

use ferry_api::Filters;
use ferry_api::container::Health;
use jiff::Timestamp;

pub use lines::Lines;

use super::Container;
use super::record::Record;
use super::registry::LookupError;
use super::state::Status;
use crate::clock;
use crate::engine::Engine;
use crate::error::HttpError;

/// Keys that `filters` may have.
pub const FILTER_KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// What a list request asks for.
pub struct ListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only so many, newest first.
    pub limit: Option<usize>,
    /// Which.
    pub filters: Filters,
}

/// The containers asked for, newest first.
pub fn list(engine: &Engine, request: &ListRequest) -> Result<Vec<Arc<Container>>, HttpError> {
    let chosen = Chosen::new(engine, &request.filters)?;
    let all = request.all || request.limit.is_some() || chosen.asks_for_stopped(&request.filters);
    let mut found: Vec<(Option<Timestamp>, Arc<Container>)> = Vec::new();
    for container in engine.containers.all() {
        // Records are looked at in place: copies of a thousand would take most of the answer's time.
        let inner = container.lock();
        let record = &inner.record;
        let created = clock::parse(&record.created);
        let running = matches!(record.state.status, Status::Running | Status::Paused | Status::Restarting);
        let wanted = (all || running) && chosen.matches(&request.filters, record, created);
        drop(inner);
        if wanted {
            found.push((created, container));
        }
    }
    found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    let limit = request.limit.unwrap_or(usize::MAX);
    Ok(found.into_iter().map(|(_, container)| container).take(limit).collect())
}

/// Filters with their values looked up once.
struct Chosen {
    statuses: Vec<Status>,
    exit_codes: Vec<i32>,
    images: Option<Vec<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    names: Vec<NamePattern>,
}

impl Chosen {
    fn new(engine: &Engine, filters: &Filters) -> Result<Self, HttpError> {
        let statuses = filters.get("status").map(|text| {
            Status::parse(text)
                .ok_or_else(|| HttpError::bad_request(format!("invalid filter 'status={text}'")))
        });
        let exit_codes = filters.get("exited").map(|text| {
            text.parse().map_err(|_| HttpError::bad_request(format!("invalid filter 'exited={text}'")))
        });
        for health in filters.get("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health) {
                return Err(HttpError::bad_request(format!(
                    "unrecognised filter value for health: {health}"
                )));
            }
        }
        let created = |key: &str| -> Result<Option<Timestamp>, LookupError> {
            let newest = filters.get(key).next().map(|name| engine.containers.find(name)).transpose()?;
            Ok(newest.and_then(|container| clock::parse(&container.lock().record.created)))
        };
        Ok(Self {
            statuses: statuses.collect::<Result<_, _>>()?,
            exit_codes: exit_codes.collect::<Result<_, _>>()?,
            images: filters.contains("ancestor").then(|| ancestors(engine, filters)),
            before: created("before")?,
            since: created("since")?,
            names: filters.get("name").map(NamePattern::new).collect::<Result<_, _>>()?,
        })
    }

    fn asks_for_stopped(&self, filters: &Filters) -> bool {
        !self.statuses.is_empty()
            || filters.contains("exited")
            || filters.contains("before")
            || filters.contains("since")
    }

    fn matches(&self, filters: &Filters, record: &Record, created: Option<Timestamp>) -> bool {
        let state = &record.state;
        let empty = Default::default();
        let labels = record.config.labels.as_ref().unwrap_or(&empty);
        let any =
            |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
        let ended = state.status == Status::Exited && state.finished_at != ferry_api::ZERO_TIME;
        (self.statuses.is_empty() || self.statuses.contains(&state.status))
            && (self.exit_codes.is_empty() || (ended && self.exit_codes.contains(&state.exit_code)))
            && self.images.as_ref().is_none_or(|images| images.contains(&record.image_id))
            && self.before.is_none_or(|before| created < Some(before))
            && self.since.is_none_or(|since| created > Some(since))
            && (self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(&record.name)))
            && any("id", &|prefix| record.id.starts_with(prefix))
            && any("health", &|wanted| health_word(state.health.as_ref()) == wanted)
            && any("volume", &|wanted| has_mount(record, wanted))
            && any("network", &|wanted| has_network(record, wanted))
            && any("expose", &|wanted| {
                port_given(record.config.exposed_ports.iter().flatten().map(|(p, _)| p), wanted)
            })
            && any("publish", &|wanted| {
                port_given(record.host_config.port_bindings.iter().flatten().map(|(p, _)| p), wanted)
            })
            && any("is-task", &|wanted| matches!(wanted, "false" | "0"))
            && filters.match_labels("label", labels)
    }
}

/// Ids of the images named, and of those made from them.
fn ancestors(engine: &Engine, filters: &Filters) -> Vec<String> {
    let named = filters.get("ancestor").filter_map(|name| engine.store.images().resolve(name).ok());
    let mut ids: Vec<String> = Vec::new();
    for image in named {
        let base = image.diff_ids();
        let descends =
            |other: &Arc<ferry_store::Image>| !base.is_empty() && other.diff_ids().starts_with(&base);
        ids.push(image.id.to_string());
        ids.extend(
            engine.store.images().list().into_iter().filter(descends).map(|other| other.id.to_string()),
        );
    }
    ids
}

/// A filter for names, of containers, networks and volumes: a regular expression, as Docker takes it.
pub struct NamePattern(regex_lite::Regex);

impl NamePattern {
    /// Reads it.
    pub fn new(text: &str) -> Result<Self, HttpError> {
        regex_lite::Regex::new(text)
            .map(Self)
            .map_err(|error| HttpError::bad_request(format!("invalid filter 'name={text}': {error}")))
    }

    /// Docker matches with and without the slash that its names of containers begin with.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name) || self.0.is_match(&format!("/{name}"))
    }
}

fn health_word(health: Option<&Health>) -> &str {
    health.map_or("none", |health| &health.status)
}

fn has_mount(record: &Record, wanted: &str) -> bool {
    record
        .mounts
        .iter()
        .any(|plan| plan.name == wanted || plan.destination == wanted || plan.source == wanted)
}

fn has_network(record: &Record, wanted: &str) -> bool {
    record.endpoints.iter().any(|(name, endpoint)| {
        name == wanted || (!wanted.is_empty() && endpoint.network_id.starts_with(wanted))
    })
}

/// `80`, `80/udp`, `8000-8010/tcp` against ports such as `80/tcp`.
fn port_given<'a>(ports: impl Iterator<Item = &'a String>, wanted: &str) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) else { return false };
    let mut ports = ports.map(|port| port.split_once('/').unwrap_or((port, "tcp")));
    ports.any(|(number, kind)| {
        kind == protocol && number.parse().is_ok_and(|port| (low..=high).contains(&port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_match_ranges() {
        let ports = ["80/tcp".to_owned(), "53/udp".to_owned()];
        for (wanted, found) in [
            ("80", true),
            ("80/udp", false),
            ("50-60/udp", true),
            ("70-90", true),
            ("x", false),
            ("81", false),
        ] {
            assert_eq!(port_given(ports.iter(), wanted), found, "{wanted}");
        }
    }

    #[test]
    fn names_match_as_expressions() {
        let matches = |pattern: &str, name: &str| NamePattern::new(pattern).unwrap().matches(name);
        assert!(matches("we", "web"));
        assert!(matches("^/web$", "web"));
        assert!(matches("^web$", "web"));
        assert!(!matches("^web$", "web2"));
        assert!(NamePattern::new("(").is_err());
    }
}

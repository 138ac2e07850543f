//! `docker ps`: one line per container, chosen by filters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::Filters;
use ferry_api::container::{Health, Port, Summary, SummaryHealth, SummaryHostConfig, SummaryNetworkSettings};
use jiff::Timestamp;

use super::Container;
use super::record::{Record, RunState};
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

/// A name filter: a part of the name, or the whole of it between `^` and `$`. Docker takes any regular
/// expression; what people and tools write are these.
struct NamePattern(regex_lite::Regex);

impl NamePattern {
    fn new(text: &str) -> Result<Self, HttpError> {
        regex_lite::Regex::new(text)
            .map(Self)
            .map_err(|error| HttpError::bad_request(format!("invalid filter 'name={text}': {error}")))
    }

    /// Docker matches with and without the slash that its names begin with.
    fn matches(&self, name: &str) -> bool {
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

/// Makes the lines of a list.
pub struct Lines<'a> {
    engine: &'a Engine,
    now: Timestamp,
    /// Without what the table of `ps` does not show: labels, networks, mounts.
    brief: bool,
    /// Images by the names that containers were made from.
    images: HashMap<String, Option<String>>,
}

impl<'a> Lines<'a> {
    /// Lines as of now.
    pub fn new(engine: &'a Engine, brief: bool) -> Self {
        Self { engine, now: Timestamp::now(), brief, images: HashMap::new() }
    }

    /// One line of the list.
    pub fn line(&mut self, container: &Container) -> Summary {
        let inner = container.lock();
        let record = &inner.record;
        let summary = Summary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)],
            image: self.image_name(record),
            image_id: record.image_id.clone(),
            command: command_text(&record.argv()),
            created: clock::parse(&record.created).map_or(0, Timestamp::as_second),
            ports: ports(record),
            state: record.state.status.as_str().into(),
            status: status_text(&record.state, self.now),
            health: record.state.health.as_ref().map(|health| SummaryHealth {
                status: health.status.clone(),
                failing_streak: health.failing_streak,
            }),
            ..Summary::default()
        };
        if self.brief {
            return summary;
        }
        Summary {
            labels: record.config.labels.clone().unwrap_or_default(),
            host_config: SummaryHostConfig {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: SummaryNetworkSettings { networks: record.endpoints.clone() },
            mounts: record.mounts.iter().map(|plan| plan.point()).collect(),
            ..summary
        }
    }

    /// The name the container was made from while it still means the same image, else the image's id.
    fn image_name(&mut self, record: &Record) -> String {
        let name = &record.config.image;
        if !self.images.contains_key(name) {
            let id = self.engine.store.images().resolve(name).ok().map(|image| image.id.to_string());
            self.images.insert(name.clone(), id);
        }
        match self.images.get(name) {
            Some(Some(id)) if *id == record.image_id => name.clone(),
            _ => record.image_id.clone(),
        }
    }
}

/// The command in one line; arguments with blanks stand in quotes, as Docker has it.
fn command_text(argv: &[String]) -> String {
    let mut words = argv.iter();
    let mut text = words.next().cloned().unwrap_or_default();
    for word in words {
        match word.contains(' ') {
            true => text.push_str(&format!(" '{word}'")),
            false => text.push_str(&format!(" {word}")),
        }
    }
    text
}

/// Published ports of a running container; exposed ones without a host side.
fn ports(record: &Record) -> Vec<Port> {
    if !record.state.status.has_process() {
        return Vec::new();
    }
    let split = |text: &str| {
        let (number, kind) = text.split_once('/').unwrap_or((text, "tcp"));
        number.parse::<u16>().ok().map(|number| (number, kind.to_owned()))
    };
    let mut ports = Vec::new();
    let published = &record.state.published;
    for (port, bindings) in published {
        let Some((private_port, protocol)) = split(port) else { continue };
        for binding in bindings.iter().flatten() {
            let public_port = binding.host_port.parse().unwrap_or(0);
            ports.push(Port {
                ip: binding.host_ip.clone(),
                private_port,
                public_port,
                protocol: protocol.clone(),
            });
        }
    }
    for (port, _) in record.config.exposed_ports.iter().flatten() {
        let bound = published.get(port).is_some_and(|bindings| bindings.is_some());
        if let Some((private_port, protocol)) = split(port).filter(|_| !bound) {
            ports.push(Port { private_port, protocol, ..Port::default() });
        }
    }
    ports.sort();
    ports
}

/// `Up 3 minutes (healthy)`, `Exited (0) 5 seconds ago`.
pub fn status_text(state: &RunState, now: Timestamp) -> String {
    let since = |text: &str| {
        let span =
            clock::parse(text).map(|time| Duration::try_from(now.duration_since(time)).unwrap_or_default());
        clock::human(span.unwrap_or_default())
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let health = match health_word(state.health.as_ref()) {
                "none" => String::new(),
                "starting" => " (health: starting)".into(),
                word => format!(" ({word})"),
            };
            format!("Up {}{health}", since(&state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(&state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Removing => "Removal In Progress".into(),
        Status::Exited if state.finished_at == ferry_api::ZERO_TIME => "Created".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Dead => "Dead".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts_are_dockers() {
        let now = Timestamp::new(1_000_000, 0).unwrap();
        let before = |seconds: i64| clock::format(Timestamp::new(1_000_000 - seconds, 0).unwrap());
        let state = |status| RunState {
            status,
            exit_code: 3,
            started_at: before(200),
            finished_at: before(5),
            ..RunState::default()
        };
        for (status, text) in [
            (Status::Created, "Created"),
            (Status::Running, "Up 3 minutes"),
            (Status::Paused, "Up 3 minutes (Paused)"),
            (Status::Restarting, "Restarting (3) 5 seconds ago"),
            (Status::Removing, "Removal In Progress"),
            (Status::Exited, "Exited (3) 5 seconds ago"),
            (Status::Dead, "Dead"),
        ] {
            assert_eq!(status_text(&state(status), now), text);
        }
        let health = Health { status: "starting".into(), ..Health::default() };
        let starting = RunState { health: Some(health), ..state(Status::Running) };
        assert_eq!(status_text(&starting, now), "Up 3 minutes (health: starting)");
    }

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

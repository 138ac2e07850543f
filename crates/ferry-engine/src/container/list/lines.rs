//! What a list says of each container: Docker's summary, or the few fields that the table of Ferry's own `ps` shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ferry_api::container::{Port, Summary, SummaryHealth, SummaryHostConfig, SummaryNetworkSettings};
use jiff::Timestamp;
use serde::Serialize;

use super::health_word;
use crate::clock;
use crate::container::Container;
use crate::container::record::{Record, RunState};
use crate::container::state::Status;
use crate::engine::Engine;

/// What the table of `ps` shows of one container, under the names of [`Summary`].
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BriefLine<'a> {
    id: &'a str,
    names: [String; 1],
    image: &'a str,
    command: String,
    created: i64,
    ports: Vec<Port>,
    status: String,
}

/// Makes the lines of a list.
pub struct Lines<'a> {
    engine: &'a Engine,
    now: Timestamp,
    /// Images by the names that containers were made from.
    images: HashMap<String, Option<String>>,
}

impl<'a> Lines<'a> {
    /// Lines as of now.
    pub fn new(engine: &'a Engine) -> Self {
        Self { engine, now: Timestamp::now(), images: HashMap::new() }
    }

    /// A JSON list with what the table of Ferry's own `ps` shows. Written as the records are looked at: of a thousand
    /// containers the whole lines are most of a megabyte, and tens of thousands of copied texts.
    pub fn brief(&mut self, containers: &[Arc<Container>]) -> serde_json::Result<Vec<u8>> {
        let mut list = Vec::with_capacity(containers.len() * 200 + 2);
        list.push(b'[');
        for (index, container) in containers.iter().enumerate() {
            if index > 0 {
                list.push(b',');
            }
            let inner = container.lock();
            let record = &inner.record;
            let line = BriefLine {
                id: &record.id,
                names: [format!("/{}", record.name)],
                image: self.image_name(record),
                command: command_text(&record.argv()),
                created: clock::parse(&record.created).map_or(0, Timestamp::as_second),
                ports: ports(record),
                status: status_text(&record.state, self.now),
            };
            serde_json::to_writer(&mut list, &line)?;
        }
        list.push(b']');
        Ok(list)
    }

    /// One line of the list.
    pub fn line(&mut self, container: &Container) -> Summary {
        let inner = container.lock();
        let record = &inner.record;
        Summary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)],
            image: self.image_name(record).to_owned(),
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
            labels: record.config.labels.clone().unwrap_or_default(),
            host_config: SummaryHostConfig {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: SummaryNetworkSettings { networks: record.endpoints.clone() },
            mounts: record.mounts.iter().map(|plan| plan.point()).collect(),
            ..Summary::default()
        }
    }

    /// The name the container was made from while it still means the same image, else the image's id.
    fn image_name<'r>(&mut self, record: &'r Record) -> &'r str {
        let name = &record.config.image;
        if !self.images.contains_key(name) {
            let id = self.engine.store.images().resolve(name).ok().map(|image| image.id.to_string());
            self.images.insert(name.clone(), id);
        }
        match self.images.get(name) {
            Some(Some(id)) if *id == record.image_id => name,
            _ => &record.image_id,
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
fn status_text(state: &RunState, now: Timestamp) -> String {
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
    use ferry_api::container::Health;

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
}

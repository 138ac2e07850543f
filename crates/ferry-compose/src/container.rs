//! A service as the engine's create request: every attribute in its place.
//!
//! Owns the mapping from the model to the API's types. Pure: container ids of shared namespaces and contents of
//! files are filled in by [`crate::apply`].

mod host;
mod mounts;
mod network;

pub use mounts::{FileContent, file_contents};
pub use network::{endpoints, primary_network};

use crate::labels;
use crate::model::{Healthcheck, Service};
use crate::project::Project;
use ferry_api::container::{Config, CreateRequest, Empty, HealthConfig, Set};
use std::collections::BTreeMap;

/// Everything a container's definition is made of.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The project.
    pub project: &'a Project,
    /// The service's name.
    pub name: &'a str,
    /// The service.
    pub service: &'a Service,
    /// The image's name.
    pub image: &'a str,
    /// The image's id, where it is there.
    pub image_id: Option<&'a str>,
    /// The configuration's hash.
    pub hash: &'a str,
    /// The same by Docker's algorithm.
    pub docker_hash: &'a str,
    /// The container's name.
    pub container_name: &'a str,
    /// Replica number; none for a container of `run`.
    pub number: Option<u32>,
    /// Real names of networks by key.
    pub networks: &'a BTreeMap<String, crate::model::Network>,
    /// Real names of volumes by key.
    pub volumes: &'a BTreeMap<String, crate::model::Volume>,
    /// Secrets by key.
    pub secrets: &'a BTreeMap<String, crate::model::Config>,
    /// Configs by key.
    pub configs: &'a BTreeMap<String, crate::model::Config>,
    /// Whether service and container name are aliases on its networks.
    pub aliases: bool,
}

/// The create request of one container.
pub fn create_request(wanted: &Wanted) -> CreateRequest {
    let service = wanted.service;
    let host = host::host_config(wanted);
    let config = Config {
        hostname: service.hostname.clone().unwrap_or_default(),
        domainname: service.domainname.clone().unwrap_or_default(),
        user: service.user.clone().unwrap_or_default(),
        attach_stdout: true,
        attach_stderr: true,
        exposed_ports: exposed_ports(service),
        tty: service.tty,
        open_stdin: service.stdin_open,
        env: Some(environment(service)),
        cmd: service.command.clone(),
        entrypoint: service.entrypoint.clone().map(empty_entrypoint),
        healthcheck: service.healthcheck.as_ref().and_then(health),
        image: wanted.image.to_owned(),
        working_dir: service.working_dir.clone().unwrap_or_default(),
        mac_address: service.mac_address.clone().unwrap_or_default(),
        labels: Some(container_labels(wanted)),
        stop_signal: service.stop_signal.clone().unwrap_or_default(),
        stop_timeout: service.stop_grace_period.map(|period| period.as_secs_f64().ceil() as i64),
        ..Config::default()
    };
    CreateRequest { config, host_config: Some(host), networking_config: network::networking_config(wanted) }
}

/// An empty entrypoint is sent as one empty word: the API takes an empty list for "the image's".
fn empty_entrypoint(words: Vec<String>) -> Vec<String> {
    if words.is_empty() { vec![String::new()] } else { words }
}

fn environment(service: &Service) -> Vec<String> {
    service
        .environment
        .iter()
        .map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            // A key alone takes the variable out of the image's environment.
            None => key.clone(),
        })
        .collect()
}

fn exposed_ports(service: &Service) -> Option<Set> {
    let published = service
        .ports
        .iter()
        .filter_map(|port| Some(format!("{}/{}", port.target?, port.protocol.as_deref().unwrap_or("tcp"))));
    let exposed = service.expose.iter().flat_map(|text| {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u16>().unwrap_or(0), last.parse::<u16>().unwrap_or(0));
        (first..=last).filter(|port| *port != 0).map(|port| format!("{port}/{protocol}")).collect::<Vec<_>>()
    });
    let set: Set = published.chain(exposed).map(|port| (port, Empty {})).collect();
    (!set.is_empty()).then_some(set)
}

fn health(check: &Healthcheck) -> Option<HealthConfig> {
    let nanos = |duration: Option<std::time::Duration>| duration.map_or(0, |d| d.as_nanos() as i64);
    if check.disable {
        return Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() });
    }
    Some(HealthConfig {
        test: check.test.clone(),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: check.retries.unwrap_or(0),
    })
}

fn container_labels(wanted: &Wanted) -> BTreeMap<String, String> {
    let mut all = wanted.service.labels.clone();
    let mut set = |key: &str, value: String| drop(all.insert(key.to_owned(), value));
    let project = wanted.project;
    set(labels::PROJECT, project.name.clone());
    set(labels::SERVICE, wanted.name.to_owned());
    set(labels::ONEOFF, if wanted.number.is_some() { "False" } else { "True" }.to_owned());
    if let Some(number) = wanted.number {
        set(labels::NUMBER, number.to_string());
    }
    set(labels::CONFIG_HASH, wanted.docker_hash.to_owned());
    set(labels::HASH, wanted.hash.to_owned());
    set(labels::HASH_VERSION, crate::hash::VERSION.to_owned());
    set(labels::IMAGE, wanted.image_id.unwrap_or_default().to_owned());
    set(labels::VERSION, labels::OWN_VERSION.to_owned());
    set(labels::DEPENDS_ON, depends_on_label(wanted.service));
    if wanted.number.is_some() && !wanted.service.post_start.is_empty() {
        set(labels::POST_START, hooks_label(&wanted.service.post_start));
    }
    set(labels::WORKING_DIR, project.directory.to_string_lossy().into_owned());
    set(labels::CONFIG_FILES, join_paths(&project.config_files));
    if !project.env_files.is_empty() {
        set(labels::ENVIRONMENT_FILE, join_paths(&project.env_files));
    }
    all
}

fn depends_on_label(service: &Service) -> String {
    let one = |(name, dependency): (&String, &crate::model::Dependency)| {
        format!("{name}:{}:{}", dependency.condition.as_str(), dependency.restart)
    };
    service.depends_on.iter().map(one).collect::<Vec<_>>().join(",")
}

fn hooks_label(hooks: &[crate::model::Hook]) -> String {
    let one = |hook: &crate::model::Hook| {
        serde_json::json!({
            "command": hook.command,
            "user": hook.user.clone().unwrap_or_default(),
            "privileged": hook.privileged,
            "working_dir": hook.working_dir.clone().unwrap_or_default(),
            "environment": hook.variables(),
        })
    };
    serde_json::Value::Array(hooks.iter().map(one).collect()).to_string()
}

fn join_paths(paths: &[std::path::PathBuf]) -> String {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;

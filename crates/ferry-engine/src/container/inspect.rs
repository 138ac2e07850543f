//! `docker inspect`: everything known of one container.

use std::collections::BTreeMap;

use ferry_api::container::{GraphDriver, Inspect, LegacyNetworkSettings, NetworkSettings, PortMap, State};

use super::Container;
use super::record::{Record, RunState};
use super::state::Status;
use crate::engine::Engine;

/// The answer. Fields that newer versions dropped are there when `legacy`.
pub fn inspect(engine: &Engine, container: &Container, legacy: bool) -> Inspect {
    let record = container.record();
    let argv = record.argv();
    let exec_ids = container.execs.ids();
    let path = |path: std::path::PathBuf| path.display().to_string();
    let kept = record.host_config.log_config.kind == "json-file";
    Inspect {
        id: record.id.clone(),
        created: record.created.clone(),
        path: argv.first().cloned().unwrap_or_default(),
        args: argv.get(1..).unwrap_or_default().to_vec(),
        state: state(&record.state),
        image: record.image_id.clone(),
        resolv_conf_path: path(container.dir.resolv_conf_path()),
        hostname_path: path(container.dir.hostname_path()),
        hosts_path: path(container.dir.hosts_path()),
        log_path: if kept { path(container.dir.log_path()) } else { String::new() },
        name: format!("/{}", record.name),
        restart_count: i64::from(record.state.restart_count),
        driver: "overlay2".into(),
        platform: "linux".into(),
        exec_ids: (!exec_ids.is_empty()).then_some(exec_ids),
        graph_driver: graph_driver(engine, container, &record),
        mounts: record
            .mounts
            .iter()
            .filter(|plan| is_listed(&record, plan))
            .map(|plan| plan.point())
            .collect(),
        network_settings: network_settings(&record, legacy),
        config: record.config,
        host_config: record.host_config,
        ..Inspect::default()
    }
}

/// Docker lists every mount but those of `--tmpfs`.
fn is_listed(record: &Record, plan: &crate::spec::mounts::MountPlan) -> bool {
    !record.host_config.tmpfs.contains_key(&plan.destination)
}

/// The state as inspect shows it.
pub fn state(state: &RunState) -> State {
    let status = state.status;
    State {
        status: status.as_str().into(),
        running: matches!(status, Status::Running | Status::Paused | Status::Restarting),
        paused: status == Status::Paused,
        restarting: status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: status == Status::Dead,
        pid: i64::from(state.pid),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: state.started_at.clone(),
        finished_at: state.finished_at.clone(),
        health: state.health.clone(),
    }
}

fn graph_driver(engine: &Engine, container: &Container, record: &Record) -> GraphDriver {
    let lowers = engine.store.snapshots().lowers(&record.layers).unwrap_or_default();
    let lowers: Vec<String> = lowers.iter().map(|path| path.display().to_string()).collect();
    let data = BTreeMap::from([
        ("LowerDir".to_owned(), lowers.join(":")),
        ("UpperDir".to_owned(), container.dir.upper().display().to_string()),
        ("WorkDir".to_owned(), container.dir.work().display().to_string()),
    ]);
    GraphDriver { data: Some(data), name: "overlay2".into() }
}

fn network_settings(record: &Record, legacy: bool) -> NetworkSettings {
    let running = record.state.status.has_process();
    let ports: PortMap = match running {
        true => record.state.published.clone(),
        false => PortMap::new(),
    };
    let default = record.endpoints.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: if record.state.sandbox_key.is_empty() { String::new() } else { record.id.clone() },
        // The process's own file: it opens the namespace whoever holds it.
        sandbox_key: match record.state.sandbox_key.is_empty() {
            true => String::new(),
            false => format!("/proc/{}/ns/net", record.state.pid),
        },
        ports,
        networks: record.endpoints.clone(),
        legacy: legacy.then(|| LegacyNetworkSettings {
            endpoint_id: default.endpoint_id,
            gateway: default.gateway,
            global_ipv6_address: default.global_ipv6_address,
            global_ipv6_prefix_len: default.global_ipv6_prefix_len,
            ip_address: default.ip_address,
            ip_prefix_len: default.ip_prefix_len,
            ipv6_gateway: default.ipv6_gateway,
            mac_address: default.mac_address,
            ..LegacyNetworkSettings::default()
        }),
    }
}

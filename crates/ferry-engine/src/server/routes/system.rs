//! `/_ping`, `/version`, `/info`: who answers here and what the host can do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ferry_api::system::{
    AddressPool, Component, IndexInfo, Info, PlatformName, Plugins, RegistryConfig, Version,
};
use http::{Method, header};

use crate::clock;
use crate::container::state::Status;
use crate::engine::Engine;
use crate::registries::shown_mirrors;
use crate::server::version::{MAX_API_VERSION, MIN_API_VERSION};

/// The version of the builder protocol offered: 1 is the classic one, 2 BuildKit's.
const BUILDER_VERSION: &str = "1";

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/_ping", get(ping).head(ping))
        .route("/version", get(version))
        .route("/info", get(info))
}

async fn ping(method: Method) -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL.as_str(), "no-cache, no-store, must-revalidate"),
        (header::PRAGMA.as_str(), "no-cache"),
        ("builder-version", BUILDER_VERSION),
        ("swarm", "inactive"),
    ];
    if method == Method::HEAD {
        return (headers, [(header::CONTENT_LENGTH, "0")]).into_response();
    }
    (headers, "OK").into_response()
}

async fn version(State(engine): State<Arc<Engine>>) -> Json<Version> {
    let host = &engine.host;
    let details = BTreeMap::from([
        ("ApiVersion".to_owned(), MAX_API_VERSION.to_string()),
        ("MinAPIVersion".to_owned(), MIN_API_VERSION.to_string()),
        ("Os".to_owned(), "linux".to_owned()),
        ("Arch".to_owned(), host.architecture.to_owned()),
        ("KernelVersion".to_owned(), host.kernel_version.clone()),
    ]);
    let engine_component =
        Component { name: "Engine".into(), version: env!("CARGO_PKG_VERSION").into(), details };
    Json(Version {
        platform: PlatformName { name: "Ferry".into() },
        components: vec![engine_component],
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: MAX_API_VERSION.to_string(),
        min_api_version: MIN_API_VERSION.to_string(),
        os: "linux".into(),
        arch: host.architecture.into(),
        kernel_version: host.kernel_version.clone(),
        ..Version::default()
    })
}

/// What the operator decided about registries, in Docker's form.
fn registries(settings: &ferry_remote::Settings) -> RegistryConfig {
    let mut found = RegistryConfig {
        insecure_registry_cidrs: vec!["::1/128".into(), "127.0.0.0/8".into()],
        ..RegistryConfig::default()
    };
    let hub = shown_mirrors(&settings.mirrors);
    let official = IndexInfo { name: "docker.io".into(), mirrors: hub.clone(), secure: true, official: true };
    found.index_configs.insert("docker.io".into(), official);
    found.mirrors = (!hub.is_empty()).then_some(hub);
    for registry in &settings.insecure {
        if registry.contains('/') {
            found.insecure_registry_cidrs.push(registry.clone());
        } else {
            let index = IndexInfo { name: registry.clone(), ..IndexInfo::default() };
            found.index_configs.insert(registry.clone(), index);
        }
    }
    found
}

/// Said where an ordinary user's engine may make no cgroups.
const NO_CGROUPS: &str = "No cgroup is this user's: limits of memory, processors and processes have no effect, pause and stats are refused (on cgroup v2 systemd hands one down: systemd-run --user -p Delegate=yes ferry engine run)";

async fn info(State(engine): State<Arc<Engine>>) -> Json<Info> {
    let host = &engine.host;
    let count = |wanted: &[Status]| {
        let matching = engine.containers.all().into_iter().filter(|it| wanted.contains(&it.status()));
        i64::try_from(matching.count()).unwrap_or(i64::MAX)
    };
    let mut info = Info {
        id: engine.id.clone(),
        containers: count(&Status::ALL),
        containers_running: count(&[Status::Running, Status::Restarting]),
        containers_paused: count(&[Status::Paused]),
        containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead, Status::Removing]),
        images: i64::try_from(engine.store.images().list().len()).unwrap_or(i64::MAX),
        docker_root_dir: engine.options.data_root.display().to_string(),
        n_events_listener: i64::try_from(engine.events.listeners()).unwrap_or(i64::MAX),
        system_time: clock::now(),
        server_version: env!("CARGO_PKG_VERSION").into(),
        ..host.describe()
    };
    let defaults = engine.defaults();
    info.debug = defaults.debug;
    info.labels.clone_from(&defaults.labels);
    if !defaults.container.log_driver.is_empty() {
        info.logging_driver.clone_from(&defaults.container.log_driver);
    }
    let pools = defaults.network.pools().into_iter();
    info.default_address_pools =
        pools.map(|(base, size)| AddressPool { base: base.to_string(), size: size.into() }).collect();
    let mut warnings = engine.options.warnings.clone();
    if !host.cgroups.usable {
        warnings.push(NO_CGROUPS.into());
    }
    info.warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
    info.plugins = Plugins {
        volume: vec!["local".into()],
        network: ["bridge", "host", "ipvlan", "macvlan", "null"].map(str::to_owned).into(),
        authorization: None,
        log: ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"]
            .map(str::to_owned)
            .into(),
    };
    info.registry_config = Some(registries(engine.transfers.registry().settings()));
    Json(info)
}

//! `docker update`: limits, restart policy and published ports of a container, also while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::container::{HostConfig, UpdateRequest};
use ferry_shim::protocol::ShimRequest;
use ferry_store::IoError;
use http::StatusCode;

use super::record::Record;
use super::settings::{SettingsError, check_restart};
use super::state::Status;
use super::{Container, stuck};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::network::{self, PublishError};
use crate::shim::{LinkError, ShimLink};
use crate::spec::resources::{self, ResourceError};

/// Why a container was not updated.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// It is going away.
    #[error("Cannot update container {0}: Container is marked for removal and cannot be \"update\".")]
    Removing(String),
    /// The restart policy.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Limits.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// The kernel refused.
    #[error("Cannot update container {id}")]
    Kernel {
        /// Full id.
        id: String,
        /// Why.
        #[source]
        source: LinkError,
    },
    /// Its published ports.
    #[error(transparent)]
    Ports(#[from] PublishError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl HttpStatus for UpdateError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Removing(_) => StatusCode::CONFLICT,
            Self::Settings(_) | Self::Resource(_) => StatusCode::BAD_REQUEST,
            Self::Ports(PublishError::NoPorts { .. }) => StatusCode::CONFLICT,
            Self::Ports(PublishError::NotPublished { .. }) => StatusCode::BAD_REQUEST,
            Self::Ports(PublishError::Network(error)) => error.status(),
            Self::Kernel { .. } | Self::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Changes what the request names; gives warnings.
pub async fn update(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    request: UpdateRequest,
) -> Result<Vec<String>, UpdateError> {
    let _lifecycle = container.lifecycle.lock().await;
    if container.status() == Status::Removing {
        return Err(UpdateError::Removing(container.id.clone()));
    }
    let before = container.record();
    let mut record = before.clone();
    let wishes = (request.publish.clone(), request.unpublish.clone());
    let changes_ports = wishes.0.is_some() || wishes.1.is_some();
    if changes_ports {
        let settings = (&mut record.config, &mut record.host_config);
        network::change_ports(&before.name, settings, &before.state.published, wishes)?;
    }
    let after = &mut record.host_config;
    merge(after, request)?;
    check_restart(after)?;
    let warnings = resources::check(after, &engine.host)?;
    let limits = resources::to_runtime(after, &engine.host)?;
    // Nothing is recorded that the kernel does not do.
    let runs = before.state.status.has_process();
    if changes_ports && runs {
        record.state.published = network::republish(engine, &record).await.map_err(PublishError::from)?;
    }
    let change = Unfinished::begin(engine, container)?;
    if let Some(link) = container.link()
        && let Err(source) = stuck::answered(container, link.update(limits)).await
    {
        if matches!(source, LinkError::Silent { .. }) {
            restore(engine, &link, &before);
        }
        if changes_ports
            && runs
            && let Err(error) = network::republish(engine, &before).await
        {
            tracing::error!(container = %container.id, %error, "publish the former ports again");
        }
        return Err(UpdateError::Kernel { id: container.id.clone(), source });
    }
    {
        let mut inner = container.lock();
        inner.record.host_config = record.host_config;
        inner.record.config.exposed_ports = record.config.exposed_ports;
        inner.record.state.published = record.state.published;
    }
    container.persist(&engine.store, container.is_durable())?;
    change.end();
    engine.events.emit("container", "update", &container.id, container.event_attributes());
    Ok(warnings)
}

/// A monitor that answers too late is told the limits from before.
fn restore(engine: &Engine, link: &ShimLink, before: &Record) {
    match resources::to_runtime(&before.host_config, &engine.host) {
        Ok(limits) => link.tell(ShimRequest::UpdateResources(Box::new(limits)), Vec::new()),
        Err(error) => tracing::error!(container = %before.id, %error, "put former limits in again"),
    }
}

/// A note beside a running container that the kernel may hold other limits than its record, for the case that this engine
/// is killed between the two: the next one puts the recorded ones in again. It lies where a boot clears it away.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn place(engine: &Engine, container: &Container) -> PathBuf {
        engine.run_dir(&container.id).join("update")
    }

    fn begin(engine: &Engine, container: &Container) -> Result<Self, IoError> {
        if container.link().is_none() {
            return Ok(Self(None));
        }
        let place = Self::place(engine, container);
        std::fs::write(&place, []).map_err(IoError::new("write", &place))?;
        Ok(Self(Some(place)))
    }

    fn end(self) {
        if let Some(place) = self.0
            && let Err(error) = std::fs::remove_file(&place)
        {
            tracing::warn!(place = %place.display(), %error, "a finished update stays noted");
        }
    }
}

/// Ends an update that the engine's death broke off: what is recorded holds.
pub async fn finish_broken(engine: &Engine, container: &Container) {
    let place = Unfinished::place(engine, container);
    let Some(link) = container.link().filter(|_| place.exists()) else { return };
    let host_config = container.record().host_config;
    match resources::to_runtime(&host_config, &engine.host) {
        Ok(limits) => match link.update(limits).await {
            Ok(()) => Unfinished(Some(place)).end(),
            Err(error) => tracing::error!(container = %container.id, %error, "put recorded limits in again"),
        },
        Err(error) => tracing::error!(container = %container.id, %error, "put recorded limits in again"),
    }
}

/// Puts what the request names into the settings; zero and nothing mean "leave it".
fn merge(config: &mut HostConfig, request: UpdateRequest) -> Result<(), ResourceError> {
    let number = |mine: &mut i64, theirs: i64| {
        if theirs != 0 {
            *mine = theirs;
        }
    };
    let text = |mine: &mut String, theirs: String| {
        if !theirs.is_empty() {
            *mine = theirs;
        }
    };
    // One way to say how much processor replaces the other.
    if request.nano_cpus != 0 && (config.cpu_period != 0 || config.cpu_quota != 0) {
        return Err(ResourceError::NanoCpusAnd("Period"));
    }
    if config.nano_cpus != 0 && (request.cpu_period != 0 || request.cpu_quota != 0) {
        return Err(ResourceError::NanoCpusAnd("Period"));
    }
    if request.memory != 0
        && request.memory_swap == 0
        && config.memory_swap > 0
        && request.memory > config.memory_swap
    {
        return Err(ResourceError::SwapBelowMemory);
    }
    number(&mut config.cpu_shares, request.cpu_shares);
    number(&mut config.nano_cpus, request.nano_cpus);
    number(&mut config.cpu_period, request.cpu_period);
    number(&mut config.cpu_quota, request.cpu_quota);
    number(&mut config.cpu_realtime_period, request.cpu_realtime_period);
    number(&mut config.cpu_realtime_runtime, request.cpu_realtime_runtime);
    number(&mut config.memory, request.memory);
    number(&mut config.memory_swap, request.memory_swap);
    number(&mut config.memory_reservation, request.memory_reservation);
    text(&mut config.cpuset_cpus, request.cpuset_cpus);
    text(&mut config.cpuset_mems, request.cpuset_mems);
    if request.blkio_weight != 0 {
        config.blkio_weight = request.blkio_weight;
    }
    if let Some(limit) = request.pids_limit.filter(|limit| *limit != 0) {
        config.pids_limit = Some(limit);
    }
    if !request.restart_policy.name.is_empty() {
        config.restart_policy = request.restart_policy;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let mut config = HostConfig { memory: 10 << 20, cpuset_cpus: "0".into(), ..HostConfig::default() };
        let request = UpdateRequest { memory: 20 << 20, pids_limit: Some(5), ..UpdateRequest::default() };
        merge(&mut config, request).unwrap();
        assert_eq!((config.memory, config.pids_limit, config.cpuset_cpus.as_str()), (20 << 20, Some(5), "0"));
    }

    #[test]
    fn contradictions_are_refused() {
        let mut config = HostConfig { nano_cpus: 1_000_000_000, ..HostConfig::default() };
        let request = UpdateRequest { cpu_quota: 5000, ..UpdateRequest::default() };
        assert_eq!(merge(&mut config, request), Err(ResourceError::NanoCpusAnd("Period")));
        let mut config = HostConfig { memory: 10 << 20, memory_swap: 20 << 20, ..HostConfig::default() };
        let request = UpdateRequest { memory: 30 << 20, ..UpdateRequest::default() };
        assert_eq!(merge(&mut config, request), Err(ResourceError::SwapBelowMemory));
    }
}

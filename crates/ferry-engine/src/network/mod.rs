//! The networks of containers, as the verbs in `container/` see them: joined at a start, left at an end.
//!
//! `none`, `host` and `container:X` are decided here; every other mode is a network of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::container::EndpointSettings;
use http::StatusCode;

use crate::container::Container;
use crate::container::registry::LookupError;
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::spec::namespaces::Sharing;

/// What a container got.
#[derive(Debug, Clone, Default)]
pub struct Attachment {
    /// Its network namespace.
    pub namespace: Sharing,
    /// Lines of `/etc/hosts` beyond localhost.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Name servers; the host's own file when there are none.
    pub name_servers: Vec<IpAddr>,
    /// Its place in each network, by name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// A network that cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `container:X` names nobody.
    #[error(transparent)]
    Container(#[from] LookupError),
    /// `container:X` does not run.
    #[error("cannot join network of a non running container: {0}")]
    NotRunning(String),
    /// `container:` itself.
    #[error("cannot join own network namespace")]
    Itself,
}

impl HttpStatus for NetworkError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Container(error) => error.status(),
            Self::NotRunning(_) => StatusCode::CONFLICT,
            Self::Itself => StatusCode::BAD_REQUEST,
        }
    }
}

/// How a container is connected, from `HostConfig.NetworkMode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode<'a> {
    /// Only its loopback device.
    None,
    /// The host's network.
    Host,
    /// Another container's network.
    Container(&'a str),
    /// A network, by name or id.
    Network(&'a str),
}

impl<'a> Mode<'a> {
    /// Reads the mode; `default` and nothing mean the bridge.
    pub fn parse(text: &'a str) -> Self {
        match text {
            "none" => Self::None,
            "host" => Self::Host,
            "" | "default" => Self::Network("bridge"),
            _ => match text.strip_prefix("container:") {
                Some(other) => Self::Container(other),
                None => Self::Network(text),
            },
        }
    }
}

/// Connects a container that is about to start.
pub async fn attach(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Attachment, NetworkError> {
    let mode = container.lock().record.host_config.network_mode.clone();
    match Mode::parse(&mode) {
        Mode::None | Mode::Network(_) => Ok(Attachment::default()),
        Mode::Host => Ok(Attachment { namespace: Sharing::Host, ..Attachment::default() }),
        Mode::Container(name) => {
            let other = engine.containers.find(name)?;
            if other.id == container.id {
                return Err(NetworkError::Itself);
            }
            let path = namespace_of(&other, "net").ok_or_else(|| NetworkError::NotRunning(name.to_owned()))?;
            Ok(Attachment { namespace: Sharing::Path(path), ..Attachment::default() })
        }
    }
}

/// Disconnects a container that ended. Idempotent.
pub async fn detach(_engine: &Arc<Engine>, _container: &Arc<Container>) {}

/// The namespace file of a running container's first process.
pub fn namespace_of(container: &Container, kind: &str) -> Option<PathBuf> {
    let inner = container.lock();
    let state = &inner.record.state;
    (state.status.has_process() && state.pid > 0).then(|| PathBuf::from(format!("/proc/{}/ns/{kind}", state.pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read() {
        for (text, mode) in [
            ("none", Mode::None),
            ("host", Mode::Host),
            ("container:web", Mode::Container("web")),
            ("", Mode::Network("bridge")),
            ("default", Mode::Network("bridge")),
            ("backend", Mode::Network("backend")),
        ] {
            assert_eq!(Mode::parse(text), mode);
        }
    }
}

//! Which namespaces a container has, shares with the host, or with another container. Pure.

use std::path::PathBuf;

use ferry_api::container::HostConfig;
use ferry_oci::runtime::{LinuxNamespace, LinuxNamespaceType};

/// One namespace of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// The one at this path.
    Path(PathBuf),
}

/// What a mode such as `--pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode<'a> {
    /// The container's own.
    Own,
    /// The host's.
    Host,
    /// Another container's, by name or id.
    Container(&'a str),
}

/// A mode nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} mode: {value}")]
pub struct InvalidMode {
    /// `IPC`, `PID`, `UTS`, `cgroup namespace`, `USER`.
    pub kind: &'static str,
    /// As given.
    pub value: String,
}

/// Reads `--pid`.
pub fn pid_mode(text: &str) -> Result<Mode<'_>, InvalidMode> {
    mode("PID", text, &["", "private"])
}

/// Reads `--ipc`; what can be shared and what is private is one to us, except for `/dev/shm`.
pub fn ipc_mode(text: &str) -> Result<Mode<'_>, InvalidMode> {
    mode("IPC", text, &["", "private", "shareable", "none"])
}

/// Reads `--uts`.
pub fn uts_mode(text: &str) -> Result<Mode<'_>, InvalidMode> {
    match mode("UTS", text, &["", "private"])? {
        Mode::Container(_) => Err(InvalidMode { kind: "UTS", value: text.to_owned() }),
        mode => Ok(mode),
    }
}

/// Reads `--cgroupns`.
pub fn cgroup_mode(text: &str) -> Result<Mode<'_>, InvalidMode> {
    match mode("cgroup namespace", text, &["", "private"])? {
        Mode::Container(_) => Err(InvalidMode { kind: "cgroup namespace", value: text.to_owned() }),
        mode => Ok(mode),
    }
}

/// Reads `--userns`, of which only the host's is there.
pub fn user_mode(text: &str) -> Result<(), InvalidMode> {
    match text {
        "" | "host" => Ok(()),
        _ => Err(InvalidMode { kind: "USER", value: text.to_owned() }),
    }
}

fn mode<'a>(kind: &'static str, text: &'a str, own: &[&str]) -> Result<Mode<'a>, InvalidMode> {
    if own.contains(&text) {
        return Ok(Mode::Own);
    }
    if text == "host" {
        return Ok(Mode::Host);
    }
    match text.strip_prefix("container:") {
        Some(other) if !other.is_empty() => Ok(Mode::Container(other)),
        _ => Err(InvalidMode { kind, value: text.to_owned() }),
    }
}

/// The namespaces of a container, resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: Sharing,
    /// Processes.
    pub pid: Sharing,
    /// Shared memory and queues.
    pub ipc: Sharing,
}

impl Namespaces {
    /// As the runtime takes them; what is not listed is the host's.
    pub fn to_runtime(&self, config: &HostConfig) -> Vec<LinuxNamespace> {
        let mut list = vec![namespace(LinuxNamespaceType::Mount, None)];
        let mut add = |kind, sharing: &Sharing| match sharing {
            Sharing::Own => list.push(namespace(kind, None)),
            Sharing::Host => {}
            Sharing::Path(path) => list.push(namespace(kind, Some(path.clone()))),
        };
        add(LinuxNamespaceType::Network, &self.network);
        add(LinuxNamespaceType::Pid, &self.pid);
        add(LinuxNamespaceType::Ipc, &self.ipc);
        let own = |host: bool| if host { Sharing::Host } else { Sharing::Own };
        add(LinuxNamespaceType::Uts, &own(config.uts_mode == "host"));
        add(LinuxNamespaceType::Cgroup, &own(config.cgroupns_mode == "host"));
        list
    }
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read() {
        assert_eq!(pid_mode(""), Ok(Mode::Own));
        assert_eq!(pid_mode("host"), Ok(Mode::Host));
        assert_eq!(ipc_mode("container:db"), Ok(Mode::Container("db")));
        assert_eq!(ipc_mode("shareable"), Ok(Mode::Own));
        assert_eq!(pid_mode("container:").unwrap_err().to_string(), "invalid PID mode: container:");
        assert_eq!(uts_mode("container:x").unwrap_err().to_string(), "invalid UTS mode: container:x");
        assert_eq!(user_mode("1000").unwrap_err().to_string(), "invalid USER mode: 1000");
    }

    #[test]
    fn shared_namespaces_are_left_out_or_named() {
        let config =
            HostConfig { uts_mode: "host".into(), cgroupns_mode: "private".into(), ..HostConfig::default() };
        let namespaces = Namespaces {
            network: Sharing::Host,
            pid: Sharing::Path("/proc/7/ns/pid".into()),
            ipc: Sharing::Own,
        };
        let list: Vec<_> =
            namespaces.to_runtime(&config).into_iter().map(|it| (it.typ(), it.path().clone())).collect();
        assert_eq!(
            list,
            [
                (LinuxNamespaceType::Mount, None),
                (LinuxNamespaceType::Pid, Some("/proc/7/ns/pid".into())),
                (LinuxNamespaceType::Ipc, None),
                (LinuxNamespaceType::Cgroup, None),
            ]
        );
    }
}

//! The whole specification of one start.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ferry_api::container::HostConfig;
use ferry_oci::runtime::{Capabilities, Linux, Mount, Root, Spec};
use http::StatusCode;

use super::devices::{DeviceError, DevicePlan};
use super::namespaces::{Namespaces, Sharing};
use super::process::{ProcessPlan, environment};
use super::propagation::{self, NotShared};
use super::resources::{self, ResourceError};
use super::security::{self, Security, SecurityError};
use super::user::Identity;
use crate::container::record::Record;
use crate::error::HttpStatus;
use crate::host::Host;

/// The version of the OCI runtime specification written.
const OCI_VERSION: &str = "1.2.0";

/// Files that a container finds under `/etc` in place of the image's.
#[derive(Debug, Clone, Default)]
pub struct EtcFiles {
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl EtcFiles {
    /// Where each is mounted, and what; not those that a mount of the user's takes the place of.
    pub fn mounts(&self, record: &Record) -> Vec<(&'static str, &Path)> {
        let files = [
            ("/etc/resolv.conf", &self.resolv_conf),
            ("/etc/hostname", &self.hostname),
            ("/etc/hosts", &self.hosts),
        ];
        let taken = |destination: &str| record.mounts.iter().any(|mount| mount.destination == destination);
        let free = files.into_iter().filter(|(destination, _)| !taken(destination));
        free.map(|(destination, source)| (destination, source.as_path())).collect()
    }
}

/// Everything a start needs to know.
pub struct SpecInput<'a> {
    /// The container.
    pub record: &'a Record,
    /// Who its process runs as.
    pub identity: &'a Identity,
    /// Its namespaces, resolved.
    pub namespaces: Namespaces,
    /// Its files under `/etc`; none when it brings the host's.
    pub etc: Option<EtcFiles>,
    /// The machine.
    pub host: &'a Host,
}

/// A specification and what goes beside it to the monitor.
pub struct Built {
    /// For the runtime.
    pub spec: Spec,
    /// The capabilities the seccomp profile depends on.
    pub capabilities: Capabilities,
    /// What was asked of seccomp.
    pub security: Security,
}

/// Settings that cannot be turned into a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `--security-opt`, `--cap-add`, `--cap-drop`.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Limits.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// Devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Binds that cannot pass mounts on.
    #[error(transparent)]
    NotShared(#[from] NotShared),
}

impl HttpStatus for SpecError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Security(_) | Self::Resource(_) => StatusCode::BAD_REQUEST,
            Self::Device(_) | Self::NotShared(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Builds the specification.
pub fn build(input: &SpecInput<'_>) -> Result<Built, SpecError> {
    let (config, host_config) = (&input.record.config, &input.record.host_config);
    propagation::check(&input.record.mounts)?;
    let security = Security::parse(host_config.security_opt.as_deref().unwrap_or_default())?;
    let capabilities = security::capabilities(
        host_config.cap_add.as_deref().unwrap_or_default(),
        host_config.cap_drop.as_deref().unwrap_or_default(),
        host_config.privileged,
        input.host.capabilities,
    )?;
    let plan = ProcessPlan {
        argv: input.record.argv(),
        identity: input.identity,
        terminal: config.tty,
        directory: &config.working_dir,
        environment: environment(config, config.tty, &input.identity.home),
        capabilities: capabilities.clone(),
    };
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(host_config.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.into())
        .set_root(Some(root))
        .set_process(Some(plan.build(host_config, &security)?))
        .set_mounts(Some(mounts(input, &security)))
        .set_hooks(None)
        .set_linux(Some(linux(input, &security)?));
    if host_config.uts_mode != "host" {
        spec.set_hostname(Some(config.hostname.clone()).filter(|name| !name.is_empty()));
        spec.set_domainname(Some(config.domainname.clone()).filter(|name| !name.is_empty()));
    } else {
        spec.set_hostname(None);
    }
    Ok(Built { spec, capabilities, security })
}

fn linux(input: &SpecInput<'_>, security: &Security) -> Result<Linux, SpecError> {
    let host_config = &input.record.host_config;
    let devices = DevicePlan::build(host_config)?;
    let mut resources = resources::to_runtime(host_config, input.host)?;
    resources.set_devices(Some(devices.rules));
    let (masked, readonly) = hidden_paths(host_config, security, input.host);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(input.namespaces.to_runtime(host_config)))
        .set_resources(Some(resources))
        .set_devices(Some(devices.nodes))
        .set_cgroups_path(input.host.cgroups.usable.then(|| cgroup_path(host_config, &input.record.id)))
        .set_sysctl(Some(sysctls(host_config, &input.namespaces)))
        .set_seccomp(None)
        .set_rootfs_propagation(root_propagation(input.record))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly));
    Ok(linux)
}

/// The cgroup of a container, below the root of each hierarchy.
pub fn cgroup_path(host_config: &HostConfig, id: &str) -> PathBuf {
    let parent = match host_config.cgroup_parent.trim_matches('/') {
        "" => "ferry",
        given => given,
    };
    Path::new("/").join(parent).join(id)
}

/// A mount that shall pass new mounts on needs a root that does not stop them.
fn root_propagation(record: &Record) -> Option<String> {
    let any = |words: &[&str]| record.mounts.iter().any(|mount| words.contains(&mount.propagation.as_str()));
    if any(&["shared", "rshared"]) {
        return Some("shared".into());
    }
    any(&["slave", "rslave"]).then(|| "rslave".into())
}

fn hidden_paths(config: &HostConfig, security: &Security, host: &Host) -> (Vec<String>, Vec<String>) {
    if config.privileged || security.system_paths_unconfined {
        return (Vec::new(), Vec::new());
    }
    let masked =
        config.masked_paths.clone().unwrap_or_else(|| security::default_masked(host.processors_configured));
    let readonly = config.readonly_paths.clone().unwrap_or_else(security::default_readonly);
    (masked, readonly)
}

fn sysctls(config: &HostConfig, namespaces: &Namespaces) -> HashMap<String, String> {
    let mut sysctls = HashMap::new();
    if namespaces.network == Sharing::Own
        || matches!(namespaces.network, Sharing::Path(_)) && !shares_network(config)
    {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        // The kernel wants both ends to be groups of the user namespace, and an ordinary user's has fewer.
        if !ferry_sys::namespace::in_user_namespace() {
            sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
        }
    }
    sysctls.extend(config.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())));
    sysctls
}

fn shares_network(config: &HostConfig) -> bool {
    config.network_mode.starts_with("container:")
}

fn mounts(input: &SpecInput<'_>, security: &Security) -> Vec<Mount> {
    let record = input.record;
    let taken = |destination: &str| record.mounts.iter().any(|mount| mount.destination == destination);
    let own_dev = taken("/dev");
    let mut list = default_mounts(&record.host_config, security);
    list.retain(|mount| {
        let destination = mount.destination().to_string_lossy();
        let below_own_dev = own_dev && destination.starts_with("/dev/");
        !taken(&destination) && !below_own_dev
    });
    if let Some(etc) = &input.etc {
        let readonly = record.host_config.readonly_rootfs;
        let files = etc.mounts(record).into_iter();
        list.extend(files.map(|(destination, source)| etc_mount(destination, source, readonly)));
    }
    list.extend(record.mounts.iter().map(|plan| {
        let mut mount = plan.to_runtime();
        if let Some((uid, gid)) = plan.id_mappings(input.identity.uid, input.identity.gid) {
            mount.set_uid_mappings(Some(uid)).set_gid_mappings(Some(gid));
        }
        mount
    }));
    list
}

fn etc_mount(destination: &str, source: &Path, readonly: bool) -> Mount {
    let mut options = vec!["rbind", "rprivate"];
    if readonly {
        options.push("ro");
    }
    mount(destination, "bind", &source.to_string_lossy(), &options)
}

/// Terminals belong to the group `tty`, unless an ordinary user has no ids for groups.
fn terminal_options() -> &'static [&'static str] {
    let all = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    if ferry_sys::namespace::has_group(5) { all } else { &all[..5] }
}

fn default_mounts(config: &HostConfig, security: &Security) -> Vec<Mount> {
    let sys_access = if config.privileged { "rw" } else { "ro" };
    let cgroup_access = if config.privileged || security.writable_cgroups { "rw" } else { "ro" };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", terminal_options()),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys_access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[cgroup_access, "nosuid", "noexec", "nodev"]),
    ];
    // Shows the queues of the namespace it is mounted in, the host's included.
    list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    if config.ipc_mode == "host" {
        list.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]));
    } else if config.ipc_mode != "none" {
        let size = format!("size={}", config.shm_size);
        list.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    }
    list
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.into()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cgroups;

    fn record(host_config: &str) -> Record {
        let text = format!(
            r#"{{"version":1,"id":"{}","name":"web","created":"","image_id":"","layers":[],"state":{{}},
            "config":{{"Hostname":"box","Cmd":["sh"],"Env":["A=1"]}},
            "host_config":{host_config}}}"#,
            "a".repeat(64)
        );
        Record::decode("a", text.as_bytes()).unwrap()
    }

    fn built(host_config: &str) -> Spec {
        let host = Host {
            processors: 1,
            processors_configured: 1,
            capabilities: u64::MAX,
            cgroups: Cgroups { usable: true, ..Cgroups::default() },
            ..Host::default()
        };
        let identity = Identity { uid: 0, gid: 0, groups: vec![10], home: "/root".into() };
        let record = record(host_config);
        let etc = EtcFiles { hostname: "/h".into(), hosts: "/o".into(), resolv_conf: "/r".into() };
        let input = SpecInput {
            record: &record,
            identity: &identity,
            namespaces: Namespaces::default(),
            etc: Some(etc),
            host: &host,
        };
        build(&input).unwrap().spec
    }

    fn destinations(spec: &Spec) -> Vec<String> {
        spec.mounts().iter().flatten().map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn a_plain_container_has_dockers_defaults() {
        let spec = built(r#"{"ShmSize":67108864}"#);
        assert_eq!(
            destinations(&spec),
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/sys",
                "/sys/fs/cgroup",
                "/dev/mqueue",
                "/dev/shm",
                "/etc/resolv.conf",
                "/etc/hostname",
                "/etc/hosts",
            ]
        );
        let linux = spec.linux().clone().unwrap();
        assert_eq!(linux.cgroups_path().clone().unwrap(), Path::new("/ferry").join("a".repeat(64)));
        assert!(linux.masked_paths().iter().flatten().any(|path| path == "/proc/kcore"));
        assert_eq!(linux.readonly_paths().as_ref().map(Vec::len), Some(5));
        assert_eq!(linux.sysctl().clone().unwrap()["net.ipv4.ip_unprivileged_port_start"], "0");
        assert_eq!(spec.hostname().as_deref(), Some("box"));
        let process = spec.process().clone().unwrap();
        assert_eq!(process.args().clone().unwrap(), ["sh"]);
        assert_eq!(process.cwd(), Path::new("/"));
        assert_eq!(process.user().additional_gids().clone().unwrap(), [0, 10]);
    }

    #[test]
    fn privileged_hides_nothing() {
        let spec = built(r#"{"Privileged":true,"MaskedPaths":["/proc/kcore"]}"#);
        let linux = spec.linux().clone().unwrap();
        assert_eq!(linux.masked_paths().clone().unwrap(), Vec::<String>::new());
        let sys =
            spec.mounts().iter().flatten().find(|mount| mount.destination() == Path::new("/sys")).cloned();
        assert!(sys.unwrap().options().clone().unwrap().contains(&"rw".to_owned()));
    }

    #[test]
    fn a_mount_of_ones_own_replaces_the_default_one() {
        let mut with_mount = record("{}");
        with_mount.mounts = vec![super::super::mounts::MountPlan::parse_bind("/x:/etc/hosts").unwrap()];
        let host = Host::default();
        let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/".into() };
        let input = SpecInput {
            record: &with_mount,
            identity: &identity,
            namespaces: Namespaces { network: Sharing::Host, ..Namespaces::default() },
            etc: Some(EtcFiles::default()),
            host: &host,
        };
        let spec = build(&input).unwrap().spec;
        assert_eq!(destinations(&spec).iter().filter(|place| *place == "/etc/hosts").count(), 1);
        assert!(spec.linux().as_ref().unwrap().sysctl().as_ref().unwrap().is_empty());
    }
}

//! The whole of a start, checked before anything is touched.

use std::path::{Path, PathBuf};

use ferry_oci::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use ferry_sys::namespace::Namespaces;

use super::seccomp_plan;
use crate::error::{CreateError, SpecError};
use crate::network::{self, NetDevicePlan};
use crate::process::memory_policy::MemoryPolicyPlan;
use crate::process::plan::ProcessPlan;
use crate::request::CreateRequest;
use crate::rootfs::plan::TreePlan;

/// The kernel's limit for a host or domain name.
const HOSTNAME_MAX: usize = 64;

/// Everything a container's init has to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub namespaces: NamespacePlan,
    pub tree: TreePlan,
    pub process: ProcessPlan,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Path below `/proc/sys`, and value.
    pub sysctls: Vec<(String, String)>,
    pub personality: Option<u64>,
    /// As the kernel's file takes them: clock, seconds, nanoseconds.
    pub time_offsets: String,
    pub cgroup_path: Option<String>,
    pub net_devices: Vec<NetDevicePlan>,
}

/// Namespaces made and joined.
#[derive(Debug, Default)]
pub(crate) struct NamespacePlan {
    pub new: Namespaces,
    pub joined: Vec<(Namespaces, PathBuf)>,
    pub uid_map: Vec<LinuxIdMapping>,
    pub gid_map: Vec<LinuxIdMapping>,
}

impl Plan {
    pub fn build(request: &mut CreateRequest) -> Result<Plan, CreateError> {
        let filter = request.seccomp.take();
        let spec = &request.spec;
        let process = spec.process().as_ref().ok_or_else(|| SpecError::new("process", "", "missing"))?;
        let empty = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&empty);
        refuse_unsupported(linux)?;
        let namespaces = NamespacePlan::build(linux)?;
        let seccomp = seccomp_plan(filter, linux.seccomp().as_ref())?;
        Ok(Plan {
            tree: TreePlan::build(spec)?,
            process: ProcessPlan {
                memory_policy: memory_policy(Some(linux))?,
                ..ProcessPlan::build(process, seccomp)?
            },
            hostname: name("hostname", spec.hostname().as_deref(), &namespaces)?,
            domainname: name("domainname", spec.domainname().as_deref(), &namespaces)?,
            sysctls: sysctls(linux, &namespaces)?,
            time_offsets: time_offsets(linux, &namespaces)?,
            personality: linux.personality().as_ref().map(personality).transpose()?,
            net_devices: network::plan(linux, namespaces.is_private(Namespaces::NETWORK))?,
            cgroup_path: cgroup_path(linux),
            namespaces,
        })
    }
}

fn refuse_unsupported(linux: &Linux) -> Result<(), SpecError> {
    let refuse = |field: &str| Err(SpecError::new(field, "", "not supported by this runtime"));
    if linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) {
        return refuse("linux.mountLabel");
    }
    Ok(())
}

impl NamespacePlan {
    fn build(linux: &Linux) -> Result<NamespacePlan, SpecError> {
        let mut plan = NamespacePlan {
            uid_map: linux.uid_mappings().clone().unwrap_or_default(),
            gid_map: linux.gid_mappings().clone().unwrap_or_default(),
            ..NamespacePlan::default()
        };
        let mut seen = Namespaces::NONE;
        for namespace in linux.namespaces().as_deref().unwrap_or_default() {
            let kind = kind(namespace.typ());
            if seen.contains(kind) {
                return Err(SpecError::new("linux.namespaces", namespace.typ(), "given twice"));
            }
            seen = seen.with(kind);
            match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => plan.joined.push((kind, path.clone())),
                _ => plan.new = plan.new.with(kind),
            }
        }
        if !plan.new.contains(Namespaces::MOUNT) {
            return Err(SpecError::new(
                "linux.namespaces",
                "mount",
                "a container needs a new mount namespace",
            ));
        }
        let mapped = !plan.uid_map.is_empty() && !plan.gid_map.is_empty();
        let joins_user = plan.joins(Namespaces::USER);
        if !joins_user && plan.new.contains(Namespaces::USER) != mapped {
            return Err(SpecError::new(
                "linux.uidMappings",
                plan.uid_map.len(),
                "a new user namespace and id mappings need each other",
            ));
        }
        Ok(plan)
    }

    /// Whether the id mappings given, if any are, are those of the calling process's user namespace. Must run while the
    /// host's `/proc` is in sight.
    pub fn has_these_maps(&self) -> Result<bool, rustix::io::Errno> {
        for (file, wanted) in [("uid_map", &self.uid_map), ("gid_map", &self.gid_map)] {
            if wanted.is_empty() {
                continue;
            }
            let text = std::fs::read_to_string(format!("/proc/self/{file}"));
            let text = text
                .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
            let found = text.split_ascii_whitespace().map(str::to_owned);
            let numbers = |entry: &LinuxIdMapping| [entry.container_id(), entry.host_id(), entry.size()];
            if !found.eq(wanted.iter().flat_map(numbers).map(|number| number.to_string())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the namespace is one given by path.
    pub fn joins(&self, kind: Namespaces) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether the container has this namespace to itself or shares it with others than the host.
    pub fn is_private(&self, kind: Namespaces) -> bool {
        self.new.contains(kind) || self.joins(kind)
    }
}

fn kind(kind: LinuxNamespaceType) -> Namespaces {
    match kind {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NETWORK,
        LinuxNamespaceType::Time => Namespaces::TIME,
    }
}

fn name(field: &str, name: Option<&str>, namespaces: &NamespacePlan) -> Result<Option<String>, SpecError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.len() > HOSTNAME_MAX {
        return Err(SpecError::new(field, name, format!("longer than {HOSTNAME_MAX} bytes")));
    }
    if !namespaces.is_private(Namespaces::UTS) {
        return Err(SpecError::new(field, name, "cannot be set without a private UTS namespace"));
    }
    Ok(Some(name.to_owned()))
}

/// Kernel parameters that belong to an IPC namespace, those of message queues (`fs.mqueue.`) aside.
pub const IPC_SYSCTLS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
];

fn sysctls(linux: &Linux, namespaces: &NamespacePlan) -> Result<Vec<(String, String)>, SpecError> {
    let Some(wanted) = linux.sysctl() else { return Ok(Vec::new()) };
    let mut plans = Vec::with_capacity(wanted.len());
    for (key, value) in wanted {
        // Both "net.ipv4.ip_forward" and "net/ipv4/conf/eth0.1/forwarding" are usual.
        let slashes = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
        let path = if slashes { key.clone() } else { key.replace('.', "/") };
        let dotted = if slashes { key.replace('/', ".") } else { key.clone() };
        let needs = if dotted.starts_with("net.") {
            Namespaces::NETWORK
        } else if dotted.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&dotted.as_str()) {
            Namespaces::IPC
        } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
            Namespaces::UTS
        } else {
            return Err(SpecError::new(
                "linux.sysctl",
                key,
                "not a parameter of a namespace: it would change the host",
            ));
        };
        if !namespaces.is_private(needs) {
            return Err(SpecError::new("linux.sysctl", key, "cannot be set in the host's own namespace"));
        }
        if path.split('/').any(|part| part.is_empty() || part == "..") || value.contains('\0') {
            return Err(SpecError::new("linux.sysctl", key, "not the name of a kernel parameter"));
        }
        plans.push((path, value.clone()));
    }
    plans.sort();
    Ok(plans)
}

/// Clocks that a time namespace can shift, as the specification and the kernel call them.
const CLOCKS: [&str; 2] = ["monotonic", "boottime"];
const NANOSECONDS: u32 = 1_000_000_000;

fn time_offsets(linux: &Linux, namespaces: &NamespacePlan) -> Result<String, SpecError> {
    let mut lines = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if !CLOCKS.contains(&clock.as_str()) {
            return Err(SpecError::new("linux.timeOffsets", clock, "a clock is monotonic or boottime"));
        }
        if nanoseconds >= NANOSECONDS {
            return Err(SpecError::new("linux.timeOffsets.nanosecs", nanoseconds, "a second or more"));
        }
        lines.push(format!("{clock} {seconds} {nanoseconds}\n"));
    }
    if !lines.is_empty() && !namespaces.new.contains(Namespaces::TIME) {
        let reason = "clocks are shifted in a new time namespace only";
        return Err(SpecError::new("linux.timeOffsets", lines.len(), reason));
    }
    lines.sort();
    Ok(lines.concat())
}

fn personality(personality: &ferry_oci::runtime::LinuxPersonality) -> Result<u64, SpecError> {
    use ferry_oci::runtime::LinuxPersonalityDomain;
    // The specification has a place for flags and no flag.
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(SpecError::new("linux.personality.flags", flag, "the specification knows none"));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// The memory policy of a container's processes.
pub(crate) fn memory_policy(linux: Option<&Linux>) -> Result<Option<MemoryPolicyPlan>, SpecError> {
    linux.and_then(|linux| linux.memory_policy().as_ref()).map(MemoryPolicyPlan::build).transpose()
}

fn cgroup_path(linux: &Linux) -> Option<String> {
    let path: &Path = linux.cgroups_path().as_deref()?;
    let path = path.to_string_lossy();
    (!path.is_empty()).then(|| path.into_owned())
}

//! What a process in a container shall be, checked before anything is touched. Pure.

use std::ffi::CString;
use std::path::PathBuf;

use ferry_oci::runtime::{self, Capabilities, PosixRlimitType};

use super::affinity::AffinityPlan;
use super::memory_policy::MemoryPolicyPlan;
use super::scheduling::SchedulingPlan;
use crate::capability;
use crate::error::SpecError;
use crate::rootfs::plan::clean;

/// The umask of a process that asks for none.
const DEFAULT_UMASK: u32 = 0o022;

/// One process.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub search_path: String,
    pub working_directory: PathBuf,
    pub user: UserPlan,
    pub capabilities: CapabilityPlan,
    pub limits: Vec<LimitPlan>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    pub scheduling: SchedulingPlan,
    /// The container's, which `process` does not tell.
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// For further processes only.
    pub affinity: AffinityPlan,
    /// A compiled filter and its flags.
    pub seccomp: Option<SeccompPlan>,
}

/// Who the process is.
#[derive(Debug)]
pub(crate) struct UserPlan {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
}

/// Capability sets as masks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CapabilityPlan {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// A compiled seccomp filter.
#[derive(Debug)]
pub(crate) struct SeccompPlan {
    pub program: Vec<u8>,
    pub flags: u32,
    /// Who is given the filter's listener.
    pub agent: Option<AgentPlan>,
}

/// The agent that answers syscalls in a filter's place.
#[derive(Debug)]
pub(crate) struct AgentPlan {
    pub socket: PathBuf,
    pub metadata: String,
}

/// One resource limit.
#[derive(Debug)]
pub(crate) struct LimitPlan {
    pub name: &'static str,
    /// The kernel's number.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

impl ProcessPlan {
    pub fn build(process: &runtime::Process, seccomp: Option<SeccompPlan>) -> Result<ProcessPlan, SpecError> {
        let arguments = strings("process.args", process.args().as_deref().unwrap_or_default())?;
        if arguments.is_empty() {
            return Err(SpecError::new("process.args", "", "no command specified"));
        }
        let environment = process.env().as_deref().unwrap_or_default();
        let search_path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let user = process.user();
        Ok(ProcessPlan {
            arguments,
            environment: strings("process.env", environment)?,
            search_path: search_path.unwrap_or_default().to_owned(),
            working_directory: clean("process.cwd", process.cwd())?,
            user: UserPlan {
                uid: user.uid(),
                gid: user.gid(),
                groups: user.additional_gids().clone().unwrap_or_default(),
                umask: user.umask().unwrap_or(DEFAULT_UMASK),
            },
            capabilities: CapabilityPlan::build(process.capabilities().as_ref())?,
            limits: limits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor_profile: named(process.apparmor_profile().as_deref()),
            selinux_label: named(process.selinux_label().as_deref()),
            scheduling: SchedulingPlan::build(process)?,
            memory_policy: None,
            affinity: AffinityPlan::build(process)?,
            seccomp,
        })
    }
}

fn named(name: Option<&str>) -> Option<String> {
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

fn strings(field: &str, strings: &[String]) -> Result<Vec<CString>, SpecError> {
    strings
        .iter()
        .map(|string| {
            CString::new(string.as_str()).map_err(|_| SpecError::new(field, string, "contains a zero byte"))
        })
        .collect()
}

impl CapabilityPlan {
    fn build(sets: Option<&runtime::LinuxCapabilities>) -> Result<CapabilityPlan, SpecError> {
        let mask = |set: &Option<Capabilities>| set.as_ref().map_or(0, capability::mask);
        let plan = sets.map_or(CapabilityPlan::NONE, |sets| CapabilityPlan {
            bounding: mask(sets.bounding()),
            effective: mask(sets.effective()),
            permitted: mask(sets.permitted()),
            inheritable: mask(sets.inheritable()),
            // Bundles of other runtimes name ambient capabilities that are not inheritable; the kernel gives none of
            // those, and the others leave them out.
            ambient: mask(sets.ambient()) & mask(sets.permitted()) & mask(sets.inheritable()),
        });
        let subset = |name: &str, set: u64, of: u64, whole: &str| match set & !of {
            0 => Ok(()),
            extra => Err(SpecError::new(
                format!("process.capabilities.{name}"),
                capability::names(extra).join(","),
                format!("not in {whole}"),
            )),
        };
        subset("effective", plan.effective, plan.permitted, "permitted")?;
        Ok(plan)
    }

    const NONE: CapabilityPlan =
        CapabilityPlan { bounding: 0, effective: 0, permitted: 0, inheritable: 0, ambient: 0 };

    /// The same sets less what `known` lacks.
    pub fn limited_to(self, known: u64) -> CapabilityPlan {
        CapabilityPlan {
            bounding: self.bounding & known,
            effective: self.effective & known,
            permitted: self.permitted & known,
            inheritable: self.inheritable & known,
            ambient: self.ambient & known,
        }
    }
}

fn limits(limits: &[runtime::PosixRlimit]) -> Result<Vec<LimitPlan>, SpecError> {
    let mut plans: Vec<LimitPlan> = Vec::with_capacity(limits.len());
    for limit in limits {
        let (name, resource) = resource(limit.typ());
        if plans.iter().any(|plan| plan.resource == resource) {
            return Err(SpecError::new("process.rlimits", name, "given twice"));
        }
        if limit.soft() > limit.hard() {
            let value = format!("{name} {}:{}", limit.soft(), limit.hard());
            return Err(SpecError::new("process.rlimits", value, "the soft limit is above the hard one"));
        }
        plans.push(LimitPlan { name, resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(plans)
}

/// A limit's name as ulimit options spell it, and the kernel's number.
fn resource(kind: PosixRlimitType) -> (&'static str, u32) {
    match kind {
        PosixRlimitType::RlimitCpu => ("cpu", 0),
        PosixRlimitType::RlimitFsize => ("fsize", 1),
        PosixRlimitType::RlimitData => ("data", 2),
        PosixRlimitType::RlimitStack => ("stack", 3),
        PosixRlimitType::RlimitCore => ("core", 4),
        PosixRlimitType::RlimitRss => ("rss", 5),
        PosixRlimitType::RlimitNproc => ("nproc", 6),
        PosixRlimitType::RlimitNofile => ("nofile", 7),
        PosixRlimitType::RlimitMemlock => ("memlock", 8),
        PosixRlimitType::RlimitAs => ("as", 9),
        PosixRlimitType::RlimitLocks => ("locks", 10),
        PosixRlimitType::RlimitSigpending => ("sigpending", 11),
        PosixRlimitType::RlimitMsgqueue => ("msgqueue", 12),
        PosixRlimitType::RlimitNice => ("nice", 13),
        PosixRlimitType::RlimitRtprio => ("rtprio", 14),
        PosixRlimitType::RlimitRttime => ("rttime", 15),
    }
}

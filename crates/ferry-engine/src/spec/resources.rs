//! Limits: checking what was asked for, and its form for the runtime. Pure.

use ferry_api::container::{HostConfig, ThrottleDevice, Ulimit};
use ferry_oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use crate::host::Host;

/// Docker refuses less: nothing useful starts in it.
const MIN_MEMORY: i64 = 6 * 1024 * 1024;
/// The kernel's period when only a share of processors is asked for, in microseconds.
const DEFAULT_PERIOD: i64 = 100_000;

/// A limit that cannot be; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Less memory than anything needs.
    #[error("Minimum memory limit allowed is 6MB")]
    TooLittleMemory,
    /// Swap includes memory.
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    /// Swap alone means nothing.
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    /// Out of range.
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
    /// Less memory than anything needs.
    #[error("Minimum memory reservation allowed is 6MB")]
    TooLittleReservation,
    /// A reservation is below the limit.
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationAboveMemory,
    /// Two ways to say the same.
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set")]
    NanoCpusAnd(&'static str),
    /// More processors than there are.
    #[error("range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    CpuRange(u32),
    /// Out of range.
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    Period,
    /// Out of range.
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    Quota,
    /// No list of numbers.
    #[error("Invalid value {value} for cpuset {kind}")]
    CpuSet {
        /// `cpus` or `mems`.
        kind: &'static str,
        /// As given.
        value: String,
    },
    /// Processors that are not there.
    #[error("Requested CPUs are not available - requested {requested}, available: 0-{last}")]
    CpusMissing {
        /// As given.
        requested: String,
        /// The highest there is.
        last: u32,
    },
    /// Out of range.
    #[error("Invalid value {0}, range for oom score adj is [-1000, 1000]")]
    OomScore(i64),
    /// Out of range.
    #[error("Range of blkio weight is from 10 to 1000")]
    BlockWeight,
    /// A kind of limit nobody knows.
    #[error("invalid ulimit type: {0}")]
    UlimitName(String),
    /// Soft above hard.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    UlimitOrder {
        /// As given.
        soft: i64,
        /// As given.
        hard: i64,
    },
    /// Negative.
    #[error("SHM size can not be less than 0")]
    SharedMemory,
    /// A device of the host that is not there.
    #[error("no such device: {0:?}")]
    Device(String),
}

/// Refuses what cannot be, and tells what this host will not do about the rest.
pub fn check(config: &HostConfig, host: &Host) -> Result<Vec<String>, ResourceError> {
    check_memory(config)?;
    check_cpu(config, host)?;
    if !(-1000..=1000).contains(&config.oom_score_adj) {
        return Err(ResourceError::OomScore(config.oom_score_adj));
    }
    if config.blkio_weight != 0 && !(10..=1000).contains(&config.blkio_weight) {
        return Err(ResourceError::BlockWeight);
    }
    if config.shm_size < 0 {
        return Err(ResourceError::SharedMemory);
    }
    rlimits(config.ulimits.as_deref().unwrap_or_default())?;
    Ok(warnings(config, host))
}

fn check_memory(config: &HostConfig) -> Result<(), ResourceError> {
    let (memory, swap, reservation) = (config.memory, config.memory_swap, config.memory_reservation);
    if memory != 0 && memory < MIN_MEMORY {
        return Err(ResourceError::TooLittleMemory);
    }
    if memory > 0 && swap > 0 && swap < memory {
        return Err(ResourceError::SwapBelowMemory);
    }
    if memory == 0 && swap > 0 {
        return Err(ResourceError::SwapWithoutMemory);
    }
    if let Some(swappiness) = config.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(ResourceError::Swappiness(swappiness));
    }
    if reservation > 0 && reservation < MIN_MEMORY {
        return Err(ResourceError::TooLittleReservation);
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return Err(ResourceError::ReservationAboveMemory);
    }
    Ok(())
}

fn check_cpu(config: &HostConfig, host: &Host) -> Result<(), ResourceError> {
    if config.nano_cpus > 0 {
        if config.cpu_period > 0 {
            return Err(ResourceError::NanoCpusAnd("Period"));
        }
        if config.cpu_quota > 0 {
            return Err(ResourceError::NanoCpusAnd("Quota"));
        }
    }
    if config.nano_cpus < 0 || config.nano_cpus > i64::from(host.processors) * 1_000_000_000 {
        return Err(ResourceError::CpuRange(host.processors));
    }
    if config.cpu_period != 0 && !(1_000..=1_000_000).contains(&config.cpu_period) {
        return Err(ResourceError::Period);
    }
    if config.cpu_quota > 0 && config.cpu_quota < 1_000 {
        return Err(ResourceError::Quota);
    }
    if let Some(highest) = highest_in_set(&config.cpuset_cpus, "cpus")?
        && highest >= host.processors_configured
    {
        return Err(ResourceError::CpusMissing {
            requested: config.cpuset_cpus.clone(),
            last: host.processors_configured.saturating_sub(1),
        });
    }
    highest_in_set(&config.cpuset_mems, "mems").map(|_| ())
}

/// Reads `0-2,4`; gives the highest number in it.
fn highest_in_set(text: &str, kind: &'static str) -> Result<Option<u32>, ResourceError> {
    let refuse = || ResourceError::CpuSet { kind, value: text.to_owned() };
    let mut highest = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: u32 = low.trim().parse().map_err(|_| refuse())?;
        let high: u32 = high.trim().parse().map_err(|_| refuse())?;
        if low > high {
            return Err(refuse());
        }
        highest = highest.max(Some(high));
    }
    Ok(highest)
}

fn warnings(config: &HostConfig, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut lacks = |asked: bool, controller: &str, what: &str| {
        if asked && !host.cgroups.has(controller) {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. Limitation discarded."
            ));
        }
    };
    lacks(config.memory > 0, "memory", "memory limit capabilities");
    lacks(config.pids_limit.is_some_and(|limit| limit > 0), "pids", "pids limit capabilities");
    lacks(config.cpu_shares > 0, "cpu", "CPU shares");
    lacks(config.nano_cpus > 0 || config.cpu_quota > 0, "cpu", "CPU CFS scheduler");
    lacks(!config.cpuset_cpus.is_empty() || !config.cpuset_mems.is_empty(), "cpuset", "cpuset");
    lacks(config.blkio_weight > 0, "blkio", "Block I/O weight");
    if config.memory > 0 && config.memory_swap != -1 && !host.cgroups.swap && host.cgroups.has("memory") {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".into(),
        );
    }
    if config.oom_kill_disable == Some(true) && config.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into(),
        );
    }
    warnings
}

/// The limits for the runtime. Device rules are added by `spec::devices`.
pub fn to_runtime(config: &HostConfig, host: &Host) -> Result<LinuxResources, ResourceError> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_memory(memory(config, host));
    resources.set_cpu(Some(cpu(config)));
    if let Some(limit) = config.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit <= 0 { -1 } else { limit });
        resources.set_pids(Some(pids));
    }
    resources.set_block_io(block_io(config)?);
    Ok(resources)
}

fn memory(config: &HostConfig, host: &Host) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    let set = |value: i64| (value != 0).then_some(value);
    memory.set_limit(set(config.memory));
    memory.set_reservation(set(config.memory_reservation));
    // As much swap again as memory, when nothing is said.
    let swap = match config.memory_swap {
        0 if config.memory > 0 => config.memory.saturating_mul(2),
        given => given,
    };
    memory.set_swap(if host.cgroups.swap { set(swap) } else { None });
    let swappiness = config.memory_swappiness.and_then(|value| u64::try_from(value).ok());
    memory.set_swappiness(if host.cgroups.unified { None } else { swappiness });
    memory.set_disable_oom_killer(if host.cgroups.unified {
        None
    } else {
        config.oom_kill_disable.filter(|it| *it)
    });
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(config: &HostConfig) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    cpu.set_shares(positive(config.cpu_shares));
    cpu.set_period(positive(config.cpu_period));
    cpu.set_quota((config.cpu_quota != 0).then_some(config.cpu_quota));
    if config.nano_cpus > 0 {
        cpu.set_period(positive(DEFAULT_PERIOD));
        cpu.set_quota(Some(config.nano_cpus / (1_000_000_000 / DEFAULT_PERIOD)));
    }
    cpu.set_realtime_period(positive(config.cpu_realtime_period));
    cpu.set_realtime_runtime((config.cpu_realtime_runtime != 0).then_some(config.cpu_realtime_runtime));
    cpu.set_cpus(text(&config.cpuset_cpus));
    cpu.set_mems(text(&config.cpuset_mems));
    cpu
}

fn block_io(config: &HostConfig) -> Result<Option<LinuxBlockIo>, ResourceError> {
    let mut block = LinuxBlockIo::default();
    if config.blkio_weight > 0 {
        block.set_weight(Some(config.blkio_weight));
    }
    block.set_throttle_read_bps_device(throttles(config.blkio_device_read_bps.as_deref())?);
    block.set_throttle_write_bps_device(throttles(config.blkio_device_write_bps.as_deref())?);
    block.set_throttle_read_iops_device(throttles(config.blkio_device_read_iops.as_deref())?);
    block.set_throttle_write_iops_device(throttles(config.blkio_device_write_iops.as_deref())?);
    Ok((block != LinuxBlockIo::default()).then_some(block))
}

fn throttles(devices: Option<&[ThrottleDevice]>) -> Result<Option<Vec<LinuxThrottleDevice>>, ResourceError> {
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Ok(None) };
    let convert = |device: &ThrottleDevice| {
        let stat =
            rustix::fs::stat(device.path.as_str()).map_err(|_| ResourceError::Device(device.path.clone()))?;
        let builder = LinuxThrottleDeviceBuilder::default()
            .major(rustix::fs::major(stat.st_rdev))
            .minor(rustix::fs::minor(stat.st_rdev));
        Ok(builder.rate(device.rate).build().expect("every field of the builder has a default"))
    };
    devices.iter().map(convert).collect::<Result<Vec<_>, _>>().map(Some)
}

/// `--ulimit` for the runtime.
pub fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>, ResourceError> {
    ulimits.iter().map(rlimit).collect()
}

fn rlimit(ulimit: &Ulimit) -> Result<PosixRlimit, ResourceError> {
    let name = ulimit.name.to_ascii_lowercase();
    let kind = RLIMITS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let kind = kind.ok_or_else(|| ResourceError::UlimitName(ulimit.name.clone()))?;
    let (soft, hard) = (ulimit.soft, ulimit.hard);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(ResourceError::UlimitOrder { soft, hard });
    }
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let builder = PosixRlimitBuilder::default().typ(kind).soft(value(soft)).hard(value(hard));
    Ok(builder.build().expect("every field of the builder has a default"))
}

const RLIMITS: [(&str, PosixRlimitType); 15] = [
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cgroups;

    fn host() -> Host {
        let controllers = ["cpu", "cpuset", "memory", "pids", "blkio"].map(str::to_owned).into();
        Host {
            processors: 2,
            processors_configured: 4,
            cgroups: Cgroups { unified: false, controllers, swap: true, usable: true },
            ..Host::default()
        }
    }

    #[test]
    fn impossible_limits_are_refused_in_dockers_words() {
        let config = HostConfig::default;
        for (config, message) in [
            (HostConfig { memory: 1, ..config() }, "Minimum memory limit allowed is 6MB"),
            (
                HostConfig { memory: 64 << 20, memory_swap: 32 << 20, ..config() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                HostConfig { memory_swap: 32 << 20, ..config() },
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                HostConfig { nano_cpus: 3_000_000_000, ..config() },
                "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            ),
            (
                HostConfig { cpuset_cpus: "0-9".into(), ..config() },
                "Requested CPUs are not available - requested 0-9, available: 0-3",
            ),
            (HostConfig { cpuset_cpus: "a".into(), ..config() }, "Invalid value a for cpuset cpus"),
            (
                HostConfig { oom_score_adj: 1001, ..config() },
                "Invalid value 1001, range for oom score adj is [-1000, 1000]",
            ),
            (
                HostConfig {
                    ulimits: Some(vec![Ulimit { name: "files".into(), hard: 1, soft: 1 }]),
                    ..config()
                },
                "invalid ulimit type: files",
            ),
            (
                HostConfig {
                    ulimits: Some(vec![Ulimit { name: "nofile".into(), hard: 1, soft: 2 }]),
                    ..config()
                },
                "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
            ),
        ] {
            assert_eq!(check(&config, &host()).expect_err(message).to_string(), message);
        }
        assert_eq!(check(&config(), &host()), Ok(Vec::new()));
    }

    #[test]
    fn limits_reach_the_runtime() {
        let config = HostConfig {
            memory: 64 << 20,
            nano_cpus: 1_500_000_000,
            pids_limit: Some(10),
            cpuset_cpus: "0".into(),
            ..HostConfig::default()
        };
        let resources = to_runtime(&config, &host()).unwrap();
        let memory = resources.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        let cpu = resources.cpu().clone().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
        assert_eq!(cpu.cpus().as_deref(), Some("0"));
        assert_eq!(resources.pids().as_ref().map(LinuxPids::limit), Some(10));
    }

    #[test]
    fn missing_controllers_are_told() {
        let bare = Host { cgroups: Cgroups::default(), ..host() };
        let config = HostConfig { memory: 64 << 20, pids_limit: Some(5), ..HostConfig::default() };
        let warnings = check(&config, &bare).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }
}

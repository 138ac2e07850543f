//! Limits through cgroup v1's files.

use std::path::Path;

use ferry_oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxThrottleDevice,
};
use rustix::io::Errno;

use super::error::CgroupError;
use super::files::{try_write, write};

pub(super) fn memory(directory: &Path, memory: &LinuxMemory) -> Result<(), CgroupError> {
    limits(directory, memory.limit(), memory.swap())?;
    set(directory, "memory.soft_limit_in_bytes", memory.reservation())?;
    set(directory, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp())?;
    set(directory, "memory.swappiness", memory.swappiness())?;
    if memory.disable_oom_killer() == Some(true) {
        write(&directory.join("memory.oom_control"), "1")?;
    }
    // The kernel memory limit is gone from the kernel since 5.16; like every runtime of today this one
    // leaves it out.
    Ok(())
}

/// The kernel keeps "memory <= memory + swap" at every moment, so the order depends on where both
/// stand now.
fn limits(directory: &Path, limit: Option<i64>, swap: Option<i64>) -> Result<(), CgroupError> {
    let limit_path = directory.join("memory.limit_in_bytes");
    let swap_path = directory.join("memory.memsw.limit_in_bytes");
    match (limit, swap) {
        (None, None) => Ok(()),
        (Some(limit), None) => write(&limit_path, &limit.to_string()),
        (None, Some(swap)) => write_swap(&swap_path, swap),
        (Some(limit), Some(swap)) => match try_write(&limit_path, &limit.to_string()) {
            Ok(()) => write_swap(&swap_path, swap),
            // Above the present limit of both together: that one first.
            Err(Errno::INVAL) => {
                write_swap(&swap_path, swap)?;
                write(&limit_path, &limit.to_string())
            }
            Err(_) => write(&limit_path, &limit.to_string()),
        },
    }
}

fn write_swap(path: &Path, swap: i64) -> Result<(), CgroupError> {
    match try_write(path, &swap.to_string()) {
        Ok(()) => Ok(()),
        // Without swap accounting nothing is swapped on the container's account either.
        Err(Errno::NOENT) if swap == -1 => Ok(()),
        Err(Errno::NOENT) => Err(CgroupError::NoController {
            setting: "linux.resources.memory.swap",
            controller: "swap accounting",
        }),
        Err(_) => write(path, &swap.to_string()),
    }
}

pub(super) fn cpu(directory: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    set(directory, "cpu.shares", cpu.shares().filter(|shares| *shares != 0))?;
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period_path = directory.join("cpu.cfs_period_us");
    match period.map(|period| (period, try_write(&period_path, &period.to_string()))) {
        None | Some((_, Ok(()))) => set(directory, "cpu.cfs_quota_us", quota)?,
        // The present quota would be too much in the new period: the quota first.
        Some((period, Err(Errno::INVAL))) if quota.is_some() => {
            set(directory, "cpu.cfs_quota_us", quota)?;
            write(&period_path, &period.to_string())?;
        }
        Some((period, Err(_))) => write(&period_path, &period.to_string())?,
    }
    set(directory, "cpu.cfs_burst_us", cpu.burst())?;
    set(directory, "cpu.rt_period_us", cpu.realtime_period().filter(|period| *period != 0))?;
    set(directory, "cpu.rt_runtime_us", cpu.realtime_runtime().filter(|runtime| *runtime != 0))?;
    set(directory, "cpu.idle", cpu.idle())
}

pub(super) fn cpuset(directory: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    set(directory, "cpuset.cpus", cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()))?;
    set(directory, "cpuset.mems", cpu.mems().as_ref().filter(|mems| !mems.is_empty()))
}

pub(super) fn pids(directory: &Path, pids: &LinuxPids) -> Result<(), CgroupError> {
    write(&directory.join("pids.max"), &super::pids_value(pids.limit()))
}

pub(super) fn block_io(directory: &Path, block_io: &LinuxBlockIo) -> Result<(), CgroupError> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        write_weight(directory, "weight", &weight.to_string())?;
    }
    set(directory, "blkio.leaf_weight", block_io.leaf_weight().filter(|weight| *weight != 0))?;
    for device in block_io.weight_device().as_deref().unwrap_or_default() {
        let name = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            write_weight(directory, "weight_device", &format!("{name} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight() {
            write(&directory.join("blkio.leaf_weight_device"), &format!("{name} {weight}"))?;
        }
    }
    throttle(directory, "blkio.throttle.read_bps_device", block_io.throttle_read_bps_device())?;
    throttle(directory, "blkio.throttle.write_bps_device", block_io.throttle_write_bps_device())?;
    throttle(directory, "blkio.throttle.read_iops_device", block_io.throttle_read_iops_device())?;
    throttle(directory, "blkio.throttle.write_iops_device", block_io.throttle_write_iops_device())
}

/// Weights are the business of whichever I/O scheduler the kernel has.
fn write_weight(directory: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    match try_write(&directory.join(format!("blkio.{file}")), value) {
        Err(Errno::NOENT) => match try_write(&directory.join(format!("blkio.bfq.{file}")), value) {
            Err(Errno::NOENT) => Err(CgroupError::NoController {
                setting: "linux.resources.blockIO.weight",
                controller: "block I/O weight",
            }),
            Err(_) => write(&directory.join(format!("blkio.bfq.{file}")), value),
            Ok(()) => Ok(()),
        },
        Err(_) => write(&directory.join(format!("blkio.{file}")), value),
        Ok(()) => Ok(()),
    }
}

fn throttle(
    directory: &Path,
    file: &str,
    devices: &Option<Vec<LinuxThrottleDevice>>,
) -> Result<(), CgroupError> {
    for device in devices.as_deref().unwrap_or_default() {
        let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
        write(&directory.join(file), &line)?;
    }
    Ok(())
}

pub(super) fn huge_pages(directory: &Path, limits: &[LinuxHugepageLimit]) -> Result<(), CgroupError> {
    for limit in limits {
        write(
            &directory.join(format!("hugetlb.{}.limit_in_bytes", limit.page_size())),
            &limit.limit().to_string(),
        )?;
    }
    Ok(())
}

pub(super) fn network_class(directory: &Path, network: &LinuxNetwork) -> Result<(), CgroupError> {
    set(directory, "net_cls.classid", network.class_id())
}

pub(super) fn network_priority(directory: &Path, network: &LinuxNetwork) -> Result<(), CgroupError> {
    for priority in network.priorities().as_deref().unwrap_or_default() {
        let line = format!("{} {}", priority.name(), priority.priority());
        write(&directory.join("net_prio.ifpriomap"), &line)?;
    }
    Ok(())
}

fn set(directory: &Path, file: &str, value: Option<impl ToString>) -> Result<(), CgroupError> {
    match value {
        Some(value) => write(&directory.join(file), &value.to_string()),
        None => Ok(()),
    }
}

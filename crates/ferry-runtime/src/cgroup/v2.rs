//! Limits through cgroup v2's files.

use std::collections::HashMap;
use std::path::Path;

use ferry_oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxThrottleDevice,
};
use rustix::io::Errno;

use super::error::CgroupError;
use super::files::{read, read_number, try_write, write};

/// The kernel's default CPU period.
const DEFAULT_PERIOD_US: u64 = 100_000;

pub(super) fn memory(directory: &Path, memory: &LinuxMemory) -> Result<(), CgroupError> {
    if memory.check_before_update() == Some(true) {
        check_usage(directory, memory.limit())?;
    }
    if let Some(swap) = swap_value(memory.limit(), memory.swap())? {
        match try_write(&directory.join("memory.swap.max"), &swap) {
            Ok(()) => {}
            // Without swap accounting nothing is swapped on the container's account either.
            Err(Errno::NOENT) if swap == "max" || swap == "0" => {}
            Err(_) => write(&directory.join("memory.swap.max"), &swap)?,
        }
    }
    if let Some(limit) = memory.limit().filter(|limit| *limit != 0) {
        write(&directory.join("memory.max"), &limit_value(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        write(&directory.join("memory.low"), &limit_value(reservation))?;
    }
    // Swappiness and switching the OOM killer off do not exist in v2: see `effect.rs`.
    Ok(())
}

/// Version 1 refuses a limit below what is used; version 2 would kill somebody to reach it.
fn check_usage(directory: &Path, limit: Option<i64>) -> Result<(), CgroupError> {
    let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0) else {
        return Ok(());
    };
    let used = read_number(&directory.join("memory.current"))?.unwrap_or(0);
    if used <= limit {
        return Ok(());
    }
    Err(CgroupError::Value {
        setting: "linux.resources.memory.limit",
        value: limit.to_string(),
        reason: format!("{used} bytes are used now, and checkBeforeUpdate is set"),
    })
}

/// v1 and the specification count memory and swap together, v2 swap alone.
fn swap_value(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, CgroupError> {
    let invalid = |swap: i64, reason: &str| CgroupError::Value {
        setting: "linux.resources.memory.swap",
        value: swap.to_string(),
        reason: reason.to_owned(),
    };
    match (swap, limit) {
        (None | Some(0), _) => Ok(None),
        (Some(swap), _) if swap < 0 => Ok(Some("max".to_owned())),
        (Some(swap), Some(limit)) if limit > 0 => match swap - limit {
            only_swap @ 0.. => Ok(Some(only_swap.to_string())),
            _ => Err(invalid(swap, "less than the memory limit, which it includes")),
        },
        (Some(swap), _) => Err(invalid(swap, "a swap limit needs a memory limit")),
    }
}

fn limit_value(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

pub(super) fn cpu(directory: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    let realtime = [cpu.realtime_runtime().map(|runtime| runtime as u64), cpu.realtime_period()];
    if realtime.into_iter().flatten().any(|number| number != 0) {
        return Err(CgroupError::NoController {
            setting: "linux.resources.cpu.realtimeRuntime",
            controller: "version 1 cpu",
        });
    }
    if let Some(idle) = cpu.idle() {
        write(&directory.join("cpu.idle"), &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write(&directory.join("cpu.weight"), &weight_of_shares(shares).to_string())?;
    }
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        let path = directory.join("cpu.max");
        let quota = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) => "max".to_owned(),
            None => read(&path)?.split_ascii_whitespace().next().unwrap_or("max").to_owned(),
        };
        write(&path, &format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US)))?;
    }
    if let Some(burst) = cpu.burst() {
        write(&directory.join("cpu.max.burst"), &burst.to_string())?;
    }
    Ok(())
}

/// v1's 2 to 262144 shares (1024 usual) as v2's weight of 1 to 10000 (100 usual), by the curve that
/// runc and crun use: it keeps the usual values and both ends.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let logarithm = (shares as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

pub(super) fn cpuset(directory: &Path, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            write(&directory.join(file), value)?;
        }
    }
    Ok(())
}

pub(super) fn pids(directory: &Path, pids: &LinuxPids) -> Result<(), CgroupError> {
    write(&directory.join("pids.max"), &super::pids_value(pids.limit()))
}

pub(super) fn block_io(directory: &Path, block_io: &LinuxBlockIo) -> Result<(), CgroupError> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        write_weight(directory, "", weight)?;
    }
    for device in block_io.weight_device().as_deref().unwrap_or_default() {
        if let Some(weight) = device.weight() {
            write_weight(directory, &format!("{}:{} ", device.major(), device.minor()), weight)?;
        }
    }
    throttle(directory, "rbps", block_io.throttle_read_bps_device())?;
    throttle(directory, "wbps", block_io.throttle_write_bps_device())?;
    throttle(directory, "riops", block_io.throttle_read_iops_device())?;
    throttle(directory, "wiops", block_io.throttle_write_iops_device())
}

/// BFQ takes the specification's 10 to 1000; `io.weight` takes 1 to 10000.
fn write_weight(directory: &Path, device: &str, weight: u16) -> Result<(), CgroupError> {
    match try_write(&directory.join("io.bfq.weight"), &format!("{device}{weight}")) {
        Err(Errno::NOENT) => {}
        Ok(()) => return Ok(()),
        Err(_) => return write(&directory.join("io.bfq.weight"), &format!("{device}{weight}")),
    }
    let weight = 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    let device = if device.is_empty() { "default " } else { device };
    match try_write(&directory.join("io.weight"), &format!("{device}{weight}")) {
        Err(Errno::NOENT) => Err(CgroupError::NoController {
            setting: "linux.resources.blockIO.weight",
            controller: "block I/O weight",
        }),
        Ok(()) => Ok(()),
        Err(_) => write(&directory.join("io.weight"), &format!("{device}{weight}")),
    }
}

fn throttle(
    directory: &Path,
    key: &str,
    devices: &Option<Vec<LinuxThrottleDevice>>,
) -> Result<(), CgroupError> {
    for device in devices.as_deref().unwrap_or_default() {
        let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
        write(&directory.join("io.max"), &format!("{}:{} {key}={rate}", device.major(), device.minor()))?;
    }
    Ok(())
}

pub(super) fn huge_pages(directory: &Path, limits: &[LinuxHugepageLimit]) -> Result<(), CgroupError> {
    for limit in limits {
        write(&directory.join(format!("hugetlb.{}.max", limit.page_size())), &limit_value(limit.limit()))?;
    }
    Ok(())
}

/// Files set by their own names (`linux.resources.unified`).
pub(super) fn unified(directory: &Path, values: &HashMap<String, String>) -> Result<(), CgroupError> {
    for (file, value) in values {
        if file.contains('/') || file.starts_with("cgroup.") {
            return Err(CgroupError::Value {
                setting: "linux.resources.unified",
                value: file.clone(),
                reason: "not the name of a controller's file".to_owned(),
            });
        }
        write(&directory.join(file), value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
    }

    #[test]
    fn swap_is_counted_apart() {
        let cases = [
            (None, None, None),
            (Some(100), Some(-1), Some("max")),
            (Some(100), Some(100), Some("0")),
            (Some(100), Some(300), Some("200")),
        ];
        for (limit, swap, expected) in cases {
            assert_eq!(swap_value(limit, swap).expect("valid").as_deref(), expected);
        }
        assert_eq!(
            swap_value(Some(100), Some(50)).unwrap_err().to_string(),
            "invalid linux.resources.memory.swap 50: less than the memory limit, which it includes"
        );
        assert!(swap_value(None, Some(50)).is_err());
    }
}

//! Limits as a unit's properties.

use ferry_oci::runtime::{LinuxCpu, LinuxResources};

use super::wire::Value;
use crate::cgroup::{self, Layout};

/// systemd's word for no limit.
const UNLIMITED: u64 = u64::MAX;
const SECOND_US: u64 = 1_000_000;
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd keeps quotas in hundredths of a processor.
const QUOTA_STEP_US: u64 = 10_000;

type Property = (String, Value);

/// What every scope counts.
pub(super) fn accounting() -> Vec<Property> {
    let io = if is_v2() { "IOAccounting" } else { "BlockIOAccounting" };
    ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io]
        .map(|name| (name.to_owned(), Value::Truth(true)))
        .to_vec()
}

fn is_v2() -> bool {
    matches!(cgroup::detect(), Ok(Layout::V2))
}

/// The limits that systemd has a property for; the others are in the kernel's files alone.
pub(super) fn of(resources: &LinuxResources) -> Vec<Property> {
    properties(resources, is_v2())
}

fn properties(resources: &LinuxResources, v2: bool) -> Vec<Property> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Value| found.push((name.to_owned(), value));
    if let Some(memory) = resources.memory() {
        if let Some(limit) = memory.limit().filter(|limit| *limit != 0) {
            add(if v2 { "MemoryMax" } else { "MemoryLimit" }, bytes(limit));
        }
        if let Some(low) = memory.reservation().filter(|low| v2 && *low != 0) {
            add("MemoryLow", bytes(low));
        }
        match (memory.swap(), memory.limit()) {
            (Some(swap), _) if v2 && swap < 0 => add("MemorySwapMax", Value::Number(UNLIMITED)),
            (Some(swap), Some(limit)) if v2 && limit > 0 && swap >= limit => {
                add("MemorySwapMax", Value::Number((swap - limit) as u64));
            }
            _ => {}
        }
    }
    if let Some(cpu) = resources.cpu() {
        found.extend(processor(cpu, v2));
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit() as u64 } else { UNLIMITED };
        found.push(("TasksMax".to_owned(), Value::Number(limit)));
    }
    found
}

fn processor(cpu: &LinuxCpu, v2: bool) -> Vec<Property> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Value| found.push((name.to_owned(), value));
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        match v2 {
            true => add("CPUWeight", Value::Number(cgroup::weight_of_shares(shares))),
            false => add("CPUShares", Value::Number(shares)),
        }
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        let period = cpu.period().filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD_US);
        let per_second = match u64::try_from(quota) {
            // Rounded up, as runc does: systemd would round it down to less than what was asked for.
            Ok(quota) => (quota.saturating_mul(SECOND_US) / period).next_multiple_of(QUOTA_STEP_US),
            Err(_) => UNLIMITED,
        };
        add("CPUQuotaPerSecUSec", Value::Number(per_second));
        if v2 {
            add("CPUQuotaPeriodUSec", Value::Number(period));
        }
    }
    if v2 {
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(mask) = list.as_deref().filter(|list| !list.is_empty()).and_then(mask) {
                add(name, Value::Bytes(mask));
            }
        }
    }
    found
}

fn bytes(limit: i64) -> Value {
    Value::Number(u64::try_from(limit).unwrap_or(UNLIMITED))
}

/// A list as `0-3,7` as the bytes of a bit mask; `None` for one that the kernel will refuse in its own words.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut mask: Vec<u8> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > usize::from(u16::MAX) {
            return None;
        }
        if mask.len() <= last / 8 {
            mask.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_json(json: &str, v2: bool) -> Vec<(String, Value)> {
        properties(&serde_json::from_str(json).expect("limits"), v2)
    }

    #[test]
    fn limits_of_version_2() {
        let found = of_json(
            r#"{"memory": {"limit": 100, "swap": 300, "reservation": 50}, "pids": {"limit": 9},
                "cpu": {"shares": 1024, "quota": 15000, "period": 100000, "cpus": "0-1,9"}}"#,
            true,
        );
        let number = |name: &str, number| (name.to_owned(), Value::Number(number));
        assert_eq!(
            found,
            [
                number("MemoryMax", 100),
                number("MemoryLow", 50),
                number("MemorySwapMax", 200),
                number("CPUWeight", 100),
                number("CPUQuotaPerSecUSec", 150_000),
                number("CPUQuotaPeriodUSec", 100_000),
                ("AllowedCPUs".to_owned(), Value::Bytes(vec![3, 2])),
                number("TasksMax", 9),
            ]
        );
    }

    #[test]
    fn limits_of_version_1_and_none() {
        let found = of_json(
            r#"{"memory": {"limit": -1}, "cpu": {"shares": 7, "quota": -1}, "pids": {"limit": 0}}"#,
            false,
        );
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["MemoryLimit", "CPUShares", "CPUQuotaPerSecUSec", "TasksMax"]);
        assert_eq!(found[0].1, Value::Number(UNLIMITED));
        assert_eq!(mask("3-1"), None);
    }
}

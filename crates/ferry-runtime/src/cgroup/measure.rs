//! Reading a cgroup's resource use from the kernel's files.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::CgroupError;
use super::files::{keyed, read, read_number, read_optional, try_read};
use super::stats::{BlockIoEntry, BlockIoStats, CpuStats, MemoryStats, PidsStats};

/// v1 reports user and system time in ticks; Linux fixes 100 per second for that.
const TICK_NS: u64 = 10_000_000;
const MICROSECOND_NS: u64 = 1_000;
/// v1 has no word for "unlimited": the limit is then the highest multiple of the page size.
const V1_UNLIMITED: u64 = 1 << 62;

pub(super) fn cpu_v1(accounting: Option<&Path>, cpu: Option<&Path>) -> Result<CpuStats, CgroupError> {
    let mut stats = CpuStats::default();
    if let Some(directory) = accounting {
        stats.usage_ns = read_number(&directory.join("cpuacct.usage"))?.unwrap_or(0);
        let ticks = read(&directory.join("cpuacct.stat"))?;
        stats.user_ns = keyed(&ticks, "user") * TICK_NS;
        stats.system_ns = keyed(&ticks, "system") * TICK_NS;
        let per_cpu = read_optional(&directory.join("cpuacct.usage_percpu"))?.unwrap_or_default();
        stats.per_cpu_ns =
            per_cpu.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
    }
    if let Some(directory) = cpu {
        let text = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
        throttling(&mut stats, &text, keyed(&text, "throttled_time"));
    }
    Ok(stats)
}

pub(super) fn cpu_v2(directory: &Path) -> Result<CpuStats, CgroupError> {
    let text = read(&directory.join("cpu.stat"))?;
    let mut stats = CpuStats {
        usage_ns: keyed(&text, "usage_usec") * MICROSECOND_NS,
        user_ns: keyed(&text, "user_usec") * MICROSECOND_NS,
        system_ns: keyed(&text, "system_usec") * MICROSECOND_NS,
        ..CpuStats::default()
    };
    throttling(&mut stats, &text, keyed(&text, "throttled_usec") * MICROSECOND_NS);
    Ok(stats)
}

fn throttling(stats: &mut CpuStats, text: &str, throttled_ns: u64) {
    stats.periods = keyed(text, "nr_periods");
    stats.throttled_periods = keyed(text, "nr_throttled");
    stats.throttled_ns = throttled_ns;
}

pub(super) fn memory_v1(directory: &Path) -> Result<MemoryStats, CgroupError> {
    let number = |file: &str| read_number(&directory.join(file)).map(|number| number.unwrap_or(0));
    let usage = number("memory.usage_in_bytes")?;
    let with_swap = match try_read(&directory.join("memory.memsw.usage_in_bytes")) {
        Ok(text) => text.trim().parse().unwrap_or(usage),
        // No swap accounting.
        Err(_) => usage,
    };
    let limit = number("memory.limit_in_bytes")?;
    Ok(MemoryStats {
        usage,
        max_usage: number("memory.max_usage_in_bytes")?,
        limit: (limit < V1_UNLIMITED).then_some(limit),
        failures: number("memory.failcnt")?,
        swap: with_swap.saturating_sub(usage),
        details: details(&read(&directory.join("memory.stat"))?),
    })
}

pub(super) fn memory_v2(directory: &Path) -> Result<MemoryStats, CgroupError> {
    let optional = |file: &str| -> Result<u64, CgroupError> {
        let text = read_optional(&directory.join(file))?.unwrap_or_default();
        Ok(text.trim().parse().unwrap_or(0))
    };
    let events = read(&directory.join("memory.events"))?;
    Ok(MemoryStats {
        usage: read_number(&directory.join("memory.current"))?.unwrap_or(0),
        max_usage: optional("memory.peak")?,
        limit: read_number(&directory.join("memory.max"))?,
        failures: keyed(&events, "max"),
        swap: optional("memory.swap.current")?,
        details: details(&read(&directory.join("memory.stat"))?),
    })
}

fn details(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

pub(super) fn pids(directory: &Path) -> Result<PidsStats, CgroupError> {
    Ok(PidsStats {
        current: read_number(&directory.join("pids.current"))?.unwrap_or(0),
        limit: read_number(&directory.join("pids.max"))?,
    })
}

pub(super) fn block_io_v1(directory: &Path) -> Result<BlockIoStats, CgroupError> {
    // The BFQ scheduler counts in files of its own; the throttling layer sees everything.
    let entries = |names: [&str; 2]| -> Result<Vec<BlockIoEntry>, CgroupError> {
        for name in names {
            let text = read_optional(&directory.join(name))?.unwrap_or_default();
            let entries: Vec<BlockIoEntry> = text.lines().filter_map(entry_v1).collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(BlockIoStats {
        service_bytes: entries([
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ])?,
        serviced: entries(["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"])?,
    })
}

/// `8:0 Read 4096`; the grand total at the end has no device and is left out.
fn entry_v1(line: &str) -> Option<BlockIoEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    Some(BlockIoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        operation: words.next()?.to_owned(),
        value: words.next()?.parse().ok()?,
    })
}

pub(super) fn block_io_v2(directory: &Path) -> Result<BlockIoStats, CgroupError> {
    let text = read_optional(&directory.join("io.stat"))?.unwrap_or_default();
    let mut stats = BlockIoStats::default();
    for line in text.lines() {
        add_v2(&mut stats, line);
    }
    Ok(stats)
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`
fn add_v2(stats: &mut BlockIoStats, line: &str) -> Option<()> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    for word in words {
        let (key, value) = word.split_once('=')?;
        let (list, operation) = match key {
            "rbytes" => (&mut stats.service_bytes, "read"),
            "wbytes" => (&mut stats.service_bytes, "write"),
            "rios" => (&mut stats.serviced, "read"),
            "wios" => (&mut stats.serviced, "write"),
            _ => continue,
        };
        list.push(BlockIoEntry { major, minor, operation: operation.to_owned(), value: value.parse().ok()? });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_of_both_versions() {
        let entry = entry_v1("254:0 Write 8192").expect("an entry");
        assert_eq!((entry.major, entry.operation.as_str(), entry.value), (254, "Write", 8192));
        assert_eq!(entry_v1("Total 12"), None);
        let mut stats = BlockIoStats::default();
        add_v2(&mut stats, "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0");
        assert_eq!(stats.service_bytes.len(), 2);
        assert_eq!((stats.serviced[1].operation.as_str(), stats.serviced[1].value), ("write", 4));
    }
}

//! `docker stats`: what a container uses, sample by sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_api::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, ThrottlingData,
};
use ferry_runtime::cgroup;
use jiff::Timestamp;

use super::{Container, stuck};
use crate::clock;
use crate::engine::Engine;
use crate::shim::LinkError;

/// Nanoseconds of one tick in `/proc/stat`: the kernel tells processors' time to user space in hundredths.
const NANOS_PER_TICK: u64 = 10_000_000;

/// One moment's counters; Docker pairs it with the one before.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    read: String,
    cpu: CpuStats,
    memory: MemoryStats,
    pids: PidsStats,
    block_io: BlkioStats,
    networks: BTreeMap<String, NetworkStats>,
}

impl Sample {
    /// Asks the monitor and the kernel.
    pub async fn take(engine: &Engine, container: &Container) -> Result<Option<Self>, LinkError> {
        let Some(link) = container.link() else { return Ok(None) };
        let stats = stuck::answered(container, link.stats()).await?;
        let pid = container.lock().record.state.pid;
        let network = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        let system = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Ok(Some(Self {
            read: clock::format(Timestamp::now()),
            cpu: cpu(&stats.cpu, &system, engine.host.processors_configured),
            memory: memory(&stats.memory, engine.host.memory, stats.version),
            pids: PidsStats { current: stats.pids.current, limit: stats.pids.limit.unwrap_or(u64::MAX) },
            block_io: block_io(&stats.block_io),
            networks: parse_network(&network),
        }))
    }

    /// As clients read it, with the sample before this one.
    pub fn answer(&self, container: &Container, previous: Option<&Self>) -> Stats {
        let before = previous.cloned().unwrap_or_default();
        Stats {
            read: self.read.clone(),
            preread: if before.read.is_empty() { ferry_api::ZERO_TIME.into() } else { before.read },
            cpu_stats: self.cpu.clone(),
            precpu_stats: before.cpu,
            memory_stats: self.memory.clone(),
            networks: (!self.networks.is_empty()).then(|| self.networks.clone()),
            pids_stats: self.pids.clone(),
            blkio_stats: self.block_io.clone(),
            num_procs: 0,
            ..stub(container)
        }
    }
}

/// What is said of a container that does not run.
pub fn stub(container: &Container) -> Stats {
    Stats {
        name: format!("/{}", container.name()),
        id: container.id.clone(),
        os_type: "linux".into(),
        ..Stats::default()
    }
}

/// Two samples, or a stub; a client that wants one moment only gets it at once.
pub async fn once(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    one_shot: bool,
) -> Result<Stats, LinkError> {
    let Some(first) = Sample::take(engine, container).await? else { return Ok(stub(container)) };
    if one_shot {
        return Ok(first.answer(container, None));
    }
    tokio::time::sleep(INTERVAL).await;
    match Sample::take(engine, container).await? {
        Some(second) => Ok(second.answer(container, Some(&first))),
        None => Ok(stub(container)),
    }
}

/// Between two samples of a stream.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

fn cpu(stats: &cgroup::CpuStats, system: &str, processors: u32) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: stats.usage_ns,
            percpu_usage: stats.per_cpu_ns.clone(),
            usage_in_kernelmode: stats.system_ns,
            usage_in_usermode: stats.user_ns,
        },
        system_cpu_usage: system_time(system),
        online_cpus: processors,
        throttling_data: ThrottlingData {
            periods: stats.periods,
            throttled_periods: stats.throttled_periods,
            throttled_time: stats.throttled_ns,
        },
    }
}

/// All processors' time since boot: user, nice, system, idle, iowait, irq and softirq of the first line.
fn system_time(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = line.into_iter().flat_map(str::split_whitespace).take(7);
    ticks.filter_map(|tick| tick.parse::<u64>().ok()).sum::<u64>().saturating_mul(NANOS_PER_TICK)
}

fn memory(stats: &cgroup::MemoryStats, total: u64, version: u8) -> MemoryStats {
    let legacy = |value: u64| if version == 1 { value } else { 0 };
    MemoryStats {
        usage: stats.usage,
        max_usage: legacy(stats.max_usage),
        stats: stats.details.clone(),
        failcnt: legacy(stats.failures),
        // A limit above what there is limits nothing.
        limit: stats.limit.map_or(total, |limit| limit.min(total)),
    }
}

fn block_io(stats: &cgroup::BlockIoStats) -> BlkioStats {
    let entries = |list: &[cgroup::BlockIoEntry]| {
        list.iter()
            .map(|entry| BlkioEntry {
                major: entry.major,
                minor: entry.minor,
                op: entry.operation.clone(),
                value: entry.value,
            })
            .collect::<Vec<_>>()
    };
    BlkioStats {
        io_service_bytes_recursive: Some(entries(&stats.service_bytes)),
        io_serviced_recursive: Some(entries(&stats.serviced)).filter(|list| !list.is_empty()),
        ..BlkioStats::default()
    }
}

/// The lines of `/proc/PID/net/dev`, without the loopback device.
fn parse_network(text: &str) -> BTreeMap<String, NetworkStats> {
    let devices = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map(|it| it.parse().unwrap_or(0)).collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = counters[..]
        else {
            return None;
        };
        let stats = NetworkStats {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.trim().to_owned(), stats))
    });
    devices.filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_parse() {
        assert_eq!(system_time("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1\n"), 28 * NANOS_PER_TICK);
        assert_eq!(system_time(""), 0);
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n\
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n";
        let networks = parse_network(text);
        assert_eq!(networks.len(), 1);
        assert_eq!((networks["eth0"].rx_bytes, networks["eth0"].tx_dropped), (10, 8));
    }

    #[test]
    fn a_limit_above_the_machine_is_the_machine() {
        let stats =
            cgroup::MemoryStats { limit: Some(1 << 60), usage: 5, max_usage: 9, ..Default::default() };
        assert_eq!(memory(&stats, 1 << 30, 1).limit, 1 << 30);
        assert_eq!(memory(&stats, 1 << 30, 1).max_usage, 9);
        assert_eq!(memory(&stats, 1 << 30, 2).max_usage, 0);
    }
}

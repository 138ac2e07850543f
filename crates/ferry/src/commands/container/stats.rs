//! `stats`: a table of resource usage, once or again and again.

use std::time::Duration;

use ferry_api::container::Summary;
use ferry_api::stats::Stats;
use ferry_api::{Call, Client};
use futures_util::future::join_all;

use super::{missing, path};
use crate::failure::{Failure, Outcome};
use crate::output::format::{Choice, List, Row, short_id};
use crate::output::{self, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `stats`.
    pub struct StatsFlags {
        all: bool = 'a' "all" "Show all containers (default shows just running)";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        no_stream: bool = '-' "no-stream" "Disable streaming stats and only pull the first result";
        no_trunc: bool = '-' "no-trunc" "Do not truncate output";
    }
}

/// Time between two pictures.
const INTERVAL: Duration = Duration::from_millis(500);

static LIST: List = List {
    columns: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    default: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "",
};

/// Runs `stats`.
pub async fn stats(session: &Session, flags: StatsFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let choice = Choice {
        format: flags.format.clone(),
        configured: session.config().stats_format.clone(),
        ..Choice::default()
    };
    loop {
        let wanted = match names.is_empty() {
            true => list(client, flags.all).await?,
            false => names.clone(),
        };
        let samples = join_all(wanted.iter().map(|name| sample(client, name))).await;
        let mut rows = Vec::new();
        for (name, stats) in wanted.iter().zip(samples) {
            match stats {
                Ok(stats) => rows.push(row(name, &stats, !flags.no_trunc)),
                // A container that ended since it was listed is not missed.
                Err(failure) if names.is_empty() && failure.is_engine_refusal() => continue,
                Err(failure) => return Err(failure),
            }
        }
        let text = LIST.render(LIST.default, &choice, rows)?;
        if flags.no_stream {
            output::write(text.as_bytes())?;
            return Ok(0);
        }
        let clear = if output::stdout_is_terminal() { "\x1b[2J\x1b[H" } else { "" };
        output::write(format!("{clear}{text}").as_bytes())?;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn list(client: &Client, all: bool) -> Result<Vec<String>, Failure> {
    let call = Call::get("/containers/json").query_if("all", all);
    let containers: Vec<Summary> = client.call(call).await?.json().await?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

/// One sample; the engine takes two, a second apart, so that there is a rate.
async fn sample(client: &Client, name: &str) -> Result<Stats, Failure> {
    let call = Call::get(path(name, "/stats")).query("stream", "0");
    Ok(client.call(call).await.map_err(|error| missing(error, name))?.json().await?)
}

fn row(asked: &str, stats: &Stats, truncate: bool) -> Row {
    let id = if truncate { short_id(&stats.id) } else { &stats.id };
    let name = stats.name.strip_prefix('/').unwrap_or(&stats.name);
    let cell = |text: String| Value::text(text);
    let used = used_memory(stats);
    let limit = stats.memory_stats.limit as f64;
    let (received, sent) = network(stats);
    let (read, written) = blocks(stats);
    vec![
        ("Container", Value::text(asked)),
        ("ID", Value::text(id)),
        ("Name", Value::text(name)),
        ("CPUPerc", cell(format!("{:.2}%", cpu_percent(stats)))),
        ("MemUsage", cell(format!("{} / {}", units::binary_size(used), units::binary_size(limit)))),
        ("MemPerc", cell(format!("{:.2}%", if limit > 0.0 { used / limit * 100.0 } else { 0.0 }))),
        ("NetIO", cell(format!("{} / {}", size3(received), size3(sent)))),
        ("BlockIO", cell(format!("{} / {}", size3(read), size3(written)))),
        ("PIDs", cell(stats.pids_stats.current.to_string())),
    ]
}

fn size3(bytes: u64) -> String {
    units::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Share of one CPU between the two samples.
fn cpu_percent(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let system = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let cpus = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len().max(1) as f64,
        cpus => f64::from(cpus),
    };
    if used > 0.0 && system > 0.0 { used / system * cpus * 100.0 } else { 0.0 }
}

/// Memory without the page cache that the kernel would give back first.
fn used_memory(stats: &Stats) -> f64 {
    let memory = &stats.memory_stats;
    let cache = memory.stats.get("total_inactive_file").or_else(|| memory.stats.get("inactive_file"));
    let cache = cache.copied().filter(|cache| *cache < memory.usage).unwrap_or(0);
    (memory.usage - cache) as f64
}

fn network(stats: &Stats) -> (u64, u64) {
    let interfaces = stats.networks.iter().flat_map(|networks| networks.values());
    interfaces.fold((0, 0), |(received, sent), one| (received + one.rx_bytes, sent + one.tx_bytes))
}

fn blocks(stats: &Stats) -> (u64, u64) {
    let entries = stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
    entries.fold((0, 0), |(read, written), entry| match entry.op.bytes().next() {
        Some(b'r' | b'R') => (read + entry.value, written),
        Some(b'w' | b'W') => (read, written + entry.value),
        _ => (read, written),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut stats = Stats::default();
        stats.cpu_stats.cpu_usage.total_usage = 200;
        stats.precpu_stats.cpu_usage.total_usage = 100;
        stats.cpu_stats.system_cpu_usage = 2000;
        stats.precpu_stats.system_cpu_usage = 1000;
        stats.cpu_stats.online_cpus = 4;
        assert_eq!(cpu_percent(&stats), 40.0);
        stats.memory_stats.usage = 100;
        stats.memory_stats.stats.insert("inactive_file".into(), 30);
        assert_eq!(used_memory(&stats), 70.0);
    }
}

//! `events`: resource use, once or again and again, and the kernel's kills for lack of memory.

use std::time::Duration;

use ferry_runtime::cgroup::{BlockIoEntry, Stats};
use serde_json::{Value, json};

use crate::Global;
use crate::arguments::{Flag, parse};
use crate::error::CliError;
use crate::list::print;
use crate::state::{Directory, Status};

const FLAGS: &[Flag] = &[Flag::value("interval", ""), Flag::switch("stats", "")];
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Runs `events`.
pub(crate) fn events(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let id = parsed.id("events")?;
    let interval = parsed.value("interval").map(duration).transpose()?.unwrap_or(DEFAULT_INTERVAL);
    if interval.is_zero() {
        return Err(CliError::usage("duration interval must be greater than 0"));
    }
    let directory = Directory::open(&global.root, id)?;
    let state = directory.read()?;
    let Some(cgroup) = state.cgroup()? else { return Err(CliError::other("the container has no cgroup")) };
    if directory.status(&state)? == Status::Stopped {
        return Err(CliError::State(format!("container with id {id} is not running")));
    }
    let mut killed = 0;
    loop {
        print(&json!({ "type": "stats", "id": id, "data": document(&cgroup.stats()?) }).to_string())?;
        if parsed.has("stats") {
            return Ok(0);
        }
        std::thread::sleep(interval);
        if !state.init_lives() {
            return Ok(0);
        }
        let now = cgroup.oom_kill_count()?;
        if now > killed {
            print(&json!({ "type": "oom", "id": id }).to_string())?;
        }
        killed = now;
    }
}

/// A time as Go writes it: `500ms`, `5s`, `1m`.
fn duration(text: &str) -> Result<Duration, CliError> {
    let split = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => 0.0,
    };
    match number.parse::<f64>() {
        Ok(number) if scale > 0.0 && (0.0..1e9).contains(&number) => {
            Ok(Duration::from_secs_f64(number * scale))
        }
        _ => Err(CliError::usage(format!("invalid value {text:?} for flag -interval: not a duration"))),
    }
}

/// Resource use in runc's form.
fn document(stats: &Stats) -> Value {
    let memory = &stats.memory;
    let detail = |name: &str| memory.details.get(name).copied().unwrap_or(0);
    let cache = if stats.version == 1 { detail("cache") } else { detail("file") };
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.usage_ns,
                "percpu": stats.cpu.per_cpu_ns,
                "kernel": stats.cpu.system_ns,
                "user": stats.cpu.user_ns,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": cache,
            "usage": {
                "limit": memory.limit.unwrap_or(u64::MAX),
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failures,
            },
            "swap": { "usage": memory.swap },
            "raw": memory.details,
        },
        "pids": { "current": stats.pids.current, "limit": stats.pids.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.block_io.service_bytes),
            "ioServicedRecursive": entries(&stats.block_io.serviced),
        },
    })
}

fn entries(list: &[BlockIoEntry]) -> Vec<Value> {
    list.iter()
        .map(|one| json!({ "major": one.major, "minor": one.minor, "op": one.operation, "value": one.value }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn go_durations() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert!(duration("5").is_err() && duration("x").is_err() && duration("-1s").is_err());
    }
}

//! `update`: other limits for a running container.

use std::io::Read as _;

use ferry_oci::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::Global;
use crate::arguments::{Flag, Parsed, parse};
use crate::error::CliError;
use crate::state::{Directory, Status};

/// Limits longer than this are a mistake.
const RESOURCES_MAX: u64 = 1 << 20;

const FLAGS: &[Flag] = &[
    Flag::value("resources", "r"),
    Flag::value("blkio-weight", ""),
    Flag::value("cpu-period", ""),
    Flag::value("cpu-quota", ""),
    Flag::value("cpu-burst", ""),
    Flag::value("cpu-share", ""),
    Flag::value("cpu-rt-period", ""),
    Flag::value("cpu-rt-runtime", ""),
    Flag::value("cpuset-cpus", ""),
    Flag::value("cpuset-mems", ""),
    Flag::value("cpu-idle", ""),
    Flag::value("kernel-memory", ""),
    Flag::value("kernel-memory-tcp", ""),
    Flag::value("memory", ""),
    Flag::value("memory-reservation", ""),
    Flag::value("memory-swap", ""),
    Flag::value("pids-limit", ""),
    Flag::value("l3-cache-schema", ""),
    Flag::value("mem-bw-schema", ""),
];

/// Flags that are numbers, and where they stand in the specification.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("pids-limit", "pids", "limit"),
];

/// Runs `update`.
pub(crate) fn update(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let directory = Directory::open(&global.root, parsed.id("update")?)?;
    let state = directory.read()?;
    if directory.status(&state)? == Status::Stopped {
        return Err(CliError::State("container not running".to_owned()));
    }
    let resources = match parsed.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(&parsed)?,
    };
    for warning in ferry_runtime::cgroup::without_effect(&resources) {
        global.log.warn(&warning);
    }
    let (cache, bandwidth) = (parsed.value("l3-cache-schema"), parsed.value("mem-bw-schema"));
    if cache.is_some() || bandwidth.is_some() {
        let none = || CliError::usage("Intel RDT: the container has no class (linux.intelRdt)");
        let class = state.class.as_ref().ok_or_else(none)?;
        class.update(cache, bandwidth).map_err(|error| CliError::other(error.to_string()))?;
    }
    if let Some(scope) = &state.scope {
        scope.update(&resources).map_err(|error| CliError::other(error.to_string()))?;
    }
    if let Some(cgroup) = state.cgroup()? {
        cgroup.update(&resources)?;
    }
    Ok(0)
}

fn read(path: &str) -> Result<LinuxResources, CliError> {
    let mut text = String::new();
    let result = match path {
        "-" => std::io::stdin().take(RESOURCES_MAX).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(RESOURCES_MAX).read_to_string(&mut text)),
    };
    result.map_err(CliError::file("read", path))?;
    serde_json::from_str(&text).map_err(|source| CliError::Json { path: path.to_owned(), source })
}

fn from_flags(parsed: &Parsed) -> Result<LinuxResources, CliError> {
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if parsed.value(flag).is_some() {
            return Err(CliError::usage(format!("--{flag}: the kernel has this limit no more")));
        }
    }
    let mut resources = Map::new();
    let mut set = |section: &str, field: &str, value: Value| {
        let section = resources.entry(section).or_insert_with(|| json!({}));
        if let Some(section) = section.as_object_mut() {
            section.insert(field.to_owned(), value);
        }
    };
    for (flag, section, field) in NUMBERS {
        if let Some(number) = parsed.number::<i64>(flag)? {
            set(section, field, number.into());
        }
    }
    for (flag, field) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(list) = parsed.value(flag) {
            set("cpu", field, list.into());
        }
    }
    serde_json::from_value(resources.into())
        .map_err(|source| CliError::Json { path: "limits".to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_specification_s_fields() {
        let words: Vec<String> =
            "--memory 1048576 --pids-limit 5 --cpuset-cpus 0-1 x".split(' ').map(str::to_owned).collect();
        let resources = from_flags(&parse(FLAGS, &words).unwrap()).unwrap();
        assert_eq!(resources.memory().as_ref().and_then(|memory| memory.limit()), Some(1_048_576));
        assert_eq!(resources.pids().as_ref().map(|pids| pids.limit()), Some(5));
        assert_eq!(resources.cpu().as_ref().and_then(|cpu| cpu.cpus().clone()).as_deref(), Some("0-1"));
    }
}

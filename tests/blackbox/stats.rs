//! `stats` against the kernel's own numbers.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;
use ferry_tests::http::ask;
use serde_json::Value;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("stats::are_the_kernels", are_the_kernels),
    ("stats::of_what_does_not_run", of_what_does_not_run),
    ("stats::as_commands_print_them", as_commands_print_them),
];

/// Files of a container's cgroup, in version 1 or 2, read from the host.
struct Cgroup {
    pid: String,
    unified: bool,
}

impl Cgroup {
    fn of(engine: &Engine, name: &str) -> Self {
        let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Self { pid: engine.inspect(name, "{{.State.Pid}}"), unified }
    }

    /// The folder of a controller, as `/proc/PID/cgroup` tells it.
    fn folder(&self, controller: &str) -> PathBuf {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).expect("it runs");
        let path = text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let ours = if self.unified {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|one| one == controller)
            };
            ours.then(|| path.trim_start_matches('/').to_owned())
        });
        let path = path.unwrap_or_else(|| panic!("{controller} is not in {text}"));
        let root = PathBuf::from("/sys/fs/cgroup");
        if self.unified { root.join(path) } else { root.join(controller).join(path) }
    }

    fn read(&self, controller: &str, old: &str, new: &str) -> String {
        let file = self.folder(controller).join(if self.unified { new } else { old });
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

/// A number in `KEY VALUE` lines.
fn keyed(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("{key} is not in {text}"))
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Numbers that only grow are those of a moment between two looks at the kernel.
#[track_caller]
fn between(what: &str, before: u64, told: &Value, after: u64) {
    let told = told.as_u64().unwrap_or_else(|| panic!("{what}: {told}"));
    assert!((before..=after).contains(&told), "{what}: {told} is not within {before} and {after}");
}

fn are_the_kernels() {
    let engine = Engine::with_busybox();
    // Works a little, writes a file past the page cache's will, talks to itself, and is quiet from then on.
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/file bs=64k count=32 conv=fsync; \
                  head -c 4000000 /file > /dev/shm/kept; ping -c 2 $(hostname -i); sleep 600 & echo ready; wait";
    let run = [
        "run",
        "-d",
        "--init",
        "--name",
        "box",
        "-m",
        "64m",
        "--pids-limit",
        "50",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    engine.ferry(run).exits(0);
    ferry_tests::engine::wait_until("it is quiet", || engine.ferry(["logs", "box"]).stdout.contains("ready"));
    let cgroup = Cgroup::of(&engine, "box");
    let cpu = || match cgroup.unified {
        true => keyed(&cgroup.read("cpu", "", "cpu.stat"), "usage_usec") * 1000,
        false => number(&cgroup.read("cpuacct", "cpuacct.usage", "")),
    };
    let received = || {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", cgroup.pid)).expect("it runs");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("an interface");
        let columns: Vec<u64> = line.split_whitespace().map(number).collect();
        (columns[0], columns[8])
    };
    let (cpu_before, net_before) = (cpu(), received());
    let stats = ask(&engine, "GET /v1.55/containers/box/stats?stream=0&one-shot=1", None).json();
    let (cpu_after, net_after) = (cpu(), received());
    between("cpu", cpu_before, &stats["cpu_stats"]["cpu_usage"]["total_usage"], cpu_after);
    between("received", net_before.0, &stats["networks"]["eth0"]["rx_bytes"], net_after.0);
    between("sent", net_before.1, &stats["networks"]["eth0"]["tx_bytes"], net_after.1);
    assert_eq!(stats["memory_stats"]["limit"], 64 << 20);
    assert_eq!(stats["pids_stats"]["limit"], 50);
    assert_eq!(stats["pids_stats"]["current"], number(&cgroup.read("pids", "pids.current", "pids.current")));
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    assert!(stats["cpu_stats"]["online_cpus"].as_u64() >= Some(processors), "{stats}");
    memory_is_the_kernels(&engine, &cgroup);
    devices_are_the_kernels(&engine, &cgroup);
    engine.ferry(["rm", "-f", "box"]).exits(0);
}

/// Pages come and go while one looks: a told number that the kernel tells, too, on one of many looks.
fn memory_is_the_kernels(engine: &Engine, cgroup: &Cgroup) {
    let (inactive, anonymous) =
        if cgroup.unified { ("inactive_file", "anon") } else { ("total_inactive_file", "total_rss") };
    let told = || {
        ask(engine, "GET /v1.55/containers/box/stats?stream=0&one-shot=1", None).json()["memory_stats"]
            .clone()
    };
    let kernels = || number(&cgroup.read("memory", "memory.usage_in_bytes", "memory.current"));
    ferry_tests::engine::wait_until("usage is the kernel's", || {
        let (before, told, after) = (kernels(), told(), kernels());
        let usage = told["usage"].as_u64().expect("a number");
        (before.min(after)..=before.max(after)).contains(&usage)
    });
    for key in [inactive, anonymous] {
        ferry_tests::engine::wait_until(&format!("{key} is the kernel's"), || {
            let kernels = keyed(&cgroup.read("memory", "memory.stat", "memory.stat"), key);
            told()["stats"][key] == kernels
        });
    }
}

/// Bytes and requests of each block device, as `MAJOR:MINOR OPERATION COUNT`.
fn devices_are_the_kernels(engine: &Engine, cgroup: &Cgroup) {
    for (name, keys) in [("io_service_bytes", ["rbytes", "wbytes"]), ("io_serviced", ["rios", "wios"])] {
        let key = format!("{name}_recursive");
        ferry_tests::engine::wait_until(&format!("{key} is the kernel's"), || {
            let stats = ask(engine, "GET /v1.55/containers/box/stats?stream=0&one-shot=1", None).json();
            let told = stats["blkio_stats"][&key].as_array().cloned().unwrap_or_default();
            let told = told.iter().map(|entry| {
                let operation = entry["op"].as_str().expect("an operation");
                format!("{}:{} {operation} {}", entry["major"], entry["minor"], entry["value"])
            });
            let kernels = match cgroup.unified {
                true => devices_of_io_stat(&cgroup.read("io", "", "io.stat"), keys),
                false => devices_of_blkio(&cgroup.folder("blkio"), &key),
            };
            told.collect::<Vec<_>>() == kernels
        });
    }
}

/// The BFQ scheduler counts where it works, else the layer in front of every scheduler: `8:0 Read 4096`.
fn devices_of_blkio(folder: &Path, key: &str) -> Vec<String> {
    let lists = ["bfq", "throttle"].map(|kind| {
        let text = fs::read_to_string(folder.join(format!("blkio.{kind}.{key}"))).unwrap_or_default();
        text.lines().filter(|line| line.contains(':')).map(str::to_owned).collect::<Vec<_>>()
    });
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

/// `8:0 rbytes=1 wbytes=2 …`.
fn devices_of_io_stat(text: &str, keys: [&str; 2]) -> Vec<String> {
    let entries = text.lines().flat_map(|line| {
        let (device, counts) = line.split_once(' ').unwrap_or_default();
        let counts = counts.split(' ').filter_map(|count| count.split_once('='));
        counts.filter_map(move |(key, count)| {
            let operation = ["read", "write"][keys.iter().position(|one| *one == key)?];
            Some(format!("{device} {operation} {count}"))
        })
    });
    entries.collect()
}

fn of_what_does_not_run() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "made", "busybox", "true"]).exits(0);
    let stats = ask(&engine, "GET /v1.55/containers/made/stats?stream=0", None).json();
    assert_eq!(stats["name"], "/made");
    assert_eq!(stats["read"], "0001-01-01T00:00:00Z");
    assert_eq!(ask(&engine, "GET /v1.55/containers/nobody/stats?stream=0", None).status, 404);
    for client in CLIENTS {
        engine
            .client(client, ["stats", "--no-stream", "nobody"])
            .exits(1)
            .complains("No such container: nobody");
    }
}

fn as_commands_print_them() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--init", "--name", "box", "-m", "64m", "busybox", "sleep", "600"]).exits(0);
    engine.ferry(["create", "--name", "made", "busybox", "true"]).exits(0);
    for client in CLIENTS {
        let table = engine.client(client, ["stats", "--no-stream"]);
        table.exits(0).says("CONTAINER ID").says("MEM USAGE / LIMIT").says("/ 64MiB");
        assert!(!table.stdout.contains("made"), "{table}");
        engine
            .client(client, ["stats", "-a", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"])
            .says("box 2")
            .says("made 0");
        let line = engine.client(client, ["stats", "--no-stream", "--no-trunc", "--format", "json", "box"]);
        let line: Value = serde_json::from_str(line.ok()).expect("JSON");
        assert_eq!(line["ID"].as_str().map(str::len), Some(64), "{line}");
    }
}

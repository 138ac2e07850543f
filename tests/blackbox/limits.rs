//! Resource limits as the kernel shows them, on cgroup v1, hybrid and v2, and out-of-memory kills.

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("limits::are_set", are_set),
    ("limits::out_of_memory_is_said", out_of_memory_is_said),
    ("limits::process_count_holds", process_count_holds),
    ("limits::devices_are_denied", devices_are_denied),
    ("limits::update_while_running", update_while_running),
    ("limits::missing_privileges_are_warned_of", missing_privileges_are_warned_of),
];

/// Flags, the file below the container's cgroup in version 1 and in version 2, and the value in each.
const LIMITS: &[(&[&str], &str, &str, &str, &str)] = &[
    (&["--memory", "64m"], "memory/memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    (
        &["--memory", "64m", "--memory-swap", "64m"],
        "memory/memory.limit_in_bytes",
        "67108864",
        "memory.swap.max",
        "0",
    ),
    (&["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"),
    (&["--cpu-shares", "512"], "cpu/cpu.shares", "512", "cpu.weight", "59"),
    (&["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"),
    (&["--pids-limit", "42"], "pids/pids.max", "42", "pids.max", "42"),
    (
        &["--memory-reservation", "32m"],
        "memory/memory.soft_limit_in_bytes",
        "33554432",
        "memory.low",
        "33554432",
    ),
    (&["--cpuset-mems", "0"], "cpuset/cpuset.mems", "0", "cpuset.mems", "0"),
    (
        &["--cpu-period", "50000", "--cpu-quota", "25000"],
        "cpu/cpu.cfs_quota_us",
        "25000",
        "cpu.max",
        "25000 50000",
    ),
];

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn are_set() {
    let engine = Engine::with_busybox();
    for (flags, file, value, unified_file, unified_value) in LIMITS {
        let (file, value) = if is_v2() { (unified_file, unified_value) } else { (file, value) };
        for client in CLIENTS {
            let path = format!("/sys/fs/cgroup/{file}");
            let mut arguments = vec!["run", "--rm"];
            arguments.extend(*flags);
            arguments.extend(["busybox", "cat", &path]);
            engine.client(client, arguments).exits(0).prints(value);
        }
    }
}

fn out_of_memory_is_said() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let eat = [
            "run",
            "--name",
            "eater",
            "-m",
            "16m",
            "--memory-swap",
            "16m",
            "busybox",
            "sh",
            "-c",
            "tail /dev/zero",
        ];
        engine.client(client, eat).exits(137);
        assert_eq!(engine.inspect("eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
        engine.client(client, ["rm", "eater"]).exits(0);
    }
}

fn process_count_holds() {
    let engine = Engine::with_busybox();
    let script = "for i in $(seq 30); do sleep 5 & done 2>&1; true";
    let outcome = engine.ferry(["run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", script]);
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("can't fork"), "{outcome}");
}

fn devices_are_denied() {
    let engine = Engine::with_busybox();
    let script = "mknod /disk b 254 0; head -c 1 /disk >/dev/null 2>&1 || echo denied";
    for client in CLIENTS {
        engine.client(client, ["run", "--rm", "busybox", "sh", "-c", script]).prints("denied");
    }
}

fn update_while_running() {
    let engine = Engine::with_busybox();
    let (file, value) = if is_v2() { ("pids.max", "33") } else { ("pids/pids.max", "33") };
    for client in CLIENTS {
        engine
            .client(client, ["run", "-d", "--name", "box", "--pids-limit", "50", "busybox", "sleep", "1000"])
            .exits(0);
        engine.client(client, ["update", "--pids-limit", "33", "box"]).exits(0);
        engine.client(client, ["exec", "box", "cat", &format!("/sys/fs/cgroup/{file}")]).prints(value);
        engine.client(client, ["rm", "-f", "box"]).exits(0);
    }
}

/// What the kernel will not grant without CAP_SYS_RESOURCE is said, and only there.
fn missing_privileges_are_warned_of() {
    let engine = Engine::with_busybox();
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a mask").trim();
    let may = u64::from_str_radix(mask, 16).expect("a number") & (1 << 24) != 0;
    for client in CLIENTS {
        let asked = ["create", "--oom-score-adj", "-500", "--ulimit", "nofile=999999999", "busybox", "true"];
        let warned = engine.client(client, asked).exits(0).stderr.contains("no CAP_SYS_RESOURCE");
        assert_eq!(warned, !may, "{client}");
        let modest = ["create", "--oom-score-adj", "500", "--ulimit", "nofile=64", "busybox", "true"];
        assert!(!engine.client(client, modest).exits(0).stderr.contains("CAP_SYS_RESOURCE"), "{client}");
    }
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    engine.ferry(["checkpoint", "create", "box", "one"]).exits(1).complains("does not drive CRIU");
    engine.ferry(["checkpoint", "ls", "none"]).exits(1).complains("No such container: none");
}

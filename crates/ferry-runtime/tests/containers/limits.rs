//! Resource limits, and what cgroups can do besides.

use serde_json::json;

use crate::Case;
use crate::support::{Fixture, finish, release};

pub const CASES: &[Case] = &[
    ("limits_are_in_force", limits_are_in_force),
    ("out_of_memory_is_seen", out_of_memory_is_seen),
    ("freeze_kill_and_stats", freeze_kill_and_stats),
    ("update_while_running", update_while_running),
    ("resource_limits_warn", resource_limits_warn),
    ("oom_score", oom_score),
];

fn limits_are_in_force(fixture: &Fixture) {
    let (request, output) =
        fixture.request(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"], |spec| {
            spec["linux"]["resources"]["pids"] = json!({"limit": 5});
            spec["linux"]["resources"]["memory"] =
                json!({"limit": 67_108_864, "swap": 67_108_864, "reservation": 33_554_432});
            spec["linux"]["resources"]["cpu"] =
                json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"});
        });
    let process = ferry_runtime::run(request).expect("it starts");
    let stats = process.cgroup.as_ref().expect("a cgroup").stats().expect("readable");
    assert_eq!((stats.memory.limit, stats.pids.limit), (Some(67_108_864), Some(5)));
    let outcome = finish(process, output);
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
}

fn out_of_memory_is_seen(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sh", "-c", "x=a; while :; do x=$x$x$x$x; done"], |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 8_388_608, "swap": 8_388_608});
    });
    let process = ferry_runtime::run(request).expect("it starts");
    crate::support::wait_unreaped(&process);
    assert_eq!(process.cgroup.as_ref().expect("a cgroup").oom_kill_count(), Ok(1));
    assert_eq!(finish(process, output).code, 128 + 9);
}

fn freeze_kill_and_stats(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sh", "-c", "while :; do :; done"], |_| {});
    let process = ferry_runtime::run(request).expect("it starts");
    let cgroup = process.cgroup.clone().expect("a cgroup");
    std::thread::sleep(std::time::Duration::from_millis(30));
    cgroup.freeze().expect("it freezes");
    let usage = || cgroup.stats().expect("readable").cpu.usage_ns;
    let before = usage();
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(before > 0 && usage() - before < 1_000_000, "frozen");
    cgroup.thaw().expect("it thaws");
    // On a busy machine it may take a while until the processes get their turn.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while usage() - before < 5_000_000 {
        assert!(std::time::Instant::now() < end, "thawed processes run on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(cgroup.processes(), Ok(vec![process.pid]));
    cgroup.freeze().expect("it freezes");
    cgroup.kill_all().expect("frozen processes die too");
    assert_eq!(finish(process, output).code, 128 + 9);
}

fn update_while_running(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sleep", "100"], |_| {});
    let process = ferry_runtime::run(request).expect("it starts");
    let cgroup = process.cgroup.as_ref().expect("a cgroup");
    for limit in [64i64 << 20, 256 << 20, 32 << 20] {
        let resources = json!({"memory": {"limit": limit, "swap": limit * 2}, "cpu": {"shares": 256}, "pids": {"limit": 50}});
        cgroup.update(&serde_json::from_value(resources).expect("valid")).expect("it can be changed");
        assert_eq!(cgroup.stats().expect("readable").memory.limit, Some(limit as u64));
    }
    release(process, output);
}

fn resource_limits_warn(fixture: &Fixture) {
    let outcome = fixture
        .run(&["sh", "-c", "ulimit -n; ulimit -c"], |spec| {
            spec["process"]["rlimits"] = json!([
                {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
            ]);
        })
        .expect("it starts");
    assert_eq!((outcome.stdout.as_str(), outcome.warnings.len()), ("512\n0\n", 0));
    let outcome = fixture.run(&["true"], |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1u64 << 40}]);
    });
    match outcome {
        Ok(outcome) => assert!(
            outcome.warnings[0].starts_with("ulimit nofile=1024:1099511627776 is above"),
            "{outcome:?}"
        ),
        Err(error) => panic!("{error}"),
    }
}

fn oom_score(fixture: &Fixture) {
    let run = |score: i32| {
        fixture
            .run(&["cat", "/proc/self/oom_score_adj"], |spec| spec["process"]["oomScoreAdj"] = json!(score))
            .expect("it starts")
    };
    assert_eq!(run(500).stdout, "500\n");
    let outcome = run(-900);
    assert!(outcome.stdout == "-900\n" || outcome.warnings.len() == 1, "{outcome:?}");
}

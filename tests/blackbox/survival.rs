//! What outlives what: engines, launchers, keepers and shims killed at any time; nothing left behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::time::Duration;

use ferry_tests::engine::{kill_process, patience, wait_until};
use ferry_tests::{Engine, images};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("survival::containers_outlive_the_engine", containers_outlive_the_engine),
    ("survival::exits_while_no_engine_runs_are_known", exits_while_no_engine_runs_are_known),
    ("survival::clients_queue_for_the_next_engine", clients_queue_for_the_next_engine),
    ("survival::policies_go_on_after_an_engine_died", policies_go_on_after_an_engine_died),
    ("survival::dead_launcher_is_replaced", dead_launcher_is_replaced),
    ("survival::dead_keeper_is_replaced", dead_keeper_is_replaced),
    ("survival::keeper_killed_in_a_start", keeper_killed_in_a_start),
    ("survival::dead_shim_means_a_dead_container", dead_shim_means_a_dead_container),
    (
        "survival::stop_and_start_of_the_engine_keeps_containers",
        stop_and_start_of_the_engine_keeps_containers,
    ),
    ("survival::stale_run_directory_after_a_reboot", stale_run_directory_after_a_reboot),
    ("survival::runs_leave_nothing_behind", runs_leave_nothing_behind),
    ("survival::engine_killed_in_a_storm", engine_killed_in_a_storm),
    ("survival::two_engines_side_by_side", two_engines_side_by_side),
    ("survival::upgraded_under_running_containers", upgraded_under_running_containers),
    ("survival::what_a_power_cut_may_empty_is_written_again", what_a_power_cut_may_empty_is_written_again),
];

/// A new engine over the keeper, launcher and monitors of an earlier one, which live as long as their containers.
fn upgraded_under_running_containers() {
    // The last binary that passed the suite; the first run on a machine has none.
    let Some(earlier) =
        std::env::var_os("FERRY_EARLIER_BINARY").filter(|path| fs::exists(path).is_ok_and(|is| is))
    else {
        eprintln!(
            "SKIPPED: survival::upgraded_under_running_containers: FERRY_EARLIER_BINARY names no earlier binary"
        );
        return;
    };
    let engine = Engine::start_copy_of(earlier.as_ref());
    engine.ferry(["load", "-q", "-i", &images::archive("busybox").to_string_lossy()]).exits(0);
    engine
        .ferry([
            "run",
            "-d",
            "--name",
            "old",
            "-p",
            "127.0.0.1:0:80",
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
            TICKER,
        ])
        .exits(0);
    engine.ferry(["run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 1; exit 7"]).exits(0);
    let (pid, before) = (engine.inspect("old", "{{.State.Pid}}"), engine.pid("engine"));
    engine.upgrade();
    wait_until("the next engine answers", || engine.pid("engine") != before);
    assert_eq!(engine.inspect("old", "{{.State.Pid}}"), pid);
    engine.ferry(["wait", "short"]).prints("7");
    engine.ferry(["exec", "old", "sh", "-c", "echo inside > /data/file; cat /data/file"]).prints("inside");
    let lines = engine.ferry(["logs", "old"]).stdout.lines().count();
    wait_until("the log grows", || engine.ferry(["logs", "old"]).stdout.lines().count() > lines);
    engine.ferry(["stats", "--no-stream", "old"]).exits(0).says("old");
    engine.ferry(["pause", "old"]).exits(0);
    engine.ferry(["unpause", "old"]).exits(0);
    // Both by the launcher and the keeper that the earlier engine left.
    engine.ferry(["run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file"]).prints("inside");
    engine.ferry(["restart", "-t", "0", "old"]).exits(0);
    engine.ferry(["port", "old"]).says("80/tcp -> 127.0.0.1:");
    engine.ferry(["rm", "-f", "old", "short"]).exits(0);
}

/// Small files that are written without fsync may be empty after a power cut; a container's record is not.
fn what_a_power_cut_may_empty_is_written_again() {
    let engine = Engine::with_busybox();
    let script = "echo more >> /kept; cat /kept";
    let id = engine.ferry(["create", "--name", "cut", "busybox", "sh", "-c", script]).ok().to_owned();
    engine.ferry(["start", "-a", "cut"]).prints("more");
    engine.ferry(["commit", "cut", "base"]).exits(0);
    engine.engine_command("stop").exits(0);
    fs::write(engine.data_root().join("containers").join(&id).join("snapshot.json"), "").expect("a file");
    engine.engine_command("start").exits(0);
    engine.ferry(["start", "-a", "cut"]).prints("more\nmore");
    engine.ferry(["rm", "cut"]).exits(0);
}

const TICKER: &str = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done";

fn containers_outlive_the_engine() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "ticker", "busybox", "sh", "-c", TICKER]).exits(0);
    let pid = engine.inspect("ticker", "{{.State.Pid}} {{.State.StartedAt}}");
    for _ in 0..5 {
        let before = engine.ferry(["logs", "ticker"]).stdout.lines().count();
        engine.kill("engine");
        assert_eq!(
            engine.inspect("ticker", "{{.State.Pid}} {{.State.StartedAt}}"),
            pid,
            "same process, same start"
        );
        wait_until("the log grows", || engine.ferry(["logs", "ticker"]).stdout.lines().count() > before);
        engine.ferry(["exec", "ticker", "echo", "inside"]).exits(0).prints("inside");
    }
    let log = engine.ferry(["logs", "ticker"]).stdout;
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    let expected: Vec<u32> = (1..=u32::try_from(numbers.len()).expect("a small count")).collect();
    assert_eq!(numbers, expected, "no line lost, none doubled");
}

fn exits_while_no_engine_runs_are_known() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 0.5; exit 23"]).exits(0);
    engine.ferry(["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.5"]).exits(0);
    engine.engine_command("stop").exits(0);
    std::thread::sleep(std::time::Duration::from_millis(800));
    engine.engine_command("start").exits(0);
    assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 23");
    engine.ferry(["wait", "box"]).prints("23");
    wait_until("--rm is carried out by the next engine", || engine.ferry(["inspect", "brief"]).code != 0);
}

fn clients_queue_for_the_next_engine() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "box", "busybox"]).exits(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|index| {
                let engine = &engine;
                scope.spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(index * 10));
                    engine.ferry(["inspect", "-f", "{{.Name}}", "box"])
                })
            })
            .collect();
        kill_process(engine.pid("engine"));
        let answers: Vec<_> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
        // A call that the dying engine had already read may fail; one that comes after must not.
        let served = answers.iter().filter(|outcome| outcome.code == 0).count();
        assert!(served >= 15, "{served} of 20 served; {}", answers[19]);
    });
}

fn policies_go_on_after_an_engine_died() {
    let engine = Engine::with_busybox();
    engine
        .ferry(["run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "0.3"])
        .exits(0);
    engine.kill("engine");
    wait_until("it is restarted", || {
        engine.inspect("always", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 1)
    });
    engine.ferry(["rm", "-f", "always"]).exits(0);
    engine.ferry(["run", "-d", "--name", "waited", "busybox", "sh", "-c", "sleep 1; exit 9"]).exits(0);
    engine.kill("engine");
    engine.ferry(["wait", "waited"]).prints("9");
}

fn dead_launcher_is_replaced() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "before", "busybox", "sleep", "1000"]).exits(0);
    engine.kill("launcher");
    engine.ferry(["exec", "before", "true"]).exits(0);
    engine.ferry(["run", "--rm", "busybox", "echo", "after"]).exits(0).prints("after");
}

fn dead_keeper_is_replaced() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "before", "busybox", "sleep", "1000"]).exits(0);
    engine.kill("keeper");
    engine.ferry(["exec", "before", "true"]).exits(0);
    engine.kill("engine");
    engine.ferry(["run", "--rm", "busybox", "echo", "after"]).exits(0).prints("after");
}

/// Whatever a start waits for when its keeper dies, the next one makes it, and the client's input is not lost.
fn keeper_killed_in_a_start() {
    let engine = Engine::with_busybox();
    let line = "run --rm -i -p 127.0.0.1::80 busybox cat";
    for round in 0..15 {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| engine.ferry_with_input(line.split(' '), b"told"));
            std::thread::sleep(Duration::from_millis(round));
            engine.kill("keeper");
            run.join().expect("a client that ends").exits(0).prints("told");
        });
    }
}

fn dead_shim_means_a_dead_container() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
    let init: i32 = engine.inspect("box", "{{.State.Pid}}").parse().expect("a pid");
    let shim = parent_of(init);
    assert!(command_line(shim).contains("ferry-shim"), "{}", command_line(shim));
    kill_process(shim);
    engine.wait_for_status("box", "dead");
    let reason = engine.inspect("box", "{{.State.ExitCode}} {{.State.Error}}");
    assert!(reason.starts_with("137 ") && reason.contains("shim"), "{reason}");
    wait_until("its processes are gone", || !ferry_tests::engine::process_lives(init));
    engine.ferry(["start", "box"]).exits(0);
    engine.ferry(["exec", "box", "true"]).exits(0);
}

fn stop_and_start_of_the_engine_keeps_containers() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
    let pid = engine.inspect("box", "{{.State.Pid}}");
    engine.engine_command("stop").exits(0);
    assert!(ferry_tests::engine::process_lives(pid.parse().expect("a pid")));
    engine.engine_command("start").exits(0);
    assert_eq!(engine.inspect("box", "{{.State.Pid}}"), pid);
}

fn stale_run_directory_after_a_reboot() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
    engine
        .ferry(["run", "-d", "--name", "policy", "--restart", "always", "busybox", "sleep", "1000"])
        .exits(0);
    let pids: Vec<i32> = ["box", "policy"]
        .iter()
        .map(|name| engine.inspect(name, "{{.State.Pid}}").parse().expect("a pid"))
        .collect();
    engine.engine_command("stop").exits(0);
    // What a power cut does: every process gone at once, the run directory (a tmpfs) empty.
    for pid in pids {
        let shim = parent_of(pid);
        kill_process(shim);
        kill_process(pid);
    }
    fs::remove_dir_all(engine.run_root()).expect("the run directory goes");
    engine.engine_command("start").exits(0);
    assert_eq!(engine.inspect("box", "{{.State.Running}}"), "false");
    engine.ferry(["start", "box"]).exits(0);
    engine.wait_for_status("policy", "running");
}

/// What the machine holds that a run could leave behind.
fn holdings(engine: &Engine) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let root = engine.directory().display().to_string();
    all.extend(
        read("/proc/self/mountinfo")
            .lines()
            .filter(|line| line.contains(&root))
            .map(|line| format!("mount {line}")),
    );
    for top in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        walk_cgroups(&top.path(), &mut all, 0);
    }
    for folder in ["data/containers", "run/containers", "data/trash", "data/ingest"] {
        let entries = fs::read_dir(engine.directory().join(folder)).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    all
}

fn walk_cgroups(folder: &std::path::Path, all: &mut BTreeSet<String>, depth: usize) {
    if depth > 4 || !folder.is_dir() {
        return;
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Container ids are what is looked for; others come and go with other tests.
    if name.len() == 64 {
        all.insert(format!("cgroup {}", folder.display()));
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk_cgroups(&entry.path(), all, depth + 1);
        }
    }
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default()
}

fn runs_leave_nothing_behind() {
    let engine = Engine::with_busybox();
    let roles = ["keeper", "engine", "launcher"];
    engine.ferry(["run", "--rm", "--network", "none", "busybox", "true"]).exits(0);
    let count = |engine: &Engine| roles.map(|role| descriptors(engine.pid(role)));
    // What is made ahead (namespaces, the next shim) is there some moments later.
    let mut before = count(&engine);
    wait_until("all is made ahead", || {
        std::thread::sleep(Duration::from_millis(300));
        let last = std::mem::replace(&mut before, count(&engine));
        last == before
    });
    let rounds = if patience().as_secs() > 30 { 5 } else { 125 };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..rounds {
                    engine.ferry(["run", "--rm", "--network", "none", "busybox", "true"]).exits(0);
                }
            });
        }
    });
    let own = |engine: &Engine| -> Vec<String> {
        let root = engine.directory().display().to_string();
        // Other tests run containers at the same time: only what names this engine's folder counts, and cgroups
        // below this engine's own parent.
        holdings(engine).into_iter().filter(|line| line.contains(&root)).collect()
    };
    wait_until("everything is torn down", || own(&engine).is_empty());
    wait_until("descriptors are back", || {
        count(&engine).iter().zip(before).all(|(now, before)| *now <= before + 3)
    });
    let shims = engine_shims(&engine);
    assert!(shims.is_empty(), "shims left: {shims:?}");
}

/// Shims whose parent is this engine's launcher, the one that waits for its container aside.
fn engine_shims(engine: &Engine) -> Vec<i32> {
    let launcher = engine.pid("launcher");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == launcher)
        .filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            !name.starts_with("ferry-embryo")
        })
        .collect()
}

fn engine_killed_in_a_storm() {
    let engine = Engine::with_busybox();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|worker| {
                let engine = &engine;
                scope.spawn(move || {
                    for round in 0..10 {
                        let name = format!("storm-{worker}-{round}");
                        // A call cut off by the kill may fail; what it leaves must still be in order.
                        let _ = engine.ferry(["run", "-d", "--name", &name, "busybox", "sleep", "0.1"]);
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(150));
            engine.kill("engine");
        }
        for run in runs {
            run.join().expect("no panic");
        }
    });
    wait_until("all have ended", || {
        let states = engine.ferry(["ps", "-a", "--format", "{{.State}}"]);
        states.code == 0 && states.stdout.lines().all(|state| state == "exited" || state == "created")
    });
    let ids = engine.ferry(["ps", "-aq"]).ok().to_owned();
    for id in ids.split_whitespace() {
        engine.ferry(["rm", id]).exits(0);
    }
    engine.ferry(["run", "--rm", "busybox", "echo", "well"]).prints("well");
}

fn two_engines_side_by_side() {
    let (first, second) = (Engine::with_busybox(), Engine::with_busybox());
    first.ferry(["run", "-d", "--name", "same", "busybox", "sleep", "1000"]).exits(0);
    second.ferry(["run", "-d", "--name", "same", "busybox", "sleep", "1000"]).exits(0);
    first.ferry(["rm", "-f", "same"]).exits(0);
    assert_eq!(second.inspect("same", "{{.State.Running}}"), "true");
    first.kill("engine");
    second.ferry(["exec", "same", "true"]).exits(0);
}

pub fn parent_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or_default()
}

fn command_line(pid: i32) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        file.read_to_string(&mut text).ok();
    }
    text.replace('\0', " ")
}

//! The engine as a service of a machine of its own: under a live systemd, over its end by `kill -9`, over a power
//! cut in the middle of work, and until it is uninstalled. `cargo xtask vm` runs these in order, on a machine that is
//! thrown away afterwards; elsewhere each says that it is left out.

use std::fs;
use std::process::{Command, Stdio};

use ferry_tests::bundle::Bundle;
use ferry_tests::engine::{binary, wait_until};
use ferry_tests::{Outcome, images};
use serde_json::json;

use crate::Test;

/// The suite, in the order in which the machine runs it.
pub const TESTS: &[Test] = &[
    ("boot::service", service),
    ("boot::systemd_driver", systemd_driver),
    ("boot::power_cut", power_cut),
    ("boot::after_the_power_cut", after_the_power_cut),
    ("boot::uninstall", uninstall),
];

/// Whether this machine may be changed and rebooted; said when not.
fn is_disposable(test: &str) -> bool {
    let disposable = std::env::var_os("FERRY_TEST_MACHINE").is_some_and(|value| value == "disposable");
    if !disposable {
        eprintln!("SKIPPED: boot::{test}: it needs a machine that may be rebooted; `cargo xtask vm` has one");
    }
    disposable
}

/// A command in the machine's own environment: default socket, default folders.
fn run(program: &str, line: &str) -> Outcome {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).stdin(Stdio::null());
    Outcome::new(format!("{program} {line}"), &command.output().expect("it runs"))
}

fn ferry(line: &str) -> Outcome {
    run(&binary().display().to_string(), line)
}

fn main_pid() -> String {
    run("systemctl", "show --property MainPID --value ferry.service").ok().to_owned()
}

fn service() {
    if !is_disposable("service") {
        return;
    }
    ferry("engine install").exits(0).says("the engine runs now and at every boot");
    run("systemctl", "is-active ferry.service").prints("active");
    run("systemctl", "is-enabled ferry.service").prints("enabled");
    ferry(&format!("load -q -i {}", images::archive("busybox").display())).exits(0);
    let script = "date +%N >> /data/starts; exec sleep 100000";
    let started = Command::new(binary())
        .args([
            "run",
            "-d",
            "--name",
            "kept",
            "--restart",
            "always",
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
        ])
        .arg(script)
        .output();
    Outcome::new("run -d --name kept".into(), &started.expect("it runs")).exits(0);
    let container = ferry("inspect -f {{.State.Pid}} kept").ok().to_owned();

    // systemd's stop, start and restart of the unit leave containers alone, and so does the engine's sudden end.
    let mut engines = vec![main_pid()];
    for line in
        ["restart ferry.service", "kill -s KILL ferry.service --kill-who=main", "reload ferry.service"]
    {
        run("systemctl", line).exits(0);
        wait_until("the engine answers", || ferry("version").code == 0);
        assert_eq!(ferry("inspect -f {{.State.Pid}} kept").ok(), container, "after systemctl {line}");
        wait_until("systemd has the unit active again", || {
            run("systemctl", "is-active ferry.service").stdout.trim() == "active"
        });
        engines.push(main_pid());
    }
    assert!(engines[0] != engines[1] && engines[1] != engines[2] && engines[2] == engines[3], "{engines:?}");
    // What runs in a container is not in the unit's own control group, where systemd would end it.
    let unit = run("systemctl", "show --property ControlGroup --value ferry.service").ok().to_owned();
    let group = fs::read_to_string(format!("/proc/{container}/cgroup")).expect("the container runs");
    assert!(!group.trim().ends_with(&unit), "{group} is {unit}");
    ferry("exec kept cat /data/starts").exits(0);
}

/// The OCI runtime with `--systemd-cgroup`: each container is a scope that systemd knows and limits.
fn systemd_driver() {
    if !is_disposable("systemd_driver") {
        return;
    }
    let bundle = Bundle::new();
    let configure = |command: &[&str], id: &str| {
        bundle.configure(command, |config| {
            config["linux"]["cgroupsPath"] = json!(format!("ferrytest-inner.slice:runc:{id}"));
            config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
            config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
            config["linux"]["resources"]["cpu"] =
                json!({ "quota": 50_000, "period": 100_000, "shares": 512 });
        });
    };
    let show = |unit: &str, property: &str| {
        run("systemctl", &format!("show --property {property} --value {unit}")).ok().to_owned()
    };
    let id = bundle.id();
    configure(&["sleep", "1000"], &id);
    let _ = bundle.call_detached(&["--systemd-cgroup", "run", "-d", &id]).ok();
    let unit = format!("runc-{id}.scope");
    let path = format!("/ferrytest.slice/ferrytest-inner.slice/{unit}");
    let pid = bundle.state(&id)["pid"].clone();
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs").trim(),
        format!("0::{path}")
    );
    let limits = |memory: &str| {
        assert_eq!(show(&unit, "MemoryMax"), memory);
        let file = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}")).expect("readable");
        assert_eq!((file("memory.max").trim(), file("pids.max").trim()), (memory, "20"));
        assert_eq!((file("cpu.max").trim(), file("cpu.weight").trim()), ("50000 100000", "59"));
    };
    limits("67108864");
    let known = ["ActiveState", "TasksMax", "CPUWeight", "Delegate"].map(|property| show(&unit, property));
    assert_eq!(known, ["active", "20", "59", "yes"]);
    // systemd writes what it knows when its units are read anew.
    run("systemctl", "daemon-reload").exits(0);
    limits("67108864");
    let _ = bundle.call(&["update", "--memory", "33554432", &id]).ok();
    run("systemctl", "daemon-reload").exits(0);
    limits("33554432");
    let inside = bundle.call(&["exec", &id, "cat", "/proc/self/cgroup"]);
    inside.exits(0).says(&unit);
    let _ = bundle.call(&["--systemd-cgroup", "pause", &id]).ok();
    let _ = bundle.call(&["--systemd-cgroup", "resume", &id]).ok();
    let _ = bundle.call(&["--systemd-cgroup", "delete", "--force", &id]).ok();
    let gone = |unit: &str, path: &str| {
        show(unit, "ActiveState") == "inactive"
            && !fs::exists(format!("/sys/fs/cgroup{path}")).unwrap_or(true)
    };
    wait_until("systemd has forgotten the scope", || gone(&unit, &path));
    // A start that fails leaves no unit, and one that ends by itself neither.
    let failing = bundle.id();
    configure(&["no-such-program"], &failing);
    bundle.call(&["--systemd-cgroup", "run", &failing]).exits(1).complains("executable file not found");
    configure(&["sh", "-c", "exit 7"], &failing);
    bundle.call(&["--systemd-cgroup", "run", &failing]).exits(7);
    let unit = format!("runc-{failing}.scope");
    let path = format!("/ferrytest.slice/ferrytest-inner.slice/{unit}");
    wait_until("systemd has forgotten the second scope", || gone(&unit, &path));
    // Without a path it is one of the system's, by the container's id.
    let plain = bundle.id();
    bundle.configure(&["cat", "/proc/self/cgroup"], |_| {});
    bundle
        .call(&["--systemd-cgroup", "run", &plain])
        .exits(0)
        .prints(&format!("0::/system.slice/ferry-{plain}.scope"));
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

/// Ends the machine in the middle of runs, loads and removals. Nothing that the page cache alone has is kept.
fn power_cut() {
    if !is_disposable("power_cut") {
        return;
    }
    fs::copy(images::archive("alpine"), "/var/tmp/again.tar").expect("an archive");
    for name in ["one", "two", "three"] {
        ferry(&format!("run -d --name durable-{name} --label lasting=yes busybox true")).exits(0);
    }
    let noise = "i=0; while :; do i=$((i+1)); ferry run -d --name n$i busybox sh -c 'date; sleep 1000' ;
        ferry rm -f n$((i-2)); done >/dev/null 2>&1 & while :; do ferry load -q -i /var/tmp/again.tar; ferry rmi alpine;
        ferry volume create v; ferry volume rm v; done >/dev/null 2>&1 &
        sleep 12; echo b > /proc/sysrq-trigger; sleep 100";
    Command::new("bash").args(["-c", noise]).env("HOME", "/root").status().expect("the machine ends here");
}

fn after_the_power_cut() {
    if !is_disposable("after_the_power_cut") {
        return;
    }
    wait_until("the engine is up by itself", || ferry("version").code == 0);
    // What was acknowledged is there, and runs again because it is told to.
    wait_until("the container with `--restart always` runs", || {
        ferry("inspect -f {{.State.Status}} kept").stdout.trim() == "running"
    });
    wait_until("both of its starts are in its volume", || {
        ferry("exec kept cat /data/starts").stdout.lines().count() == 2
    });
    let durable = ferry("ps -a -q --filter label=lasting=yes");
    assert_eq!(durable.ok().lines().count(), 3, "{durable}");
    // Every container of the list can be looked at, started and removed; none is half there.
    for id in ferry("ps -a -q").ok().lines() {
        ferry(&format!("inspect {id}")).exits(0);
        ferry(&format!("restart -t 0 {id}")).exits(0);
        ferry(&format!("logs {id}")).exits(0);
    }
    for id in ferry("ps -a -q --filter name=n").ok().lines() {
        ferry(&format!("rm -f {id}")).exits(0);
    }
    // Every image that is listed is whole.
    for image in ferry("images -q --no-trunc").ok().lines() {
        ferry(&format!("save -o /dev/null {image}")).exits(0);
    }
    ferry("load -q -i /var/tmp/again.tar").exits(0);
    ferry("run --rm alpine true").exits(0);
    ferry("system df").exits(0);
}

fn uninstall() {
    if !is_disposable("uninstall") {
        return;
    }
    ferry("rm -f kept").exits(0);
    ferry("engine uninstall").exits(0).says("images, containers and volumes stay");
    run("systemctl", "is-active ferry.service").prints("inactive");
    assert!(!fs::exists("/etc/systemd/system/ferry.service").unwrap_or(true));
    ferry("engine uninstall").exits(0).says("There is no unit to remove");
}

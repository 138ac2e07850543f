//! Settings of the engine: `daemon.json`, `--setting`, and `dockerd`'s flags.

use std::fs;

use ferry_tests::Engine;
use ferry_tests::engine::{hang_up, wait_until};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("daemon::settings_reach_containers", settings_reach_containers),
    ("daemon::the_default_bridge_follows", the_default_bridge_follows),
    ("daemon::places_and_conflicts", places_and_conflicts),
];

fn load(engine: &Engine) {
    let archive = ferry_tests::images::archive("busybox");
    engine.ferry(["load", "-qi", &archive.display().to_string()]).exits(0);
}

/// What `daemon.json` says of containers and networks holds for those that say nothing, and follows SIGHUP.
fn settings_reach_containers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("daemon.json");
    let settings = serde_json::json!({
        "log-driver": "local", "log-opts": {"max-size": "1m"}, "init": true, "debug": true, "mtu": 1400,
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 111, "Hard": 222}}, "default-shm-size": "8M",
        "dns": ["192.0.2.7"], "dns-search": ["lab.example"], "dns-opts": ["timeout:1"],
        "labels": ["place=lab"], "default-ipc-mode": "shareable", "no-new-privileges": true,
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
    });
    fs::write(&file, settings.to_string()).expect("a file");
    // The file must not say what the command line says: pools are tested by a flag.
    let pools = "default-address-pools=[{\"base\":\"10.213.0.0/16\",\"size\":28}]";
    let path = file.display().to_string();
    let engine = Engine::start_with(&["--config-file", &path, "--setting", pools]);
    load(&engine);
    let inside = "ulimit -n; cat /etc/resolv.conf /sys/class/net/eth0/mtu; df -k /dev/shm; cat /proc/1/comm; grep NoNewPrivs /proc/self/status";
    let shown = engine.ferry(["run", "--name", "box", "busybox", "sh", "-c", inside]).ok().to_owned();
    for wanted in [
        "111",
        "nameserver 192.0.2.7",
        "search lab.example",
        "timeout:1",
        "1400",
        "8192",
        "init",
        "NoNewPrivs:\t1",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    let format =
        "{{.HostConfig.LogConfig}} {{.HostConfig.Init}} {{.HostConfig.IpcMode}} {{.HostConfig.ShmSize}}";
    assert_eq!(engine.inspect("box", format), "{local map[max-size:1m]} true shareable 8388608");
    let own = [
        "run",
        "--rm",
        "--dns",
        "192.0.2.8",
        "--ulimit",
        "nofile=333",
        "--init=false",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; cat /etc/resolv.conf",
    ];
    let shown = engine.ferry(own).ok().to_owned();
    assert!(shown.contains("333") && shown.contains("192.0.2.8") && !shown.contains("192.0.2.7"), "{shown}");
    engine.ferry(["network", "create", "own"]).exits(0);
    let network =
        "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{index .Options \"com.docker.network.driver.mtu\"}}";
    let shown = engine.ferry(["network", "inspect", "-f", network, "own"]).ok().to_owned();
    assert!(shown.starts_with("10.213.0.") && shown.trim().ends_with("/28 1300"), "{shown}");
    for client in ["ferry", "docker"] {
        let format = "{{.LoggingDriver}} {{.Labels}} {{.Debug}} {{range .DefaultAddressPools}}{{.Base}}+{{.Size}}{{end}}";
        let shown = engine.client(client, ["info", "--format", format]);
        shown.prints("local [place=lab] true 10.213.0.0/16+28");
    }
    settings_are_read_again(&engine, &file);
}

fn settings_are_read_again(engine: &Engine, file: &std::path::Path) {
    fs::write(file, r#"{"log-driver": "none", "labels": ["place=home"]}"#).expect("a file");
    hang_up(engine.pid("engine"));
    let labels = || engine.ferry(["info", "--format", "{{.Labels}}"]).ok().to_owned();
    wait_until("the settings are read again", || labels().contains("place=home"));
    engine.ferry(["run", "--name", "quiet", "busybox", "true"]).exits(0);
    assert_eq!(engine.inspect("quiet", "{{.HostConfig.LogConfig.Type}}"), "none");
    // Where the file makes no sense, everything stays as it was.
    fs::write(file, r#"{"log-driver": "smoke"}"#).expect("a file");
    hang_up(engine.pid("engine"));
    let log = engine.run_root().join("engine.log");
    let told = || fs::read_to_string(&log).is_ok_and(|text| text.contains("no log driver named 'smoke'"));
    wait_until("the mistake is told", told);
    assert!(labels().contains("place=home"));
}

/// Subnet, addresses and gateway of the default bridge are the operator's, and change where nobody is on it.
fn the_default_bridge_follows() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("daemon.json");
    fs::write(&file, r#"{"bip": "10.214.7.1/24", "fixed-cidr": "10.214.7.128/25", "icc": false}"#)
        .expect("a file");
    let path = file.display().to_string();
    let engine = Engine::start_with(&["--config-file", &path]);
    load(&engine);
    let script = "ip route; ip -o -4 address show eth0";
    let shown = engine.ferry(["run", "--rm", "busybox", "sh", "-c", script]).ok().to_owned();
    assert!(shown.contains("default via 10.214.7.1") && shown.contains(" 10.214.7.12"), "{shown}");
    let format = "{{index .Options \"com.docker.network.bridge.enable_icc\"}}";
    engine.ferry(["network", "inspect", "-f", format, "bridge"]).prints("false");
    fs::write(&file, r#"{"bip": "10.214.8.1/24", "mtu": 1444}"#).expect("a file");
    engine.ferry(["run", "-d", "--name", "holder", "busybox", "sleep", "600"]).exits(0);
    let replace = |engine: &Engine| {
        let before = engine.pid("engine");
        engine.kill("engine");
        wait_until("another engine answers", || {
            engine.ferry(["version"]).code == 0 && engine.pid("engine") != before
        });
    };
    replace(&engine);
    let script = "ip route; cat /sys/class/net/eth0/mtu";
    let shown = engine.ferry(["run", "--rm", "busybox", "sh", "-c", script]).ok().to_owned();
    assert!(shown.contains("via 10.214.7.1"), "a container runs on it: {shown}");
    engine.ferry(["rm", "-f", "holder"]).exits(0);
    replace(&engine);
    let shown = engine.ferry(["run", "--rm", "busybox", "sh", "-c", script]).ok().to_owned();
    assert!(shown.contains("via 10.214.8.1") && shown.contains("1444"), "{shown}");
}

/// Addresses and data root from the file; what is said twice, or makes no sense, is refused before anything starts.
fn places_and_conflicts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("daemon.json"), folder.path().join("data"));
    let (run, socket) = (folder.path().join("run"), folder.path().join("own.sock"));
    let text = |path: &std::path::Path| path.display().to_string();
    let host = format!("unix://{}", text(&socket));
    let settings = serde_json::json!({"data-root": text(&data), "hosts": [host], "log-driver": "local"});
    fs::write(&file, settings.to_string()).expect("a file");
    let engine = Engine::start();
    let (path, run_root) = (text(&file), text(&run));
    let start = ["engine", "start", "--run-root", &run_root, "--config-file", &path];
    engine.ferry(start).exits(0);
    engine.ferry(["-H", &host, "info", "--format", "{{.DockerRootDir}}"]).prints(&text(&data));
    engine.ferry(["engine", "stop", "--run-root", &run_root]).exits(0);
    for (more, wanted) in [
        (
            ["--setting", "log-driver=none"],
            "specified both as a flag and in the configuration file: log-driver",
        ),
        (["-H", "unix:///nowhere.sock"], "configuration file: hosts"),
        (["--data-root", "/nowhere"], "configuration file: data-root"),
        (["--setting", "dns=[\"example\"]"], "example is not an ip address"),
        (["--setting", "log-drivre=none"], "did you mean `log-driver`?"),
        (["--setting", "mtu=large"], "setting `mtu`"),
        (["--setting", "nothing"], "want KEY=VALUE"),
    ] {
        engine.ferry(start.iter().copied().chain(more)).exits(1).complains(wanted);
    }
}

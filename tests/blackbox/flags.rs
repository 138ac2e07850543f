//! Flags of `run` that no other suite drives, and what the client's own settings file does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use ferry_tests::engine::wait_until;
use ferry_tests::{Engine, Outcome};
use serde_json::{Value, json};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("flags::block_devices_are_limited", block_devices_are_limited),
    ("flags::cgroup_parents", cgroup_parents),
    ("flags::oom_kill_disable", oom_kill_disable),
    ("flags::no_healthcheck", no_healthcheck),
    ("flags::streams_that_are_attached", streams_that_are_attached),
    ("flags::detach_keys", detach_keys),
    ("flags::devices_of_others_are_refused", devices_of_others_are_refused),
    ("flags::settings_of_the_client", settings_of_the_client),
    ("flags::prune_filters_of_the_client", prune_filters_of_the_client),
    ("flags::headers_of_the_client", headers_of_the_client),
];

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A disk of the machine and its number.
fn disk() -> (String, String) {
    let names = fs::read_dir("/sys/block").expect("the kernel lists disks").flatten();
    let mut disks = names.filter_map(|entry| {
        let number = fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned();
        let node = format!("/dev/{}", entry.file_name().to_string_lossy());
        fs::exists(&node).is_ok_and(|there| there).then_some((node, number))
    });
    disks.next().expect("a disk, if only a loop device")
}

fn block_devices_are_limited() {
    let engine = Engine::with_busybox();
    let (node, number) = disk();
    let limits = [
        ("--device-read-bps", "1mb", "read_bps", "rbps", "1048576"),
        ("--device-write-bps", "2mb", "write_bps", "wbps", "2097152"),
        ("--device-read-iops", "100", "read_iops", "riops", "100"),
        ("--device-write-iops", "200", "write_iops", "wiops", "200"),
    ];
    for client in CLIENTS {
        let values = limits.map(|(_, value, ..)| format!("{node}:{value}"));
        let mut words = vec!["run", "--rm"];
        words.extend(limits.iter().zip(&values).flat_map(|((flag, ..), value)| [*flag, value.as_str()]));
        words.extend(["busybox", "sh", "-c"]);
        let script = match is_v2() {
            true => "cat /sys/fs/cgroup/io.max",
            false => "cd /sys/fs/cgroup/blkio && grep . blkio.throttle.*_device",
        };
        words.push(script);
        let outcome = engine.client(client, words);
        for (_, _, old, new, value) in limits {
            match is_v2() {
                true => outcome.says(&format!("{new}={value}")),
                false => outcome.says(&format!("blkio.throttle.{old}_device:{number} {value}")),
            };
        }
        let nowhere = ["run", "--rm", "--device-read-bps", "/dev/nowhere:1mb", "busybox", "true"];
        engine.client(client, nowhere).exits(125).complains("/dev/nowhere");
    }
}

fn cgroup_parents() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let parent = format!("/ferry-parent-{client}-{}", std::process::id());
        let run = ["run", "-d", "--name", "box", "--cgroup-parent", &parent, "busybox", "sleep", "1000"];
        engine.client(client, run).exits(0);
        let pid = engine.inspect("box", "{{.State.Pid}}");
        let told = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        let id = engine.inspect("box", "{{.Id}}");
        assert!(told.contains(&format!("{parent}/{id}")), "{told}");
        assert_eq!(engine.inspect("box", "{{.HostConfig.CgroupParent}}"), parent);
        engine.ferry(["rm", "-f", "box"]).exits(0);
        remove_cgroups(&told, &parent);
    }
}

/// As in Docker a parent that was made for a container stays.
fn remove_cgroups(told: &str, parent: &str) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the kernel lists mounts");
    let places =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    for place in places {
        let folder = format!("{place}{parent}");
        if fs::exists(&folder).is_ok_and(|there| there) {
            wait_until(&format!("{folder} is free; {told}"), || fs::remove_dir(&folder).is_ok());
        }
    }
}

fn oom_kill_disable() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let file = "/sys/fs/cgroup/memory/memory.oom_control";
        let words = ["run", "--rm", "-m", "64m", "--oom-kill-disable", "busybox", "sh", "-c"];
        let outcome = match is_v2() {
            // Version 2 of cgroups has no such thing; Docker says so and goes on.
            true => engine.client(client, words.iter().copied().chain(["true"])),
            false => engine.client(client, words.iter().copied().chain([&*format!("cat {file}")])),
        };
        outcome.exits(0);
        match is_v2() {
            true => outcome.complains("OomKillDisable discarded"),
            false => outcome.says("oom_kill_disable 1"),
        };
    }
}

fn no_healthcheck() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "base", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["commit", "-c", "HEALTHCHECK CMD true", "base", "watched"]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["create", "--name", "with", "watched"]).exits(0);
        engine.client(client, ["create", "--name", "without", "--no-healthcheck", "watched"]).exits(0);
        assert_eq!(engine.inspect("with", "{{.Config.Healthcheck.Test}}"), "[CMD-SHELL true]");
        assert_eq!(engine.inspect("without", "{{.Config.Healthcheck.Test}}"), "[NONE]");
        let both = ["create", "--no-healthcheck", "--health-cmd", "true", "watched"];
        engine
            .client(client, both)
            .exits(125)
            .complains("--no-healthcheck conflicts with --health-* options");
        engine.client(client, ["rm", "with", "without"]).exits(0);
    }
}

fn streams_that_are_attached() {
    let engine = Engine::with_busybox();
    let script = ["busybox", "sh", "-c", "echo out; echo err >&2; cat"];
    for client in CLIENTS {
        for (stream, out, err) in [("stdout", "out\n", ""), ("stderr", "", "err\n")] {
            let words = ["run", "--rm", "-a", stream].into_iter().chain(script);
            let outcome = engine.client(client, words);
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (out, err), "{outcome}");
        }
        let both = ["run", "-d", "-a", "stdout", "busybox", "true"];
        let refused = engine.client(client, both);
        assert_ne!(refused.complains("cannot specify both --attach and --detach").code, 0, "{refused}");
    }
}

/// A client at a terminal that script(1) lends it.
struct Seat {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Seat {
    fn take(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-qefc", &line.join(" "), "/dev/null"]);
        script.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut child =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) of util-linux");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut stdout, kept) = (child.stdout.take().expect("a pipe"), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                kept.lock().expect("whole").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, shown }
    }

    fn sees(&self, text: &str) {
        wait_until(&format!("the terminal shows {text:?}"), || {
            self.shown.lock().expect("whole").contains(text)
        });
    }

    fn types(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(keys).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Its exit code, at the end.
    fn ends(mut self) -> i32 {
        wait_until("the client ends", || self.child.try_wait().expect("ours").is_some());
        self.child.wait().expect("ended").code().expect("no signal")
    }
}

fn detach_keys() {
    let engine = Engine::with_busybox();
    let home = engine.directory().join("with-keys");
    fs::create_dir_all(&home).expect("a folder");
    fs::write(home.join("config.json"), json!({ "detachKeys": "ctrl-e,e" }).to_string()).expect("a file");
    for client in CLIENTS {
        let run = ["run", "-it", "--name", "box", "--detach-keys", "ctrl-a,x", "busybox", "sh", "-c"];
        let run = run.into_iter().chain(["echo ready; exec cat"]);
        let mut seat = Seat::take(&engine.client_command(client, run));
        seat.sees("ready");
        // Half of the keys is input like any other.
        seat.types(b"\x01ypqr\n");
        seat.sees("pqr");
        seat.types(b"\x01x");
        assert_eq!(seat.ends(), 0, "{client}");
        // The settings file names others for whoever names none.
        let mut attach = engine.client_command(client, ["attach", "box"]);
        attach.env("DOCKER_CONFIG", &home);
        let mut seat = Seat::take(&attach);
        seat.types(b"second\n");
        seat.sees("second\r\nsecond");
        seat.types(b"\x05e");
        let code = seat.ends();
        // Docker's own client calls that an error.
        assert!(code == 0 || client == "docker", "{client}: {code}");
        assert_eq!(engine.inspect("box", "{{.State.Running}}"), "true");
        engine.ferry(["rm", "-f", "box"]).exits(0);
    }
}

fn devices_of_others_are_refused() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let gpu = engine.client(client, ["run", "--rm", "--gpus", "all", "busybox", "true"]);
        gpu.exits(125).complains("could not select device driver \"\" with capabilities: [[gpu]]");
        let cdi = engine.client(client, ["run", "--rm", "--device", "example.com/gpu=0", "busybox", "true"]);
        cdi.exits(125).complains("unresolvable CDI devices example.com/gpu=0");
    }
    engine.ferry(["ps", "-aq"]).prints("");
}

/// A client with settings of its own.
fn ask_with(engine: &Engine, client: &str, settings: &Value, words: &[&str]) -> Outcome {
    let home = engine.directory().join("settings");
    fs::create_dir_all(&home).expect("a folder");
    fs::write(home.join("config.json"), settings.to_string()).expect("a file");
    let mut command = engine.client_command(client, words);
    let output = command.env("DOCKER_CONFIG", &home).output().expect("the client runs");
    Outcome::new(format!("{command:?}"), &output)
}

/// Formats and proxies of `config.json`.
fn settings_of_the_client() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["volume", "create", "data"]).exits(0);
    let settings = json!({
        "psFormat": "p:{{.Names}}",
        "imagesFormat": "i:{{.Repository}}",
        "networksFormat": "n:{{.Name}}",
        "volumesFormat": "v:{{.Name}}",
        "statsFormat": "s:{{.Name}}",
        "proxies": { "default": { "httpProxy": "http://proxy:3128", "noProxy": "localhost" } },
    });
    for client in CLIENTS {
        let ask = |words: &[&str]| ask_with(&engine, client, &settings, words);
        ask(&["ps"]).prints("p:box");
        ask(&["container", "ls", "-a"]).prints("p:box");
        ask(&["ps", "--format", "{{.Image}}"]).prints("busybox");
        ask(&["images"]).says("i:busybox");
        ask(&["network", "ls"]).prints("n:bridge\nn:host\nn:none");
        ask(&["volume", "ls"]).prints("v:data");
        ask(&["stats", "--no-stream"]).says("s:box");
        let proxies = ask(&["run", "--rm", "busybox", "sh", "-c", "echo $HTTP_PROXY $http_proxy $no_proxy"]);
        proxies.prints("http://proxy:3128 http://proxy:3128 localhost");
        ask(&["run", "--rm", "-e", "HTTP_PROXY=own", "busybox", "sh", "-c", "echo $HTTP_PROXY $NO_PROXY"])
            .prints("own localhost");
    }
    engine.ferry(["rm", "-f", "box"]).exits(0);
}

/// `pruneFilters` guard what they name, unless the command line says the opposite.
fn prune_filters_of_the_client() {
    let engine = Engine::with_busybox();
    let settings = json!({ "pruneFilters": ["label!=keep=yes"] });
    // Docker's own client passes filters of labels over.
    let ask = |words: &[&str]| ask_with(&engine, "ferry", &settings, words);
    engine.ferry(["create", "--name", "kept", "--label", "keep=yes", "busybox"]).exits(0);
    engine.ferry(["create", "--name", "taken", "busybox"]).exits(0);
    engine.ferry(["volume", "create", "--label", "keep=yes", "kept"]).exits(0);
    engine.ferry(["network", "create", "--label", "keep=yes", "kept"]).exits(0);
    ask(&["container", "prune", "-f"]).exits(0);
    ask(&["volume", "prune", "-af"]).exits(0);
    ask(&["network", "prune", "-f"]).exits(0);
    engine.ferry(["ps", "-a", "--format", "{{.Names}}"]).prints("kept");
    engine.ferry(["volume", "ls", "-q"]).prints("kept");
    engine.ferry(["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]).prints("kept");
    ask(&["container", "prune", "-f", "--filter", "label=keep=yes"]).exits(0);
    engine.ferry(["ps", "-aq"]).prints("");
    engine.ferry(["volume", "rm", "kept"]).exits(0);
    engine.ferry(["network", "rm", "kept"]).exits(0);
}

/// `HttpHeaders` and `DOCKER_CUSTOM_HEADERS`, as a listener in the engine's place sees them.
fn headers_of_the_client() {
    let engine = Engine::start();
    let socket = engine.directory().join("listener.sock");
    let home = engine.directory().join("with-headers");
    fs::create_dir_all(&home).expect("a folder");
    let settings = json!({ "HttpHeaders": { "X-Of-File": "one" } });
    fs::write(home.join("config.json"), settings.to_string()).expect("a file");
    let heard = |client: &str, variable: Option<&str>| {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mut command = engine.client_command(client, ["ps"]);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env_remove("FERRY_HOST");
        command.env("DOCKER_CONFIG", &home).env("DOCKER_API_VERSION", "1.48");
        command.envs(variable.map(|value| ("DOCKER_CUSTOM_HEADERS", value)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the client runs");
        let (mut stream, _) = listener.accept().expect("it calls");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        drop((stream, listener));
        child.kill().expect("ours");
        child.wait().expect("ended");
        String::from_utf8_lossy(&head).to_lowercase()
    };
    for client in CLIENTS {
        assert!(heard(client, None).contains("\r\nx-of-file: one\r\n"), "{client}");
        let head = heard(client, Some("X-A=b c,X-D=e"));
        assert!(head.contains("\r\nx-a: b c\r\n") && head.contains("\r\nx-d: e\r\n"), "{client}: {head}");
        assert!(!head.contains("x-of-file"), "{client}: {head}");
    }
    let mut wrong = engine.command(["ps"]);
    let output = wrong.env("DOCKER_CUSTOM_HEADERS", "nonsense").output().expect("it runs");
    Outcome::new("ps".into(), &output)
        .exits(1)
        .complains("DOCKER_CUSTOM_HEADERS: \"nonsense\" is no NAME=VALUE");
}

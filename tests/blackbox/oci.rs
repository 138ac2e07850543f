//! The OCI runtime command line: bundles run by hand, beside Debian's runc, whose words and exit codes it has.

use std::fs;

use ferry_tests::bundle::{Bundle, installed};
use ferry_tests::engine::wait_until;
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci::lives_as_in_runc", lives_as_in_runc),
    ("oci::errors_are_runcs", errors_are_runcs),
    ("oci::further_processes", further_processes),
    ("oci::a_killed_container_is_stopped_and_deleted", a_killed_container_is_stopped_and_deleted),
    ("oci::limits_change_while_it_runs", limits_change_while_it_runs),
    ("oci::messages_go_to_the_log", messages_go_to_the_log),
    ("oci::what_is_missing_is_named", what_is_missing_is_named),
    ("oci::spec_and_features", spec_and_features),
    ("oci::flags_are_runcs", flags_are_runcs),
];

/// What a run of commands looked like: outputs and codes without what differs from run to run.
fn transcript(bundle: &Bundle) -> String {
    let id = bundle.id();
    bundle.configure(&["sh", "-c", "echo started; exec sleep 1000"], |_| {});
    let mut lines = Vec::new();
    let mut note = |arguments: &[&str]| {
        let detached = matches!(arguments[0], "create" | "start");
        let outcome = if detached { bundle.call_detached(arguments) } else { bundle.call(arguments) };
        let clean = |text: &str| -> String {
            let text = text.replace(&id, "ID");
            let line = |line: &str| match line.split_once("msg=") {
                Some((_, message)) => message.to_owned(),
                None => line.to_owned(),
            };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        // What a detached command prints comes when it likes.
        let printed = if detached { "" } else { outcome.stdout.as_str() };
        let said = format!("{printed}{}", clean(&outcome.stderr)).replace(&id, "ID");
        let shown = arguments.join(" ").replace(&id, "ID");
        lines.push(format!(
            "$ {shown}\n{}[{}]",
            if arguments[0] == "state" { status(&said) } else { said },
            outcome.code
        ));
    };
    note(&["create", &id]);
    note(&["state", &id]);
    note(&["create", &id]);
    note(&["start", &id]);
    wait_until("the command prints", || {
        bundle.printed().contains("started") || bundle.state(&id)["status"] == "running"
    });
    note(&["start", &id]);
    note(&["state", &id]);
    note(&["exec", &id, "sh", "-c", "echo inside; exit 3"]);
    note(&["exec", "--env", "A=b", "--cwd", "/tmp", "--user", "5:6", &id, "sh", "-c", "echo $A; pwd; id"]);
    note(&["exec", &id, "nope"]);
    note(&["list", "-q"]);
    note(&["pause", &id]);
    note(&["state", &id]);
    note(&["exec", &id, "true"]);
    note(&["resume", &id]);
    note(&["resume", &id]);
    note(&["delete", &id]);
    note(&["kill", &id, "KILL"]);
    wait_until("it has stopped", || bundle.state(&id)["status"] == "stopped");
    note(&["state", &id]);
    note(&["kill", &id]);
    note(&["start", &id]);
    note(&["exec", &id, "true"]);
    note(&["delete", &id]);
    note(&["state", &id]);
    note(&["delete", &id]);
    note(&["delete", "--force", &id]);
    note(&["list", "-q"]);
    lines.join("\n")
}

/// The fields of a state that do not differ from run to run.
fn status(text: &str) -> String {
    let Ok(state) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let Some(fields) = state.as_object() else { return text.to_owned() };
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    format!("{names:?} {} pid 0: {}\n", state["status"], state["pid"] == 0)
}

fn lives_as_in_runc() {
    let ferry = transcript(&Bundle::new());
    assert!(ferry.contains("inside\n[3]") && ferry.contains("uid=5 gid=6"), "{ferry}");
    let Some(runc) = installed("runc") else { return };
    let runc = transcript(&Bundle::of(runc));
    assert_eq!(ferry, runc, "--- ferry\n{ferry}\n--- runc\n{runc}");
}

fn errors_are_runcs() {
    let ferry = Bundle::new();
    let other = installed("runc").map(Bundle::of);
    for bundle in [Some(&ferry), other.as_ref()].into_iter().flatten() {
        let failed = "create failed: unable to start container process: exec: ";
        let created = bundle.run(&["nope"], |_| {});
        created.exits(1).complains("run failed: unable to start container process: exec: ");
        created.complains("executable file not found in $PATH");
        let id = bundle.id();
        bundle.call(&["create", &id]).exits(1).complains(failed);
        bundle.configure(&["/bin"], |_| {});
        bundle.call(&["create", &bundle.id()]).exits(1).complains("/bin");
        bundle.call(&["create", "a/b"]).exits(1).complains("invalid container ID format");
        bundle.call(&["state", "none"]).exits(1).complains("container does not exist");
        bundle.call(&["no-such-command"]).complains("No help topic for 'no-such-command'");
        bundle.call(&["create", "--no-such-flag", "x"]).exits(1);
        bundle.configure(&["true"], |config| config["process"]["terminal"] = json!(true));
        let refused = bundle.call(&["create", &bundle.id()]);
        refused.exits(1).complains("will detach without setting console socket");
        assert!(bundle.left().is_empty(), "{:?}", bundle.left());
    }
}

fn further_processes() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |_| {});
    let id = bundle.id();
    let pid_file = bundle.path("pid");
    let pid_file = pid_file.to_str().expect("text");
    let _ = bundle.call_detached(&["run", "--detach", "--pid-file", pid_file, &id]).ok();
    let state = bundle.state(&id);
    assert_eq!(fs::read_to_string(pid_file).expect("written"), state["pid"].to_string());
    let process = json!({ "args": ["sh", "-c", "id; pwd; echo $B"], "cwd": "/tmp", "env": ["PATH=/bin", "B=c"],
        "user": { "uid": 7, "gid": 8, "additionalGids": [9] } });
    fs::write(bundle.path("process.json"), process.to_string()).expect("written");
    bundle.call(&["exec", "--process", "process.json", &id]).exits(0).prints("uid=7 gid=8 groups=9\n/tmp\nc");
    let given = bundle.call(&["exec", "--cap", "CAP_SYS_TIME", &id, "grep", "CapEff", "/proc/self/status"]);
    given.exits(0).says("CapEff:\t0000000022000420");
    let exec_pid = bundle.path("exec-pid");
    let exec_pid = exec_pid.to_str().expect("text");
    let _ = bundle.call_detached(&["exec", "--detach", "--pid-file", exec_pid, &id, "sleep", "1000"]).ok();
    let further = fs::read_to_string(exec_pid).expect("written");
    let listed: Vec<i64> =
        serde_json::from_str(bundle.call(&["ps", "--format", "json", &id]).ok()).expect("numbers");
    assert!(
        listed.len() == 2 && listed.contains(&further.parse().expect("a number")),
        "{listed:?} {further}"
    );
    assert_eq!(bundle.call(&["ps", &id]).ok().lines().count(), 3);
    bundle.call(&["exec", "--user", "x", &id, "true"]).exits(1).complains("not a number");
    bundle.call(&["exec", &id]).exits(1);
    let _ = bundle.call(&["kill", "--all", &id, "KILL"]).ok();
    let _ = bundle.call(&["delete", "--force", &id]).ok();
    assert!(bundle.left().is_empty());
}

fn a_killed_container_is_stopped_and_deleted() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["cgroupsPath"] =
            json!(format!("/{}", bundle.path("").file_name().unwrap().display()));
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let cgroup = bundle.path("");
    let name = cgroup.file_name().expect("a name").to_owned();
    let here = || {
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .iter()
            .any(|root| std::path::Path::new(root).join(&name).exists())
    };
    assert!(here());
    bundle.call(&["delete", &id]).exits(1).complains("that is not stopped: running");
    let _ = bundle.call(&["kill", &id, "9"]).ok();
    wait_until("it has stopped", || bundle.state(&id)["status"] == "stopped");
    let _ = bundle.call(&["delete", &id]).ok();
    assert!(!here() && bundle.left().is_empty());
    // One that was made and never started goes too, and so does one that runs, by force.
    let id = bundle.id();
    let _ = bundle.call_detached(&["create", &id]).ok();
    let _ = bundle.call(&["delete", &id]).ok();
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let _ = bundle.call(&["delete", "--force", &id]).ok();
    assert!(!here() && bundle.left().is_empty());
}

fn limits_change_while_it_runs() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let stats = || -> Value {
        serde_json::from_str(bundle.call(&["events", "--stats", &id]).ok()).expect("an event is JSON")
    };
    assert_eq!(stats()["data"]["memory"]["usage"]["limit"], json!(64 << 20));
    assert_eq!(stats()["data"]["pids"], json!({ "current": 1, "limit": 20 }));
    let _ = bundle.call(&["update", "--memory", "33554432", "--pids-limit", "9", &id]).ok();
    assert_eq!(stats()["data"]["memory"]["usage"]["limit"], json!(32 << 20));
    assert_eq!(stats()["data"]["pids"]["limit"], json!(9));
    fs::write(bundle.path("limits"), r#"{"pids": {"limit": 30}}"#).expect("written");
    let _ = bundle.call(&["update", "--resources", "limits", &id]).ok();
    assert_eq!(stats()["data"]["pids"]["limit"], json!(30));
    bundle.call(&["update", "--memory", "much", &id]).exits(1).complains("for flag -memory: not a number");
}

fn messages_go_to_the_log() {
    let bundle = Bundle::new();
    let log = bundle.path("log");
    let path = log.to_str().expect("text");
    let arguments = ["--log", path, "--log-format", "json", "state", "none"];
    bundle.call(&arguments).exits(1).complains("container does not exist");
    let entry: Value =
        serde_json::from_str(&fs::read_to_string(&log).expect("written")).expect("one line of JSON");
    assert_eq!((&entry["level"], &entry["msg"]), (&json!("error"), &json!("container does not exist")));
    assert!(entry["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{entry}");
    bundle.call(&["--log-format", "xml", "list"]).exits(1).complains("invalid log-format: xml");
}

fn what_is_missing_is_named() {
    let bundle = Bundle::new();
    let refused = |expected: &str, change: fn(&mut Value)| {
        bundle.run(&["true"], change).exits(1).complains(expected);
        assert!(bundle.left().is_empty(), "{expected}: {:?}", bundle.left());
    };
    refused("not an absolute path", |config| config["process"]["cwd"] = json!("tmp"));
    refused("cannot be mounted because it is inside /proc", |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.push(
            json!({ "destination": "/proc/sys", "type": "bind", "source": "/tmp", "options": ["bind"] }),
        );
    });
    refused("it would change the host", |config| {
        config["linux"]["sysctl"] = json!({ "vm.swappiness": "10" })
    });
    refused("given twice", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.push(json!({ "type": "pid" }));
    });
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        refused("AppArmor is not enabled on this machine", |config| {
            config["process"]["apparmorProfile"] = json!("some-profile");
        });
    }
    bundle.call(&["checkpoint", "x"]).exits(1).complains("checkpoint and restore are not supported");
    bundle.configure(&["true"], |config| config["linux"]["cgroupsPath"] = json!("system.slice:x:y"));
    bundle.call(&["run", &bundle.id()]).exits(1).complains("slice:prefix:name needs the systemd driver");
    if !std::path::Path::new("/run/systemd/private").exists() {
        let asked = bundle.call(&["--systemd-cgroup", "run", &bundle.id()]);
        asked.exits(1).complains("systemd support for managing cgroups is not available");
    }
    bundle.configure(&["true"], |config| config["linux"]["cgroupsPath"] = json!("/plain"));
    let plain = bundle.call(&["--systemd-cgroup", "run", &bundle.id()]);
    plain.exits(1).complains("the systemd driver takes the form slice:prefix:name");
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

fn spec_and_features() {
    let bundle = Bundle::new();
    fs::remove_file(bundle.path("config.json")).expect("it was there");
    let _ = bundle.call(&["spec"]).ok();
    bundle.call(&["spec"]).exits(1).complains("exists. Remove it first");
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(bundle.path("config.json")).expect("written"))
            .expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "echo $TERM; touch /x"]);
    fs::write(bundle.path("config.json"), config.to_string()).expect("written");
    bundle.call(&["run", &bundle.id()]).exits(1).says("xterm").complains("Read-only file system");
    let features: Value = serde_json::from_str(bundle.call(&["features"]).ok()).expect("JSON");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["hooks"].as_array().map(Vec::len), Some(6));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    bundle.call(&["--version"]).exits(0).says("runc version ").says("spec: 1.");
    bundle.call(&["--help"]).exits(0).says("create").says("--log-format");
}

/// Every command and flag that Debian's runc names in its help is known, CRIU's aside.
fn flags_are_runcs() {
    let Some(runc) = installed("runc") else { return };
    let help = |words: &[&str]| {
        let output = std::process::Command::new(&runc).args(words).arg("--help").output().expect("runc runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let flags = |text: &str| -> Vec<String> {
        let words = text.lines().filter_map(|line| line.split_whitespace().next());
        words
            .filter(|word| word.starts_with("--"))
            .map(|word| word.trim_end_matches(',').to_owned())
            .collect()
    };
    let top = help(&[]);
    let commands =
        top.split("COMMANDS:").nth(1).and_then(|text| text.split("GLOBAL").next()).expect("a list");
    let commands = commands.lines().filter_map(|line| line.split_whitespace().next());
    let commands: Vec<&str> = commands.map(|word| word.trim_end_matches(',')).collect();
    assert!(commands.len() > 12, "{commands:?}");
    let bundle = Bundle::new();
    for flag in flags(&top) {
        let outcome = bundle.call(&[&format!("{flag}=text"), "list"]);
        assert!(!outcome.stderr.contains("not defined"), "{outcome}");
    }
    for command in
        commands.into_iter().filter(|command| !["checkpoint", "restore", "help", "h"].contains(command))
    {
        assert!(!bundle.call(&[command]).stderr.contains("No help topic"), "{command}");
        for flag in flags(&help(&[command])) {
            // Without the container's name nothing is done.
            let outcome = bundle.call(&[command, &format!("{flag}=1")]);
            assert!(!outcome.stderr.contains("not defined"), "{outcome}");
        }
    }
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

//! What stands in `config.json`, each thing seen from inside the container it describes.

use std::fs;
use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use ferry_tests::Outcome;
use ferry_tests::bundle::Bundle;
use ferry_tests::engine::wait_until;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci_config::hooks_at_all_six_points", hooks_at_all_six_points),
    ("oci_config::a_failed_hook_leaves_nothing", a_failed_hook_leaves_nothing),
    ("oci_config::terminals_go_to_a_console_socket", terminals_go_to_a_console_socket),
    ("oci_config::descriptors_are_handed_on", descriptors_are_handed_on),
    ("oci_config::namespaces_by_path", namespaces_by_path),
    ("oci_config::clocks_are_shifted", clocks_are_shifted),
    ("oci_config::users_are_mapped", users_are_mapped),
    ("oci_config::mounts_and_propagation", mounts_and_propagation),
    ("oci_config::process_attributes", process_attributes),
    ("oci_config::seccomp_rules", seccomp_rules),
    ("oci_config::seccomp_agents_get_the_listener", seccomp_agents_get_the_listener),
    ("oci_config::roots_without_pivot", roots_without_pivot),
];

fn hooks_at_all_six_points() {
    let bundle = Bundle::new();
    let seen = bundle.path("seen");
    let log = seen.display().to_string();
    let hook = |stage: &str, log: &str| {
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {stage} $WHO $(cat | grep -o '\"status\":\"[a-z]*\"') >> {log}")],
            "env": ["PATH=/bin:/usr/bin", "WHO=me"], "timeout": 20 }])
    };
    bundle.configure(&["sh", "-c", "cat /seen; exec sleep 1000"], |config| {
        config["hooks"] = json!({
            "prestart": hook("prestart", &log), "createRuntime": hook("createRuntime", &log),
            "createContainer": hook("createContainer", &log), "startContainer": hook("startContainer", "/seen"),
            "poststart": hook("poststart", &log), "poststop": hook("poststop", &log),
        });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["create", &id]).ok();
    let lines = || fs::read_to_string(&seen).unwrap_or_default();
    let before = "prestart me \"status\":\"creating\"\ncreateRuntime me \"status\":\"creating\"\ncreateContainer me \"status\":\"creating\"\n";
    assert_eq!(lines(), before);
    assert!(!bundle.path("rootfs/seen").exists());
    let _ = bundle.call(&["start", &id]).ok();
    assert_eq!(
        fs::read_to_string(bundle.path("rootfs/seen")).expect("written"),
        "startContainer me \"status\":\"created\"\n"
    );
    wait_until("the command sees it", || bundle.printed().contains("startContainer"));
    assert!(lines().ends_with("poststart me \"status\":\"running\"\n"), "{}", lines());
    let _ = bundle.call(&["delete", "--force", &id]).ok();
    assert!(lines().ends_with("poststop me \"status\":\"stopped\"\n"), "{}", lines());
}

fn a_failed_hook_leaves_nothing() {
    let bundle = Bundle::new();
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let script = "echo no luck >&2; exit 3";
        let hooks = json!({ stage: [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
        let failed = bundle.run(&["echo", "it runs"], |config| config["hooks"] = hooks);
        failed.exits(1).complains(&format!("error running {stage} hook #0")).complains("no luck").prints("");
        assert!(bundle.left().is_empty(), "{stage}: {:?}", bundle.left());
    }
    // Those after the start are told and change nothing.
    let hooks = json!({ "poststart": [{ "path": "/bin/false" }], "poststop": [{ "path": "/none" }] });
    let outcome = bundle.run(&["echo", "it runs"], |config| config["hooks"] = hooks);
    outcome.exits(0).prints("it runs").complains("poststart hook #0").complains("poststop hook #0");
}

/// The first message on a socket that carries a descriptor.
fn receive(stream: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut buffer = vec![0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::empty())
            .expect("a message");
    buffer.truncate(message.bytes);
    let descriptor = ancillary.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    (buffer, descriptor.expect("a descriptor comes along"))
}

fn terminals_go_to_a_console_socket() {
    let bundle = Bundle::new();
    let listener = UnixListener::bind(bundle.path("console")).expect("a socket");
    bundle.configure(&["sh", "-c", "tty; stty size; test -c /dev/console && echo console"], |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["create", "--console-socket", "console", &id]).ok();
    let (_, master) = receive(&listener.accept().expect("it connects").0);
    let _ = bundle.call(&["start", &id]).ok();
    let mut text = String::new();
    // The end of a terminal is an error of its own.
    drop(fs::File::from(master).read_to_string(&mut text));
    assert_eq!(text.replace('\r', ""), "/dev/pts/0\n33 77\nconsole\n");
}

fn descriptors_are_handed_on() {
    let bundle = Bundle::new();
    fs::write(bundle.path("three"), "three").expect("written");
    fs::write(bundle.path("four"), "four").expect("written");
    bundle.configure(
        &["sh", "-c", "cat <&3; cat <&4; ls /proc/self/fd | wc -l; echo $LISTEN_FDS $LISTEN_PID"],
        |_| {},
    );
    let run = |variables: &str, arguments: &str| -> Outcome {
        let script = format!(
            "exec 3<three 4<four 5<three; {variables} exec ./runc --root state run {arguments} {}",
            bundle.id()
        );
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &script]).current_dir(bundle.path("")).output().expect("sh runs");
        Outcome::new(script, &output)
    };
    // ls has its own descriptor of the directory; the shell's copies end with its commands.
    run("", "--preserve-fds 2").exits(0).prints("threefour6");
    run("export LISTEN_FDS=1;", "--preserve-fds 1").exits(0).prints("threefour6\n1 1");
    run("", "--preserve-fds 9").exits(1).complains("descriptor 6 is not open");
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

fn namespaces_by_path() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |_| {});
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let pid = bundle.state(&id)["pid"].clone();
    let names = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let joined = bundle.sh(
        "for n in net ipc uts; do readlink /proc/self/ns/$n; done; ps | grep -c 'sleep 1000'",
        |config| {
            let by_path =
                names.map(|(kind, file)| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }));
            config["linux"]["namespaces"] =
                json!(by_path.into_iter().chain([json!({ "type": "mount" })]).collect::<Vec<_>>());
            config.as_object_mut().expect("an object").remove("hostname");
        },
    );
    let expected: Vec<String> = ["net", "ipc", "uts"]
        .iter()
        .map(|file| fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("it runs").display().to_string())
        .collect();
    joined.exits(0).says(&expected.join("\n"));
    let missing = bundle.sh("true", |config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "network", "path": "/none" }]);
        config.as_object_mut().expect("an object").remove("hostname");
    });
    missing.exits(1).complains("/none");
}

fn clocks_are_shifted() {
    let bundle = Bundle::new();
    let outcome = bundle.sh("cat /proc/uptime; cat /proc/self/timens_offsets", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] =
            json!({ "boottime": { "secs": 1_000_000 }, "monotonic": { "secs": 500 } });
    });
    let text = outcome.ok();
    let uptime: f64 =
        text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!(uptime > 1_000_000.0, "{outcome}");
    assert!(text.contains("monotonic") && text.contains("500"), "{outcome}");
    // Ours are as they were, and so are those of a container without offsets.
    let unshifted = bundle.sh("cat /proc/self/timens_offsets", |_| {});
    let words: Vec<&str> = unshifted.ok().split_whitespace().collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "0", "0"]);
    let refused =
        bundle.sh("true", |config| config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } }));
    refused.exits(1).complains("a new time namespace only");
}

fn users_are_mapped() {
    let bundle = Bundle::new();
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    fs::set_permissions(bundle.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    for name in ["rootfs", "rootfs/bin", "rootfs/dev", "rootfs/proc", "rootfs/sys", "rootfs/tmp"] {
        std::os::unix::fs::chown(bundle.path(name), Some(100_000), Some(100_000)).expect("ours");
    }
    let outcome =
        bundle.sh("id; cat /proc/self/uid_map; touch /tmp/x; test -c /dev/null && echo null", |config| {
            config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
    outcome.exits(0).says("uid=0 gid=0").says("100000       1000").says("null");
    let owner =
        fs::metadata(bundle.path("rootfs/tmp/x")).map(|file| std::os::unix::fs::MetadataExt::uid(&file));
    assert_eq!(owner.expect("it was made"), 100_000);
}

fn mounts_and_propagation() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.path("data")).expect("a folder");
    let data = bundle.path("data").display().to_string();
    let script = "touch /ro/x 2>&1; touch /rw/x && echo written; grep -E ' / (/rw|/slave|/) ' /proc/self/mountinfo | wc -l
        grep -c 'master:' /proc/self/mountinfo; grep ' /tmpfs ' /proc/self/mountinfo | grep -o 'size=1024k'";
    let outcome = bundle.sh(script, |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        for (place, options) in
            [("/ro", json!(["rbind", "ro"])), ("/rw", json!(["bind", "nosuid", "rprivate"]))]
        {
            mounts.push(json!({ "destination": place, "type": "bind", "source": data, "options": options }));
        }
        mounts.push(
            json!({ "destination": "/tmpfs", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"] }),
        );
        config["linux"]["rootfsPropagation"] = json!("slave");
    });
    outcome.exits(0).says("Read-only file system").says("written").says("size=1024k");
    assert!(bundle.path("data/x").exists());
    let mapped = bundle.sh("stat -c %u /mapped/x", |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        let map = json!([{ "containerID": 0, "hostID": 4000, "size": 10 }]);
        mounts.push(
            json!({ "destination": "/mapped", "type": "bind", "source": data, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map }),
        );
    });
    // A file system that cannot do it says so.
    if mapped.code == 0 {
        mapped.prints("4000")
    } else {
        mapped.complains("with mapped ids")
    };
}

fn process_attributes() {
    let bundle = Bundle::new();
    let script =
        "ulimit -n; cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_forward; hostname; uname -m
        grep -E 'CapBnd|NoNewPrivs|Groups' /proc/self/status; id -u; ionice; cat /proc/self/stat
        head -c1 /proc/kcore | wc -c; (echo 1 > /proc/sys/vm/drop_caches) 2>&1; umask";
    let outcome = bundle.sh(script, |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 123, "hard": 456 }]);
        config["process"]["oomScoreAdj"] = json!(300);
        config["process"]["user"] = json!({ "uid": 0, "gid": 5, "additionalGids": [6, 7], "umask": 0o077 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
        config["hostname"] = json!("some-host");
    });
    outcome
        .exits(0)
        .says("123\n300\n1\nsome-host\n")
        .says("NoNewPrivs:\t1")
        .says("CapBnd:\t0000000020000420");
    outcome.says("Groups:\t6 7").says("idle").says("0077");
    let stat =
        outcome.stdout.lines().find_map(|line| line.split_once(") ")).map(|(_, rest)| rest).expect("a line");
    assert_eq!(stat.split(' ').nth(38), Some("3"), "the policy is SCHED_BATCH: {outcome}");
    outcome.says("\n0\n").says("Read-only file system");
    if cfg!(target_arch = "x86_64") {
        outcome.says("i686");
    }
    let bad = |change: fn(&mut Value)| bundle.run(&["true"], change);
    bad(|config| config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 1 }]))
        .exits(1)
        .complains("the soft limit is above the hard one");
    bad(|config| config["process"]["rlimits"] = json!([{ "type": "RLIMIT_X", "soft": 9, "hard": 10 }]))
        .exits(1)
        .complains("RLIMIT_X");
    bad(|config| config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 }))
        .exits(1)
        .complains("not within 0 to 7");
}

fn seccomp_rules() {
    let bundle = Bundle::new();
    let with =
        |seccomp: Value, script: &str| bundle.sh(script, |config| config["linux"]["seccomp"] = seccomp);
    let rules = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 },
        { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 12, "op": "SCMP_CMP_EQ" }] },
        { "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" },
    ] });
    let outcome =
        with(rules, "mkdir /tmp/a; kill -12 $$; kill -0 $$ && echo other; grep Seccomp: /proc/self/status");
    outcome.complains("No space left on device").complains("not permitted").says("other").says("Seccomp:\t2");
    let killed = with(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }] }),
        "exec mkdir /tmp/a",
    );
    killed.exits(128 + 31);
    let unknown = with(json!({ "defaultAction": "SCMP_ACT_NOPE" }), "true");
    unknown.exits(1).complains("SCMP_ACT_NOPE");
    let alone = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    with(alone, "true").exits(1).complains("linux.seccomp.listenerPath is missing");
}

fn seccomp_agents_get_the_listener() {
    let bundle = Bundle::new();
    let agent = UnixListener::bind(bundle.path("agent")).expect("a socket");
    let answering = std::thread::spawn(move || {
        let (message, listener) = receive(&agent.accept().expect("the runtime connects").0);
        // With nobody to answer, the calls fail as if the kernel had them not.
        drop(listener);
        serde_json::from_slice::<Value>(&message).expect("JSON")
    });
    let path = bundle.path("agent").display().to_string();
    let outcome = bundle.sh("mkdir /tmp/a || echo refused", |config| {
        config["annotations"] = json!({ "a": "b" });
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "listenerMetadata": "some words",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
    });
    outcome.exits(0).prints("refused").complains("Function not implemented");
    let state = answering.join().expect("the agent was asked");
    assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("some words")), "{state}");
    assert_eq!(state["state"]["annotations"]["a"], "b", "{state}");
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{state}");
}

fn roots_without_pivot() {
    let bundle = Bundle::new();
    bundle.configure(&["sh", "-c", "ls /; ls /.. | wc -l"], |_| {});
    let outcome = bundle.call(&["run", "--no-pivot", "--no-new-keyring", &bundle.id()]);
    outcome.exits(0).prints("bin\ndev\netc\nproc\nsys\ntmp\n6");
}

//! Parts of `config.json` that other engines' bundles seldom have: devices of the network, memory policies, user
//! namespaces by path, agents for further processes, classes of cache; and properties that nobody knows.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use ferry_tests::bundle::Bundle;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci_linux::network_devices_move_in", network_devices_move_in),
    ("oci_linux::memory_policies", memory_policies),
    ("oci_linux::agents_of_further_processes", agents_of_further_processes),
    ("oci_linux::user_namespaces_by_path", user_namespaces_by_path),
    ("oci_linux::other_namespaces_by_path", other_namespaces_by_path),
    ("oci_linux::unknown_properties_are_told", unknown_properties_are_told),
    ("oci_linux::classes_of_cache_are_named", classes_of_cache_are_named),
];

/// `ip` on the host; false where it refuses.
fn ip(line: &str) -> bool {
    let output = Command::new("ip").args(line.split(' ')).output().expect("iproute2 is installed");
    output.status.success()
}

/// Two devices of the host that are one another's end, gone on drop.
struct Pair(String, String);

impl Pair {
    fn new() -> Pair {
        let number = std::process::id() % 100_000;
        let pair = Pair(format!("fp{number}a"), format!("fp{number}b"));
        assert!(ip(&format!("link add {} type veth peer name {}", pair.0, pair.1)), "a pair of devices");
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // With a container that has one of them the other is gone already.
        let _gone = ip(&format!("link del {}", self.0)) || ip(&format!("link del {}", self.1));
    }
}

fn network_devices_move_in() {
    let bundle = Bundle::new();
    let pair = Pair::new();
    for line in ["address add 10.213.7.2/24 dev", "address add fd00:213::2/64 nodad dev"] {
        // A machine may have no IPv6.
        let added = ip(&format!("{line} {}", pair.1)) || line.contains("fd00");
        assert!(added, "{line}");
    }
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["netDevices"] = json!({ pair.1.clone(): { "name": "inside0" } });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["create", &id]).ok();
    let pid = bundle.state(&id)["pid"].clone();
    assert!(!ip(&format!("link show {}", pair.1)), "the device has left the host");
    let show = |what: &str| -> String {
        let arguments = format!("-t {pid} -n ip {what} show dev inside0");
        let output = Command::new("nsenter").args(arguments.split(' ')).output().expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(show("link").contains(",UP") || show("link").contains("<UP"), "{}", show("link"));
    assert!(show("address").contains("10.213.7.2/24"), "{}", show("address"));
    let _ = bundle.call(&["delete", "--force", &id]).ok();

    let refused = |devices: Value, expected: &str| {
        bundle.run(&["true"], |config| config["linux"]["netDevices"] = devices).exits(1).complains(expected);
        assert!(bundle.left().is_empty(), "{:?}", bundle.left());
    };
    refused(json!({ "fp-no-such": {} }), "cannot move network device fp-no-such");
    refused(json!({ "a": { "name": "b/c" } }), "a name has no slash");
    refused(json!({ "a": { "name": "c" }, "b": { "name": "c" } }), "two devices cannot have one name");
    let pair = Pair::new();
    refused(json!({ pair.1.clone(): { "name": "lo" } }), "which the container has already");
    let shared = bundle.run(&["true"], |config| {
        config["linux"]["netDevices"] = json!({ "eth0": {} });
        config["linux"]["namespaces"].as_array_mut().expect("a list").retain(|one| one["type"] != "network");
    });
    shared.exits(1).complains("a network namespace of the container's own only");
}

fn memory_policies() {
    let bundle = Bundle::new();
    let script = "grep -m1 -o -E 'bind[^ ]*|interleave[^ ]*|default' /proc/self/numa_maps";
    let with = |policy: Value| bundle.sh(script, |config| config["linux"]["memoryPolicy"] = policy);
    let has_nodes = fs::exists("/proc/self/numa_maps").is_ok_and(|is| is);
    let bound = with(json!({ "mode": "MPOL_BIND", "nodes": "0" }));
    if !has_nodes {
        bound.exits(1).complains("cannot set memory policy MPOL_BIND 0");
        return;
    }
    bound.exits(0).prints("bind:0");
    let flagged = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    with(flagged).exits(0).prints("interleave=static:0");
    with(json!({ "mode": "MPOL_DEFAULT" })).exits(0).prints("default");
    // Further processes have it too.
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    bundle.call(&["exec", &id, "sh", "-c", script]).exits(0).prints("bind:0");
    with(json!({ "mode": "MPOL_BIND", "nodes": "1000" }))
        .exits(1)
        .complains("set memory policy MPOL_BIND 1000");
    with(json!({ "mode": "MPOL_BIND", "nodes": "3-1" })).exits(1).complains("a range ends before it begins");
    with(json!({ "mode": "MPOL_LOCAL", "nodes": "0" })).exits(1).complains("MPOL_LOCAL takes no nodes");
    with(json!({ "mode": "MPOL_NOPE" })).exits(1).complains("MPOL_NOPE");
}

/// The first message on a socket that carries a descriptor.
fn receive(stream: &UnixStream) -> (Value, OwnedFd) {
    let mut buffer = vec![0; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message =
        rustix::net::recvmsg(stream, &mut slices, &mut ancillary, RecvFlags::empty()).expect("a message");
    let length = message.bytes;
    let descriptor = ancillary.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let told = serde_json::from_slice(&buffer[..length]).expect("JSON");
    (told, descriptor.expect("a descriptor comes along"))
}

fn agents_of_further_processes() {
    let bundle = Bundle::new();
    let agent = UnixListener::bind(bundle.path("agent")).expect("a socket");
    let answering = std::thread::spawn(move || {
        [(); 2].map(|()| {
            let (told, listener) = receive(&agent.accept().expect("the runtime connects").0);
            // With nobody to answer, the calls fail as if the kernel had them not.
            drop(listener);
            told
        })
    });
    let path = bundle.path("agent").display().to_string();
    bundle.configure(&["sleep", "1000"], |config| {
        config["annotations"] = json!({ "a": "b" });
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "listenerMetadata": "some words",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let refused = bundle.call(&["exec", &id, "sh", "-c", "mkdir /tmp/a || echo refused"]);
    refused.exits(0).prints("refused").complains("Function not implemented");
    let init = bundle.state(&id)["pid"].clone();
    let [first, further] = answering.join().expect("the agent was asked twice");
    assert_eq!((&first["state"]["status"], &first["pid"]), (&json!("creating"), &init), "{first}");
    assert_eq!(further["state"]["status"], "running", "{further}");
    assert_eq!(further["state"]["pid"], init, "{further}");
    assert!(further["pid"].as_i64().is_some_and(|pid| pid > 1 && json!(pid) != init), "{further}");
    assert_eq!(further["metadata"], "some words", "{further}");
    assert_eq!(further["state"]["annotations"]["a"], "b", "{further}");
    // An agent that is gone is named.
    fs::remove_file(bundle.path("agent")).expect("it was there");
    bundle.call(&["exec", &id, "true"]).exits(255).complains("agent at ");
}

/// A bundle whose root belongs to these ids of the host.
fn owned_by(uid: u32) -> Bundle {
    let bundle = Bundle::new();
    fs::set_permissions(bundle.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    for name in ["rootfs", "rootfs/bin", "rootfs/dev", "rootfs/proc", "rootfs/sys", "rootfs/tmp"] {
        std::os::unix::fs::chown(bundle.path(name), Some(uid), Some(uid)).expect("ours");
    }
    bundle
}

fn user_namespaces_by_path() {
    let bundle = owned_by(100_000);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map.clone();
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let pid = bundle.state(&id)["pid"].clone();
    let theirs = fs::read_link(format!("/proc/{pid}/ns/user")).expect("it runs").display().to_string();
    let join = |config: &mut Value| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|one| one["type"] != "pid" && one["type"] != "network");
        for (kind, file) in [("user", "user"), ("pid", "pid"), ("network", "net")] {
            namespaces.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }));
        }
    };
    let script =
        "readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map; ps | grep -c 'sleep 1000'; touch /tmp/x";
    let joined = bundle.sh(script, join);
    joined.exits(0).says(&theirs).says("100000       1000").says("\n0\n");
    let owner =
        fs::metadata(bundle.path("rootfs/tmp/x")).map(|file| std::os::unix::fs::MetadataExt::uid(&file));
    assert_eq!(owner.expect("it was made"), 100_000);
    // Mappings that are told besides have to be those of the namespace.
    let told = |map: Value| {
        bundle.sh("id -u", |config| {
            join(config);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        })
    };
    told(map).exits(0).prints("0");
    let other = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    told(other).exits(1).complains("the user namespace given by path has others");
    let _ = bundle.call(&["delete", "--force", &id]).ok();
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

fn other_namespaces_by_path() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.extend([json!({ "type": "time" }), json!({ "type": "cgroup" })]);
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    });
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    let pid = bundle.state(&id)["pid"].clone();
    let expected: Vec<String> = ["time", "cgroup"]
        .iter()
        .map(|file| fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("it runs").display().to_string())
        .collect();
    let joined =
        bundle.sh("readlink /proc/self/ns/time; readlink /proc/self/ns/cgroup; cat /proc/uptime", |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
            for kind in ["time", "cgroup"] {
                namespaces.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{kind}") }));
            }
        });
    joined.exits(0).says(&expected.join("\n"));
    let uptime = joined.stdout.lines().last().and_then(|line| line.split('.').next()).expect("seconds");
    assert!(uptime.parse::<u64>().is_ok_and(|seconds| seconds > 1_000_000), "{joined}");
}

fn unknown_properties_are_told() {
    let bundle = Bundle::new();
    let outcome = bundle.run(&["echo", "it runs"], |config| {
        config["linux"]["novelty"] = json!({ "level": 3 });
        config["process"]["mood"] = json!("good");
        config["vm"] = json!({ "kernel": { "path": "/vmlinuz" } });
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "kernel": 32 << 20 });
    });
    outcome.exits(0).prints("it runs");
    for path in ["linux.novelty", "process.mood", "vm"] {
        outcome.complains(&format!("config.json: {path} is not known to this runtime"));
    }
    outcome.complains("linux.resources.memory.kernel has no effect");
    let plain = bundle.run(&["true"], |_| {});
    assert_eq!(plain.stderr, "");
    let flags = bundle.run(&["true"], |config| {
        config["linux"]["personality"] = json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] });
    });
    flags.exits(1).complains("linux.personality.flags");
}

fn classes_of_cache_are_named() {
    let bundle = Bundle::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let outcome = bundle.run(&["true"], |config| {
        config["linux"]["intelRdt"] = json!({ "closID": "ferry-none" });
    });
    if mounts.contains(" - resctrl ") {
        outcome.exits(1).complains("there is no such class, and no schema to make it with");
    } else {
        outcome.exits(1).complains("this machine has no resctrl file system");
    }
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
}

//! `linux.resources` of a bundle, limit by limit, compared with what the kernel's files say, on both cgroup versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_tests::Outcome;
use ferry_tests::bundle::Bundle;
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci_limits::processor", processor),
    ("oci_limits::memory_and_processes", memory_and_processes),
    ("oci_limits::block_devices", block_devices),
    ("oci_limits::huge_pages_and_files_by_name", huge_pages_and_files_by_name),
    ("oci_limits::devices_by_rule", devices_by_rule),
    ("oci_limits::network_classes", network_classes),
    ("oci_limits::remote_memory_adapters", remote_memory_adapters),
    ("oci_limits::later_changes", later_changes),
];

const MIB: u64 = 1 << 20;

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container that sleeps, with limits, and its cgroup.
struct Limited {
    bundle: Bundle,
    id: String,
    name: String,
}

impl Limited {
    fn new(resources: &Value) -> Limited {
        let (bundle, name) = prepared(resources);
        let id = bundle.id();
        let _ = bundle.call_detached(&["run", "-d", &id]).ok();
        Limited { bundle, id, name }
    }

    /// A file of the cgroup, on whichever hierarchy its controller is.
    fn file(&self, name: &str) -> String {
        let controller = name.split('.').next().unwrap_or_default();
        let roots = [
            format!("/sys/fs/cgroup/{controller}"),
            "/sys/fs/cgroup/unified".into(),
            "/sys/fs/cgroup".into(),
        ];
        let path = roots
            .iter()
            .map(|root| PathBuf::from(root).join(&self.name).join(name))
            .find(|path| path.exists());
        let path = path.unwrap_or_else(|| panic!("no cgroup of {} has {name}", self.name));
        fs::read_to_string(path).expect("readable").trim_end().to_owned()
    }

    /// Each file, and what it says: version 1's, then version 2's.
    #[track_caller]
    fn has(&self, version_1: &[(&str, &str)], version_2: &[(&str, &str)]) {
        for (file, expected) in if is_v2() { version_2 } else { version_1 } {
            assert_eq!(self.file(file), *expected, "{file}");
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        drop(self.bundle.call(&["delete", "--force", &self.id]));
    }
}

/// A bundle that sleeps, and the name of its cgroup.
fn prepared(resources: &Value) -> (Bundle, String) {
    let bundle = Bundle::new();
    let name = bundle.path("").file_name().expect("a name").to_string_lossy().into_owned();
    bundle.configure(&["sleep", "1000"], |config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        let all = config["linux"]["resources"].as_object_mut().expect("an object");
        all.extend(resources.as_object().expect("an object").clone());
    });
    (bundle, name)
}

fn refused(resources: &Value, expected: &str) -> Outcome {
    let (bundle, _) = prepared(resources);
    let outcome = bundle.call(&["run", &bundle.id()]);
    outcome.exits(1).complains(expected);
    assert!(bundle.left().is_empty(), "{:?}", bundle.left());
    outcome
}

fn processor() {
    let limited =
        Limited::new(&json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000,
        "cpus": "0", "mems": "0" } }));
    limited.has(
        &[
            ("cpu.shares", "512"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_period_us", "200000"),
            ("cpu.cfs_burst_us", "10000"),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
        ],
        &[
            ("cpu.weight", "59"),
            ("cpu.max", "50000 200000"),
            ("cpu.max.burst", "10000"),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
        ],
    );
    Limited::new(&json!({ "cpu": { "idle": 1 } })).has(&[("cpu.idle", "1")], &[("cpu.idle", "1")]);
    let unlimited = Limited::new(&json!({ "cpu": { "quota": -1 } }));
    unlimited.has(&[("cpu.cfs_quota_us", "-1")], &[("cpu.max", "max 100000")]);
    refused(&json!({ "cpu": { "cpus": "4000" } }), "/cpuset.cpus");
    if is_v2() {
        refused(&json!({ "cpu": { "realtimeRuntime": 1000 } }), "linux.resources.cpu.realtimeRuntime");
    }
}

fn memory_and_processes() {
    let limited = Limited::new(&json!({
        "memory": { "limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB, "swappiness": 10,
            "disableOOMKiller": true, "kernelTCP": 16 * MIB },
        "pids": { "limit": 42 },
    }));
    limited.has(
        &[
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "100663296"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("memory.swappiness", "10"),
            ("memory.kmem.tcp.limit_in_bytes", "16777216"),
            ("pids.max", "42"),
        ],
        &[
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("pids.max", "42"),
        ],
    );
    if is_v2() {
        // What only version 1 has is told, and the container runs.
        let (bundle, _) = prepared(&json!({ "memory": { "swappiness": 10, "disableOOMKiller": true } }));
        let told = bundle.call_detached(&["run", "-d", &bundle.id()]);
        told.exits(0)
            .complains("memory.swappiness has no effect")
            .complains("memory.disableOOMKiller has no effect");
    } else {
        assert!(limited.file("memory.oom_control").starts_with("oom_kill_disable 1"));
    }
    let unlimited = Limited::new(&json!({ "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": 0 } }));
    unlimited.has(
        &[("pids.max", "max")],
        &[("memory.max", "max"), ("memory.swap.max", "max"), ("pids.max", "max")],
    );
    refused(&json!({ "memory": { "limit": 64 * MIB, "swap": 32 * MIB } }), "33554432");
}

/// The number of a whole disk.
fn disk() -> Option<String> {
    let disks = fs::read_dir("/sys/block").expect("readable").flatten();
    let mut names: Vec<String> = disks.map(|disk| disk.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let name = names
        .iter()
        .find(|name| !["loop", "zram", "ram", "sr", "fd"].iter().any(|kind| name.starts_with(kind)));
    Some(fs::read_to_string(format!("/sys/block/{}/dev", name?)).expect("a number").trim().to_owned())
}

fn block_devices() {
    let Some(disk) = disk() else {
        eprintln!("SKIPPED: oci_limits::block_devices: the machine has no disk");
        return;
    };
    let (major, minor) = disk.split_once(':').expect("major:minor");
    let (major, minor): (u32, u32) = (major.parse().expect("a number"), minor.parse().expect("a number"));
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let limited = Limited::new(&json!({ "blockIO": {
        "throttleReadBpsDevice": rate(MIB), "throttleWriteBpsDevice": rate(2 * MIB),
        "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400) } }));
    let with = |value: &str| format!("{disk} {value}");
    limited.has(
        &[
            ("blkio.throttle.read_bps_device", &with("1048576")),
            ("blkio.throttle.write_bps_device", &with("2097152")),
            ("blkio.throttle.read_iops_device", &with("300")),
            ("blkio.throttle.write_iops_device", &with("400")),
        ],
        &[("io.max", &with("rbps=1048576 wbps=2097152 riops=300 wiops=400"))],
    );
    // Weights are the business of whichever I/O scheduler the kernel has.
    let (bundle, name) = prepared(&json!({ "blockIO": { "weight": 300 } }));
    let id = bundle.id();
    let weighted = bundle.call_detached(&["run", "-d", &id]);
    if weighted.code != 0 {
        weighted.complains("this machine has no block I/O weight cgroup controller");
        return;
    }
    let read = |file: &str| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok();
    let found = [
        format!("blkio/{name}/blkio.weight"),
        format!("blkio/{name}/blkio.bfq.weight"),
        format!("{name}/io.bfq.weight"),
    ]
    .iter()
    .find_map(|file| read(file));
    match found {
        Some(weight) => assert!(["300", "default 300"].contains(&weight.trim()), "{weight}"),
        None => {
            assert_eq!(read(&format!("{name}/io.weight")).as_deref().map(str::trim), Some("default 2930"))
        }
    }
    let _ = bundle.call(&["delete", "--force", &id]).ok();
}

/// Controllers of the version 2 hierarchy, also where it stands beside version 1.
fn unified_has(controller: &str) -> bool {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|root| {
        let found = fs::read_to_string(Path::new(root).join("cgroup.controllers")).unwrap_or_default();
        found.split_whitespace().any(|found| found == controller)
    })
}

fn huge_pages_and_files_by_name() {
    let limit = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 * MIB }] });
    if unified_has("hugetlb") {
        assert_eq!(Limited::new(&limit).file("hugetlb.2MB.max"), "4194304");
        let named = Limited::new(&json!({ "unified": { "hugetlb.2MB.max": "2097152" } }));
        assert_eq!(named.file("hugetlb.2MB.max"), "2097152");
    } else if Path::new("/sys/fs/cgroup/hugetlb").exists() {
        assert_eq!(Limited::new(&limit).file("hugetlb.2MB.limit_in_bytes"), "4194304");
    } else {
        refused(&limit, "this machine has no hugetlb cgroup controller");
    }
    if is_v2() {
        let named = Limited::new(&json!({ "unified": { "pids.max": "17", "memory.high": "33554432" } }));
        named.has(&[], &[("pids.max", "17"), ("memory.high", "33554432")]);
    }
    refused(&json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 1 }] }), "hugetlb");
    refused(&json!({ "unified": { "cgroup.procs": "1" } }), "not the name of a controller's file");
    refused(&json!({ "unified": { "../pids.max": "1" } }), "not the name of a controller's file");
    refused(&json!({ "unified": { "pids.nothing": "1" } }), "pids.nothing");
}

fn devices_by_rule() {
    let bundle = Bundle::new();
    // FUSE's device: nobody has it by default, and a kernel without it says something else than "not permitted".
    let with = |rules: Value| {
        let script = "(: </dev/it) 2>&1; (: >/dev/it) 2>&1; : </dev/null && echo null";
        bundle.sh(script, |config| {
            config["linux"]["devices"] =
                json!([{ "path": "/dev/it", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 }]);
            config["linux"]["resources"]["devices"] = rules;
        })
    };
    let refusals = |outcome: &Outcome| outcome.exits(0).stdout.matches("not permitted").count();
    let denied = with(json!([{ "allow": false, "access": "rwm" }]));
    assert_eq!(refusals(&denied), 2, "{denied}");
    denied.says("null");
    let rule =
        |access: &str| json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": access });
    let reading = with(json!([{ "allow": false, "access": "rwm" }, rule("r")]));
    assert_eq!(refusals(&reading), 1, "{reading}");
    let both = with(json!([{ "allow": false, "access": "rwm" }, rule("rw")]));
    assert_eq!(refusals(&both), 0, "{both}");
    let taken_back =
        json!([rule("rw"), { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "w" }]);
    let taken_back = with(taken_back);
    assert_eq!(refusals(&taken_back), 1, "{taken_back}");
    if !is_v2() {
        let limited = Limited::new(&json!({ "devices": [{ "allow": false, "access": "rwm" }, rule("r")] }));
        let list = limited.file("devices.list");
        assert!(list.lines().any(|line| line == "c 10:229 r"), "{list}");
        assert!(!list.lines().any(|line| line.starts_with("a ")), "{list}");
    }
}

/// net_cls and net_prio are version 1's alone, and mounted nowhere by today's systems: a mount namespace has them.
fn network_classes() {
    let resources =
        json!({ "network": { "classID": 1_048_577, "priorities": [{ "name": "lo", "priority": 5 }] } });
    let mounted = Path::new("/sys/fs/cgroup/net_cls").exists();
    if !mounted {
        refused(&resources, "this machine has no net_cls cgroup controller");
    }
    let (bundle, name) = prepared(&resources);
    let id = bundle.id();
    fs::create_dir(bundle.path("net_cls")).expect("a folder");
    let script = format!(
        "mount -t cgroup -o net_cls,net_prio cgroup net_cls || {{ echo no version 1; exit 0; }}
         ./runc --root state run -d {id} >out 2>&1 || cat out
         cat net_cls/{name}/net_cls.classid; grep -w lo net_cls/{name}/net_prio.ifpriomap
         ./runc --root state delete --force {id}; ls -d net_cls/{name}; umount net_cls"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).current_dir(bundle.path(""));
    let outcome = Outcome::new(script, &command.output().expect("unshare runs"));
    if outcome.stdout.contains("no version 1") {
        eprintln!("SKIPPED: oci_limits::network_classes: this kernel has no net_cls and net_prio to mount");
        return;
    }
    outcome.prints("1048577\nlo 5");
}

fn remote_memory_adapters() {
    let resources = json!({ "rdma": { "none0": { "hcaHandles": 3, "hcaObjects": 10_000 } } });
    // No machine of ours has an adapter; the kernel's own refusal shows that it was asked.
    let expected = if unified_has("rdma") || Path::new("/sys/fs/cgroup/rdma").exists() {
        "/rdma.max"
    } else {
        "this machine has no rdma cgroup controller"
    };
    refused(&resources, expected);
}

fn later_changes() {
    let limited = Limited::new(&json!({ "memory": { "limit": 64 * MIB }, "pids": { "limit": 20 } }));
    let update = |words: &str| {
        let arguments: Vec<&str> =
            ["update"].into_iter().chain(words.split(' ')).chain([limited.id.as_str()]).collect();
        let _ = limited.bundle.call(&arguments).ok();
    };
    update(
        "--cpu-share 256 --cpu-quota 30000 --cpu-period 150000 --cpuset-cpus 0 --pids-limit 7 --memory 33554432",
    );
    limited.has(
        &[
            ("cpu.shares", "256"),
            ("cpu.cfs_quota_us", "30000"),
            ("cpu.cfs_period_us", "150000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "7"),
            ("memory.limit_in_bytes", "33554432"),
        ],
        &[
            ("cpu.weight", "35"),
            ("cpu.max", "30000 150000"),
            ("cpuset.cpus", "0"),
            ("pids.max", "7"),
            ("memory.max", "33554432"),
        ],
    );
    // A longer period than the present quota allows takes both at once.
    update("--cpu-quota 900000 --cpu-period 1000000");
    limited.has(
        &[("cpu.cfs_quota_us", "900000"), ("cpu.cfs_period_us", "1000000")],
        &[("cpu.max", "900000 1000000")],
    );
    let low = r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#;
    fs::write(limited.bundle.path("limits"), low).expect("written");
    let refused = limited.bundle.call(&["update", "--resources", "limits", &limited.id]);
    refused.exits(1);
    limited.has(&[("memory.limit_in_bytes", "33554432")], &[("memory.max", "33554432")]);
}

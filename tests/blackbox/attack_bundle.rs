//! Attacks on the runtime itself, through bundles: the runtime's own binary, links in root file systems, redirected
//! procfs, and devices that are none.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_tests::bundle::Bundle;
use ferry_tests::engine::{binary, wait_until};
use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("attack_bundle::the_runtime_cannot_be_overwritten", the_runtime_cannot_be_overwritten),
    ("attack_bundle::kernel_file_systems_behind_links", kernel_file_systems_behind_links),
    ("attack_bundle::mounts_stay_inside", mounts_stay_inside),
    ("attack_bundle::places_that_change_meanwhile", places_that_change_meanwhile),
    ("attack_bundle::capabilities_are_not_inherited", capabilities_are_not_inherited),
    ("attack_bundle::working_directories_outside", working_directories_outside),
    ("attack_bundle::written_attributes_land_in_procfs", written_attributes_land_in_procfs),
    ("attack_bundle::images_with_devices_of_their_own", images_with_devices_of_their_own),
];

/// CVE-2019-5736 where no sealed copy is at hand: the runtime starts from the file on disk.
fn the_runtime_cannot_be_overwritten() {
    // A copy that nobody else runs, or the kernel would refuse for that.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("runc");
    fs::copy(binary(), &copy).expect("copied");
    let before = fs::metadata(&copy).expect("it is there");
    let bundle = Bundle::of(copy.clone());
    bundle.configure(&["sleep", "1000"], |_| {});
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    // The runtime's own program runs in the container, and is held open beyond its end.
    let _ =
        bundle.call_detached(&["exec", "-d", &id, "/proc/self/exe", "launcher", "--run-root", "/tmp"]).ok();
    let attack = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in
            */busybox) ;; *) exec 8<$p/exe; kill -9 ${p#/proc/}; break ;; esac; done
        for i in $(seq 400); do
            (echo bad >> /proc/self/fd/8) 2>/tmp/said && echo wrote >/tmp/said
            grep -q busy /tmp/said || break; sleep 0.05; done
        echo done >>/tmp/said";
    let _ = bundle.call_detached(&["exec", "-d", &id, "sh", "-c", attack]).ok();
    let said = || fs::read_to_string(bundle.path("rootfs/tmp/said")).unwrap_or_default();
    wait_until("the attack is over", || said().contains("done"));
    assert!(said().contains("Read-only file system"), "{}", said());
    let after = fs::metadata(&copy).expect("it is there");
    assert_eq!((before.len(), before.modified().ok()), (after.len(), after.modified().ok()));
}

/// CVE-2019-19921 and CVE-2023-27561.
fn kernel_file_systems_behind_links() {
    for place in ["proc", "sys"] {
        let bundle = Bundle::new();
        fs::remove_dir(bundle.path("rootfs").join(place)).expect("it was empty");
        fs::create_dir(bundle.path("rootfs/evil")).expect("a folder");
        symlink("/evil", bundle.path("rootfs").join(place)).expect("a link");
        let outcome = bundle.run(&["echo", "it runs"], |_| {});
        outcome.exits(1).prints("").complains(&format!("/{place}"));
        assert!(bundle.left().is_empty());
    }
}

/// CVE-2021-30465 and its kin: places of mounts, devices and masks that lead out of the root.
fn mounts_stay_inside() {
    let bundle = Bundle::new();
    let outside = bundle.path("outside");
    fs::create_dir(&outside).expect("a folder");
    let up = format!("../../../../../../../../..{}", outside.display());
    for (name, target) in [("absolute", outside.display().to_string()), ("relative", up)] {
        symlink(target, bundle.path("rootfs").join(name)).expect("a link");
        let outcome = bundle.sh("echo x > /tmp/x; mount", |config| {
            let mounts = config["mounts"].as_array_mut().expect("a list");
            let place = format!("/{name}/deep/place");
            mounts.push(json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": [] }));
            config["linux"]["maskedPaths"] = json!([format!("/{name}")]);
            config["linux"]["devices"] =
                json!([{ "path": format!("/{name}/zero"), "type": "c", "major": 1, "minor": 5 }]);
        });
        drop(outcome);
        let found = fs::read_dir(&outside).expect("readable").count();
        assert_eq!(found, 0, "{name}: something was made outside");
    }
}

/// Says on drop that it is over, also when a test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// CVE-2021-30465, CVE-2025-31133 and CVE-2025-52565: somebody with the same root file system puts a link in the place
/// of a mount, of a masked path and of the console's folder while the runtime works on them.
fn places_that_change_meanwhile() {
    let bundle = Bundle::new();
    let outside = bundle.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("kept"), "kept").expect("written");
    for (folder, link) in [("rootfs/place", "rootfs/link"), ("rootfs/dev", "rootfs/dev-link")] {
        fs::create_dir_all(bundle.path(folder)).expect("a folder");
        symlink(&outside, bundle.path(link)).expect("a link");
    }
    let done = AtomicBool::new(false);
    let exchange = |one: &str, other: &str| {
        let (one, other) = (bundle.path(one), bundle.path(other));
        while !done.load(Ordering::Relaxed) {
            rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("both are there");
        }
    };
    std::thread::scope(|scope| {
        let _end = Ending(&done);
        scope.spawn(|| exchange("rootfs/place", "rootfs/link"));
        scope.spawn(|| exchange("rootfs/dev", "rootfs/dev-link"));
        for _ in 0..15 {
            // It may fail, by whichever link it met; it must do nothing outside.
            let outcome = bundle.sh("ls /place >/dev/null; echo x >/place/written; echo x >/place/deep/written", |config| {
                let mounts = config["mounts"].as_array_mut().expect("a list");
                let tmpfs = |place: &str| json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": [] });
                mounts.extend([tmpfs("/place/deep"), tmpfs("/place/deeper/still")]);
                config["linux"]["maskedPaths"] = json!(["/place/kept", "/proc/kcore"]);
                config["linux"]["readonlyPaths"] = json!(["/place"]);
            });
            assert!(outcome.code != 101, "{outcome}");
        }
    });
    let found: Vec<_> =
        fs::read_dir(&outside).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(found, ["kept"], "something was made outside");
    assert_eq!(fs::read_to_string(outside.join("kept")).expect("readable"), "kept");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    assert!(!mounts.contains(&outside.display().to_string()), "something was mounted outside");
}

/// CVE-2022-29162: inheritable capabilities would come back with a file's own.
fn capabilities_are_not_inherited() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |_| {});
    let id = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &id]).ok();
    for arguments in [&["exec", &id][..], &["exec", "--cap", "CAP_NET_RAW", &id]] {
        let words = arguments.iter().copied().chain(["grep", "-E", "CapInh|CapAmb", "/proc/self/status"]);
        let outcome = bundle.call(&words.collect::<Vec<_>>());
        outcome.exits(0).prints("CapInh:\t0000000000000000\nCapAmb:\t0000000000000000");
    }
}

/// CVE-2024-21626 of the command line: a working directory through a descriptor that the runtime left open, and the
/// descriptors themselves.
fn working_directories_outside() {
    let bundle = Bundle::new();
    bundle.configure(&["sleep", "1000"], |_| {});
    let one = bundle.id();
    let _ = bundle.call_detached(&["run", "-d", &one]).ok();
    // A folder that only the host has: seen from above the working directory, the container is left.
    let outside = bundle.path("").display().to_string();
    let script = format!(
        "for up in . .. ../../../../../..; do test -e $up{outside} && echo escaped; done
         for link in /proc/self/fd/*; do test -e $link{outside} && echo open; done; true"
    );
    for number in 3..24 {
        let place = format!("/proc/self/fd/{number}");
        let exec = bundle.call(&["exec", "--cwd", &place, &one, "sh", "-c", &script]);
        let run = bundle.sh(&script, |config| config["process"]["cwd"] = json!(place));
        for outcome in [exec, run] {
            assert!(!outcome.stdout.contains("escaped") && !outcome.stdout.contains("open"), "{outcome}");
        }
    }
    let plain = bundle.call(&["exec", &one, "sh", "-c", &script]);
    plain.exits(0).prints("");
}

/// CVE-2025-52881: a root file system that has something else where procfs should be gets no write.
fn written_attributes_land_in_procfs() {
    let bundle = Bundle::new();
    let fake = bundle.path("rootfs/proc/sys/net/ipv4");
    fs::create_dir_all(&fake).expect("folders");
    fs::write(fake.join("ip_forward"), "untouched").expect("written");
    fs::create_dir_all(bundle.path("rootfs/proc/self")).expect("folders");
    fs::write(bundle.path("rootfs/proc/self/oom_score_adj"), "untouched").expect("written");
    let outcome = bundle.sh("cat /proc/sys/net/ipv4/ip_forward; cat /proc/self/oom_score_adj", |config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["process"]["oomScoreAdj"] = json!(200);
    });
    outcome.exits(0).prints("1\n200");
    for name in ["sys/net/ipv4/ip_forward", "self/oom_score_adj"] {
        assert_eq!(fs::read_to_string(bundle.path("rootfs/proc").join(name)).expect("readable"), "untouched");
    }
    // Without any procfs of the container's own the write goes to one nobody else sees.
    let outcome = bundle.sh("cat /proc/sys/net/ipv4/ip_forward", |config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        config["mounts"].as_array_mut().expect("a list").retain(|mount| mount["destination"] != "/proc");
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    outcome.exits(0).prints("untouched");
}

/// CVE-2025-31133 and CVE-2025-52565 where nothing is mounted at `/dev`: what the image has in the place of null, of the
/// terminals' multiplexer or of the console is used where it is that device, and nowhere else.
fn images_with_devices_of_their_own() {
    let bundle = Bundle::new();
    let outside = bundle.path("outside");
    fs::write(&outside, "kept").expect("written");
    let dev = bundle.path("rootfs/dev");
    let bare = |config: &mut serde_json::Value| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|place| place.starts_with("/dev")));
    };
    let refused = |place: &str| {
        let outcome = bundle.run(&["sh", "-c", "echo it runs; cat /proc/kcore"], bare);
        outcome.exits(1).complains(place).prints("");
        assert!(bundle.left().is_empty(), "{:?}", bundle.left());
    };
    fs::write(dev.join("null"), "an image's own").expect("written");
    refused("/dev/null");
    for target in [outside.to_str().expect("text"), "/proc/kcore", "/dev/zero"] {
        fs::remove_file(dev.join("null")).expect("it was there");
        symlink(target, dev.join("null")).expect("a link");
        refused("/dev/null");
    }
    fs::remove_file(dev.join("null")).expect("it was there");

    // A device that is no multiplexer of terminals, in the place of one.
    let _console = UnixListener::bind(bundle.path("console")).expect("a socket");
    fs::create_dir_all(dev.join("pts")).expect("a folder");
    let nodes = [(dev.join("pts/ptmx"), "1", "3"), (dev.join("pts/ptmx"), "5", "2")];
    for (node, major, minor) in nodes {
        let _gone = fs::remove_file(&node);
        let made = std::process::Command::new("mknod").arg(&node).args(["c", major, minor]).status();
        assert!(made.expect("mknod runs").success());
        bundle.configure(&["echo", "it runs"], |config| {
            bare(config);
            config["process"]["terminal"] = json!(true);
        });
        let outcome = bundle.call(&["create", "--console-socket", "console", &bundle.id()]);
        outcome.exits(1).complains("/dev/pts/ptmx");
        assert!(bundle.left().is_empty(), "{:?}", bundle.left());
    }
    assert_eq!(fs::read_to_string(&outside).expect("readable"), "kept");
}

//! A container's files from outside: what is mounted into it, while it runs and after.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::files_that_are_mounted_come_along", files_that_are_mounted_come_along),
    ("data::copies_of_anything", copies_of_anything),
    ("data::sizes_are_kept_in_the_list", sizes_are_kept_in_the_list),
    ("data::links_that_change_meanwhile_lead_nowhere", links_that_change_meanwhile_lead_nowhere),
];

/// `/etc/hosts` and its kin, a tmpfs and a volume, of a running container.
fn files_that_are_mounted_come_along() {
    let engine = Engine::with_busybox();
    let script = "echo memory > /mem/file; echo kept > /vol/file; touch /ready; sleep 1000";
    let words = ["run", "-d", "--name", "box", "--hostname", "inner", "--tmpfs", "/mem", "-v", "/vol"];
    engine.ferry(words.iter().chain(&["busybox", "sh", "-c", script])).exits(0);
    wait_until("the container is ready", || engine.ferry(["exec", "box", "test", "-e", "/ready"]).code == 0);
    for (client, running) in [("ferry", true), ("docker", true), ("ferry", false), ("docker", false)] {
        if !running {
            let _ = engine.ferry(["kill", "box"]);
            engine.wait_for_status("box", "exited");
        }
        let got = |path: &str| {
            let to = engine.directory().join(format!("{client}-{running}"));
            let _ = fs::remove_file(&to);
            engine.client(client, ["cp", &format!("box:{path}"), &to.display().to_string()]).exits(0);
            fs::read_to_string(&to).unwrap()
        };
        assert_eq!(got("/etc/hostname"), "inner\n", "{client}, running: {running}");
        assert!(got("/etc/hosts").contains("localhost"));
        assert_eq!(got("/vol/file"), "kept\n");
        if running {
            assert_eq!(got("/mem/file"), "memory\n");
            let file = engine.directory().join("in");
            fs::write(&file, "from outside").unwrap();
            engine.client(client, ["cp", &file.display().to_string(), "box:/mem/in"]).exits(0);
            engine.ferry(["exec", "box", "cat", "/mem/in"]).prints("from outside");
        }
        let tree = engine.directory().join(format!("etc-{client}-{running}"));
        engine.client(client, ["cp", "box:/etc", &tree.display().to_string()]).exits(0);
        assert_eq!(fs::read_to_string(tree.join("hostname")).unwrap(), "inner\n");
        let tar = engine.directory().join(format!("{client}-{running}.tar"));
        engine.client(client, ["export", "-o", &tar.display().to_string(), "box"]).exits(0);
        let listed = Command::new("tar").arg("-xOf").arg(&tar).arg("etc/hostname").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "inner\n");
        let names = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
        let names = String::from_utf8_lossy(&names.stdout).into_owned();
        assert!(names.lines().any(|name| name == "ready") && !names.contains("vol/file"), "no volumes");
        assert!(!names.lines().any(|name| name.starts_with("proc/") && name != "proc/"), "no /proc");
    }
}

/// Odd names, pipes, sockets, devices, holes and many files, into a container and out again.
fn copies_of_anything() {
    let engine = Engine::with_busybox();
    let script = "mkdir -p /odd && cd /odd && mkfifo pipe && mknod null c 1 3 && echo x > '-n \"quoted\" $name' \
        && mkdir -p many && dd if=/dev/zero of=hole bs=1 count=1 seek=50M 2>/dev/null && touch \"$(printf 'new\\nline')\" \
        && i=0 && while [ $i -lt 3000 ]; do : > many/$i; i=$((i+1)); done && ln many/1 many/twin";
    engine.ferry(["run", "--name", "odd", "busybox", "sh", "-c", script]).exits(0);
    for client in CLIENTS {
        let out = engine.directory().join(format!("odd-{client}"));
        engine.client(client, ["cp", "-a", "odd:/odd", &out.display().to_string()]).exits(0);
        let stat = |name: &str| fs::symlink_metadata(out.join(name)).unwrap();
        assert!(stat("pipe").file_type().is_fifo() && stat("null").file_type().is_char_device(), "{client}");
        assert_eq!(fs::read_to_string(out.join("-n \"quoted\" $name")).unwrap(), "x\n");
        assert_eq!(stat("hole").len(), (50 << 20) + 1);
        assert!(stat("new\nline").is_file());
        assert_eq!(fs::read_dir(out.join("many")).unwrap().count(), 3001);
        assert_eq!(stat("many/twin").ino(), stat("many/1").ino(), "{client}");
        let back = format!("odd:/back-{client}");
        engine.client(client, ["cp", "-a", &out.display().to_string(), &back]).exits(0);
        let again = engine.directory().join(format!("again-{client}"));
        engine.client(client, ["cp", &back, &again.display().to_string()]).exits(0);
        assert_eq!(fs::read_dir(again.join("many")).unwrap().count(), 3001);
        assert!(fs::symlink_metadata(again.join("pipe")).unwrap().file_type().is_fifo());
    }
}

fn sizes_are_kept_in_the_list() {
    let engine = Engine::with_busybox();
    let script = "dd if=/dev/zero of=/f bs=1000 count=5000 2>/dev/null; ln /f /g";
    engine.ferry(["run", "--name", "five", "busybox", "sh", "-c", script]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["ps", "-as", "--format", "{{.Size}}"]).exits(0).says("5MB (virtual ");
    }
}

/// A container swaps a directory and a link to the host's `/etc` as fast as it can, while files are copied
/// both ways and a subpath is mounted: nothing of the host's is read or written.
fn links_that_change_meanwhile_lead_nowhere() {
    let engine = Engine::with_busybox();
    let outside = engine.directory().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "the host's").unwrap();
    let host = outside.display();
    let script = format!(
        "mkdir -p /d/real {host}; echo container > /d/real/secret; echo container > {host}/secret; cp -r /d/real /vol/real; \
         cd /vol; ln -s {host} link; ln -s {host} /d/link; touch /ready; \
         while true; do mv /d/real /d/x; mv /d/link /d/real; mv /d/real /d/link; mv /d/x /d/real; \
         mv real x; mv link real; mv real link; mv x real; done"
    );
    engine.ferry(["run", "-d", "--name", "swap", "-v", "vol:/vol", "busybox", "sh", "-c", &script]).exits(0);
    wait_until("it swaps", || engine.ferry(["exec", "swap", "test", "-e", "/ready"]).code == 0);
    let file = engine.directory().join("planted");
    fs::write(&file, "planted").unwrap();
    let got = engine.directory().join("got");
    for round in 0..40 {
        let client = CLIENTS[round % 2];
        let _ = fs::remove_file(&got);
        let _ = engine.client(client, ["cp", "swap:/d/real/secret", &got.display().to_string()]);
        if let Ok(text) = fs::read_to_string(&got) {
            assert_eq!(text, "container\n", "round {round}");
        }
        let _ = engine.client(client, ["cp", &file.display().to_string(), "swap:/d/real/planted"]);
        let mount = "type=volume,source=vol,target=/in,volume-subpath=real";
        let seen = engine.client(client, ["run", "--rm", "--mount", mount, "busybox", "cat", "/in/secret"]);
        assert!(seen.code != 0 || seen.stdout == "container\n", "round {round}: {seen}");
    }
    assert!(!outside.join("planted").exists());
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "the host's");
    engine.ferry(["rm", "-f", "swap"]).exits(0);
    engine.ferry(["volume", "rm", "vol"]).exits(0);
}

//! Attacks from inside a default container on what holds it: each must fail, and the audit of what a container is
//! given must stay as the golden file says.

use std::fs;
use std::path::Path;

use ferry_tests::Engine;
use ferry_tests::engine::{binary, process_lives, wait_until};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("attack::audit_of_a_default_container", audit_of_a_default_container),
    ("attack::the_binary_cannot_be_overwritten", the_binary_cannot_be_overwritten),
    ("attack::proc_and_sys_as_links", proc_and_sys_as_links),
    ("attack::volumes_that_change_into_links", volumes_that_change_into_links),
    ("attack::release_agents", release_agents),
    ("attack::working_directories_outside", working_directories_outside),
    ("attack::masks_and_consoles_as_links", masks_and_consoles_as_links),
    ("attack::devices_made_by_hand", devices_made_by_hand),
    ("attack::signals_and_tracing", signals_and_tracing),
    ("attack::terminals_of_others", terminals_of_others),
];

/// Prints what a container may and what it sees; needs an interpreter for calls that no tool makes.
const AUDIT: &str = include_str!("audit.py");
/// What it prints in a default container.
const GOLDEN: &str = include_str!("audit.golden");

fn audit_of_a_default_container() {
    let engine = Engine::with_images(&["python"]);
    let outcome = engine.ferry(["run", "--rm", "python", "python3", "-c", AUDIT]);
    let audit = outcome.ok();
    if cfg!(target_arch = "x86_64") {
        assert_eq!(audit, GOLDEN.trim_end(), "the boundary has changed:\n{audit}");
    }
}

/// CVE-2019-5736: have the runtime execute itself in the container, then write to the file behind the process.
fn the_binary_cannot_be_overwritten() {
    let engine = Engine::with_busybox();
    let before = fs::metadata(binary()).expect("it is there");
    let script =
        "printf '#!/proc/self/exe launcher --run-root /tmp\\n' > /bad; chmod +x /bad; exec sleep 1000";
    let _ = engine.ferry(["run", "-d", "--name", "one", "busybox", "sh", "-c", script]).ok();
    wait_until("the script is there", || engine.ferry(["exec", "one", "test", "-x", "/bad"]).code == 0);
    for command in [&["/proc/self/exe", "launcher", "--run-root", "/tmp"][..], &["/bad"]] {
        let _ = engine.ferry(["exec", "-d", "one"].iter().chain(command)).ok();
    }
    // Every process's file is tried, also through a descriptor that outlives it.
    let attack = "for p in /proc/[0-9]*; do exec 8<$p/exe; (echo bad >> $p/exe; echo bad >> /proc/self/fd/8) 2>&1; done";
    let _ = engine.ferry(["exec", "one", "sh", "-c", attack]);
    let after = fs::metadata(binary()).expect("it is there");
    assert_eq!((before.len(), before.modified().ok()), (after.len(), after.modified().ok()));
    // Nor the copy in memory that all containers' monitors run from.
    let launcher = fs::read(format!("/proc/{}/exe", engine.pid("launcher"))).expect("readable");
    assert!(launcher == fs::read(binary()).expect("readable"), "the launcher's program has changed");
}

/// CVE-2019-19921 and CVE-2023-27561: an image whose `/proc` or `/sys` is a link.
fn proc_and_sys_as_links() {
    let engine = Engine::with_busybox();
    for (name, place) in [("of-proc", "proc"), ("of-sys", "sys")] {
        let tree = tempfile::tempdir().expect("a folder");
        let _ = engine.ferry(["create", "--name", name, "busybox"]).ok();
        let archive = tree.path().join("root.tar");
        let _ = engine.ferry(["export", "-o", archive.to_str().expect("text"), name]).ok();
        replace_by_link(&archive, place);
        let _ = engine.ferry(["import", archive.to_str().expect("text"), place]).ok();
        let outcome = engine.ferry(["run", "--rm", place, "sh", "-c", "echo it runs; ls /evil"]);
        assert_ne!(outcome.code, 0, "{outcome}");
        assert!(!outcome.stdout.contains("it runs"), "{outcome}");
    }
}

/// The same archive with a link to `/evil` in a folder's place.
fn replace_by_link(path: &Path, place: &str) {
    let old = fs::read(path).expect("readable");
    let mut builder = tar::Builder::new(fs::File::create(path).expect("a file"));
    let mut archive = tar::Archive::new(old.as_slice());
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("whole");
        let name = entry.path().expect("a path").display().to_string();
        if name.trim_start_matches("./").trim_end_matches('/').split('/').next() == Some(place) {
            continue;
        }
        let mut header = entry.header().clone();
        let link = entry.link_name().expect("a path").map(std::borrow::Cow::into_owned);
        match link {
            Some(target) => builder.append_link(&mut header, &name, target).expect("packed"),
            None => builder.append_data(&mut header, &name, &mut entry).expect("packed"),
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    builder.append_data(&mut header, "evil", std::io::empty()).expect("packed");
    header.set_entry_type(tar::EntryType::Symlink);
    builder.append_link(&mut header, place, "/evil").expect("packed");
    builder.finish().expect("packed");
}

/// CVE-2021-30465: a folder of a shared volume is exchanged for a link while another container mounts below it.
fn volumes_that_change_into_links() {
    let engine = Engine::with_busybox();
    let swap = "mkdir -p /v/a /v/real; while :; do mv /v/a /v/b 2>/dev/null; ln -s / /v/a 2>/dev/null; rm /v/a; mv /v/b /v/a; done";
    let _ =
        engine.ferry(["run", "-d", "--name", "swapper", "-v", "shared:/v", "busybox", "sh", "-c", swap]).ok();
    let mark = "attack-volume-mark";
    for _ in 0..15 {
        let outcome = engine.ferry([
            "run",
            "--rm",
            "-v",
            "shared:/v",
            "--tmpfs",
            "/v/a/x",
            "busybox",
            "sh",
            "-c",
            "grep -c ' /v/a/x ' /proc/mounts; grep ' /x ' /proc/mounts; ls /v/a/x",
        ]);
        // It starts with the mount inside, or not at all; what it sees is never the host's root.
        assert!(!outcome.stdout.contains("home"), "{outcome}");
    }
    assert!(!Path::new("/x").exists() && !Path::new("/").join(mark).exists());
}

/// CVE-2022-0492: a program that the host runs when a cgroup is empty.
fn release_agents() {
    let engine = Engine::with_busybox();
    let attack = "mkdir /c; mount -t cgroup -o memory cgroup /c 2>&1; mount -t cgroup2 none /c 2>&1
        unshare -UrmC sh -c 'mount -t cgroup -o memory cgroup /c && echo mounted' 2>&1
        find /sys/fs/cgroup -name release_agent 2>/dev/null | while read f; do (echo /bad > $f) 2>&1 && echo wrote; done
        (: > /proc/sys/kernel/core_pattern) 2>&1 && echo wrote; true";
    let outcome = engine.ferry(["run", "--rm", "busybox", "sh", "-c", attack]);
    assert!(!outcome.ok().contains("wrote") && !outcome.stdout.contains("mounted"), "{outcome}");
    outcome.says("mount: permission denied").says("Read-only file system");
}

/// CVE-2024-21626: a working directory through a descriptor that the runtime left open.
fn working_directories_outside() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["run", "-d", "--name", "one", "busybox", "sleep", "1000"]).ok();
    // A folder that only the host has: seen from above the working directory, the container is left.
    let script = format!(
        "for up in .. ../../../../../..; do test -e $up{} && echo escaped; done; true",
        engine.directory().display()
    );
    for number in 3..20 {
        let path = format!("/proc/self/fd/{number}");
        let outcomes = [
            engine.ferry(["run", "--rm", "-w", &path, "busybox", "sh", "-c", &script]),
            engine.ferry(["exec", "-w", &path, "one", "sh", "-c", &script]),
        ];
        for outcome in outcomes {
            assert!(!outcome.stdout.contains("escaped"), "{outcome}");
        }
    }
    let open = engine.ferry(["run", "--rm", "busybox", "ls", "-l", "/proc/self/fd"]);
    assert!(open.ok().lines().count() <= 5, "{open}");
}

/// CVE-2025-31133 and CVE-2025-52565: what covers a masked path, or stands where the console goes, is a link.
fn masks_and_consoles_as_links() {
    let engine = Engine::with_busybox();
    let evil = "FROM busybox\nRUN rm -rf /dev/null /dev/console /dev/pts; ln -s /proc/sys/vm/drop_caches /dev/null; true\n";
    let context = tempfile::tempdir().expect("a folder");
    fs::write(context.path().join("Dockerfile"), evil).expect("written");
    let _ = engine.ferry(["build", "-q", "-t", "evil", context.path().to_str().expect("text")]).ok();
    let script =
        "test -c /dev/null && echo null; (echo 1 > /proc/sys/vm/drop_caches) 2>&1; stat -c %t:%T /dev/null";
    let outcome = engine.ferry(["run", "--rm", "evil", "sh", "-c", script]);
    outcome.exits(0).says("null").says("Read-only file system").says("1:3");
    engine.ferry(["run", "--rm", "-t", "evil", "sh", "-c", "stat -c %t /dev/console"]).exits(0).says("88");
    // A volume at /dev/shm is no way to /dev either.
    let outcome =
        engine.ferry(["run", "--rm", "-v", "shm:/dev/shm", "evil", "sh", "-c", "cat /proc/keys | wc -c"]);
    outcome.exits(0).prints("0");
}

/// They are opened and not written to: the machine outlives a test that finds the guard missing.
fn devices_made_by_hand() {
    let engine = Engine::with_busybox();
    let attack = "for d in 'c 1 1' 'c 1 2' 'c 1 4' 'c 1 11' 'c 10 200' 'c 10 229' 'b 7 0' 'b 8 0' 'b 254 0' 'b 259 0'; do
        rm -f /tmp/d; mknod /tmp/d $d || continue; (: < /tmp/d) 2>/dev/null && echo reads $d
        (: > /tmp/d) 2>/dev/null && echo writes $d; done; echo done";
    engine.ferry(["run", "--rm", "busybox", "sh", "-c", attack]).exits(0).prints("done");
}

/// Processes outside cannot be named, signalled or traced; those of another container neither.
fn signals_and_tracing() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["run", "-d", "--name", "victim", "busybox", "sleep", "1000"]).ok();
    let victim: i32 = engine.inspect("victim", "{{.State.Pid}}").parse().expect("a number");
    let attack = format!(
        "kill -9 {victim} 2>&1; ls /proc/{victim} 2>&1; (echo x > /proc/{victim}/mem) 2>&1; ls /proc | grep -c '^[0-9]'; kill -9 -1"
    );
    let outcome = engine.ferry(["run", "--rm", "busybox", "sh", "-c", &attack]);
    outcome.says("No such process").says("No such file or directory");
    assert!(
        process_lives(victim) && process_lives(engine.pid("engine")) && process_lives(engine.pid("launcher"))
    );
    // Once the container has left a shell alone, it sees itself and what it runs.
    let few = engine.ferry(["run", "--rm", "busybox", "sh", "-c", "ls /proc | grep -c '^[0-9]'"]);
    let count: u32 = few.ok().parse().expect("a number");
    assert!(count <= 4, "{few}");
}

/// TIOCSTI: characters put into a terminal as if typed, read by whoever owns it after the container.
fn terminals_of_others() {
    let engine = Engine::with_images(&["python"]);
    let attack = "import fcntl, os, termios
for name in ['/dev/tty', '/dev/console', '/dev/pts/0', '/dev/tty0', '/dev/tty1']:
    try:
        with open(name, 'wb', buffering=0) as terminal:
            fcntl.ioctl(terminal, termios.TIOCSTI, b'x')
            print('typed into', name)
    except OSError: pass
print('done')";
    engine.ferry(["run", "--rm", "python", "python3", "-c", attack]).exits(0).prints("done");
    // With a terminal of its own the container reaches that one alone: another device than any of the host's.
    let own = engine.ferry(["run", "--rm", "-t", "python", "python3", "-c",
        "import os; print(os.stat('/dev/console').st_dev == os.stat('/dev/pts/0').st_dev, os.listdir('/dev/pts'))"]);
    own.exits(0).says("True").says("['0', 'ptmx']");
}

//! Contexts and commands that mean harm, or are just odd: a clear error or the right result.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_input::special_files", special_files),
    ("build_input::links_out_of_the_tree", links_out_of_the_tree),
    ("build_input::names_in_any_bytes", names_in_any_bytes),
    ("build_input::many_files", many_files),
    ("build_input::endless_output", endless_output),
    ("build_input::full_disk", full_disk),
];

fn context(engine: &Engine, dockerfile: &str) -> PathBuf {
    let folder = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn special_files() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY good /good\n");
    fs::write(folder.join("good"), "good").expect("a file");
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).expect("a socket");
    for (name, kind) in [("pipe", "p"), ("device", "c")] {
        let mut command = std::process::Command::new("mknod");
        command.arg(folder.join(name)).arg(kind);
        if kind == "c" {
            command.args(["1", "3"]);
        }
        assert!(command.status().expect("mknod runs").success());
    }
    // What is not copied does no harm; what is copied is named.
    engine.ferry(["build", "-q", &text(&folder)]).exits(0);
    for name in ["socket", "pipe", "device"] {
        fs::write(folder.join("Dockerfile"), format!("FROM busybox\nCOPY {name} /x\n")).expect("a file");
        engine.ferry(["build", "-q", &text(&folder)]).exits(1).complains(name);
    }
}

fn links_out_of_the_tree() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY . /d\nRUN ls -l /d > /list\nCMD cat /list\n");
    fs::write(engine.directory().join("outside"), "outside").expect("a file");
    symlink("../outside", folder.join("up")).expect("a link");
    symlink("/etc/passwd", folder.join("absolute")).expect("a link");
    for client in CLIENTS {
        // Links stay links; what they point to here is not in the image.
        engine.client(client, ["build", "-q", "-t", "l", &text(&folder)]).exits(0);
        engine.client(client, ["run", "--rm", "l"]).says("up -> ../outside").says("absolute -> /etc/passwd");
    }
    for name in ["up", "absolute", "../outside"] {
        fs::write(folder.join("Dockerfile"), format!("FROM busybox\nCOPY {name} /x\n")).expect("a file");
        for client in CLIENTS {
            let outcome = engine.client(client, ["build", &text(&folder)]);
            assert_ne!(outcome.code, 0, "{outcome}");
        }
    }
    let linked = engine.directory().join("linked");
    symlink(&folder, &linked).expect("a link");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nCOPY Dockerfile /x\n").expect("a file");
    engine.ferry(["build", "-q", &text(&linked)]).exits(0);
}

fn names_in_any_bytes() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY . /d\nRUN rm /d/Dockerfile\n");
    let names: [&[u8]; 5] =
        [b"\xff\xfe", b"new\nline", b" blank ", "\u{43f}\u{440}\u{438}".as_bytes(), b"-rf"];
    for name in names {
        fs::write(folder.join(OsStr::from_bytes(name)), "x").expect("a file");
    }
    let mut ids = Vec::new();
    for client in CLIENTS {
        let built = engine.client(client, ["build", "-q", "-t", "n", &text(&folder)]);
        ids.push(built.ok().lines().last().expect("an id").to_owned());
        engine.client(client, ["run", "--rm", "n", "sh", "-c", "ls -A /d | wc -l"]).prints("5");
    }
    assert_eq!(ids[0], ids[1], "both ways give one image");
}

fn many_files() {
    const FOLDERS: usize = 100;
    const FILES: usize = 1000;
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY . /d\n");
    for number in 0..FOLDERS {
        let below = folder.join(format!("{number}"));
        fs::create_dir(&below).expect("a folder");
        for name in 0..FILES {
            fs::write(below.join(format!("{name}")), b"").expect("a file");
        }
    }
    engine.ferry(["build", "-q", "-t", "many", &text(&folder)]).exits(0);
    engine.ferry(["run", "--rm", "many", "sh", "-c", "find /d -type f | wc -l"]).prints("100001");
}

/// A command that writes without end is ended with its client, and takes no memory of the engine.
fn endless_output() {
    let engine = Engine::with_busybox();
    let folder = context(
        &engine,
        "FROM busybox\nRUN yes $(head -c 900 /dev/zero | tr '\\0' x) | head -n 40000; echo the-end\n",
    );
    engine.ferry(["build", &text(&folder)]).exits(0).complains("the-end");
    let pid = engine.pid("engine");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the engine's status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number");
    assert!(peak < 150 << 10, "{peak} KiB at most");
}

/// A step that fills the disk fails with the kernel's words, and what comes after works.
fn full_disk() {
    let engine = Engine::start();
    engine.engine_command("stop").exits(0);
    let _disk = SmallDisk::mount(&engine.data_root());
    engine.engine_command("start").exits(0);
    let busybox = text(&ferry_tests::images::archive("busybox"));
    engine.ferry(["load", "-q", "-i", &busybox]).exits(0);
    let folder = context(&engine, "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M\n");
    engine.ferry(["build", &text(&folder)]).exits(1).complains("No space left on device");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN echo small > /small\n").expect("a file");
    engine.ferry(["build", "-q", "-t", "small", &text(&folder)]).exits(0);
    engine.ferry(["run", "--rm", "small", "cat", "/small"]).prints("small");
}

/// A file system that is soon full.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Self {
        let mut command = std::process::Command::new("mount");
        fs::create_dir_all(place).expect("a folder");
        command.args(["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"]).arg(place);
        let output = command.output().expect("mount runs");
        assert!(output.status.success(), "{output:?}");
        Self(place.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

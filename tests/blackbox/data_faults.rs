//! What goes wrong under data: answers that come early, engines and disks that give out in the middle.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ferry_tests::Engine;
use ferry_tests::engine::{patience, wait_until};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::early_answers_wait_for_the_body", early_answers_wait_for_the_body),
    ("data::copies_that_fail_keep_what_was", copies_that_fail_keep_what_was),
    ("data::a_killed_engine_copies_all_or_nothing", a_killed_engine_copies_all_or_nothing),
    ("data::a_killed_engine_prunes_all_or_nothing", a_killed_engine_prunes_all_or_nothing),
];

/// Sends a request with a large body bit by bit, and gives the answer's first line.
fn ask_slowly(engine: &Engine, head: &str) -> String {
    const PIECES: usize = 200;
    let piece = [0xa5; 16 * 1024];
    let mut stream = UnixStream::connect(engine.directory().join("ferry.sock")).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    let length = PIECES * piece.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n").unwrap();
    write!(stream, "Content-Length: {length}\r\n\r\n").unwrap();
    for number in 0..PIECES {
        stream.write_all(&piece).unwrap_or_else(|error| panic!("{head}: piece {number}: {error}"));
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = [0; 512];
    let count = stream.read(&mut answer).unwrap_or_else(|error| panic!("{head}: the answer: {error}"));
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    // The connection is as good as before.
    write!(stream, "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = String::new();
    while !rest.contains("OK") {
        let count =
            stream.read(&mut answer).unwrap_or_else(|error| panic!("{head}: the next answer: {error}"));
        assert_ne!(count, 0, "{head}: closed after {text} {rest}");
        rest.push_str(&String::from_utf8_lossy(&answer[..count]));
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// An answer that is known before the request is whole reaches a client that is still sending.
fn early_answers_wait_for_the_body() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "box", "busybox"]).exits(0);
    for (head, answer) in [
        ("PUT /containers/box/archive?path=/nope/x", "404 Not Found"),
        ("PUT /containers/none/archive?path=/", "404 Not Found"),
        ("PUT /containers/box/archive?path=/tmp", "400 Bad Request"),
        ("POST /nowhere", "404 Not Found"),
        ("POST /v9.99/images/load", "400 Bad Request"),
        ("POST /containers/create", "400 Bad Request"),
    ] {
        assert_eq!(ask_slowly(&engine, head), format!("HTTP/1.1 {answer}"), "{head}");
    }
    // These answer as a stream, which is under way before anything is found wrong.
    for head in ["POST /images/load", "POST /build?version=1", "POST /images/create?fromSrc=-"] {
        assert!(ask_slowly(&engine, head).starts_with("HTTP/1.1 "), "{head}");
    }
}

/// Names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The writable layer of a container.
fn upper(engine: &Engine, name: &str) -> PathBuf {
    engine.data_root().join("containers").join(engine.inspect(name, "{{.Id}}")).join("upper")
}

/// Sends half of a tar that replaces `/d/kept` and goes away.
fn send_half(engine: &Engine, name: &str) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4 << 20);
    header.set_mode(0o644);
    builder.append_data(&mut header, "kept", std::io::repeat(b'x').take(4 << 20)).unwrap();
    let archive = builder.into_inner().unwrap();
    let mut stream = UnixStream::connect(engine.directory().join("ferry.sock")).unwrap();
    write!(stream, "PUT /containers/{name}/archive?path=/d HTTP/1.1\r\nHost: x\r\n").unwrap();
    write!(stream, "Content-Length: {}\r\n\r\n", archive.len()).unwrap();
    stream.write_all(&archive[..archive.len() / 2]).unwrap();
}

/// A copy that breaks off, in either direction, leaves the file that was there, and nothing beside it.
fn copies_that_fail_keep_what_was() {
    let engine = Engine::with_busybox();
    let script = "mkdir /d; echo old > /d/kept; dd if=/dev/urandom of=/big bs=1M count=4 2>/dev/null";
    engine.ferry(["run", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    send_half(&engine, "box");
    // Whoever comes next has to wait for the first.
    let file = engine.directory().join("file");
    fs::write(&file, "other").unwrap();
    engine.ferry(["cp", &file.display().to_string(), "box:/d/other"]).exits(0);
    let folder = upper(&engine, "box").join("d");
    assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "old\n");
    assert_eq!(names(&folder), ["kept", "other"]);

    let small = engine.directory().join("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    assert!(mount.unwrap().success());
    let target = small.join("kept");
    fs::write(&target, "mine").unwrap();
    let copied = engine.ferry(["cp", "box:/big", &target.display().to_string()]);
    let (text, left) = (fs::read_to_string(&target), names(&small));
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    copied.exits(1).complains("No space left on device");
    assert_eq!((text.unwrap().as_str(), left), ("mine", vec!["kept".to_owned()]));
}

/// Killed at moments spread over a copy onto a file that is there: it is the old one or the new one.
fn a_killed_engine_copies_all_or_nothing() {
    const SIZE: usize = 24 << 20;
    let engine = Engine::with_busybox();
    let old = engine.directory().join("old");
    fs::write(&old, vec![b'o'; SIZE]).unwrap();
    let new = engine.directory().join("new");
    fs::write(&new, vec![b'n'; SIZE]).unwrap();
    engine.ferry(["create", "--name", "still", "busybox", "true"]).exits(0);
    engine.ferry(["run", "-d", "--name", "busy", "busybox", "sleep", "1000"]).exits(0);
    for round in 0..6u64 {
        let name = if round % 2 == 0 { "still" } else { "busy" };
        let place = format!("{name}:/tmp/file");
        engine.ferry(["cp", &old.display().to_string(), &place]).exits(0);
        let mut child = engine.spawn(["cp", &new.display().to_string(), &place]);
        std::thread::sleep(Duration::from_millis(25 * (round + 1)));
        engine.kill("engine");
        child.wait().unwrap();
        let folder = upper(&engine, name).join("tmp");
        let found = fs::read(folder.join("file")).unwrap();
        assert_eq!(found.len(), SIZE, "round {round}");
        assert!(found.iter().all(|byte| *byte == found[0]) && b"on".contains(&found[0]), "round {round}");
        assert_eq!(names(&folder), ["file"], "round {round}");
    }
}

/// Killed while it prunes, it has for each thing the old state or the new one, and the next prune ends it.
fn a_killed_engine_prunes_all_or_nothing() {
    let engine = Engine::with_busybox();
    for round in 0..4u64 {
        for number in 0..12 {
            let bind = format!("named{number}:/n");
            engine.ferry(["create", "-v", &bind, "-v", "/anonymous", "busybox", "true"]).exits(0);
        }
        let mut child = engine.spawn(["system", "prune", "-a", "--volumes", "-f"]);
        std::thread::sleep(Duration::from_millis(15 * round + 5));
        engine.kill("engine");
        child.wait().unwrap();
        for volume in engine.ferry(["volume", "ls", "-q"]).ok().lines() {
            let place = engine.ferry(["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).ok().to_owned();
            assert!(Path::new(&place).is_dir(), "round {round}: {volume}");
        }
        for id in engine.ferry(["ps", "-aq", "--no-trunc"]).ok().lines() {
            engine.ferry(["inspect", id]).exits(0);
            assert!(engine.data_root().join("containers").join(id).is_dir(), "round {round}: {id}");
        }
        engine.ferry(["container", "prune", "-f"]).exits(0);
        engine.ferry(["volume", "prune", "-a", "-f"]).exits(0);
        engine.ferry(["ps", "-aq"]).prints("");
        engine.ferry(["volume", "ls", "-q"]).prints("");
        wait_until("nothing is left of them", || {
            ["volumes", "containers", "trash", "tmp"].iter().all(|name| {
                fs::read_dir(engine.data_root().join(name)).is_ok_and(|mut entries| entries.next().is_none())
            })
        });
        if engine.ferry(["images", "-q", "busybox"]).ok().is_empty() {
            let archive = ferry_tests::images::archive("busybox");
            engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).exits(0);
        }
    }
}

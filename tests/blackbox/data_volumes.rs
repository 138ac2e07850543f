//! The data of volumes over time: snapshots, clones, backups, databases and sudden deaths.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::snapshots_come_back", snapshots_come_back),
    ("data::clones_and_backups", clones_and_backups),
    ("data::copies_are_made_while_nobody_writes", copies_are_made_while_nobody_writes),
    ("data::a_killed_engine_leaves_old_or_new", a_killed_engine_leaves_old_or_new),
    ("data::redis_keeps_its_data", redis_keeps_its_data),
    ("data::postgres_keeps_its_data", postgres_keeps_its_data),
    ("data::prunes_say_what_they_leave", prunes_say_what_they_leave),
];

fn write(engine: &Engine, text: &str) {
    let script = format!("echo {text} > /d/file");
    engine.ferry(["run", "--rm", "-v", "vol:/d", "busybox", "sh", "-c", &script]).exits(0);
}

fn read(engine: &Engine, volume: &str) -> String {
    let bind = format!("{volume}:/d");
    engine.ferry(["run", "--rm", "-v", &bind, "busybox", "cat", "/d/file"]).ok().to_owned()
}

fn snapshots_come_back() {
    let engine = Engine::with_busybox();
    write(&engine, "one");
    engine.ferry(["volume", "snapshot", "vol", "first"]).prints("first");
    engine
        .ferry(["volume", "snapshot", "vol", "first"])
        .exits(1)
        .complains("has a snapshot \"first\" already");
    engine.ferry(["volume", "snapshot", "vol", "a/b"]).exits(1).complains("invalid characters");
    engine.ferry(["volume", "snapshot", "nope", "first"]).exits(1).complains("no such volume");
    write(&engine, "two");
    engine.ferry(["volume", "snapshot", "vol", "second"]).prints("second");
    engine.ferry(["volume", "snapshots", "-q", "vol"]).prints("first\nsecond");
    engine.ferry(["volume", "snapshots", "vol"]).exits(0).says("SNAPSHOT NAME");
    engine
        .ferry(["volume", "restore", "vol", "first"])
        .exits(1)
        .complains("is not empty")
        .complains("--force");
    assert_eq!(read(&engine, "vol"), "two");
    engine.ferry(["volume", "restore", "--force", "vol", "first"]).prints("vol");
    assert_eq!(read(&engine, "vol"), "one");
    engine
        .ferry(["volume", "restore", "--force", "vol", "third"])
        .exits(1)
        .complains("has no snapshot \"third\"");
    engine.ferry(["run", "-d", "--name", "user", "-v", "vol:/d", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["volume", "restore", "--force", "vol", "second"]).exits(1).complains("container user runs");
    engine.ferry(["rm", "-f", "user"]).exits(0);
    engine.ferry(["volume", "snapshot", "--rm", "vol", "first"]).prints("first");
    engine.ferry(["volume", "snapshots", "-q", "vol"]).prints("second");
    engine.kill("engine");
    engine.ferry(["volume", "restore", "-f", "vol", "second"]).prints("vol");
    assert_eq!(read(&engine, "vol"), "two");
    engine.ferry(["volume", "rm", "vol"]).exits(0);
    assert_eq!(fs::read_dir(engine.data_root().join("volumes")).unwrap().count(), 0);
}

fn clones_and_backups() {
    let engine = Engine::with_busybox();
    let script =
        "echo one > /d/file; chown 7:8 /d/file; chmod 2640 /d/file; ln /d/file /d/twin; mkfifo /d/pipe";
    engine.ferry(["run", "--rm", "-v", "vol:/d", "busybox", "sh", "-c", script]).exits(0);
    engine.ferry(["volume", "clone", "vol", "copy"]).prints("copy");
    engine.ferry(["volume", "clone", "vol", "copy"]).exits(1).complains("volume copy exists already");
    write(&engine, "two");
    assert_eq!(read(&engine, "copy"), "one");
    let look = "stat -c '%a %u:%g %h' /d/file; test -p /d/pipe && echo pipe";
    engine.ferry(["run", "--rm", "-v", "copy:/d", "busybox", "sh", "-c", look]).prints("2640 7:8 2\npipe");
    let file = engine.directory().join("backup.tar");
    engine.ferry(["volume", "backup", "copy", &file.display().to_string()]).prints("");
    let archive = fs::read(&file).unwrap();
    // Into a new volume, as anybody's tar.
    let unpack = ["run", "--rm", "-i", "-v", "back:/d", "busybox", "tar", "-x", "-C", "/d"];
    engine.ferry_with_input(unpack, &archive).exits(0);
    engine.ferry(["run", "--rm", "-v", "back:/d", "busybox", "sh", "-c", look]).prints("2640 7:8 2\npipe");
    let streamed = engine.command(["volume", "backup", "copy"]).output().unwrap();
    assert_eq!(streamed.stdout, archive, "the same data gives the same tar");
    engine.ferry(["volume", "backup", "nope", "x"]).exits(1).complains("no such volume");
    assert!(!Path::new("x").exists());
}

/// Two files are always written in the same order by a running container: a copy never has the second
/// without the first, and the container goes on.
fn copies_are_made_while_nobody_writes() {
    let engine = Engine::with_busybox();
    let script =
        "i=0; while true; do i=$((i+1)); echo $i > /d/a; echo $i > /d/b; [ $i = 50 ] && touch /d/ready; done";
    engine.ferry(["run", "-d", "--name", "writer", "-v", "vol:/d", "busybox", "sh", "-c", script]).exits(0);
    wait_until("it writes", || engine.ferry(["exec", "writer", "test", "-e", "/d/ready"]).code == 0);
    let pair = |text: &str| -> (i64, i64) {
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    for round in 0..5 {
        let name = format!("copy{round}");
        engine.ferry(["volume", "clone", "vol", &name]).exits(0);
        let bind = format!("{name}:/d");
        // A write that was under way has made one of the two empty.
        let seen = engine.ferry([
            "run",
            "--rm",
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            "echo $(cat /d/a) 0; echo 0 $(cat /d/b)",
        ]);
        let numbers: Vec<i64> = seen.ok().split_whitespace().map(|word| word.parse().unwrap()).collect();
        if let [a, 0, 0, b] = numbers[..] {
            assert!(a == b || a == b + 1 || a == 0 || b == 0, "{numbers:?}");
        }
        let archive = engine.directory().join(&name);
        engine.ferry(["volume", "backup", "vol", &archive.display().to_string()]).exits(0);
        let read = Command::new("tar").arg("-xOf").arg(&archive).args(["./a", "./b"]).output().unwrap();
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        if text.split_whitespace().count() == 2 {
            let (a, b) = pair(&text);
            assert!(a == b || a == b + 1, "{text}");
        }
    }
    assert_eq!(engine.inspect("writer", "{{.State.Status}}"), "running");
    let before = engine.ferry(["exec", "writer", "cat", "/d/b"]).stdout;
    wait_until("it goes on", || {
        let now = engine.ferry(["exec", "writer", "cat", "/d/b"]).stdout;
        !now.is_empty() && now != before
    });
}

/// Killed at moments spread over a snapshot, a restore, a clone and a copy-up: what is found afterwards is
/// whole, and the writer that was frozen goes on.
fn a_killed_engine_leaves_old_or_new() {
    let engine = Engine::with_busybox();
    let files = 2000;
    let fill = format!("mkdir /d/t; i=0; while [ $i -lt {files} ]; do echo $i > /d/t/$i; i=$((i+1)); done");
    engine
        .ferry([
            "run",
            "--name",
            "maker",
            "-v",
            "vol:/d",
            "busybox",
            "sh",
            "-c",
            &format!("{fill}; mkdir -p /srv; cp -r /d/t /srv"),
        ])
        .exits(0);
    engine.ferry(["commit", "maker", "filled:1"]).exits(0);
    engine.ferry(["volume", "snapshot", "vol", "base"]).exits(0);
    engine
        .ferry([
            "run",
            "-d",
            "--name",
            "writer",
            "-v",
            "vol:/d",
            "busybox",
            "sh",
            "-c",
            "while true; do echo x > /d/w; done",
        ])
        .exits(0);
    let count = |volume: &str| {
        let bind = format!("{volume}:/d");
        engine
            .ferry(["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "ls /d/t 2>/dev/null | wc -l"])
            .ok()
            .to_owned()
    };
    let whole = files.to_string();
    for round in 0..6 {
        let (snapshot, clone, new) = (format!("s{round}"), format!("c{round}"), format!("n{round}"));
        let bind = format!("{new}:/srv");
        let verbs: [&[&str]; 3] = [
            &["volume", "snapshot", "vol", &snapshot],
            &["volume", "clone", "vol", &clone],
            &["create", "--name", &new, "-v", &bind, "filled:1", "true"],
        ];
        let mut child: Child = engine.spawn(verbs[round % 3]);
        std::thread::sleep(std::time::Duration::from_millis(15 * (round as u64 + 1)));
        engine.kill("engine");
        child.wait().unwrap();
        for name in engine.ferry(["volume", "snapshots", "-q", "vol"]).ok().lines() {
            let place = engine.data_root().join("volumes/vol/snapshots").join(name).join("_data/t");
            assert_eq!(fs::read_dir(place).unwrap().count(), files, "snapshot {name}");
        }
        let listed = engine.ferry(["volume", "ls", "-q"]).ok().to_owned();
        if listed.lines().any(|name| name == clone) {
            assert_eq!(count(&clone), whole, "{clone}");
        }
        if listed.lines().any(|name| name == new) {
            let place = engine.data_root().join("volumes").join(&new).join("_data/t");
            let found = fs::read_dir(place).map_or(0, Iterator::count);
            assert!(found == 0 || found == files, "copy-up left {found} files");
        }
        let seen = engine.ferry([
            "exec",
            "writer",
            "sh",
            "-c",
            "rm -f /d/w; until [ -e /d/w ]; do :; done; echo goes on",
        ]);
        seen.prints("goes on");
    }
    engine.ferry(["rm", "-f", "writer"]).exits(0);
    for round in 0..4u64 {
        let mut child = engine.spawn(["volume", "restore", "--force", "vol", "base"]);
        std::thread::sleep(std::time::Duration::from_millis(20 * round));
        engine.kill("engine");
        child.wait().unwrap();
        assert_eq!(count("vol"), whole, "old or new, both whole");
    }
    wait_until("scratch is swept", || {
        let entries = |name: &str| fs::read_dir(engine.data_root().join(name)).map_or(0, Iterator::count);
        entries("tmp") == 0 && entries("trash") == 0
    });
}

/// Runs a database through stop, removal, engine kill, snapshot and restore.
fn keeps_its_data(
    image: &str,
    run: &[&str],
    ready: &[&str],
    set: impl Fn(&str) -> Vec<String>,
    get: &[&str],
) {
    let engine = Engine::with_images(&[image, "busybox"]);
    let start = || {
        let mut words = vec!["run", "-d", "--name", "db", "-v", "data:/var/lib/db"];
        words.extend(run);
        engine.ferry(words).exits(0);
        wait_until("the database answers", || engine.ferry(["exec", "db"].iter().chain(ready)).code == 0);
    };
    let value = || engine.ferry(["exec", "db"].iter().chain(get)).ok().trim().to_owned();
    let store = |text: &str| {
        let words: Vec<String> = ["exec".to_owned(), "db".to_owned()].into_iter().chain(set(text)).collect();
        engine.ferry(words).exits(0);
    };
    start();
    store("first");
    engine.kill("engine");
    assert_eq!(value(), "first");
    engine.ferry(["volume", "snapshot", "data", "kept"]).exits(0);
    store("second");
    engine.ferry(["stop", "db"]).exits(0);
    engine.ferry(["rm", "db"]).exits(0);
    start();
    assert_eq!(value(), "second", "through stop, rm and run");
    engine.ferry(["rm", "-f", "db"]).exits(0);
    engine.ferry(["volume", "restore", "--force", "data", "kept"]).exits(0);
    start();
    assert_eq!(value(), "first", "through snapshot and restore");
    for client in CLIENTS {
        engine.client(client, ["volume", "rm", "data"]).exits(1).complains("volume is in use");
    }
    engine.ferry(["rm", "-f", "db"]).exits(0);
}

fn redis_keeps_its_data() {
    let set = |text: &str| ["redis-cli", "set", "key", text].map(str::to_owned).to_vec();
    keeps_its_data(
        "redis",
        &["redis", "redis-server", "--dir", "/var/lib/db", "--appendonly", "yes", "--appendfsync", "always"],
        &["redis-cli", "ping"],
        set,
        &["redis-cli", "--raw", "get", "key"],
    );
}

fn postgres_keeps_its_data() {
    let sql = |text: &str| {
        let statement =
            format!("create table if not exists t (v text); delete from t; insert into t values ('{text}')");
        ["psql", "-h", "127.0.0.1", "-U", "postgres", "-qc", &statement].map(str::to_owned).to_vec()
    };
    let serve = "set -e; bin=/usr/lib/postgresql/15/bin; data=/var/lib/db/pg; mkdir -p $data /run/postgresql; \
        chown -R postgres $data /run/postgresql; user='setpriv --reuid=postgres --regid=postgres --init-groups'; \
        [ -s $data/PG_VERSION ] || $user $bin/initdb -N -D $data -U postgres -A trust; exec $user $bin/postgres -D $data";
    keeps_its_data(
        "postgres",
        &["--entrypoint", "bash", "postgres", "-c", serve],
        &["psql", "-h", "127.0.0.1", "-U", "postgres", "-qc", "select 1"],
        sql,
        &["psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", "select v from t"],
    );
}

fn prunes_say_what_they_leave() {
    let engine = Engine::with_busybox();
    engine.ferry(["volume", "create", "named"]).exits(0);
    engine
        .ferry([
            "run",
            "--name",
            "old",
            "-v",
            "/anonymous",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/urandom of=/f bs=1M count=2",
        ])
        .exits(0);
    engine
        .ferry(["volume", "prune", "-f"])
        .exits(0)
        .complains("1 named volume is not used by any container and stays; -a removes it too");
    let asked = engine.ferry_with_input(["system", "prune", "--volumes"], b"n\n");
    asked.exits(0).says("1 stopped container (2.1").says("Are you sure you want to continue?");
    assert_eq!(engine.ferry(["ps", "-aq"]).ok().lines().count(), 1, "no is no");
    let done = engine.ferry_with_input(["system", "prune", "--volumes"], b"y\n");
    done.exits(0).says("Total reclaimed space:");
    engine.ferry(["ps", "-aq"]).prints("");
    engine.ferry(["volume", "ls", "-q"]).prints("named");
    engine.docker(["system", "prune", "-f", "--volumes"]).exits(0);
}

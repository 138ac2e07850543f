//! Builds that are broken off leave nothing behind, and what was done stays cached.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ferry_tests::Engine;
use ferry_tests::engine::{kill_process, wait_until};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_survival::client_gone", client_gone),
    ("build_survival::engine_killed", engine_killed),
    ("build_survival::cache_mounts_have_owners", cache_mounts_have_owners),
    ("build_survival::prune", prune),
    ("build_survival::the_table", the_table),
    ("build_survival::budget", budget),
];

fn context(engine: &Engine, dockerfile: &str) -> String {
    let folder: PathBuf = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    folder.display().to_string()
}

/// How many folders there are below one.
fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// A Dockerfile whose last step never ends, and the number by which that step is known among all processes.
fn slow(test: u32) -> (String, String) {
    let number = format!("{}{test}", 90_000_000 + std::process::id());
    (format!("FROM busybox\nRUN echo done > /first\nRUN sleep {number}\n"), number)
}

fn is_running(number: &str) -> bool {
    let wanted = format!("sleep\0{number}\0");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .map(|entry| entry.path().join("cmdline"))
        .any(|file| fs::read(file).is_ok_and(|line| line == wanted.as_bytes()))
}

/// Starts a build that never ends; gives back once its last step runs.
fn start_slow(engine: &Engine, test: u32, client: &str, host: &str) -> (Child, String, String) {
    let (dockerfile, number) = slow(test);
    let folder = context(engine, &dockerfile);
    let mut command = engine.client_command(client, ["-H", host, "build", &folder]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the client starts");
    wait_until("the slow step runs", || is_running(&number));
    (child, folder, number)
}

fn nothing_left(engine: &Engine, number: &str) {
    wait_until("the step is ended", || !is_running(number));
    wait_until("nothing of the build is left", || {
        count(&engine.run_root().join("containers")) == 0
            && count(&engine.data_root().join("containers")) == 0
    });
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let root = engine.directory().display().to_string();
    assert!(!mounts.contains(&format!("{root}/data/tmp")), "{mounts}");
}

/// Each way in which a build is asked for: with the folder handed over, by the classic API, and over TCP.
fn client_gone() {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let far = format!("tcp://127.0.0.1:{port}");
    let engine = Engine::start_with(&["--host", &far]);
    let archive = ferry_tests::images::archive("busybox").display().to_string();
    engine.ferry(["load", "-q", "-i", &archive]).exits(0);
    wait_until("the port answers", || engine.ferry(["-H", &far, "ps"]).code == 0);
    let near = engine.host();
    for (test, (client, host)) in
        (10..).zip([("ferry", &near), ("docker", &near), ("ferry", &far), ("docker", &far)])
    {
        let (mut child, folder, number) = start_slow(&engine, test, client, host);
        kill_process(i32::try_from(child.id()).expect("a pid"));
        child.wait().expect("it ends");
        nothing_left(&engine, &number);
        fs::write(Path::new(&folder).join("Dockerfile"), "FROM busybox\nRUN echo done > /first\n")
            .expect("a file");
        engine.ferry(["build", &folder]).exits(0).complains("CACHED");
        // The next way finds nothing in the cache.
        engine.ferry(["builder", "prune", "-af"]).exits(0);
    }
}

fn engine_killed() {
    let engine = Engine::with_busybox();
    let (mut child, folder, number) = start_slow(&engine, 2, "ferry", &engine.host());
    engine.kill("engine");
    child.wait().expect("the client ends with its engine");
    engine.ferry(["ps"]).exits(0);
    nothing_left(&engine, &number);
    context(&engine, "FROM busybox\nRUN echo again > /again\nRUN cat /again\n");
    engine.ferry(["build", "-t", "again", &folder]).exits(0);
    engine.ferry(["run", "--rm", "again", "cat", "/again"]).prints("again");
}

fn cache_mounts_have_owners() {
    let engine = Engine::with_busybox();
    let folder = context(
        &engine,
        "FROM busybox\nUSER 405:100\nRUN --mount=type=cache,target=/c,uid=405,gid=100,mode=0700 stat -c '%a %u %g' /c > /tmp/what && echo x > /c/x\n\
         CMD cat /tmp/what\n",
    );
    engine.ferry(["build", "-t", "c", &folder]).exits(0);
    engine.ferry(["run", "--rm", "c"]).prints("700 405 100");
    assert_eq!(count(&engine.data_root().join("caches")), 1);
    engine.ferry(["builder", "prune", "-af"]).exits(0);
    assert_eq!(count(&engine.data_root().join("caches")), 0);
}

fn prune() {
    let engine = Engine::with_busybox();
    let folder = context(
        &engine,
        "FROM busybox AS a\nRUN head -c 3000000 /dev/zero > /big\nFROM busybox\nCOPY --from=a /bin/busybox /b\n",
    );
    engine.ferry(["build", "-q", "-t", "p", &folder]).exits(0);
    engine.ferry(["builder", "du"]).exits(0).says("head -c 3000000").says("Total:");
    engine.ferry(["builder", "prune", "-f", "--keep-storage", "100mb"]).exits(0).says("Total:\t0B");
    engine.ferry(["builder", "prune", "-f"]).exits(0);
    let left = engine.ferry(["builder", "du"]);
    assert!(!left.ok().contains("head -c"), "{left}");
    engine.ferry(["run", "--rm", "p", "true"]).exits(0);
}

fn the_table() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nRUN echo line-of-output && sleep 0.5\n");
    let shown = engine.ferry(["build", "--progress=tty", &folder]);
    shown.exits(0).complains("line-of-output").complains("\u{1b}[J");
    let plain = engine.ferry(["build", "--progress=plain", "--no-cache", &folder]);
    plain.exits(0);
    assert!(!plain.stderr.contains('\u{1b}'), "{plain}");
    let raw = engine.ferry(["build", "--progress=rawjson", &folder]);
    raw.exits(0).complains("\"State\":\"cached\"");
    engine.ferry(["build", "--progress=moon", &folder]).exits(1).complains("invalid --progress");
}

/// Cache and images without names together keep within the budget; what was of use last stays, and so does
/// what has a name.
fn budget() {
    let place = tempfile::tempdir().expect("a folder");
    let config = place.path().join("daemon.json");
    fs::write(&config, r#"{"builder": {"gc": {"defaultKeepStorage": "7MB"}}}"#).expect("a file");
    let engine = Engine::start_with(&["--config-file", &config.display().to_string()]);
    let busybox = ferry_tests::images::archive("busybox").display().to_string();
    engine.ferry(["load", "-q", "-i", &busybox]).exits(0);
    let build = |number: u32, name: &[&str]| {
        let folder =
            context(&engine, &format!("FROM busybox\nRUN head -c 3000000 /dev/urandom > /f{number}\n"));
        let words = [&["build", "-q"], name, &[&folder]].concat();
        engine.ferry(words).ok().trim().to_owned()
    };
    build(0, &["-t", "named"]);
    let ids: Vec<String> = (1..=4).map(|number| build(number, &[])).collect();
    wait_until("the oldest goes", || engine.ferry(["image", "inspect", &ids[0]]).code != 0);
    engine.ferry(["run", "--rm", &ids[3], "ls", "/f4"]).exits(0);
    engine.ferry(["run", "--rm", "named", "ls", "/f0"]).exits(0);
    engine.ferry(["builder", "du"]).exits(0).says("/f4");
}

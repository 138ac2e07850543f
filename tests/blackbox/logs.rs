//! Output on its way to the log and out of it again: nothing may be lost, whoever reads or does not read it.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] =
    &[("logs::a_gigabyte_loses_nothing", a_gigabyte_loses_nothing), ("logs::slow_readers", slow_readers)];

/// Writes so many bytes in numbered lines of about 1 KiB; the same in the container and here.
fn script(bytes: u64) -> String {
    format!("awk 'BEGIN {{ t = sprintf(\"%01000d\", 7); while (1) print ++i, t }}' | head -c {bytes}")
}

fn digest_of_script(bytes: u64) -> String {
    let script = format!("{} | sha256sum", script(bytes));
    let output = Command::new("busybox").args(["sh", "-c", &script]).output().expect("busybox is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_gigabyte_loses_nothing() {
    const BYTES: u64 = 1_000_000_000;
    let engine = Engine::with_busybox();
    let script = script(BYTES);
    let run = ["run", "-d", "--name", "box", "--network", "none", "--log-opt", "max-size=-1", "busybox"];
    engine.ferry(run.into_iter().chain(["sh", "-c", &script])).exits(0);
    engine.ferry(["wait", "box"]).exits(0).prints("0");
    let mut logs = engine.command(["logs", "box"]);
    let mut logs = logs.stdout(Stdio::piped()).spawn().expect("ferry starts");
    let sum = Command::new("sha256sum")
        .stdin(logs.stdout.take().expect("standard output is piped"))
        .output()
        .expect("sha256sum runs");
    assert!(logs.wait().expect("ferry ends").success());
    assert_eq!(String::from_utf8_lossy(&sum.stdout), digest_of_script(BYTES));
}

/// A reader that does not read never holds the container up, and still gets everything in the end.
fn slow_readers() {
    const BYTES: u64 = 20_000_000;
    let engine = Engine::with_busybox();
    let script = script(BYTES);
    let run =
        ["run", "--name", "box", "--network", "none", "--log-opt", "max-size=1m", "--log-opt", "max-file=2"];
    let mut attached = engine
        .command(run.into_iter().chain(["busybox", "sh", "-c", &script]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ferry starts");
    engine.wait_for_status("box", "exited");
    let mut output = Vec::new();
    attached.stdout.take().expect("piped").read_to_end(&mut output).expect("readable");
    assert!(attached.wait().expect("ferry ends").success());
    assert_eq!(output.len() as u64, BYTES);
    // What was kept for the reader alone goes when it has been read.
    let path = PathBuf::from(engine.inspect("box", "{{.LogPath}}"));
    let folder = path.parent().expect("a folder").to_owned();
    wait_until("there are as many files as were asked for", || {
        let entries = std::fs::read_dir(&folder).expect("the container's folder").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains("-json.log")).count() == 2
    });
}

//! The engine killed in the middle of each kind of change: the next one shows the state before or the one after, whole,
//! and nothing is left of the call.
//!
//! A call is timed once; then it is made again and again, and the engine killed at its beginning, at a quarter of that time,
//! at two quarters and so on, so that the kills fall into all of it on machines of any speed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::http::{ask, connect, send};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("survival_calls::create", create),
    ("survival_calls::rename", rename),
    ("survival_calls::update", update),
    ("survival_calls::commit", commit),
    ("survival_calls::tag", tag),
    ("survival_calls::network_connect", network_connect),
    ("survival_calls::volume_create", volume_create),
    ("survival_calls::network_create", network_create),
];

/// Kills fall at as many parts of a call's time, and once after it.
const POINTS: u32 = 4;

/// A request and its body.
type Call = (String, Option<Value>);

/// Sends a call, kills the engine some time later, and comes back when the next one answers and the call has ended.
fn interrupt(engine: &Engine, (request, body): &Call, after: Duration) {
    let mut stream = connect(engine);
    let sent = Instant::now();
    send(&mut stream, request, &["Connection: close"], body.as_ref());
    std::thread::sleep(after.saturating_sub(sent.elapsed()));
    engine.kill("engine");
    // What the dead engine had not read yet, the next one answers.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok();
    assert_eq!(ask(engine, "GET /_ping", None).status, 200);
}

/// Makes a call of each number and sees that it was made whole or not at all, wherever the engine was killed.
///
/// `call` prepares what a call needs. `holds` gets the number and tells whether the call was made; it panics where the
/// state is neither the old nor the new.
fn at_all_points(engine: &Engine, call: impl Fn(u32) -> Call, holds: impl Fn(u32) -> bool) {
    let (request, body) = call(0);
    let begun = Instant::now();
    let answer = ask(engine, &request, body.as_ref());
    assert!(answer.status < 300, "{request}: {}", answer.text());
    let whole = begun.elapsed();
    assert!(holds(0), "{request} was made");
    for point in 1..=POINTS + 1 {
        let call = call(point);
        interrupt(engine, &call, whole * (point - 1) / POINTS);
        if !holds(point) {
            let again = ask(engine, &call.0, call.1.as_ref());
            assert!(again.status < 300, "{} once more: {}", call.0, again.text());
            assert!(holds(point), "{} was made", call.0);
        }
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes the containers and sees that no folder of one is left, and nothing half written.
fn nothing_left(engine: &Engine) {
    let ids = engine.ferry(["ps", "-aq", "--no-trunc"]).ok().to_owned();
    for id in ids.split_whitespace() {
        engine.ferry(["rm", "-f", id]).exits(0);
    }
    for folder in ["data/containers", "run/containers", "data/trash", "data/ingest", "data/tmp"] {
        let folder = engine.directory().join(folder);
        wait_until(&format!("{} is empty", folder.display()), || entries(&folder).is_empty());
    }
}

fn made(engine: &Engine, name: &str) {
    engine.ferry(["create", "--name", name, "busybox", "true"]).exits(0);
}

fn create() {
    let engine = Engine::with_busybox();
    let call = |number| {
        let body = json!({"Image": "busybox", "Cmd": ["echo", "whole"], "HostConfig": {"Init": true}});
        (format!("POST /containers/create?name=box{number}"), Some(body))
    };
    at_all_points(&engine, call, |number| {
        let name = format!("box{number}");
        let listed = engine.ferry(["ps", "-aq", "--filter", &format!("name=^/{name}$")]).ok().lines().count();
        assert!(listed < 2, "{listed} of that name");
        match engine.ferry(["inspect", &name]).code {
            0 => {
                assert_eq!(listed, 1);
                engine.ferry(["start", "-a", &name]).prints("whole");
                true
            }
            _ => {
                assert_eq!(listed, 0);
                false
            }
        }
    });
    nothing_left(&engine);
}

fn rename() {
    let engine = Engine::with_busybox();
    let call = |number| {
        if engine.ferry(["inspect", &format!("old{number}")]).code != 0 {
            made(&engine, &format!("old{number}"));
        }
        (format!("POST /containers/old{number}/rename?name=new{number}"), None)
    };
    at_all_points(&engine, call, |number| {
        let known = |name: String| engine.ferry(["inspect", "-f", "{{.Name}}", &name]).code == 0;
        let (old, new) = (known(format!("old{number}")), known(format!("new{number}")));
        assert!(old != new, "old: {old}, new: {new}");
        // The name that is not its own is free.
        let free = if new { format!("old{number}") } else { format!("new{number}") };
        made(&engine, &free);
        engine.ferry(["rm", &free]).exits(0);
        new
    });
    nothing_left(&engine);
}

fn update() {
    let engine = Engine::with_busybox();
    let _ =
        engine.ferry(["run", "-d", "--init", "--name", "box", "-m", "64m", "busybox", "sleep", "600"]).ok();
    let limit = |number: u32| u64::from(100 + number) << 20;
    let call = |number| {
        let body = json!({"Memory": limit(number), "MemorySwap": 1u64 << 30});
        ("POST /containers/box/update".to_owned(), Some(body))
    };
    at_all_points(&engine, call, |number| {
        let told: u64 = engine.inspect("box", "{{.HostConfig.Memory}}").parse().expect("a number");
        let before = if number == 0 { 64 << 20 } else { limit(number - 1) };
        assert!([limit(number), before].contains(&told), "{told}");
        let files = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null";
        let kernel = engine.ferry(["exec", "box", "sh", "-c", files]).stdout.trim().to_owned();
        assert_eq!(kernel, told.to_string(), "what the engine tells is what the kernel holds");
        told == limit(number)
    });
    nothing_left(&engine);
}

fn commit() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["run", "--name", "box", "busybox", "sh", "-c", "echo whole > /file"]).ok();
    let call = |number| (format!("POST /commit?container=box&repo=image{number}"), Some(json!({})));
    at_all_points(&engine, call, |number| {
        let name = format!("image{number}");
        let is = engine.ferry(["image", "inspect", &name]).code == 0;
        if is {
            engine.ferry(["run", "--rm", &name, "cat", "/file"]).prints("whole");
        }
        is
    });
    // Those without a name are images that the call made and could not name any more.
    let nameless = engine.ferry(["images", "-q", "--filter", "dangling=true"]);
    assert_eq!(nameless.ok(), "", "{nameless}");
    nothing_left(&engine);
}

fn tag() {
    let engine = Engine::with_busybox();
    let id = engine.ferry(["image", "inspect", "-f", "{{.Id}}", "busybox"]).ok().to_owned();
    let call = |number| (format!("POST /images/busybox/tag?repo=other&tag=t{number}"), None);
    at_all_points(&engine, call, |number| {
        engine.ferry(["image", "inspect", "-f", "{{.Id}}", "busybox"]).prints(&id);
        let other = engine.ferry(["image", "inspect", "-f", "{{.Id}}", &format!("other:t{number}")]);
        assert!(other.code != 0 || other.stdout.trim() == id, "{other}");
        other.code == 0
    });
    nothing_left(&engine);
}

fn network_connect() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["run", "-d", "--init", "--name", "box", "busybox", "sleep", "600"]).ok();
    let call = |number| {
        if engine.ferry(["network", "inspect", &format!("net{number}")]).code != 0 {
            engine.ferry(["network", "create", &format!("net{number}")]).exits(0);
        }
        (format!("POST /networks/net{number}/connect"), Some(json!({"Container": "box"})))
    };
    at_all_points(&engine, call, |number| {
        let name = format!("net{number}");
        let format =
            format!("{{{{with index .NetworkSettings.Networks \"{name}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}");
        let address = engine.inspect("box", &format);
        let listed = engine.ferry(["network", "inspect", "-f", "{{len .Containers}}", &name]).ok().to_owned();
        let inside = engine.ferry(["exec", "box", "ip", "-o", "-4", "addr"]).ok().to_owned();
        match address.is_empty() {
            true => assert_eq!(listed, "0"),
            false => {
                assert_eq!(listed, "1");
                assert!(inside.contains(&format!(" {address}/")), "{address}: {inside}");
            }
        }
        !address.is_empty()
    });
    // No interface is left of a connect that was not made.
    let networks = engine.inspect("box", "{{len .NetworkSettings.Networks}}");
    let links = engine.ferry(["exec", "box", "sh", "-c", "ls /sys/class/net | grep -c eth"]).ok().to_owned();
    assert_eq!(links, networks);
    nothing_left(&engine);
}

fn network_create() {
    let engine = Engine::with_busybox();
    let call = |number| ("POST /networks/create".to_owned(), Some(json!({"Name": format!("net{number}")})));
    at_all_points(&engine, call, |number| {
        let name = format!("net{number}");
        let names =
            engine.ferry(["network", "ls", "-q", "--filter", &format!("name=^{name}$")]).ok().lines().count();
        assert!(names < 2, "{names} of that name");
        if names == 1 {
            engine.ferry(["run", "--rm", "--network", &name, "busybox", "true"]).exits(0);
        }
        names == 1
    });
    let all: Vec<String> = (0..=POINTS + 1).map(|number| format!("net{number}")).collect();
    engine.ferry(["network", "rm"].into_iter().chain(all.iter().map(String::as_str))).exits(0);
    nothing_left(&engine);
}

fn volume_create() {
    let engine = Engine::with_busybox();
    let call = |number: u32| {
        let body = json!({"Name": format!("vol{number}"), "Labels": {"number": number.to_string()}});
        ("POST /volumes/create".to_owned(), Some(body))
    };
    at_all_points(&engine, call, |number| {
        let name = format!("vol{number}");
        let shown = engine.ferry(["volume", "inspect", "-f", "{{.Labels.number}}", &name]);
        if shown.code == 0 {
            shown.prints(&number.to_string());
            let mount = format!("{name}:/data");
            engine.ferry(["run", "--rm", "-v", &mount, "busybox", "touch", "/data/file"]).exits(0);
        }
        shown.code == 0
    });
    let all: Vec<String> = (0..=POINTS + 1).map(|number| format!("vol{number}")).collect();
    engine.ferry(["volume", "rm"].into_iter().chain(all.iter().map(String::as_str))).exits(0);
    assert_eq!(entries(&engine.data_root().join("volumes")), Vec::<String>::new());
    nothing_left(&engine);
}

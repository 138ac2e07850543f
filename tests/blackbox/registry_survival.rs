//! A registry of ferry's own under kills, half-open uploads and clients that never end their requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ferry_tests::engine::{patience, wait_until};
use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, image_manifest, sha256};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_survival::killed_amid_pushes_sweeps_and_scrubs", killed_amid_pushes_sweeps_and_scrubs),
    ("registry_survival::a_thousand_half_open_uploads", a_thousand_half_open_uploads),
    ("registry_survival::slow_clients_keep_nobody_waiting", slow_clients_keep_nobody_waiting),
];

/// Sends a request of which the registry may die; None where there is no whole answer.
pub fn dared(address: &str, method: &str, target: &str, kind: &str, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(patience())).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.contains("\r\n\r\n").then(|| text.split(' ').nth(1)?.parse().ok())?
}

/// Pushes an image of one layer of its own; whether all of it was acknowledged.
pub fn push(address: &str, name: &str, tag: &str, layer: &[u8]) -> bool {
    for blob in [layer, b"{}"] {
        let target = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(blob));
        if dared(address, "POST", &target, "application/octet-stream", blob) != Some(201) {
            return false;
        }
    }
    let manifest = image_manifest(&sha256(b"{}"), &[&sha256(layer)], "");
    dared(address, "PUT", &format!("/v2/{name}/manifests/{tag}"), OCI_MANIFEST, manifest.as_bytes())
        == Some(201)
}

fn layer_of(worker: u32, number: u32) -> Vec<u8> {
    format!("{worker}/{number} ").repeat(20_000).into_bytes()
}

fn killed_amid_pushes_sweeps_and_scrubs() {
    let mut registry = OwnRegistry::start(&["--gc-grace", "30s", "--gc-interval", "100ms"]);
    let acknowledged = Mutex::new(Vec::new());
    let address = registry.address.clone();
    for round in 0..4u32 {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (acknowledged, ended, address) = (&acknowledged, &ended, &address);
                scope.spawn(move || {
                    for number in 0.. {
                        if ended.load(Ordering::Relaxed) {
                            return;
                        }
                        let number = round * 10_000 + number;
                        let name = format!("app{worker}");
                        if push(address, &name, &format!("t{number}"), &layer_of(worker, number)) {
                            acknowledged.lock().expect("no panic").push((worker, number));
                        }
                    }
                });
            }
            let (ended, address) = (&ended, &address);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    dared(address, "POST", "/ferry/v1/scrub", "", b"");
                    dared(address, "POST", "/ferry/v1/collect", "", b"");
                }
            });
            // At a moment of its own in every round.
            std::thread::sleep(Duration::from_millis(150 + u64::from(round) * 77));
            registry.kill_and_restart();
            ended.store(true, Ordering::Relaxed);
        });
    }
    let acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(acknowledged.len() > 4, "{acknowledged:?}");
    for (worker, number) in acknowledged {
        let layer = layer_of(worker, number);
        let found = registry.get(&format!("/v2/app{worker}/manifests/t{number}"));
        found.is(200);
        assert_eq!(found.body, image_manifest(&sha256(b"{}"), &[&sha256(&layer)], "").into_bytes());
        let blob = registry.get(&format!("/v2/app{worker}/blobs/{}", sha256(&layer)));
        assert!(blob.status == 200 && blob.body == layer, "app{worker}:t{number} {}", blob.status);
    }
    let report = registry.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!(report["lost"], serde_json::json!([]), "{report}");
    // What was never acknowledged is no burden either: every file is in the catalog, or is an open upload.
    let known = report["checked"].as_u64().expect("a number") as usize;
    wait_until("no orphan is left", || files_below(&registry.root().join("data/blobs")) == known);
}

fn files_below(folder: &std::path::Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

/// Memory that a process has for itself, in bytes.
fn own_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a number");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The line of a process's limits about open files.
fn open_files(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
    line.split_whitespace().map(str::to_owned).collect()
}

fn a_thousand_half_open_uploads() {
    let registry = OwnRegistry::start(&["--quiet", "--max-uploads", "1000"]);
    // As many descriptors as it may have, whatever it was started with.
    let limits = open_files(registry.pid());
    assert_eq!(limits[0], limits[1]);
    registry.push_image("app", "one", &[], "");
    let before = own_memory(registry.pid());
    let mut held = Vec::new();
    for number in 0..1000 {
        let begun = registry.send("POST", "/v2/app/blobs/uploads/", &[], b"");
        begun.is(202);
        let place = begun.header("location").to_owned();
        // Some lie there, others are in the middle of a body that does not end: more than there are threads.
        if number % 5 < 3 {
            let mut stream = TcpStream::connect(&registry.address).expect("connected");
            let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[7; 5000])).expect("sent");
            held.push((stream, place));
        }
    }
    registry.send("POST", "/v2/app/blobs/uploads/", &[], b"").refuses(429, "TOOMANYREQUESTS");
    registry.get("/v2/app/manifests/one").is(200);
    let grown = own_memory(registry.pid()).saturating_sub(before);
    assert!(grown < 100 << 20, "{} MB more than before", grown >> 20);
    assert_eq!(held.len(), 600);
    // Every one of them got on; where its client goes, another can go on behind its bytes.
    let (stream, place) = held.pop().expect("the last one");
    drop(stream);
    wait_until("the upload is free", || registry.get(&place).status == 204);
    assert_eq!(registry.get(&place).header("range"), "0-4999");
    let target = format!("{place}?digest={}", sha256(&[7; 6000]));
    registry.send("PUT", &target, &[], &[7; 1000]).is(201);
}

fn slow_clients_keep_nobody_waiting() {
    let registry = OwnRegistry::start(&["--quiet"]);
    let digest = registry.push_blob("app", &vec![1; 3_000_000]);
    let mut slow = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(&registry.address).expect("connected");
        let text = match number % 3 {
            // A head that never ends, a body that never comes, and an answer that nobody reads.
            0 => "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-".to_owned(),
            1 => "PUT /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{".to_owned(),
            _ => format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n"),
        };
        stream.write_all(text.as_bytes()).expect("sent");
        slow.push(stream);
    }
    assert_eq!(registry.get(&format!("/v2/app/blobs/{digest}")).body.len(), 3_000_000);
    registry.push_image("app", "one", &[], "");
    let memory = own_memory(registry.pid());
    assert!(memory < 200 << 20, "{} MB", memory >> 20);
    drop(slow);
    registry.get("/v2/app/manifests/one").is(200);
}

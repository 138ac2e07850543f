//! Registries of ferry's own that keep everything in an S3 bucket, alone and several over one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_tests::engine::wait_until;
use ferry_tests::moto::Moto;
use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, image_manifest, sha256, sha512};
use serde_json::{Value, json};

use crate::Test;
use crate::registry_survival::{dared, push};

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_bucket::everything_is_in_the_bucket", everything_is_in_the_bucket),
    ("registry_bucket::uploads_and_parts", uploads_and_parts),
    ("registry_bucket::instances_agree", instances_agree),
    ("registry_bucket::tags_are_never_lost", tags_are_never_lost),
    ("registry_bucket::garbage_goes_once", garbage_goes_once),
    ("registry_bucket::killed_amid_pushes_sweeps_and_scrubs", killed_amid_pushes_sweeps_and_scrubs),
    ("registry_bucket::scrub_mends_objects", scrub_mends_objects),
    ("registry_bucket::long_histories_are_summed_up", long_histories_are_summed_up),
    ("registry_bucket::settings_that_cannot_be", settings_that_cannot_be),
];

fn instance(moto: &Moto, more: &[&str]) -> OwnRegistry {
    OwnRegistry::start(&[&moto.flags(), more].concat())
}

fn tags(registry: &OwnRegistry, name: &str) -> Value {
    registry.get(&format!("/v2/{name}/tags/list")).json()["tags"].clone()
}

fn everything_is_in_the_bucket() {
    let Some(moto) = Moto::start() else { return };
    let content: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    let first = instance(&moto, &["--s3-prefix", "some/where", "--gc-grace", "0s"]);
    let layer = first.push_blob("team/app", &content);
    let digest = first.push_image("team/app", "one", &[&layer], "");
    let blob = format!("/v2/team/app/blobs/{layer}");
    assert!(first.get(&blob).body == content);
    let part = first.send("GET", &blob, &[("Range", "bytes=1000-1999")], b"");
    part.is(206);
    assert!(part.body == content[1000..2000]);
    assert_eq!(first.send("HEAD", &blob, &[], b"").header("content-length"), "700001");
    let long = sha512(b"long");
    first.send("POST", &format!("/v2/team/app/blobs/uploads/?digest={long}"), &[], b"long").is(201);
    assert_eq!(first.get(&format!("/v2/team/app/blobs/{long}")).body, b"long");
    first.send("POST", &format!("/v2/other/blobs/uploads/?mount={layer}&from=team/app"), &[], b"").is(201);
    assert_eq!(moto.keys("some/where/blobs/").len(), 3, "{:?}", moto.keys(""));
    assert_eq!(moto.keys("").len(), moto.keys("some/where/").len());
    drop(first);
    // Another machine with an empty disk has all of it.
    let second =
        instance(&moto, &["--s3-prefix", "some/where", "--gc-grace", "0s", "--gc-interval", "100ms"]);
    let found = second.get("/v2/team/app/manifests/one");
    assert_eq!((found.status, sha256(&found.body)), (200, digest.clone()));
    assert!(second.get(&blob).body == content);
    second.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], b"").is(202);
    second.send("DELETE", &format!("/v2/other/blobs/{layer}"), &[], b"").is(202);
    wait_until("the objects go", || moto.keys("some/where/blobs/").is_empty());
    second.get(&blob).refuses(404, "BLOB_UNKNOWN");
    drop(moto);
    let away = second.get("/v2/team/app/manifests/one");
    assert_eq!((away.status, away.header("retry-after")), (503, "1"));
}

fn uploads_and_parts() {
    let Some(moto) = Moto::start() else { return };
    let mut registry = instance(&moto, &["--s3-part-size", "5MB"]);
    let content: Vec<u8> = (0..12_000_007u32).map(|n| (n % 249) as u8).collect();
    let begun = registry.send("POST", "/v2/app/blobs/uploads/", &[], b"");
    let place = begun.header("location").to_owned();
    registry.send("PATCH", &place, &[], &content[..7_000_000]).is(202);
    registry.kill_and_restart();
    assert_eq!(registry.get(&place).header("range"), "0-6999999");
    registry.send("PATCH", &place, &[("Content-Range", "7000000-12000006")], &content[7_000_000..]).is(202);
    let wrong = registry.send("POST", "/v2/app/blobs/uploads/", &[], b"abc").header("location").to_owned();
    registry
        .send("PUT", &format!("{wrong}?digest={}", sha256(b"abd")), &[], b"")
        .refuses(400, "DIGEST_INVALID");
    let digest = sha256(&content);
    registry.send("PUT", &format!("{place}?digest={digest}"), &[], b"").is(201);
    assert!(registry.get(&format!("/v2/app/blobs/{digest}")).body == content);
    // An object of parts says so in its tag.
    let (_, list) = moto.send("GET", "/images?list-type=2&prefix=blobs/", b"");
    assert!(list.contains("-3&quot;") || list.contains("-3\""), "{list}");
    assert_eq!(moto.keys("blobs/").len(), 1);
}

fn instances_agree() {
    let Some(moto) = Moto::start() else { return };
    let root = tempfile::tempdir().expect("a folder");
    let hash = "$2y$05$eVLCuPjzpbULGmHHTM7lBO5TbhvmwkVv295NmGVdqGisMOJlE0KdG";
    let users = root.path().join("users");
    std::fs::write(&users, format!("ann:{hash}\n")).expect("a file");
    let flags = ["--htpasswd", users.to_str().expect("a path"), "--tokens", "--anonymous-pull"];
    let (one, two) = (instance(&moto, &flags), instance(&moto, &flags));
    let basic = ("Authorization", "Basic YW5uOnNlY3JldA==");
    let token = one.send("GET", "/token?scope=repository:app:pull,push,delete", &[basic], b"").json();
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let bearer = ("Authorization", bearer.as_str());
    let push = |registry: &OwnRegistry, tag: &str, note: &str| {
        let target = format!("/v2/app/blobs/uploads/?digest={}", sha256(b"{}"));
        registry.send("POST", &target, &[bearer], b"{}").is(201);
        let manifest = image_manifest(&sha256(b"{}"), &[], &format!(r#","annotations":{{"n":"{note}"}}"#));
        let headers = [bearer, ("Content-Type", OCI_MANIFEST)];
        registry.send("PUT", &format!("/v2/app/manifests/{tag}"), &headers, manifest.as_bytes()).is(201);
        sha256(manifest.as_bytes())
    };
    // What one has acknowledged, the other one knows at once, again and again.
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let digest = push(writer, "moving", &round.to_string());
        assert_eq!(reader.get("/v2/app/manifests/moving").header("docker-content-digest"), digest);
        reader.send("DELETE", "/v2/app/manifests/moving", &[bearer], b"").is(202);
        writer.get("/v2/app/manifests/moving").refuses(404, "MANIFEST_UNKNOWN");
        writer.send("DELETE", "/v2/app/manifests/moving", &[bearer], b"").refuses(404, "MANIFEST_UNKNOWN");
    }
}

fn tags_are_never_lost() {
    let Some(moto) = Moto::start() else { return };
    let (one, two) = (instance(&moto, &["--quiet"]), instance(&moto, &["--quiet"]));
    for name in ["app", "gone"] {
        one.push_image(name, "base", &[], "");
    }
    let manifest = image_manifest(&sha256(b"{}"), &[], "");
    let put = |registry: &OwnRegistry, name: &str, tag: &str| {
        let target = format!("/v2/{name}/manifests/{tag}");
        registry.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], manifest.as_bytes()).is(201);
    };
    // Both set tags of the same repositories at the same time, and take some of them away again.
    std::thread::scope(|scope| {
        for (who, registry) in [("one", &one), ("two", &two)] {
            for worker in 0..2 {
                let put = &put;
                scope.spawn(move || {
                    for number in 0..12 {
                        let tag = format!("{who}-{worker}-{number:02}");
                        put(registry, "app", &tag);
                        put(registry, "gone", &tag);
                        registry.send("DELETE", &format!("/v2/gone/manifests/{tag}"), &[], b"").is(202);
                    }
                });
            }
        }
    });
    let mut all: Vec<String> = vec!["base".to_owned()];
    for who in ["one", "two"] {
        all.extend((0..2).flat_map(|w| (0..12).map(move |n| format!("{who}-{w}-{n:02}"))));
    }
    all.sort();
    let third = instance(&moto, &[]);
    for registry in [&one, &two, &third] {
        assert_eq!(tags(registry, "app"), json!(all));
        assert_eq!(tags(registry, "gone"), json!(["base"]));
    }
}

fn garbage_goes_once() {
    let Some(moto) = Moto::start() else { return };
    let flags = ["--quiet", "--gc-grace", "0s", "--gc-interval", "1h", "--sparse"];
    let (one, two) = (instance(&moto, &flags), instance(&moto, &flags));
    let collecting = AtomicBool::new(true);
    // One takes away what nothing refers to, while the other one pushes the very same bytes again and again.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while collecting.load(Ordering::Relaxed) {
                one.send("POST", "/ferry/v1/collect", &[], b"").is(200);
            }
        });
        for round in 0..15 {
            let layer = vec![7; 50_000];
            let digest = two.push_blob("app", &layer);
            let manifest = image_manifest(&digest, &[], "");
            let target = format!("/v2/app/manifests/r{round}");
            two.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], manifest.as_bytes()).is(201);
            let answer = two.get(&format!("/v2/app/blobs/{digest}"));
            assert!(answer.status == 404 || answer.body == layer, "{}", answer.status);
            two.send("DELETE", &format!("/v2/app/manifests/{}", sha256(manifest.as_bytes())), &[], b"")
                .is(202);
        }
        collecting.store(false, Ordering::Relaxed);
    });
    two.push_image("app", "kept", &[], "");
    one.send("POST", "/ferry/v1/collect", &[], b"").is(200);
    two.send("POST", "/ferry/v1/collect", &[], b"").is(200);
    let report = two.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!(report["lost"], json!([]), "{report}");
    assert_eq!(report["checked"].as_u64().expect("a number") as usize, moto.keys("blobs/").len());
}

fn layer_of(number: u32) -> Vec<u8> {
    format!("{number} ").repeat(5_000).into_bytes()
}

fn killed_amid_pushes_sweeps_and_scrubs() {
    let Some(moto) = Moto::start() else { return };
    let flags = ["--quiet", "--gc-grace", "1h", "--gc-interval", "100ms"];
    let (mut killed, other) = (instance(&moto, &flags), instance(&moto, &flags));
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..3u32 {
        let (ended, address) = (AtomicBool::new(false), killed.address.clone());
        let before = acknowledged.lock().expect("no panic").len();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in round * 10_000.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    // Some of it through the one that lives on.
                    let address = if number % 3 == 0 { &other.address } else { &address };
                    if push(address, "app", &format!("t{number}"), &layer_of(number)) {
                        acknowledged.lock().expect("no panic").push(number);
                    }
                }
            });
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    dared(&address, "POST", "/ferry/v1/collect", "", b"");
                    dared(&address, "POST", "/ferry/v1/scrub", "", b"");
                }
            });
            // In the middle of something else in every round.
            let enough = before + 2 + round as usize;
            wait_until("some are pushed", || acknowledged.lock().expect("no panic").len() >= enough);
            killed.kill_and_restart();
            ended.store(true, Ordering::Relaxed);
        });
    }
    let acknowledged = acknowledged.into_inner().expect("no panic");
    for registry in [&killed, &other] {
        for number in &acknowledged {
            let layer = layer_of(*number);
            let found = registry.get(&format!("/v2/app/manifests/t{number}"));
            assert_eq!(
                found.is(200).body,
                image_manifest(&sha256(b"{}"), &[&sha256(&layer)], "").into_bytes()
            );
            assert!(registry.get(&format!("/v2/app/blobs/{}", sha256(&layer))).body == layer, "t{number}");
        }
    }
    let report = killed.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!(report["lost"], json!([]), "{report}");
    let known = report["checked"].as_u64().expect("a number") as usize;
    wait_until("no orphan is left", || moto.keys("blobs/").len() == known);
}

fn scrub_mends_objects() {
    let Some(moto) = Moto::start() else { return };
    let sister = OwnRegistry::start(&[]);
    let registry = instance(&moto, &["--repair-from", &sister.address, "--gc-interval", "100ms"]);
    let (shared, own) = (vec![3; 100_000], vec![4; 100_000]);
    let layers: Vec<String> = [&shared, &own].map(|bytes| registry.push_blob("app", bytes)).to_vec();
    registry.push_image("app", "one", &[&layers[0], &layers[1]], "");
    sister.push_blob("app", &shared);
    for layer in &layers {
        let keys = moto.keys(&format!("blobs/sha256/{}", layer.trim_start_matches("sha256:")));
        assert_eq!(moto.send("PUT", &format!("/images/{}", keys[0]), &vec![b'?'; 100_000]).0, 200);
    }
    let report = registry.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!((&report["repaired"], &report["lost"]), (&json!([layers[0]]), &json!([layers[1]])));
    assert!(registry.get(&format!("/v2/app/blobs/{}", layers[0])).body == shared);
    registry.get(&format!("/v2/app/blobs/{}", layers[1])).refuses(404, "BLOB_UNKNOWN");
    registry.push_blob("app", &own);
    assert!(registry.get(&format!("/v2/app/blobs/{}", layers[1])).body == own);
    wait_until("the damaged objects go", || moto.keys("blobs/").len() == 3);
}

fn long_histories_are_summed_up() {
    let Some(moto) = Moto::start() else { return };
    let mut registry = instance(&moto, &["--quiet"]);
    let behind = instance(&moto, &["--quiet"]);
    registry.push_image("app", "base", &[], "");
    let text = "x".repeat(1_500_000);
    for number in 0..4 {
        registry.push_image(
            "app",
            &format!("t{number}"),
            &[],
            &format!(r#","annotations":{{"{number}":"{text}"}}"#),
        );
    }
    assert_eq!(moto.keys("snapshots/").len(), 1, "{:?}", moto.keys(""));
    assert!(moto.keys("journal/").len() <= 2, "{:?}", moto.keys(""));
    registry.push_image("app", "after", &[], "");
    let fresh = instance(&moto, &[]);
    for reader in [&behind, &fresh, &registry] {
        assert_eq!(tags(reader, "app"), json!(["after", "base", "t0", "t1", "t2", "t3"]));
        reader.get("/v2/app/manifests/t2").is(200);
    }
    // What a kill had left of such work goes at the next start; what another instance may be making stays.
    let name = std::fs::read_to_string(registry.root().join("data/instance")).expect("its name");
    for who in [name.as_str(), "somebody"] {
        assert_eq!(moto.send("PUT", &format!("/images/journal/ff.{who}.left"), b"x").0, 200);
    }
    registry.kill_and_restart();
    let left = |who: &str| moto.keys("journal/").contains(&format!("journal/ff.{who}.left"));
    wait_until("its own goes", || !left(&name));
    assert!(left("somebody"));
}

fn settings_that_cannot_be() {
    let serve = |flags: &[&str], keys: bool| {
        let mut command = std::process::Command::new(ferry_tests::engine::binary());
        command
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--root", "/nonexistent/root"])
            .args(flags);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            match keys {
                true => command.env(name, "key"),
                false => command.env_remove(name),
            };
        }
        let output = command.output().expect("ferry");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (flags, keys, text) in [
        (&["--s3-region", "x"][..], true, "need --s3-bucket"),
        (&["--s3-bucket", "b"], false, "AWS_ACCESS_KEY_ID"),
        (&["--s3-bucket", "b", "--s3-endpoint", "host:9000"], true, "is no http:// or https:// URL"),
        (&["--s3-bucket", "a b"], true, "a bucket's name"),
    ] {
        let (code, output) = serve(flags, keys);
        assert!(code != 0 && output.contains(text), "{flags:?}: {output}");
    }
}

//! How a registry of ferry's own keeps house: rules, retention, scrub, webhooks, rates, and its configuration file.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use ferry_tests::engine::wait_until;
use ferry_tests::own_registry::{OwnRegistry, sha256};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_house::rules_decide_by_repository", rules_decide_by_repository),
    ("registry_house::retention_by_pattern_and_age", retention_by_pattern_and_age),
    ("registry_house::scrub_mends", scrub_mends),
    ("registry_house::scrub_heals_by_the_next_push", scrub_heals_by_the_next_push),
    ("registry_house::webhooks_tell", webhooks_tell),
    ("registry_house::rates_are_limited", rates_are_limited),
    ("registry_house::configuration_says_what_is_wrong", configuration_says_what_is_wrong),
];

/// A registry with this configuration; `ROOT` in it is the registry's folder.
fn configured(text: &Value, more: &[&str]) -> OwnRegistry {
    let root = tempfile::Builder::new().prefix("ferry-own-registry-").tempdir().expect("a folder");
    let text = text.to_string().replace("ROOT", &root.path().to_string_lossy());
    std::fs::write(root.path().join("config.json"), text).expect("a file");
    // Of the user `ann` with the password `secret`, and of `bob` with the same.
    let hash = "$2y$05$eVLCuPjzpbULGmHHTM7lBO5TbhvmwkVv295NmGVdqGisMOJlE0KdG";
    std::fs::write(root.path().join("users"), format!("ann:{hash}\nbob:{hash}\n")).expect("a file");
    OwnRegistry::start_in(root, &[&["--config", "ROOT/config.json"], more].concat())
}

/// `Authorization` of the password `secret`.
const ANN: (&str, &str) = ("Authorization", "Basic YW5uOnNlY3JldA==");
const BOB: (&str, &str) = ("Authorization", "Basic Ym9iOnNlY3JldA==");

fn rules_decide_by_repository() {
    for tokens in [false, true] {
        let registry = configured(
            &json!({
                "htpasswd": "ROOT/users",
                "tokens": tokens,
                "admins": ["ann"],
                "rules": [
                    {"repositories": "team/*", "users": ["ann"], "may": ["pull", "push", "delete"]},
                    {"repositories": "team/public*", "users": ["anonymous"], "may": ["pull"]},
                    {"repositories": "drop/*", "users": ["*"], "may": ["push"]}
                ]
            }),
            &[],
        );
        let begin = |name: &str, who: &[(&str, &str)]| {
            registry.send("POST", &format!("/v2/{name}/blobs/uploads/"), who, b"").status
        };
        let list = |name: &str, who: &[(&str, &str)]| {
            registry.send("GET", &format!("/v2/{name}/tags/list"), who, b"").status
        };
        for (status, expected, place) in [
            (begin("team/app", &[ANN]), 202, "ann pushes to her own"),
            (begin("team/app", &[BOB]), 403, "bob does not"),
            (begin("team/app", &[]), 401, "nobody does not"),
            (begin("drop/x", &[BOB]), 202, "everybody drops"),
            (list("drop/x", &[BOB]), 403, "and does not read"),
            (begin("elsewhere", &[BOB]), 202, "no rule is about this one"),
            (list("team/app", &[]), 401, "private"),
            (list("team/public", &[]), 404, "public, and empty"),
        ] {
            assert_eq!(status, expected, "{place}");
        }
        registry.send("POST", "/ferry/v1/collect", &[BOB], b"").refuses(403, "DENIED");
        registry.send("POST", "/ferry/v1/collect", &[ANN], b"").is(200);
        if tokens {
            let scope = "repository:team/app:pull,push";
            let token = registry.send("GET", &format!("/token?scope={scope}"), &[BOB], b"").json();
            let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
            assert_eq!(
                begin("team/app", &[("Authorization", &bearer)]),
                401,
                "a token is no more than its user"
            );
        }
    }
}

fn retention_by_pattern_and_age() {
    let registry = configured(
        &json!({
            "retention-interval": "100ms",
            "retention": [
                {"repositories": "kept/*"},
                {"repositories": "app", "tags": "pr-*", "keep": 1},
                {"repositories": "app", "tags": "old-*", "older-than": "1s", "untagged": "1s"}
            ]
        }),
        &["--trash", "1h"],
    );
    let untagged = registry.push_image("app", "moving", &[], r#","annotations":{"n":"first"}"#);
    for (number, tag) in ["v1", "moving", "old-1", "pr-1"].iter().enumerate() {
        registry.push_image("app", tag, &[], &format!(r#","annotations":{{"n":"{number}"}}"#));
    }
    registry.push_image("kept/app", "pr-1", &[], "");
    let tags = |name: &str| registry.get(&format!("/v2/{name}/tags/list")).json()["tags"].clone();
    wait_until("the old tag goes", || tags("app") == json!(["moving", "pr-1", "v1"]));
    wait_until("the manifest without a tag goes", || {
        registry.get(&format!("/v2/app/manifests/{untagged}")).status == 404
    });
    registry.get(&format!("/v2/app/manifests/{}", "v1")).is(200);
    // By the second, so that the new one is the newer one.
    std::thread::sleep(Duration::from_millis(1100));
    registry.push_image("app", "pr-2", &[], r#","annotations":{"n":"last"}"#);
    wait_until("the newest stays alone", || tags("app") == json!(["moving", "pr-2", "v1"]));
    assert_eq!(tags("kept/app"), json!(["pr-1"]));
    let trash = registry.get("/ferry/v1/trash").json();
    assert!(trash.as_array().is_some_and(|all| all.iter().any(|one| one["digest"] == untagged)), "{trash}");
}

/// Writes other bytes into a blob's file.
fn damage(registry: &OwnRegistry, digest: &str) {
    let hex = digest.trim_start_matches("sha256:");
    let path = registry.root().join("data/blobs/sha256").join(&hex[..2]).join(hex);
    let length = std::fs::metadata(&path).expect("the blob's file").len() as usize;
    std::fs::write(path, vec![b'?'; length]).expect("damaged");
}

fn scrub_mends() {
    let sister = OwnRegistry::start(&[]);
    let registry = OwnRegistry::start(&["--repair-from", &sister.address]);
    let content = vec![3; 100_000];
    for one in [&sister, &registry] {
        let layer = one.push_blob("app", &content);
        one.push_image("app", "one", &[&layer], "");
    }
    let scrub = || registry.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!(scrub(), json!({"checked": 2, "bytes": 100_002, "repaired": [], "lost": []}));
    let layer = sha256(&content);
    damage(&registry, &layer);
    assert_eq!(scrub()["repaired"], json!([layer]));
    assert!(registry.get(&format!("/v2/app/blobs/{layer}")).body == content);
    assert!(registry.get("/metrics").text().contains("\nferry_registry_blobs_repaired_total 1\n"));
}

fn scrub_heals_by_the_next_push() {
    let mut registry = OwnRegistry::start(&[]);
    let content = vec![4; 50_000];
    let layer = registry.push_blob("app", &content);
    registry.push_blob("copy", &content);
    let digest = registry.push_image("app", "one", &[&layer], "");
    damage(&registry, &layer);
    let report = registry.send("POST", "/ferry/v1/scrub", &[], b"").json();
    assert_eq!((&report["repaired"], &report["lost"]), (&json!([]), &json!([layer])));
    registry.kill_and_restart();
    registry.get(&format!("/v2/app/blobs/{layer}")).refuses(404, "BLOB_UNKNOWN");
    registry.get(&format!("/v2/app/manifests/{digest}")).is(200);
    registry.push_blob("copy", &content);
    assert!(
        registry.get(&format!("/v2/app/blobs/{layer}")).body == content,
        "one push heals every repository"
    );
}

fn webhooks_tell() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let receiver = std::thread::spawn(move || {
        let mut told = Vec::new();
        while told.len() < 3 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            let body = loop {
                let count = stream.read(&mut buffer).expect("a request");
                text.extend_from_slice(&buffer[..count]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                if let Some((_, body)) = whole.split_once("\r\n\r\n")
                    && serde_json::from_str::<Value>(body).is_ok()
                {
                    assert!(whole.to_lowercase().contains("x-ferry-signature: sha256="), "{whole}");
                    break body.to_owned();
                }
            };
            // The first answer is a refusal: the event comes once more.
            let status = if told.is_empty() { "500 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("answered");
            told.push(serde_json::from_str::<Value>(&body).expect("JSON")["events"][0].clone());
        }
        told
    });
    let registry = configured(
        &json!({"webhooks": [{
            "url": format!("http://{address}/told"), "secret": "key",
            "actions": ["push", "delete"], "repositories": "team/*"
        }]}),
        &[],
    );
    registry.push_image("other", "one", &[], "");
    let digest = registry.push_image("team/app", "one", &[], "");
    registry.get("/v2/team/app/manifests/one").is(200);
    registry.send("DELETE", "/v2/team/app/manifests/one", &[], b"").is(202);
    let told = receiver.join().expect("told");
    let what = |event: &Value| {
        let target = &event["target"];
        (event["action"].clone(), target["repository"].clone(), target["tag"].clone())
    };
    let push = (json!("push"), json!("team/app"), json!("one"));
    assert_eq!((what(&told[0]), what(&told[1])), (push.clone(), push));
    assert_eq!(told[1]["target"]["digest"], digest);
    assert_eq!(what(&told[2]), (json!("delete"), json!("team/app"), json!("one")));
}

fn rates_are_limited() {
    let registry = OwnRegistry::start(&["--rate-limit", "1"]);
    let refused = (0..30).map(|_| registry.get("/v2/")).find(|answer| answer.status != 200);
    let refused = refused.expect("thirty at once are too many");
    refused.refuses(429, "TOOMANYREQUESTS");
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{refused:?}");
}

fn configuration_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    for (text, said) in [
        ("{", "is not valid: EOF"),
        (r#"{"colour": "red"}"#, "colour: there is no such setting"),
        (r#"{"quota": {}}"#, "quota: not a text"),
        (r#"{"rules": [{"repositories": "*", "users": ["ann"], "may": ["fly"]}]}"#, "\"fly\" is none of"),
        (r#"{"rules": [{"repositories": "*", "users": ["*"], "may": ["pull"]}]}"#, "rules need --htpasswd"),
        (r#"{"retention": [{"older-than": "soon"}]}"#, "retention: time:"),
        (r#"{"webhooks": [{"url": "ftp://x"}]}"#, "is no http:// or https:// URL"),
        (r#"{"upstreams": [{"domain": "a/b"}]}"#, "neither DOMAIN nor PREFIX=DOMAIN"),
    ] {
        std::fs::write(&path, text).expect("a file");
        let output = std::process::Command::new(ferry_tests::engine::binary())
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"])
            .arg(folder.path().join("data"))
            .arg("--config")
            .arg(&path)
            .output()
            .expect("ferry");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(said), "{text}: {told}");
    }
}

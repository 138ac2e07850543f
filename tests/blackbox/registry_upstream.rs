//! A registry of ferry's own that fetches what it lacks from other registries.

use ferry_tests::Engine;
use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, sha256};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_upstream::what_is_fetched_is_kept", what_is_fetched_is_kept),
    ("registry_upstream::tags_are_asked_for_again", tags_are_asked_for_again),
    ("registry_upstream::damaged_blobs_stay_out", damaged_blobs_stay_out),
    ("registry_upstream::clients_pull_through", clients_pull_through),
];

fn what_is_fetched_is_kept() {
    let origin = OwnRegistry::start(&[]);
    let content: Vec<u8> = (0..3_000_001u32).map(|n| (n % 253) as u8).collect();
    let layer = origin.push_blob("team/app", &content);
    let digest = origin.push_image("team/app", "one", &[&layer], "");
    let under = format!("mirror={}", origin.address);
    let cache = OwnRegistry::start(&["--upstream", &under]);
    let found = cache.get("/v2/mirror/team/app/manifests/one");
    found.is(200);
    assert_eq!(
        (sha256(&found.body), found.header("docker-content-digest")),
        (digest.clone(), digest.as_str())
    );
    let blob = format!("/v2/mirror/team/app/blobs/{layer}");
    let part = cache.send("GET", &blob, &[("Range", "bytes=1000-1999999")], b"");
    part.is(206);
    assert!(part.body == content[1000..2_000_000]);
    assert!(cache.get(&blob).body == content);
    cache.get(&format!("/v2/mirror/team/app/blobs/{}", sha256(b"none"))).refuses(404, "BLOB_UNKNOWN");
    cache.get("/v2/mirror/team/app/manifests/none").refuses(404, "MANIFEST_UNKNOWN");
    cache.get("/v2/elsewhere/app/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
    cache.send("POST", "/v2/mirror/team/app/blobs/uploads/", &[], b"").refuses(405, "UNSUPPORTED");
    cache.push_image("own/app", "one", &[], "");
    // A client that has this one for a mirror of all says which registry it means.
    let asked = format!("/v2/team/app/manifests/one?ns={}", origin.address.replace(':', "%3A"));
    assert_eq!(sha256(&cache.get(&asked).body), digest);
    drop(origin);
    assert!(cache.get(&blob).body == content, "it is kept");
    cache.get(&format!("/v2/mirror/team/app/manifests/{digest}")).is(200);
    cache.get("/v2/mirror/team/app/manifests/one").is(200);
    cache.get("/v2/mirror/team/app/manifests/other").is(502);
}

fn tags_are_asked_for_again() {
    let origin = OwnRegistry::start(&[]);
    let old = origin.push_image("app", "moving", &[], "");
    let cache = OwnRegistry::start(&["--upstream", &origin.address, "--upstream-fresh", "0s"]);
    let digest = || {
        let answer = cache.get("/v2/app/manifests/moving");
        (answer.header("docker-content-digest").to_owned(), answer.header("warning").to_owned())
    };
    assert_eq!(digest(), (old, String::new()));
    let new = origin.push_image("app", "moving", &[], r#","annotations":{"a":"b"}"#);
    assert_eq!(digest(), (new.clone(), String::new()));
    drop(origin);
    let (stale, warning) = digest();
    assert_eq!(stale, new);
    assert!(warning.contains("does not answer"), "{warning}");
}

fn damaged_blobs_stay_out() {
    let origin = OwnRegistry::start(&[]);
    let layer = origin.push_blob("app", &vec![1; 100_000]);
    let hex = layer.trim_start_matches("sha256:");
    let path = origin.root().join("data/blobs/sha256").join(&hex[..2]).join(hex);
    std::fs::write(path, vec![2; 100_000]).expect("damaged");
    let cache = OwnRegistry::start(&["--upstream", &origin.address]);
    let answer = cache.get(&format!("/v2/app/blobs/{layer}"));
    assert!(answer.body.len() < 100_000, "a whole blob of wrong bytes was sent");
    drop(origin);
    cache.get(&format!("/v2/app/blobs/{layer}")).is(502);
}

fn clients_pull_through() {
    let origin = OwnRegistry::start(&[]);
    let engine = Engine::with_busybox();
    let name = format!("{}/box:one", origin.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    engine.ferry(["push", &name]).exits(0);
    for client in CLIENTS {
        let cache = OwnRegistry::start(&["--upstream", &origin.address]);
        let other = Engine::start();
        let name = format!("{}/box:one", cache.address);
        other.client(client, ["run", "--rm", &name, "echo", "through"]).prints("through");
        let accept = [("Accept", OCI_MANIFEST)];
        cache.send("GET", "/v2/box/manifests/one", &accept, b"").is(200);
    }
}

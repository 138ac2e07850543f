//! A registry of ferry's own that serves an engine's images from where they lie.

use std::fs;
use std::path::Path;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::own_registry::{OwnRegistry, sha256};
use serde_json::json;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_engine::its_images_are_served", its_images_are_served),
    ("registry_engine::pushes_make_images", pushes_make_images),
];

fn over(engine: &Engine) -> OwnRegistry {
    OwnRegistry::start_with(&[("FERRY_HOST", &engine.host())], &["--engine", "--gc-interval", "100ms"])
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

fn its_images_are_served() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "--name", "maker", "busybox", "touch", "/made"]).exits(0);
    engine.ferry(["commit", "maker", "team/made:one"]).exits(0);
    let registry = over(&engine);
    let all = registry.get("/v2/_catalog").json()["repositories"].clone();
    let all = all.as_array().expect("a list");
    assert!(all.contains(&json!("busybox")) && all.contains(&json!("team/made")), "{all:?}");
    assert_eq!(registry.get("/v2/team/made/tags/list").json(), json!({"name": "team/made", "tags": ["one"]}));
    registry.get("/v2/library/busybox/tags/list").is(200);
    registry.get("/v2/none/tags/list").refuses(404, "NAME_UNKNOWN");
    registry.get("/v2/team/made/manifests/two").refuses(404, "MANIFEST_UNKNOWN");
    let found = registry.get("/v2/team/made/manifests/one");
    let digest = sha256(&found.is(200).body);
    assert_eq!(found.header("docker-content-digest"), digest);
    assert_eq!(registry.get(&format!("/v2/team/made/manifests/{digest}")).body, found.body);
    let manifest = found.json();
    for blob in [&manifest["config"], &manifest["layers"][0], &manifest["layers"][1]] {
        let path = format!("/v2/team/made/blobs/{}", blob["digest"].as_str().expect("a digest"));
        let whole = registry.get(&path);
        assert_eq!(
            (whole.is(200).body.len() as u64, sha256(&whole.body)),
            (blob["size"].as_u64().expect("a size"), blob["digest"].as_str().expect("a digest").to_owned())
        );
        let part = registry.send("GET", &path, &[("Range", "bytes=10-49")], b"");
        assert!(part.is(206).body == whole.body[10..50]);
    }
    registry
        .send("DELETE", &format!("/v2/team/made/manifests/{digest}"), &[], b"")
        .refuses(405, "UNSUPPORTED");
    for client in CLIENTS {
        let other = Engine::start();
        let name = format!("{}/team/made:one", registry.address);
        other.client(client, ["run", "--rm", &name, "ls", "/made"]).prints("/made");
    }
    assert_eq!(files_below(&registry.root().join("data/blobs")), 0, "there is no second copy");
}

fn pushes_make_images() {
    let engine = Engine::start();
    let registry = over(&engine);
    let other = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("{}/given/box:{client}", registry.address);
        other.client(client, ["tag", "busybox", &name]).exits(0);
        other.client(client, ["push", &name]).exits(0);
        other.client(client, ["push", &name]).exits(0).says("Layer already exists");
        engine
            .client(client, ["run", "--rm", &format!("given/box:{client}"), "echo", "given"])
            .prints("given");
        // What was pushed is what is pulled.
        let pushed = other.client(client, ["image", "inspect", "-f", "{{json .RepoDigests}}", &name]);
        let found = registry.get(&format!("/v2/given/box/manifests/{client}"));
        pushed.exits(0).says(found.is(200).header("docker-content-digest"));
    }
    wait_until("what was pushed lies in the engine alone", || {
        files_below(&registry.root().join("data/blobs")) == 0
    });
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let kind = ("Content-Type", "application/vnd.oci.image.index.v1+json");
    registry
        .send("PUT", "/v2/given/box/manifests/all", &[kind], index.as_bytes())
        .refuses(405, "UNSUPPORTED");
}

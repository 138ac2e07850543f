//! A registry of ferry's own that fetches what it lacks from other registries.

use std::net::{TcpListener, TcpStream};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, sha256};
use serde_json::json;

use crate::transfer_proxy::Proxy;
use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_upstream::what_is_fetched_is_kept", what_is_fetched_is_kept),
    ("registry_upstream::tags_are_asked_for_again", tags_are_asked_for_again),
    ("registry_upstream::damaged_blobs_stay_out", damaged_blobs_stay_out),
    ("registry_upstream::clients_pull_through", clients_pull_through),
    ("registry_upstream::docker_hub_is_the_default", docker_hub_is_the_default),
    ("registry_upstream::logs_in_at_its_upstream", logs_in_at_its_upstream),
    ("registry_upstream::the_image_is_told_by_variables", the_image_is_told_by_variables),
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

/// Something in the place of Docker Hub, with its name in its certificate, behind a proxy that knows no other way.
fn docker_hub_is_the_default() {
    let origin = OwnRegistry::start(&[]);
    let official = origin.push_image("library/box", "one", &[], "");
    let other = origin.push_image("team/app", "one", &[], r#","annotations":{"a":"b"}"#);
    let names = ["--tls-self-signed", "--tls-name", "registry-1.docker.io"];
    let hub = OwnRegistry::start(&[&names[..], &["--upstream", &origin.address]].concat());
    let proxy = Proxy::start(&hub.address);
    let way = format!("http://{}", proxy.address);
    let authority = hub.root().join("data/tls/ca.crt").display().to_string();
    let variables =
        [("HTTPS_PROXY", way.as_str()), ("SSL_CERT_FILE", &authority), ("SSL_CERT_DIR", "/nowhere")];
    let named = ["--upstream", "docker.io"];
    for flags in [&["--cache"][..], &named, &["--upstream", "https://registry-1.docker.io/"]] {
        let cache = OwnRegistry::start_with(&variables, flags);
        // An official image has two names, of which people use the short one.
        for (name, digest) in [("box", &official), ("library/box", &official), ("team/app", &other)] {
            let found = cache.get(&format!("/v2/{name}/manifests/one"));
            assert_eq!(found.is(200).header("docker-content-digest"), digest, "{flags:?} {name}");
        }
        cache.get("/v2/team/box/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
        assert_eq!(cache.get(&format!("/v2/box/blobs/{}", sha256(b"{}"))).body, b"{}");
    }
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    assert!(heads.iter().all(|head| head.starts_with("CONNECT registry-1.docker.io:443 ")), "{heads:#?}");
}

/// A registry whose user `ann` has the password `secret`, with an image in it.
fn private_origin(tokens: bool) -> (OwnRegistry, String) {
    let root = tempfile::Builder::new().prefix("ferry-own-registry-").tempdir().expect("a folder");
    let hash = "$2y$05$eVLCuPjzpbULGmHHTM7lBO5TbhvmwkVv295NmGVdqGisMOJlE0KdG";
    std::fs::write(root.path().join("users"), format!("ann:{hash}\n")).expect("a file");
    let flags: &[&str] = if tokens { &["--tokens"] } else { &[] };
    let origin = OwnRegistry::start_in(root, &[&["--htpasswd", "ROOT/users"], flags].concat());
    let ann = ("Authorization", "Basic YW5uOnNlY3JldA==");
    let target = format!("/v2/team/app/blobs/uploads/?digest={}", sha256(b"{}"));
    origin.send("POST", &target, &[ann], b"{}").is(201);
    let manifest = ferry_tests::own_registry::image_manifest(&sha256(b"{}"), &[], "");
    let headers = [ann, ("Content-Type", OCI_MANIFEST)];
    origin.send("PUT", "/v2/team/app/manifests/one", &headers, manifest.as_bytes()).is(201);
    (origin, sha256(manifest.as_bytes()))
}

fn logs_in_at_its_upstream() {
    for tokens in [false, true] {
        let (origin, digest) = private_origin(tokens);
        let start = |user: &str, password: &str| {
            let root = tempfile::Builder::new().prefix("ferry-own-registry-").tempdir().expect("a folder");
            let upstream = json!({"domain": origin.address, "username": user, "password": password});
            let text = json!({ "upstreams": [upstream] }).to_string();
            std::fs::write(root.path().join("config.json"), text).expect("a file");
            OwnRegistry::start_in(root, &["--config", "ROOT/config.json"])
        };
        let cache = start("ann", "secret");
        let found = cache.get("/v2/team/app/manifests/one");
        assert_eq!(found.is(200).header("docker-content-digest"), digest);
        assert_eq!(cache.get(&format!("/v2/team/app/blobs/{}", sha256(b"{}"))).body, b"{}");
        // Who asks this one need not know that.
        let wrong = start("ann", "wrong");
        wrong.get("/v2/team/app/manifests/one").is(502);
        let log = std::fs::read_to_string(wrong.root().join("log")).expect("its log");
        assert!(!log.contains("\"wrong\"") && !log.contains("YW5uOndyb25n"), "{log}");
    }
}

fn the_image_is_told_by_variables() {
    let (origin, digest) = private_origin(true);
    let engine = Engine::start();
    for client in CLIENTS {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let variables = [
            format!("REGISTRY_HTTP_ADDR={address}"),
            format!("REGISTRY_PROXY_REMOTEURL=http://{}", origin.address),
            "REGISTRY_PROXY_USERNAME=ann".to_owned(),
            "REGISTRY_PROXY_PASSWORD=secret".to_owned(),
        ];
        let mut start = vec!["run", "-d", "--name", client, "--network", "host"];
        start.extend(variables.iter().flat_map(|one| ["-e", one.as_str()]));
        start.push("localhost/registry");
        engine.client(client, start).exits(0);
        wait_until("the registry listens", || TcpStream::connect(&address).is_ok());
        let source = format!("docker://{address}/team/app:one");
        let inspect = ["inspect", "--raw", "--tls-verify=false", &source];
        let output = std::process::Command::new("skopeo").args(inspect).output().expect("skopeo");
        assert_eq!(sha256(&output.stdout), digest, "{}", String::from_utf8_lossy(&output.stderr));
        let push = ["copy", "--insecure-policy", "--dest-tls-verify=false"];
        let archive = format!("docker-archive:{}", ferry_tests::images::archive("busybox").display());
        let target = format!("docker://{address}/own:x");
        let pushed = std::process::Command::new("skopeo").args(push).args([&archive, &target]).output();
        assert!(!pushed.expect("skopeo").status.success(), "nobody pushes to a cache");
        engine.client(client, ["rm", "-f", client]).exits(0);
    }
}

//! What was made here goes out: packed while it is sent, in the compression that was asked for, for the platform meant.

use std::io::Read as _;
use std::sync::Mutex;

use ferry_tests::Engine;
use ferry_tests::faulty::{Answer, Faulty, Image};
use ferry_tests::registry::{Access, Registry};
use serde_json::Value;

use crate::transfer::skopeo;
use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_packed::compression_on_request", compression_on_request),
    ("transfer_packed::a_changed_layer_costs_only_itself", a_changed_layer_costs_only_itself),
    ("transfer_packed::sent_while_packed_and_gone_on_with", sent_while_packed_and_gone_on_with),
    ("transfer_packed::platform", platform),
    ("transfer_packed::plain_layers", plain_layers),
    ("transfer_packed::foreign_layers", foreign_layers),
];

fn manifest_of(name: &str) -> Value {
    let source = format!("docker://{name}");
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &source]);
    serde_json::from_str(raw.ok()).expect("a manifest")
}

fn media_types(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().expect("layers");
    layers.iter().map(|layer| layer["mediaType"].as_str().unwrap_or_default().to_owned()).collect()
}

fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().expect("layers");
    layers.iter().map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned()).collect()
}

/// An image with one layer of its own on busybox.
fn make(engine: &Engine, name: &str, command: &str) {
    let container = name.replace(['/', ':'], "-");
    engine.ferry(["run", "--name", &container, "busybox", "sh", "-c", command]).exits(0);
    engine.ferry(["commit", &container, name]).exits(0);
}

/// 8 MiB of noise and as much of nothing.
const LARGE: &str = "head -c 8388608 /dev/urandom >/noise; head -c 8388608 /dev/zero >/zeros";

fn compression_on_request() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let name = |tag: &str| format!("{}/packed:{tag}", registry.address);
    make(&engine, &name("x"), LARGE);
    let push = |tag: &str, flags: &[&str]| {
        engine.ferry(["tag", &name("x"), &name(tag)]).exits(0);
        engine.ferry([&["push"], flags, &[&name(tag)]].concat()).exits(0);
        manifest_of(&name(tag))
    };
    let gzip = push("gzip", &[]);
    assert!(media_types(&gzip).iter().all(|kind| kind.ends_with("gzip")), "{gzip}");
    let zstd = push("zstd", &["--compression", "zstd"]);
    assert!(media_types(&zstd).iter().all(|kind| kind.ends_with("tar+zstd")), "{zstd}");
    let again = push("again", &["--compression", "zstd"]);
    assert_eq!(digests(&again), digests(&zstd), "the same bytes each time");
    let small = push("small", &["--compression", "zstd", "--compression-level", "19"]);
    assert_ne!(digests(&small), digests(&zstd));
    // Asked for nothing, it goes out as before.
    assert_eq!(digests(&push("later", &[])), digests(&gzip));

    let other = Engine::start();
    for client in CLIENTS {
        other.client(client, ["pull", &name("zstd")]).exits(0);
        other.client(client, ["run", "--rm", &name("zstd"), "wc", "-c", "/noise"]).prints("8388608 /noise");
        other.client(client, ["rmi", &name("zstd")]).exits(0);
    }
    for (flags, told) in [
        (["--compression", "xz"].as_slice(), "there are gzip and zstd"),
        (&["--compression-level", "3"], "needs a compression"),
        (&["--compression", "gzip", "--compression-level", "10"], "not between 1 and 9"),
    ] {
        engine.ferry([&["push"], flags, &[&name("x")]].concat()).exits(1).complains(told);
    }
}

fn a_changed_layer_costs_only_itself() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = |tag: &str| format!("{}/{client}:{tag}", registry.address);
        make(&engine, &name("one"), LARGE);
        engine.client(client, ["push", &name("one")]).exits(0);
        let container = format!("{client}-changed");
        engine.ferry(["run", "--name", &container, &name("one"), "touch", "/changed"]).exits(0);
        engine.ferry(["commit", &container, &name("two")]).exits(0);
        let pushed = engine.client(client, ["push", &name("two")]);
        pushed.exits(0);
        assert_eq!(pushed.stdout.matches("Layer already exists").count(), 2, "{pushed}");
        assert_eq!(pushed.stdout.matches(": Pushed").count(), 1, "{pushed}");
        assert_eq!(digests(&manifest_of(&name("two")))[..2], digests(&manifest_of(&name("one"))));
    }
}

/// The first request for the layer has no length, since its end is not known yet; it breaks, and the next one goes on.
fn sent_while_packed_and_gone_on_with() {
    let received = Mutex::new((Vec::new(), 0));
    let server = Faulty::start(move |request| {
        let mut received = received.lock().expect("no panic");
        let upload = "/v2/streamed/blobs/uploads/one";
        match (request.method.as_str(), request.path.as_str()) {
            ("HEAD", _) => Answer::status(404),
            ("POST", _) => Answer::status(202).with("Location", upload),
            ("PATCH", _) if received.1 == 0 => {
                assert_eq!(request.header("transfer-encoding"), Some("chunked"), "{:?}", request.headers);
                received.1 += 1;
                received.0.extend_from_slice(&request.body[..100_000]);
                Answer::status(0)
            }
            ("GET", path) if path.starts_with(upload) => {
                let range = format!("0-{}", received.0.len() - 1);
                Answer::status(204).with("Location", upload).with("Range", range)
            }
            ("PATCH", _) => {
                let range = request.header("content-range").unwrap_or_default();
                assert!(range.starts_with("100000-"), "{range}");
                received.0.extend_from_slice(&request.body);
                Answer::status(202).with("Location", upload)
            }
            ("PUT", path) if path.contains("/manifests/") => Answer::status(201),
            ("PUT", path) if request.body.is_empty() => {
                let digest = ferry_tests::faulty::digest(&received.0).replace(':', "%3A");
                Answer::status(if path.ends_with(&digest) { 201 } else { 400 })
            }
            ("PUT", _) => Answer::status(201),
            _ => Answer::status(200),
        }
    });
    let engine = Engine::with_busybox();
    engine.ferry(["run", "--name", "made", "busybox", "sh", "-c", LARGE]).exits(0);
    // One layer alone.
    let exported = engine.directory().join("made.tar").display().to_string();
    engine.ferry(["export", "-o", &exported, "made"]).exits(0);
    let name = format!("{}/streamed:x", server.address);
    engine.ferry(["import", &exported, &name]).exits(0);
    engine.ferry(["push", &name]).exits(0).says("Pushed");
    let patches = server.requests().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(patches, 2);
}

fn platform() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("{}/platform:{client}", registry.address);
        engine.ferry(["tag", "busybox", &name]).exits(0);
        engine
            .client(client, ["push", "--platform", "linux/s390x", &name])
            .exits(1)
            .complains("does not provide the specified platform (linux/s390x)");
        engine.client(client, ["push", "--platform", "linux/amd64", &name]).exits(0);
    }
}

/// A layer that only its maker hands out comes from where the manifest says, without any proof of who asks, and stays
/// there when the image goes on to another registry.
fn foreign_layers() {
    let mut image = Image::new(7, 100_000);
    let layer = image.layer.clone();
    let maker = Faulty::start(move |request| match request.path.as_str() {
        "/windows/base.tar.gz" => Answer::status(200).body(layer.clone()),
        _ => Answer::status(404),
    });
    let mut manifest: Value = serde_json::from_slice(&image.manifest).expect("JSON");
    manifest["layers"][0]["mediaType"] =
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    manifest["layers"][0]["urls"] =
        serde_json::json!(["file:///etc/passwd", format!("http://{}/windows/base.tar.gz", maker.address)]);
    image.manifest = manifest.to_string().into_bytes();
    let registry = Faulty::start(move |request| match image.is_layer(request) {
        true => Answer::status(404),
        false => image.answer(request),
    });
    let name = format!("{}/foreign", registry.address);
    for client in CLIENTS {
        let engine = Engine::start();
        engine.client(client, ["pull", &name]).exits(0);
        let id = engine.ferry(["create", &name, "x"]).ok().to_owned();
        engine.ferry(["export", "-o", "/dev/null", &id]).exits(0);
    }
    assert!(maker.requests().iter().all(|request| request.header("authorization").is_none()));
}

/// Layers that are not compressed at all, as both kinds of manifests name them.
fn plain_layers() {
    let server = |kind: &'static str, seed: u64| {
        let mut image = Image::new(seed, 100_000);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&image.layer[..]).read_to_end(&mut tar).expect("gzip");
        image.layer = tar;
        image.manifest = image.describe(image.layer.len());
        let mut manifest: Value = serde_json::from_slice(&image.manifest).expect("JSON");
        manifest["layers"][0]["mediaType"] = kind.into();
        image.manifest = manifest.to_string().into_bytes();
        Faulty::start(move |request| image.answer(request))
    };
    let kinds = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    let engine = Engine::start();
    for (seed, kind) in (61..).step_by(2).zip(kinds) {
        let registry = server(kind, seed);
        let name = format!("{}/plain", registry.address);
        engine.ferry(["pull", &name]).exits(0);
        let id = engine.ferry(["create", &name, "x"]).ok().to_owned();
        let out = engine.directory().join("noise");
        engine.ferry(["cp", &format!("{id}:/noise"), &out.display().to_string()]).exits(0);
        assert_eq!(std::fs::metadata(&out).expect("it is there").len(), 100_000);
        let known = engine.ferry(["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok().to_owned();
        assert!(known.starts_with(&name), "{known}");
    }
}

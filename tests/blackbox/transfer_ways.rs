//! Ways to and from registries: mirrors, pushes that take what is there and go on where they broke off, round trips with
//! other tools.

use std::process::Command;

use ferry_tests::engine::wait_until;
use ferry_tests::faulty::{Answer, Faulty, Image};
use ferry_tests::registry::{Access, Registry};
use ferry_tests::{Engine, Outcome};
use std::sync::Mutex;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_ways::mirrors_are_asked_first", mirrors_are_asked_first),
    ("transfer_ways::bad_settings_are_said_at_once", bad_settings_are_said_at_once),
    ("transfer_ways::settings_are_read_again", settings_are_read_again),
    ("transfer_ways::layers_are_mounted", layers_are_mounted),
    ("transfer_ways::broken_push_goes_on", broken_push_goes_on),
    ("transfer_ways::round_trip_with_podman_and_skopeo", round_trip_with_podman_and_skopeo),
];

fn mirrors_are_asked_first() {
    let image = Image::new(11, 50_000);
    let (at_mirror, at_origin) = (image.clone(), image.clone());
    let origin = Faulty::start(move |request| at_origin.answer(request));
    // The mirror has the manifests of one repository, and breaks at the layer.
    let mirror = Faulty::start(move |request| match request.path.contains("/hub/v2/kept/") {
        true if at_mirror.is_layer(request) => Answer::status(404),
        true => at_mirror.answer(request),
        false => Answer::status(404),
    });
    let flag = format!("{}=http://{}/hub", origin.address, mirror.address);
    let hub = format!("http://{}/docker", mirror.address);
    let engine = Engine::start_with(&["--registry-mirror", &flag, "--registry-mirror", &hub]);
    for client in CLIENTS {
        engine.client(client, ["pull", &format!("{}/kept:{client}", origin.address)]).exits(0);
        engine.client(client, ["pull", &format!("{}/other:{client}", origin.address)]).exits(0);
        let shown = engine.client(client, ["info", "--format", "{{json .RegistryConfig.Mirrors}}"]);
        shown.prints(&format!("[\"{hub}/\"]"));
    }
    let asked = |server: &Faulty, path: &str| server.requests().iter().any(|request| request.path == path);
    assert!(asked(&mirror, "/hub/v2/kept/manifests/ferry"));
    assert!(asked(&mirror, "/hub/v2/other/manifests/docker"));
    assert!(!asked(&origin, "/v2/kept/manifests/ferry"));
    assert!(asked(&origin, "/v2/other/manifests/docker"));
}

fn bad_settings_are_said_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("daemon.json");
    std::fs::write(&file, r#"{"registry-mirrors": ["mirror.example"]}"#).expect("written");
    let engine = Engine::start();
    let root = |name: &str| folder.path().join(name).display().to_string();
    for (flags, told) in [
        (["--registry-mirror", "ftp://x"], "ftp://x"),
        (["--insecure-registry", "a/b"], "a/b"),
        (["--config-file", &file.display().to_string()], "mirror.example"),
        (["--config-file", "/nowhere/daemon.json"], "/nowhere/daemon.json"),
    ] {
        let (data, run) = (root("data"), root("run"));
        let start = ["engine", "start", "--data-root", &data, "--run-root", &run];
        engine.ferry(start.iter().chain(&flags)).exits(1).complains(told);
    }
}

/// SIGHUP, to the engine or to its keeper, as with Docker's daemon; a file that makes no sense changes nothing.
fn settings_are_read_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("daemon.json");
    std::fs::write(&file, "{}").expect("written");
    let engine = Engine::start_with(&["--config-file", &file.display().to_string()]);
    let shown = || {
        let shown = engine.ferry(["info", "--format", "{{json .RegistryConfig}}"]);
        serde_json::from_str::<serde_json::Value>(shown.ok()).expect("JSON")
    };
    // The keeper answers before there is an engine.
    assert_eq!(shown()["Mirrors"], serde_json::Value::Null);
    for (role, mirror) in [("engine", "http://one.example"), ("keeper", "http://two.example")] {
        let settings =
            serde_json::json!({ "registry-mirrors": [mirror], "insecure-registries": ["lab.example"] });
        std::fs::write(&file, settings.to_string()).expect("written");
        ferry_tests::engine::hang_up(engine.pid(role));
        let wanted = serde_json::json!([format!("{mirror}/")]);
        wait_until("the mirror is known", || shown()["Mirrors"] == wanted);
        assert!(shown()["IndexConfigs"]["lab.example"].is_object());
    }
    let events = |client: &str| {
        engine.client(client, ["events", "--since", "1h", "--until", "0s", "--filter", "type=daemon"])
    };
    for client in CLIENTS {
        // The stock client asks up to the last whole second.
        wait_until("the events are told", || {
            let told = events(client).stdout;
            told.contains("daemon reload") && told.contains("http://two.example")
        });
    }
    std::fs::write(&file, "{ no JSON").expect("written");
    ferry_tests::engine::hang_up(engine.pid("engine"));
    let log = engine.run_root().join("engine.log");
    wait_until("it is said", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("settings stay as they were"))
    });
    assert_eq!(shown()["Mirrors"], serde_json::json!(["http://two.example/"]));
}

fn layers_are_mounted() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let (first, second) = (
            format!("{}/{client}/first:x", registry.address),
            format!("{}/{client}/second:x", registry.address),
        );
        engine.ferry(["tag", "busybox", &first]).exits(0);
        engine.client(client, ["push", &first]).exits(0);
        engine.ferry(["run", "--name", client, &first, "touch", "/new"]).exits(0);
        // Another image on the same base, which has never been in that repository.
        engine.ferry(["commit", client, &second]).exits(0);
        engine.client(client, ["push", &second]).exits(0).says("Mounted from").says("Pushed");
    }
}

/// Where an upload is: bytes that came before the connection broke, then all.
fn broken_push_goes_on() {
    let received = Mutex::new(Vec::new());
    let server = Faulty::start(move |request| {
        let mut received = received.lock().expect("no panic");
        let upload = "/v2/broken/blobs/uploads/one";
        match (request.method.as_str(), request.path.as_str()) {
            ("HEAD", _) => Answer::status(404),
            ("POST", _) => Answer::status(202).with("Location", upload),
            ("PATCH", _) if received.is_empty() => {
                received.extend_from_slice(&request.body[..100_000]);
                Answer::status(0)
            }
            ("GET", path) if path.starts_with(upload) => {
                let range = format!("0-{}", received.len() - 1);
                Answer::status(204).with("Location", upload).with("Range", range)
            }
            ("PATCH", _) => {
                let range = request.header("content-range").unwrap_or_default();
                assert!(range.starts_with("100000-"), "{range}");
                received.extend_from_slice(&request.body);
                Answer::status(202).with("Location", upload)
            }
            ("PUT", path) if path.contains("/manifests/") => Answer::status(201),
            ("PUT", path) if request.body.is_empty() => {
                let digest = ferry_tests::faulty::digest(&received).replace(':', "%3A");
                Answer::status(if path.ends_with(&digest) { 201 } else { 400 })
            }
            ("PUT", _) => Answer::status(201),
            _ => Answer::status(200),
        }
    });
    let engine = Engine::with_busybox();
    let name = format!("{}/broken:x", server.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    engine.ferry(["push", &name]).exits(0).says("Pushed");
    let patches = server.requests().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(patches, 2);
}

fn tool(program: &str, arguments: &[&str]) -> Outcome {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    Outcome::new(format!("{program} {arguments:?}"), &output)
}

fn round_trip_with_podman_and_skopeo() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let digest_of = |name: &str| {
        let source = format!("docker://{name}");
        tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &source]).ok().to_owned()
    };
    let name = |text: &str| format!("{}/{text}:x", registry.address);
    engine.ferry(["tag", "busybox", &name("ferry")]).exits(0);
    engine.ferry(["push", "-q", &name("ferry")]).exits(0);
    let digest = digest_of(&name("ferry"));

    // ferry > skopeo > docker's client > ferry
    let (from, to) = (format!("docker://{}", name("ferry")), format!("docker://{}", name("skopeo")));
    tool(
        "skopeo",
        &["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to],
    )
    .exits(0);
    let other = Engine::start();
    other.docker(["pull", &name("skopeo")]).exits(0);
    other.docker(["tag", &name("skopeo"), &name("docker")]).exits(0);
    other.docker(["push", &name("docker")]).exits(0);

    // ferry > podman > ferry
    let storage = other.directory().join("podman");
    let root = storage.join("root").display().to_string();
    let run = storage.join("run").display().to_string();
    let podman = |arguments: &[&str]| {
        let global = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        tool("podman", &[&global, arguments].concat())
    };
    podman(&["pull", "-q", "--tls-verify=false", &name("docker")]).exits(0);
    podman(&["tag", &name("docker"), &name("podman")]).exits(0);
    podman(&["push", "-q", "--tls-verify=false", &name("podman")]).exits(0);
    podman(&["rmi", "-af"]).exits(0);
    let third = Engine::start();
    third.ferry(["run", "--rm", &name("podman"), "echo", "round"]).prints("round");
    for step in ["skopeo", "docker"] {
        assert_eq!(digest_of(&name(step)), digest, "{step}");
    }
    // Podman packs layers anew; what it made keeps its digest from there on.
    let packed = digest_of(&name("podman"));
    third.ferry(["tag", &name("podman"), &name("last")]).exits(0);
    third.ferry(["push", "-q", &name("last")]).exits(0);
    assert_eq!(digest_of(&name("last")), packed);
}

//! A registry of ferry's own, through the clients that people have: docker, podman, skopeo, buildah, ferry.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use ferry_tests::engine::wait_until;
use ferry_tests::own_registry::OwnRegistry;
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_clients::ferry_and_docker", ferry_and_docker),
    ("registry_clients::skopeo_podman_buildah", skopeo_podman_buildah),
    ("registry_clients::login_with_password", || login(&[])),
    ("registry_clients::login_with_token", || login(&["--tokens"])),
    ("registry_clients::anonymous_pull", anonymous_pull),
    ("registry_clients::own_certificate", own_certificate),
    ("registry_clients::as_an_image", as_an_image),
];

fn run(program: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> Outcome {
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).output();
    Outcome::new(
        format!("{program} {arguments:?}"),
        &output.unwrap_or_else(|error| panic!("{program}: {error}")),
    )
}

fn ferry_and_docker() {
    let registry = OwnRegistry::start(&[]);
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("{}/{client}/box:one", registry.address);
        engine.client(client, ["tag", "busybox", &name]).exits(0);
        engine.client(client, ["push", &name]).exits(0);
        engine.client(client, ["push", &name]).exits(0).says("Layer already exists");
        engine.client(client, ["rmi", &name]).exits(0);
        let other = Engine::start();
        other.client(client, ["pull", &name]).exits(0).says("Status: Downloaded newer image for");
        other.client(client, ["run", "--rm", &name, "echo", "travelled"]).prints("travelled");
    }
    assert_eq!(
        registry.get("/v2/_catalog").json()["repositories"],
        serde_json::json!(["docker/box", "ferry/box"])
    );
}

fn skopeo_podman_buildah() {
    let registry = OwnRegistry::start(&[]);
    let archive = format!("docker-archive:{}", ferry_tests::images::archive("busybox").display());
    for format in ["v2s2", "oci"] {
        let target = format!("docker://{}/skopeo/{format}:x", registry.address);
        let copy = ["copy", "--insecure-policy", "--dest-tls-verify=false", "-f", format, &archive, &target];
        run("skopeo", &copy, &[]).exits(0);
        let folder = tempfile::tempdir().expect("a folder");
        let out = format!("dir:{}", folder.path().display());
        run("skopeo", &["copy", "--insecure-policy", "--src-tls-verify=false", &target, &out], &[]).exits(0);
        let tags = run("skopeo", &["list-tags", "--tls-verify=false", target.trim_end_matches(":x")], &[]);
        tags.says("\"x\"");
        run("skopeo", &["delete", "--tls-verify=false", &target], &[]).exits(0);
        run("skopeo", &["inspect", "--tls-verify=false", &target], &[]).exits(1);
    }
    let storage = tempfile::tempdir().expect("a folder");
    let (root, state) = (storage.path().join("root"), storage.path().join("run"));
    for program in ["podman", "buildah"] {
        let go = |arguments: &[&str]| {
            let (root, state) = (root.to_string_lossy(), state.to_string_lossy());
            let places = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
            run(program, &[&places[..], arguments].concat(), &[])
        };
        let name = format!("{}/{program}/box:one", registry.address);
        let pulled = go(&["pull", "-q", &archive]);
        let id = pulled.ok().lines().last().expect("an id").to_owned();
        go(&["tag", &id, &name]).exits(0);
        go(&["push", "--tls-verify=false", &name]).exits(0);
        go(&["rmi", "-f", &id]).exits(0);
        go(&["pull", "-q", "--tls-verify=false", &name]).exits(0);
        go(&["rmi", "-f", &name]).exits(0);
    }
}

/// A password file of Apache's own tool with the user `ann`.
fn htpasswd(folder: &Path) -> String {
    let path = folder.join("htpasswd").to_string_lossy().into_owned();
    run("htpasswd", &["-cbB", &path, "ann", "secret word"], &[]).exits(0);
    path
}

fn login(flags: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let users = htpasswd(folder.path());
    let registry = OwnRegistry::start(&[&["--htpasswd", &users], flags].concat());
    registry.get("/v2/").refuses(401, "UNAUTHORIZED");
    let engine = Engine::with_busybox();
    let name = format!("{}/private:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["push", &name]).exits(1);
        engine.client(client, ["login", "-u", "ann", "-p", "wrong", &registry.address]).exits(1);
        engine.client(client, ["login", "-u", "ann", "-p", "secret word", &registry.address]).exits(0);
        engine.client(client, ["push", &name]).exits(0);
        engine.client(client, ["pull", &name]).exits(0);
        engine.client(client, ["logout", &registry.address]).exits(0);
        engine.client(client, ["pull", &name]).exits(1);
    }
    let source = format!("docker://{name}");
    let inspect = ["inspect", "--tls-verify=false", "--creds", "ann:secret word", &source];
    run("skopeo", &inspect, &[]).exits(0);
    run("skopeo", &["inspect", "--tls-verify=false", "--no-creds", &source], &[]).exits(1);
}

fn anonymous_pull() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = htpasswd(folder.path());
    for flags in [&[][..], &["--tokens"]] {
        let registry = OwnRegistry::start(&[&["--htpasswd", &users, "--anonymous-pull"], flags].concat());
        let engine = Engine::with_busybox();
        let name = format!("{}/public:latest", registry.address);
        engine.ferry(["tag", "busybox", &name]).exits(0);
        for client in CLIENTS {
            engine.client(client, ["push", &name]).exits(1);
            engine.client(client, ["login", "-u", "ann", "-p", "secret word", &registry.address]).exits(0);
            engine.client(client, ["push", &name]).exits(0);
            engine.client(client, ["logout", &registry.address]).exits(0);
            engine.client(client, ["pull", &name]).exits(0);
        }
        let source = format!("docker://{name}");
        run("skopeo", &["inspect", "--tls-verify=false", "--no-creds", &source], &[]).exits(0);
    }
}

fn own_certificate() {
    let registry = OwnRegistry::start(&["--tls-self-signed", "--tls-name", "registry.test"]);
    let folder = registry.root().join("data/tls");
    let archive = format!("docker-archive:{}", ferry_tests::images::archive("busybox").display());
    let target = format!("docker://{}/secure:x", registry.address);
    let certificates = folder.to_string_lossy().into_owned();
    let copy = ["copy", "--insecure-policy", "--dest-cert-dir", &certificates, &archive, &target];
    run("skopeo", &copy, &[]).exits(0);
    // Blobs come whole where the connection is encrypted too.
    let out = tempfile::tempdir().expect("a folder");
    let dir = format!("dir:{}", out.path().display());
    run("skopeo", &["copy", "--insecure-policy", "--src-cert-dir", &certificates, &target, &dir], &[])
        .exits(0);
    run("skopeo", &["inspect", &target], &[]).exits(1);
    let engine = Engine::start_with(&["--insecure-registry", &registry.address]);
    let name = format!("{}/secure:x", registry.address);
    for client in CLIENTS {
        engine.client(client, ["pull", &name]).exits(0);
        engine.client(client, ["push", &name]).exits(0);
        engine.client(client, ["rmi", &name]).exits(0);
    }
}

/// Whether HTTP is spoken there: a published port accepts before the program behind it listens.
fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 4];
    stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP"
}

fn as_an_image() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let volume = format!("{client}-data");
        let mount = format!("{volume}:/var/lib/registry");
        let start =
            ["run", "-d", "--name", client, "-p", "127.0.0.1::5000", "-v", &mount, "localhost/registry"];
        engine.client(client, start).exits(0);
        let address = engine.client(client, ["port", client, "5000"]).ok().to_owned();
        let name = format!("{address}/box:one");
        engine.client(client, ["tag", "busybox", &name]).exits(0);
        wait_until("the registry listens", || answers(&address));
        engine.client(client, ["push", &name]).exits(0);
        engine.client(client, ["restart", "-t", "20", client]).exits(0);
        let address = engine.client(client, ["port", client, "5000"]).ok().to_owned();
        wait_until("the registry listens again", || answers(&address));
        let name = format!("{address}/box:one");
        engine.client(client, ["pull", &name]).exits(0);
        engine.client(client, ["logs", client]).exits(0).says("/v2/box/manifests/one");
        engine.client(client, ["rm", "-f", client]).exits(0);
    }
    let wrong =
        engine.ferry(["run", "--rm", "-e", "REGISTRY_STORAGE_DELETE_ENABLED=maybe", "localhost/registry"]);
    wrong.exits(1).complains("REGISTRY_STORAGE_DELETE_ENABLED=\"maybe\" is neither true nor false");
}

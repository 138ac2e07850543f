//! Images travel: push, pull, login, between ferry, the stock docker client, skopeo and Debian's docker-registry.

use std::process::Command;

use ferry_tests::registry::{Access, Registry};
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer::push_and_pull_keep_digests", push_and_pull_keep_digests),
    ("transfer::pull_policies_of_run", pull_policies_of_run),
    ("transfer::login_and_logout", login_and_logout),
    ("transfer::what_is_not_there", what_is_not_there),
    ("transfer::all_tags", all_tags),
    ("transfer::from_skopeo", from_skopeo),
    ("transfer::damaged_blobs_stay_out", damaged_blobs_stay_out),
];

pub fn skopeo(arguments: &[&str]) -> Outcome {
    let output = Command::new("skopeo").args(arguments).output().expect("skopeo");
    Outcome::new(format!("skopeo {arguments:?}"), &output)
}

/// The digest in `name: digest: sha256:… size: n` or `Digest: sha256:…`.
fn digest_in(text: &str) -> String {
    let at = text.find("sha256:").unwrap_or_else(|| panic!("no digest in {text}"));
    text[at..at + 71].to_owned()
}

fn push_and_pull_keep_digests() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("{}/{client}/box:one", registry.address);
        engine.client(client, ["tag", "busybox", &name]).exits(0);
        let pushed = digest_in(engine.client(client, ["push", &name]).ok());
        let known = engine.inspect(&name, "{{.RepoDigests}}");
        assert!(known.contains(&format!("{}@{pushed}", name.trim_end_matches(":one"))), "{known}");
        engine.client(client, ["push", &name]).exits(0).says("Layer already exists");
        let seen = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{name}"),
        ]);
        assert_eq!(seen.ok(), pushed);
        engine.client(client, ["rmi", &name]).exits(0);
        let other = Engine::start();
        let pulled = other.client(client, ["pull", &name]);
        assert_eq!(digest_in(pulled.ok()), pushed);
        pulled.says("Status: Downloaded newer image for");
        other.client(client, ["pull", &name]).says("Image is up to date for");
        other.client(client, ["run", "--rm", &name, "echo", "travelled"]).prints("travelled");
        let again = format!("{}/{client}/again:two", registry.address);
        other.client(client, ["tag", &name, &again]).exits(0);
        assert_eq!(digest_in(other.client(client, ["push", &again]).ok()), pushed);
        let repository = name.trim_end_matches(":one");
        other.client(client, ["rmi", "-f", &name, &again]).exits(0);
        other.client(client, ["pull", "-q", &format!("{repository}@{pushed}")]).exits(0);
        other.client(client, ["run", "--rm", &format!("{repository}@{pushed}"), "true"]).exits(0);
    }
}

fn pull_policies_of_run() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let name = format!("{}/policy:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    engine.ferry(["push", "-q", &name]).exits(0);
    for client in CLIENTS {
        engine.ferry(["rmi", &name]).exits(0);
        engine.client(client, ["run", "--rm", "--pull", "never", &name, "true"]).exits(125);
        engine.client(client, ["run", "--rm", &name, "echo", "pulled"]).exits(0).prints("pulled");
        engine
            .client(client, ["run", "--rm", "--pull", "always", "-q", &name, "echo", "fresh"])
            .exits(0)
            .says("fresh");
        engine.ferry(["rmi", &name]).exits(0);
        engine.client(client, ["create", "--pull", "never", &name, "true"]).exits(1);
        for policy in ["missing", "always"] {
            let id = engine.client(client, ["create", "-q", "--pull", policy, &name, "true"]).ok().to_owned();
            engine.ferry(["rm", &id]).exits(0);
        }
    }
}

fn login_and_logout() {
    let registry = Registry::start(&Access::User { name: "ann", password: "secret word" });
    let engine = Engine::with_busybox();
    let name = format!("{}/private:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["push", &name]).exits(1);
        let wrong = engine.client(client, ["login", "-u", "ann", "-p", "wrong", &registry.address]);
        wrong.exits(1);
        assert!(!wrong.stderr.contains("wrong\n"), "{wrong}");
        engine
            .client(client, ["login", "-u", "ann", "-p", "secret word", &registry.address])
            .exits(0)
            .says("Login Succeeded");
        engine.client(client, ["push", &name]).exits(0);
        engine.client(client, ["pull", &name]).exits(0);
        engine.client(client, ["logout", &registry.address]).exits(0);
        engine.client(client, ["pull", &name]).exits(1);
    }
}

fn what_is_not_there() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::start();
    for client in CLIENTS {
        engine
            .client(client, ["pull", &format!("{}/nosuch:one", registry.address)])
            .exits(1)
            .complains("not found");
        engine
            .client(client, ["push", &format!("{}/nosuch:one", registry.address)])
            .exits(1)
            .complains("does not exist locally");
        engine.client(client, ["pull", "127.0.0.1:1/nobody"]).exits(1).complains("127.0.0.1:1");
        engine.client(client, ["pull", "Bad Name"]).exits(1);
    }
}

fn all_tags() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let repository = format!("{}/tags", registry.address);
    for tag in ["one", "two", "three"] {
        engine.ferry(["tag", "busybox", &format!("{repository}:{tag}")]).exits(0);
    }
    for client in CLIENTS {
        engine.client(client, ["push", "-a", &repository]).exits(0);
        engine.client(client, ["rmi", &format!("{repository}:one"), &format!("{repository}:two")]).exits(0);
        engine.client(client, ["pull", "-a", &repository]).exits(0);
        engine
            .client(client, ["images", "-q", &repository])
            .ok()
            .lines()
            .count()
            .eq(&3)
            .then_some(())
            .expect("three tags");
    }
}

fn from_skopeo() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::start();
    let source = format!("docker-archive:{}", ferry_tests::images::archive("busybox").display());
    for (format, compression) in [("v2s2", "gzip"), ("oci", "gzip"), ("oci", "zstd")] {
        let name = format!("{}/skopeo/{format}-{compression}:x", registry.address);
        let target = format!("docker://{name}");
        let copy = [
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "-f",
            format,
            "--dest-compress-format",
            compression,
        ];
        skopeo(&[&copy[..], &[&source, &target]].concat()).exits(0);
        engine.ferry(["run", "--rm", &name, "echo", format]).exits(0).prints(format);
        let digest =
            skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &target]).ok().to_owned();
        let known = engine.ferry(["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok().to_owned();
        assert!(known.ends_with(&digest), "{known} {digest}");
    }
}

fn damaged_blobs_stay_out() {
    let registry = Registry::start(&Access::Open);
    let engine = Engine::with_busybox();
    let name = format!("{}/damaged:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    engine.ferry(["push", &name]).exits(0);
    let blobs = registry.storage().join("docker/registry/v2/blobs/sha256");
    let largest =
        Command::new("find").arg(&blobs).args(["-name", "data", "-size", "+500k"]).output().expect("find");
    let path = String::from_utf8_lossy(&largest.stdout).trim().to_owned();
    let mut bytes = std::fs::read(&path).expect("the layer's blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let other = Engine::start();
    other.ferry(["pull", &name]).exits(1);
    let names = other.ferry(["images", "--format", "{{.Repository}}"]).ok().to_owned();
    assert!(!names.contains("damaged"), "{names}");
}

//! Who asks: tokens, helpers, environment, and certificates of one's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_tests::faulty::{Answer, Faulty, Image, Request};
use ferry_tests::registry::{Access, Registry, host_address};
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_auth::tokens", tokens),
    ("transfer_auth::identity_tokens", identity_tokens),
    ("transfer_auth::credential_helpers", credential_helpers),
    ("transfer_auth::credentials_from_the_environment", credentials_from_the_environment),
    ("transfer_auth::own_certificates", own_certificates),
    ("transfer_auth::certificates_of_a_registry", certificates_of_a_registry),
];

/// `ann:secret word`.
const BASIC: &str = "Basic YW5uOnNlY3JldCB3b3Jk";

/// A registry that wants a bearer token, which its own token service gives to whoever proves to be ann.
fn with_token_service(image: Image, proves: fn(&Request) -> bool) -> Faulty {
    Faulty::start(move |request| {
        let host = request.header("host").unwrap_or_default();
        if request.path.starts_with("/token") {
            return match proves(request) {
                true => Answer::status(200).body("{\"access_token\": \"good\", \"expires_in\": 300}"),
                false => Answer::status(401).body("{\"details\": \"incorrect username or password\"}"),
            };
        }
        match request.header("authorization") {
            Some("Bearer good") => image.answer(request),
            _ => Answer::status(401)
                .with("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"test\"")),
        }
    })
}

fn tokens() {
    for client in CLIENTS {
        let server = with_token_service(Image::new(3, 1000), |request| {
            request.header("authorization") == Some(BASIC) && request.path.contains("service=test")
        });
        let engine = Engine::start();
        let name = format!("{}/private:x", server.address);
        engine
            .client(client, ["login", "-u", "ann", "-p", "bad", &server.address])
            .exits(1)
            .complains("incorrect");
        engine.client(client, ["login", "-u", "ann", "-p", "secret word", &server.address]).exits(0);
        engine.client(client, ["pull", &name]).exits(0);
        let asked = server.requests();
        let scoped = |request: &&Request| request.path.contains("scope=repository%3Aprivate%3Apull");
        assert!(asked.iter().any(|request| scoped(&request)), "{asked:#?}");
        // One token serves manifest, config and layer.
        assert_eq!(asked.iter().filter(scoped).count(), 1);
    }
}

fn identity_tokens() {
    for client in CLIENTS {
        let server = with_token_service(Image::new(5, 1000), |request| {
            let body = String::from_utf8_lossy(&request.body);
            body.contains("grant_type=refresh_token") && body.contains("refresh_token=long-lived")
        });
        let engine = Engine::start();
        let auth = serde_json::json!({ "auths": { &server.address: { "auth": "YW5uOg==", "identitytoken": "long-lived" } } });
        write_config(&engine, &auth);
        engine.client(client, ["pull", &format!("{}/private:x", server.address)]).exits(0);
    }
}

fn write_config(engine: &Engine, config: &serde_json::Value) {
    let folder = engine.directory().join("home/.docker");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
}

/// A helper that keeps one secret per registry in a folder.
fn write_helper(engine: &Engine) -> String {
    let folder = engine.directory().join("bin");
    let kept = engine.directory().join("kept");
    for path in [&folder, &kept] {
        fs::create_dir_all(path).expect("made");
    }
    let script = format!(
        "#!/bin/sh\nkept={}\ncase $1 in\nstore) cat >$kept/entry;;\nget) cat >/dev/null; [ -f $kept/entry ] || {{ echo credentials not found in native keychain; exit 1; }}; cat $kept/entry;;\nerase) cat >/dev/null; rm $kept/entry;;\nlist) echo '{{}}';;\nesac\n",
        kept.display()
    );
    let path = folder.join("docker-credential-test");
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn run(engine: &Engine, client: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = engine.client_command(client, arguments);
    command.envs(variables.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output().expect("it runs");
    Outcome::new(format!("{client} {arguments:?}"), &output)
}

fn credential_helpers() {
    let registry = Registry::start(&Access::User { name: "ann", password: "secret word" });
    let engine = Engine::with_busybox();
    let path = write_helper(&engine);
    let path = [("PATH", path.as_str())];
    let name = format!("{}/kept:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    for (client, config) in [
        ("ferry", serde_json::json!({ "credsStore": "test" })),
        ("docker", serde_json::json!({ "credHelpers": { &registry.address: "test" } })),
        ("ferry", serde_json::json!({ "credHelpers": { &registry.address: "test" } })),
    ] {
        write_config(&engine, &config);
        run(&engine, client, &path, &["login", "-u", "ann", "-p", "secret word", &registry.address]).exits(0);
        let written =
            fs::read_to_string(engine.directory().join("home/.docker/config.json")).expect("it is there");
        assert!(!written.contains("c2VjcmV0") && !written.contains("YW5uOn"), "{written}");
        // What one client keeps, the other finds.
        for other in CLIENTS {
            run(&engine, other, &path, &["push", &name]).exits(0);
        }
        run(&engine, client, &path, &["logout", &registry.address]).exits(0);
        assert!(!engine.directory().join("kept/entry").exists());
    }
    write_config(&engine, &serde_json::json!({ "credsStore": "absent" }));
    run(&engine, "ferry", &path, &["push", &name]).exits(1).complains("docker-credential-absent");
}

fn credentials_from_the_environment() {
    let registry = Registry::start(&Access::User { name: "ann", password: "secret word" });
    let engine = Engine::with_busybox();
    let name = format!("{}/env:latest", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    let auths = serde_json::json!({ "auths": { &registry.address: { "auth": &BASIC[6..] } } }).to_string();
    for client in CLIENTS {
        // The stock client knows that variable from its version 28.3 on.
        if client == "ferry" {
            run(&engine, client, &[("DOCKER_AUTH_CONFIG", &auths)], &["push", &name]).exits(0);
        }
        let folder = engine.directory().join(format!("config-{client}"));
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("config.json"), &auths).expect("written");
        let folder = folder.display().to_string();
        run(&engine, client, &[("DOCKER_CONFIG", &folder)], &["pull", &name]).exits(0);
    }
    let refused = run(&engine, "ferry", &[("DOCKER_AUTH_CONFIG", "{\"auths\": secret")], &["pull", &name]);
    refused.exits(1).complains("DOCKER_AUTH_CONFIG is no valid JSON");
    assert!(!refused.stderr.contains("secret"), "{refused}");
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output =
        Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority of the test's own, and a certificate for an address.
pub fn make_certificates(path: &Path, host: &str) {
    const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", "-days", "2"];
    openssl(path, &[&["req"], &KEY[..], &authority[..]].concat());
    let request = ["-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=registry"];
    openssl(path, &[&["req"], &KEY[..], &request[..]].concat());
    fs::write(path.join("names"), format!("subjectAltName=IP:{host}\n")).expect("written");
    let sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2"];
    let files = ["x509", "-req", "-in", "request.pem", "-out", "certificate.pem"];
    openssl(path, &[&files[..], &sign[..]].concat());
}

/// On an address that is no loopback one: those are never asked for a certificate.
fn own_certificates() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, host) = (folder.path(), host_address());
    make_certificates(path, &host);
    let (certificate, key) = (path.join("certificate.pem"), path.join("key.pem"));
    let registry = Registry::start(&Access::Tls { certificate, key, host, clients: None });
    let authority = path.join("ca.crt").display().to_string();
    let archive = ferry_tests::images::archive("busybox").display().to_string();
    let name = format!("{}/tls:latest", registry.address);
    let none = ("SSL_CERT_DIR", "/nowhere");
    let directory = path.join("authorities");
    fs::create_dir(&directory).expect("made");
    fs::copy(path.join("ca.crt"), directory.join("own.pem")).expect("copied");
    let directory = ("SSL_CERT_DIR", directory.to_str().expect("a plain path"));
    for (variables, flags, error) in [
        ([("SSL_CERT_FILE", "/dev/null"), none], [].as_slice(), Some("certificate")),
        ([("SSL_CERT_FILE", authority.as_str()), none], &[], None),
        ([("SSL_CERT_FILE", "/dev/null"), directory], &[], None),
        ([("SSL_CERT_FILE", "/dev/null"), none], &["--insecure-registry", &registry.address], None),
    ] {
        let engine = Engine::start_in(&variables, flags);
        engine.ferry(["load", "-q", "-i", &archive]).exits(0);
        engine.ferry(["tag", "busybox", &name]).exits(0);
        match error {
            Some(text) => drop(engine.ferry(["push", &name]).exits(1).complains(text)),
            None => {
                engine.ferry(["push", &name]).exits(0);
                engine.docker(["pull", &name]).exits(0);
            }
        }
    }
}

/// A folder that is gone, with those above it that are empty then, when the test ends.
struct OwnFolder(PathBuf);

impl Drop for OwnFolder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
        for above in self.0.ancestors().skip(1).take(2) {
            // One that holds anything stays.
            fs::remove_dir(above).ok();
        }
    }
}

/// `certs.d/HOST:PORT`, Ferry's and Docker's: the registry's authority, and the client's own certificate.
fn certificates_of_a_registry() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, host) = (folder.path(), host_address());
    make_certificates(path, &host);
    let (certificate, key) = (path.join("certificate.pem"), path.join("key.pem"));
    let clients = Some(path.join("ca.crt"));
    let registry = Registry::start(&Access::Tls { certificate, key, host, clients });
    let archive = ferry_tests::images::archive("busybox").display().to_string();
    let name = format!("{}/tls:latest", registry.address);
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")];
    for place in ["/etc/ferry/certs.d", "/etc/docker/certs.d"] {
        let engine = Engine::start_in(&none, &[]);
        engine.ferry(["load", "-q", "-i", &archive]).exits(0);
        engine.ferry(["tag", "busybox", &name]).exits(0);
        engine.ferry(["push", &name]).exits(1).complains("certificate");
        let own = OwnFolder(Path::new(place).join(&registry.address));
        fs::create_dir_all(&own.0).expect("a folder");
        fs::copy(path.join("ca.crt"), own.0.join("ca.crt")).expect("copied");
        engine.ferry(["push", &name]).exits(1);
        fs::copy(path.join("certificate.pem"), own.0.join("client.cert")).expect("copied");
        fs::copy(path.join("key.pem"), own.0.join("client.key")).expect("copied");
        engine.ferry(["push", &name]).exits(0);
        engine.docker(["pull", "-q", &name]).exits(0);
    }
}

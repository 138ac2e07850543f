//! Engines at TCP addresses: TLS with certificates on both sides, through every client.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use ferry_tests::engine::wait_until;
use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("remote::tls_checks_both_sides", tls_checks_both_sides),
    ("remote::a_bare_port_is_warned_of", a_bare_port_is_warned_of),
    ("remote::engines_have_names", engines_have_names),
];

fn openssl(folder: &Path, arguments: &[&str]) {
    let output =
        Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and certificates of it for the engine (`server-*.pem`) and a client (`cert.pem`, `key.pem`).
fn make_certificates(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let authority = ["-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"];
    openssl(folder, &[&["req"], &key[..], &authority[..]].concat());
    for (prefix, extension) in [
        ("server-", "subjectAltName=IP:127.0.0.1,DNS:engine.example\nextendedKeyUsage=serverAuth\n"),
        ("", "extendedKeyUsage=clientAuth\n"),
    ] {
        let (certificate, private) = (format!("{prefix}cert.pem"), format!("{prefix}key.pem"));
        let request = ["-keyout", &private, "-out", "request.pem", "-subj", "/CN=test"];
        openssl(folder, &[&["req"], &key[..5], &request[..]].concat());
        fs::write(folder.join("extension"), extension).expect("a file");
        let sign =
            ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extension", "-days", "2"];
        let files = ["x509", "-req", "-in", "request.pem", "-out", &certificate];
        openssl(folder, &[&files[..], &sign[..]].concat());
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A client without any address of its own.
fn run(engine: &Engine, client: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = engine.client_command(client, arguments);
    command.env_remove("DOCKER_HOST").envs(variables.iter().copied());
    let output = command.output().expect("the client runs");
    Outcome::new(format!("{command:?}"), &output)
}

fn tls_checks_both_sides() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, strange) = (folder.path().join("good"), folder.path().join("strange"));
    make_certificates(&good);
    make_certificates(&strange);
    let file = |folder: &Path, name: &str| folder.join(name).display().to_string();
    let (port, other) = (free_port(), free_port());
    let (address, elsewhere) = (format!("tcp://127.0.0.1:{port}"), format!("tcp://127.0.0.2:{other}"));
    let files = [file(&good, "ca.pem"), file(&good, "server-cert.pem"), file(&good, "server-key.pem")];
    let engine = Engine::start_with(&[
        "--host",
        &address,
        "--host",
        &elsewhere,
        "--tlsverify",
        "--tlscacert",
        &files[0],
        "--tlscert",
        &files[1],
        "--tlskey",
        &files[2],
    ]);
    let archive = ferry_tests::images::archive("busybox");
    engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).exits(0);
    let (ca, cert, key) = (file(&good, "ca.pem"), file(&good, "cert.pem"), file(&good, "key.pem"));
    let ours = ["-H", &address, "--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    for client in crate::CLIENTS {
        let with = |words: &[&str]| run(&engine, client, &[], &[&ours[..], words].concat());
        with(&["run", "--rm", "busybox", "echo", "over TLS"]).prints("over TLS");
        with(&["run", "--rm", "busybox", "sh", "-c", "exit 5"]).exits(5);
        let folder = good.display().to_string();
        let variables =
            [("DOCKER_HOST", address.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder)];
        run(&engine, client, &variables, &["version"]).exits(0);
        // Nobody's certificate, and one of another authority.
        let nobody =
            ["-H", &address, "--tlsverify", "--tlscacert", &ca, "--tlscert", "", "--tlskey", "", "ps"];
        assert_ne!(run(&engine, client, &[], &nobody).code, 0);
        let (cert, key) = (file(&strange, "cert.pem"), file(&strange, "key.pem"));
        let foreign =
            ["-H", &address, "--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key, "ps"];
        assert_ne!(run(&engine, client, &[], &foreign).code, 0);
        // An engine that the authority does not vouch for.
        let ca = file(&strange, "ca.pem");
        let doubted = [
            "-H",
            &address,
            "--tlsverify",
            "--tlscacert",
            &ca,
            "--tlscert",
            ours[6],
            "--tlskey",
            ours[8],
            "ps",
        ];
        run(&engine, client, &[], &doubted).exits(1).complains("certificate");
        assert_ne!(run(&engine, client, &[], &["-H", &address, "ps"]).code, 0, "no TLS at all");
    }
    // Without a check of the engine the client still shows its own certificate.
    let trusting = ["-H", &address, "--tls", "--tlscert", &cert, "--tlskey", &key, "ps", "-q"];
    run(&engine, "ferry", &[], &trusting).exits(0);
    let by_name = ["-H", &elsewhere, "--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let named = |words: &[&str]| run(&engine, "ferry", &[], &[&by_name[..], words].concat());
    named(&["ps"]).exits(1).complains("certificate");
    named(&["--skip-hostname-check", "ps", "-q"]).exits(0);
    version_1(&engine, &address, &ours[1..]);
    let missing = ["-H", &address, "--tlsverify", "--tlscacert", "/nowhere/ca.pem", "ps"];
    run(&engine, "ferry", &[], &missing).exits(1).complains("cannot read certificate /nowhere/ca.pem");
}

/// An engine by a name of the hosts file, which is the client's own here; a certificate has to have that name.
fn engines_have_names() {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let hosts = "127.0.0.1 localhost\n127.0.0.1 engine.example\n127.0.0.1 other.example\n";
    fs::write(file("hosts"), hosts).expect("a file");
    let port = free_port();
    let files = [file("ca.pem"), file("server-cert.pem"), file("server-key.pem")];
    let [ca, cert, key] = &files;
    let listen = format!("tcp://127.0.0.1:{port}");
    let engine = Engine::start_with(&[
        "--host",
        &listen,
        "--tlsverify",
        "--tlscacert",
        ca,
        "--tlscert",
        cert,
        "--tlskey",
        key,
    ]);
    let ask = |name: &str| {
        let script = format!(
            "mount --bind {} /etc/hosts; exec {} -H tcp://{name}:{port} --tlsverify ps -q",
            file("hosts"),
            ferry_tests::engine::binary().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).env("DOCKER_CERT_PATH", folder.path());
        command.env("HOME", engine.directory());
        Outcome::new(script, &command.output().expect("unshare runs"))
    };
    ask("engine.example").exits(0);
    ask("other.example").exits(1).complains("certificate");
    ask("10.1.2").exits(1).complains("no host name or IP address");
}

/// docker-compose 1.29 takes the same flags, and so does ferry under its name.
fn version_1(engine: &Engine, address: &str, files: &[&str]) {
    let app = engine.directory().join("app");
    fs::create_dir_all(&app).expect("a folder");
    fs::write(
        app.join("docker-compose.yml"),
        "version: '3.1'\nservices:\n  w: {image: busybox, command: 'true'}\n",
    )
    .expect("a file");
    let link = engine.directory().join("docker-compose");
    std::os::unix::fs::symlink(ferry_tests::engine::binary(), &link).expect("a link");
    let file = app.join("docker-compose.yml").display().to_string();
    for program in [Path::new("/usr/bin/docker-compose"), &link] {
        if !program.exists() {
            eprintln!("SKIPPED: /usr/bin/docker-compose is not installed");
            continue;
        }
        let mut command = Command::new(program);
        command.args(["-H", address]).args(&files[1..]).args(["-f", &file, "up", "-d"]);
        // A machine's own certificate authorities (REQUESTS_CA_BUNDLE) would win over the flag.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", engine.directory());
        let output = command.output().expect("it runs");
        Outcome::new(format!("{command:?}"), &output).exits(0);
    }
}

fn a_bare_port_is_warned_of() {
    let port = free_port();
    let address = format!("tcp://127.0.0.1:{port}");
    let engine = Engine::start_with(&["--host", &address]);
    wait_until("the port answers", || run(&engine, "ferry", &[], &["-H", &address, "ps"]).code == 0);
    run(&engine, "docker", &[], &["-H", &address, "ps"]).exits(0);
    let log = fs::read_to_string(engine.run_root().join("engine.log")).expect("the engine's log");
    assert!(log.contains(&format!("API is accessible on {address} without encryption")), "{log}");
    let refused = engine.ferry(["engine", "start", "--host", &address, "--tlsverify"]);
    refused.exits(1).complains("ca.pem").complains("--tlscacert");
}

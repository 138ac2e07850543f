//! The API as clients see it that are not `ferry` and `docker`: shapes by version, framing, streams, old ways.

use std::io::{Read, Write};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::http::{ask, ask_with, connect, first_read, rest, send};
use serde_json::json;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("api::every_endpoint_is_known", every_endpoint_is_known),
    ("api::no_swarm_and_no_plugins", no_swarm_and_no_plugins),
    ("api::streams_wait_until_the_head_is_read", streams_wait_until_the_head_is_read),
    ("api::the_start_of_an_exec_says_its_framing", the_start_of_an_exec_says_its_framing),
    ("api::commands_that_are_not_there", commands_that_are_not_there),
    ("api::logs_have_a_frame_for_each_line", logs_have_a_frame_for_each_line),
    ("api::a_wait_ends_with_the_run", a_wait_ends_with_the_run),
    ("api::attach_over_a_websocket", attach_over_a_websocket),
    ("api::fields_by_version", fields_by_version),
    ("api::fields_of_images_by_version", fields_of_images_by_version),
    ("api::claims_about_images", claims_about_images),
    ("api::clients_that_misbehave_hold_nothing", clients_that_misbehave_hold_nothing),
    ("api::half_closed_clients_are_answered", half_closed_clients_are_answered),
    ("api::links_of_old", links_of_old),
    ("api::links_to_what_comes_later", links_to_what_comes_later),
    ("api::networks_with_spaces_and_without_options", networks_with_spaces_and_without_options),
];

const UPGRADE: [&str; 2] = ["Connection: Upgrade", "Upgrade: tcp"];
/// How Docker's Python SDK names itself.
const PYTHON: &str = "User-Agent: docker-sdk-python/7.1.0";

/// Methods and paths of the schema.
fn endpoints() -> Vec<(String, String)> {
    let schema = include_str!("../conformance/engine-api.yaml");
    let paths = schema.split_once("\npaths:").expect("the schema has paths").1;
    let mut found = Vec::new();
    let mut path = "";
    for line in paths.lines() {
        if let Some(name) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':')) {
            if let Some(name) = name.strip_prefix('/') {
                path = name;
            }
            let method = name.trim();
            if name.starts_with("  ") && ["get", "post", "put", "delete", "head"].contains(&method) {
                found.push((method.to_uppercase(), format!("/{path}")));
            }
        }
    }
    found
}

fn every_endpoint_is_known() {
    let engine = Engine::start();
    let all = endpoints();
    assert!(all.len() > 100, "{}", all.len());
    for (method, path) in all {
        // An answer without an end is no answer to wait for here, others test it; BuildKit's sessions are not had, and
        // its clients build the classic way where they get this 404.
        if path == "/events" || path == "/session" {
            continue;
        }
        let path = path.replace("{id}", "nobody").replace("{name}", "nobody");
        let answer = ask(&engine, &format!("{method} /v1.55{path}"), None);
        assert!(!answer.text().contains("page not found"), "{method} {path}: {}", answer.text());
        // These ask a registry, and whether one can be reached is another matter.
        let asks_registry = ["/auth", "/images/search", "/distribution/nobody/json"].contains(&path.as_str());
        assert!(
            answer.status < 500 || asks_registry || [501, 503].contains(&answer.status),
            "{method} {path}: {}",
            answer.text()
        );
    }
    for request in ["GET /nothing", "GET /v1.40/nothing", "DELETE /version", "POST /v1.55/info"] {
        let answer = ask(&engine, request, None);
        assert_eq!((answer.status, answer.json()), (404, json!({"message": "page not found"})), "{request}");
    }
}

fn no_swarm_and_no_plugins() {
    let engine = Engine::start();
    for request in ["GET /swarm", "GET /nodes", "GET /services", "GET /tasks/x", "POST /services/create"] {
        let answer = ask(&engine, request, None);
        assert_eq!(answer.status, 503, "{request}: {}", answer.text());
        assert!(answer.text().contains("This node is not a swarm manager."), "{}", answer.text());
    }
    assert_eq!(ask(&engine, "GET /plugins", None).json(), json!([]));
    assert_eq!(ask(&engine, "GET /info", None).json()["Swarm"]["LocalNodeState"], "inactive");
}

fn running(engine: &Engine, name: &str) {
    let _ = engine.ferry(["run", "-d", "--init", "--name", name, "busybox", "sleep", "600"]).ok();
}

fn exec(engine: &Engine, container: &str, command: &[&str], terminal: bool) -> String {
    let body = json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": terminal});
    let made = ask(engine, &format!("POST /containers/{container}/exec"), Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["Id"].as_str().expect("an id").to_owned()
}

fn streams_wait_until_the_head_is_read() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let id = exec(&engine, "box", &["echo", "hello"], true);
    let mut stream = connect(&engine);
    send(&mut stream, &format!("POST /exec/{id}/start"), &UPGRADE, Some(&json!({"Tty": true})));
    let head = String::from_utf8_lossy(&first_read(&mut stream)).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.ends_with("\r\n\r\n"), "{head:?}");
    assert_eq!(String::from_utf8_lossy(&rest(&mut stream)), "hello\r\n");
}

fn the_start_of_an_exec_says_its_framing() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let run = |made: bool, started: bool| {
        let id = exec(&engine, "box", &["echo", "hi"], made);
        let mut stream = connect(&engine);
        send(&mut stream, &format!("POST /exec/{id}/start"), &UPGRADE, Some(&json!({"Tty": started})));
        let all = rest(&mut stream);
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        all[end + 4..].to_vec()
    };
    assert_eq!(run(false, false), b"\x01\0\0\0\0\0\0\x03hi\n");
    assert_eq!(run(true, true), b"hi\r\n");
    assert_eq!(run(true, false), b"\x01\0\0\0\0\0\0\x04hi\r\n");
    assert_eq!(run(false, true), b"hi\n");
}

fn commands_that_are_not_there() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let id = exec(&engine, "box", &["nosuchprogram"], false);
    let mut stream = connect(&engine);
    send(&mut stream, &format!("POST /exec/{id}/start"), &UPGRADE, Some(&json!({})));
    assert!(String::from_utf8_lossy(&rest(&mut stream)).contains("executable file not found in $PATH"));
    // Docker said 126 until its version 28, and 127 from then on.
    for (version, code) in [("/v1.55", 127), ("/v1.47", 126), ("", 127)] {
        let answer = ask(&engine, &format!("GET {version}/exec/{id}/json"), None);
        assert_eq!(answer.json()["ExitCode"], code, "{version}");
    }
}

fn logs_have_a_frame_for_each_line() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["run", "--name", "box", "busybox", "sh", "-c", "echo one; echo two"]).ok();
    let answer = ask(&engine, "GET /v1.55/containers/box/logs?stdout=1&stderr=1", None);
    assert!(answer.head.contains("application/vnd.docker.multiplexed-stream"), "{}", answer.head);
    assert_eq!(answer.body, b"\x01\0\0\0\0\0\0\x04one\n\x01\0\0\0\0\0\0\x04two\n");
    let old = ask(&engine, "GET /v1.41/containers/box/logs?stdout=1", None);
    assert!(old.head.contains("application/vnd.docker.raw-stream"), "{}", old.head);
    assert_eq!(ask(&engine, "GET /containers/box/logs", None).status, 400);
}

fn a_wait_ends_with_the_run() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry([
        "create",
        "--name",
        "box",
        "--restart",
        "always",
        "busybox",
        "sh",
        "-c",
        "sleep 1; exit 3",
    ]);
    let _ = engine.ferry(["start", "box"]).ok();
    let answer = ask(&engine, "POST /containers/box/wait", None);
    assert_eq!(answer.json()["StatusCode"], 3);
}

/// A client's message: masked, as browsers must, here with zeros.
fn message(text: &str) -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | u8::try_from(text.len()).expect("a short text"), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn attach_over_a_websocket() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["create", "-i", "--name", "box", "busybox", "cat"]).ok();
    let _ = engine.ferry(["start", "box"]).ok();
    let mut stream = connect(&engine);
    let headers = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let request = "GET /v1.55/containers/box/attach/ws?stream=1&stdin=1&stdout=1";
    send(&mut stream, request, &headers, None);
    let mut seen = Vec::new();
    let mut look = |stream: &mut std::os::unix::net::UnixStream, wanted: &[u8]| {
        let mut buffer = [0; 4096];
        while !seen.windows(wanted.len()).any(|part| part == wanted) {
            let count = stream.read(&mut buffer).expect("more of the stream");
            assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    // The key's answer is the one of RFC 6455.
    look(&mut stream, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    stream.write_all(&message("hello\n")).expect("the engine reads");
    look(&mut stream, b"\x82\x06hello\n");
    let _ = engine.ferry(["stop", "-t", "0", "box"]).ok();
    look(&mut stream, b"\x88");
    assert_eq!(ask(&engine, request, None).status, 400);
    assert_eq!(ask(&engine, "GET /containers/nobody/attach/ws", None).status, 404);
}

fn fields_by_version() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let old = |version: &str, headers: &[&str]| {
        let answer = ask_with(&engine, &format!("GET {version}/containers/box/json"), headers, None);
        answer.json()["NetworkSettings"].get("IPAddress").is_some()
    };
    assert!(!old("/v1.55", &[]));
    for version in ["/v1.51", "/v1.24", ""] {
        assert!(old(version, &[]), "{version}");
    }
    // The SDK asks for the newest version there is, and its users read what was removed long before.
    assert!(old("/v1.55", &[PYTHON]));
    let df = ask_with(&engine, "GET /v1.55/system/df", &[PYTHON], None).json();
    assert!(df.get("LayersSize").is_some() && df.get("ImageUsage").is_some(), "{df}");
    let made = json!({"Image": "busybox", "Runtime": "runc"});
    let made = ask_with(&engine, "POST /v1.55/containers/create?name=legacy", &[PYTHON], Some(&made));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(engine.inspect("legacy", "{{.HostConfig.Runtime}}"), "runc");
}

fn fields_of_images_by_version() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let committed = ask(&engine, "POST /commit?container=box&repo=made", None).json();
    let id = committed["Id"].as_str().expect("an id").to_owned();
    let inspect = |version: &str| ask(&engine, &format!("GET {version}/images/{id}/json"), None).json();
    let (old, new) = (inspect("/v1.41"), inspect("/v1.55"));
    assert_eq!(old["Config"]["OnBuild"], json!([]));
    assert_eq!(old["Config"]["AttachStdin"], json!(false));
    assert!(old["VirtualSize"].is_number());
    assert_eq!(old["ContainerConfig"]["Image"], "busybox");
    assert_eq!(old["Container"], json!(engine.inspect("box", "{{.Id}}")));
    for gone in ["VirtualSize", "Container", "ContainerConfig"] {
        assert!(new.get(gone).is_none(), "{gone}");
    }
    assert!(new["Config"].get("OnBuild").is_none() && new["Config"].get("AttachStdin").is_none());
}

fn claims_about_images() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("context");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN true\n").expect("a file");
    let folder = folder.to_string_lossy().into_owned();
    let _ = engine.ferry(["build", "-q", "--provenance=true", "-t", "claimed", &folder]).ok();
    let told = ask(&engine, "GET /images/claimed/attestations", None).json();
    let kind = told[0]["PredicateType"].as_str().expect("a claim").to_owned();
    assert!(told[0]["Descriptor"]["digest"].is_string() && told[0].get("Statement").is_none(), "{told}");
    let request = format!("GET /images/claimed/attestations?statement=true&type={kind}");
    assert_eq!(ask(&engine, &request, None).json()[0]["Statement"]["predicateType"], kind);
    assert_eq!(ask(&engine, "GET /images/claimed/attestations?type=other", None).json(), json!([]));
    assert_eq!(ask(&engine, "GET /images/busybox/attestations", None).json(), json!([]));
    assert_eq!(ask(&engine, "GET /images/nobody/attestations", None).status, 404);
    assert_eq!(ask(&engine, "GET /images/claimed/attestations?platform=%7B", None).status, 400);
}

/// How many of something the engine's process has.
fn has(engine: &Engine, what: &str) -> usize {
    let place = format!("/proc/{}/{what}", engine.pid("engine"));
    std::fs::read_dir(place).map_or(0, Iterator::count)
}

fn clients_that_misbehave_hold_nothing() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let (descriptors, threads) = (has(&engine, "fd"), has(&engine, "task"));
    let requests: [&[u8]; 5] = [
        b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /containers/box/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /containers/box/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{",
        b"\x16\x03\x01garbage\r\n\r\n",
    ];
    for round in 0..4 {
        let clients: Vec<_> = (0..250)
            .map(|number| {
                let mut stream = connect(&engine);
                stream.write_all(requests[(number + round) % requests.len()]).expect("the engine reads");
                stream
            })
            .collect();
        // While they all hang on, others are served and containers run.
        engine.ferry(["exec", "box", "echo", "alive"]).prints("alive");
        let grown = has(&engine, "task").saturating_sub(threads);
        assert!(grown < 100, "{grown} threads more for 250 clients");
        drop(clients);
    }
    wait_until("the engine lets go of its clients", || has(&engine, "fd") <= descriptors + 20);
}

/// Clients that end their half right after the request (`nc -N`, `socat`) get the whole answer, also a late one and one
/// without an end; those that go away entirely are let go of.
fn half_closed_clients_are_answered() {
    let engine = Engine::with_busybox();
    running(&engine, "box");
    let half = |request: &str| {
        let mut stream = connect(&engine);
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the engine reads");
        stream.shutdown(std::net::Shutdown::Write).expect("a half is closed");
        stream
    };
    for (request, wanted) in [
        ("GET /_ping", "OK"),
        ("GET /containers/json", "\"Image\":\"busybox\""),
        ("POST /containers/box/restart?t=0", "204"),
    ] {
        let answer = String::from_utf8_lossy(&rest(&mut half(request))).into_owned();
        assert!(answer.contains(wanted), "{request}: {answer}");
    }
    let descriptors = has(&engine, "fd");
    let mut waiting = half("POST /containers/box/wait");
    let gone: Vec<_> = (0..50).map(|_| half("GET /events")).collect();
    wait_until("all are served", || has(&engine, "fd") >= descriptors + 50);
    drop(gone);
    wait_until("the engine lets go of them", || has(&engine, "fd") <= descriptors + 10);
    engine.ferry(["kill", "box"]).exits(0);
    let answer = String::from_utf8_lossy(&rest(&mut waiting)).into_owned();
    assert!(answer.contains("\"StatusCode\":137"), "{answer}");
}

fn links_of_old() {
    let engine = Engine::with_busybox();
    let run =
        ["run", "-d", "--init", "--name", "db", "-e", "FOO=1", "--expose", "80", "busybox", "sleep", "600"];
    let _ = engine.ferry(run).ok();
    let environment = engine.ferry(["run", "--rm", "--name", "web", "--link", "db:my-db", "busybox", "env"]);
    let address = engine.inspect("db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    for line in [
        "MY_DB_NAME=/web/my-db".to_owned(),
        "MY_DB_ENV_FOO=1".to_owned(),
        format!("MY_DB_PORT=tcp://{address}:80"),
        format!("MY_DB_PORT_80_TCP_ADDR={address}"),
    ] {
        assert!(environment.stdout.lines().any(|told| told == line), "{line}: {}", environment.stdout);
    }
    let _ = engine.ferry(["create", "--name", "web", "--link", "db:alias", "busybox"]).ok();
    assert_eq!(ask(&engine, "DELETE /containers/web/other?link=1", None).status, 404);
    assert_eq!(ask(&engine, "DELETE /containers/web/alias", None).status, 404);
    assert_eq!(ask(&engine, "DELETE /containers/web/alias?link=1", None).status, 204);
    assert_eq!(engine.inspect("web", "{{len .HostConfig.Links}}"), "0");
    assert_eq!(engine.inspect("db", "{{.State.Status}}"), "running");
}

fn links_to_what_comes_later() {
    let engine = Engine::with_busybox();
    let _ = engine.ferry(["network", "create", "mine"]).ok();
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "mine", "Init": true},
        "NetworkingConfig": {"EndpointsConfig": {"mine": {"Links": ["later:bar"]}}},
    });
    let made = ask(&engine, "POST /containers/create?name=early", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    let _ = engine.ferry(["start", "early"]).ok();
    engine.ferry(["exec", "early", "nslookup", "bar"]).exits(1);
    let run = ["run", "-d", "--init", "--name", "later", "--network", "mine", "busybox", "sleep", "600"];
    let _ = engine.ferry(run).ok();
    wait_until("the link leads to the container", || {
        engine.ferry(["exec", "early", "nslookup", "bar"]).code == 0
    });
}

fn networks_with_spaces_and_without_options() {
    let engine = Engine::start();
    let body =
        json!({"Name": "test 01", "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.214.9.0/24"}]}});
    let made = ask(&engine, "POST /networks/create", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    let shown = ask(&engine, "GET /networks/test%2001", None).json();
    assert_eq!(shown["IPAM"]["Options"], json!(null));
    assert_eq!(ask(&engine, "DELETE /networks/test%2001", None).status, 204);
    let bad = ask(&engine, "POST /networks/create", Some(&json!({"Name": "ends "})));
    assert_eq!(bad.status, 400, "{}", bad.text());
}

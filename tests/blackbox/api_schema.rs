//! Every answer of the API against Docker's own schema, in an engine that has one of everything.
//!
//! What the other tests ask for through `ferry_tests::http` is checked in the same way; here is what they leave out.

use std::io::Read;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::http::{Answer, ask, connect, send};
use ferry_tests::schema::Schema;
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("api_schema::lists_and_inspections", lists_and_inspections),
    ("api_schema::changes", changes),
    ("api_schema::streams", streams),
    ("api_schema::builds_and_images", builds_and_images),
    ("api_schema::sessions_of_buildkit_are_refused", sessions_of_buildkit_are_refused),
];

/// The newest version of the API that is served: its answers may have no key that the schema does not know.
const NEWEST: &str = "/v1.55";

/// Asks at the newest version and checks the status; that the answer fits the schema, [`ask`] sees to.
#[track_caller]
fn get(engine: &Engine, request: &str, status: u16, body: Option<&Value>) -> Answer {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let answer = ask(engine, &format!("{method} {NEWEST}{path}"), body);
    assert_eq!(answer.status, status, "{request}: {}", answer.text());
    answer
}

/// Containers in several states, with much of what can be said of one.
fn furnish(engine: &Engine) {
    for words in [
        vec![
            "network",
            "create",
            "--label",
            "a=b",
            "--ipv6",
            "--opt",
            "com.docker.network.driver.mtu=1400",
            "net",
        ],
        vec!["volume", "create", "--label", "a=b", "vol"],
        vec![
            "run",
            "-d",
            "--init",
            "--name",
            "full",
            "--network",
            "net",
            "--network-alias",
            "other",
            "-p",
            "127.0.0.1::80",
            "-p",
            "90/udp",
            "--expose",
            "91",
            "-v",
            "vol:/data",
            "--tmpfs",
            "/t",
            "--mount",
            "type=bind,src=/etc,dst=/host,ro",
            "-e",
            "A=b",
            "-l",
            "a=b",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--ulimit",
            "nofile=100:200",
            "--device",
            "/dev/null:/dev/x",
            "--add-host",
            "a:1.2.3.4",
            "--dns",
            "1.1.1.1",
            "--cap-add",
            "NET_ADMIN",
            "--restart",
            "on-failure:3",
            "--log-opt",
            "max-size=1m",
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
            "--stop-timeout",
            "1",
            "--annotation",
            "a=b",
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "busybox",
            "sleep",
            "600",
        ],
        vec!["run", "-d", "--init", "--name", "plain", "busybox", "sleep", "600"],
        vec!["run", "--name", "ended", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"],
        vec!["create", "--name", "fresh", "busybox", "nothing-such"],
    ] {
        let _ = engine.ferry(words);
    }
    engine.ferry(["pause", "plain"]).exits(0);
    wait_until("the probe has run", || engine.inspect("full", "{{.State.Health.Status}}") == "healthy");
}

fn lists_and_inspections() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    engine.ferry(["start", "fresh"]).exits(1);
    for request in [
        "GET /containers/json",
        "GET /containers/json?all=1&size=1",
        "GET /containers/full/json",
        "GET /containers/full/json?size=1",
        "GET /containers/plain/json",
        "GET /containers/ended/json",
        "GET /containers/fresh/json",
        "GET /containers/full/top",
        "GET /containers/full/top?ps_args=aux",
        "GET /containers/full/stats?stream=0",
        "GET /containers/full/stats?stream=0&one-shot=1",
        "GET /containers/ended/stats?stream=0",
        "GET /containers/ended/changes",
        "GET /images/json",
        "GET /images/json?all=1&shared-size=1&digests=1&manifests=1",
        "GET /images/busybox/json",
        "GET /images/busybox/json?manifests=1",
        "GET /images/busybox/history",
        "GET /networks",
        "GET /networks/net",
        "GET /networks/net?verbose=1",
        "GET /networks/bridge",
        "GET /networks/none",
        "GET /volumes",
        "GET /volumes/vol",
        "GET /system/df",
        "GET /system/df?verbose=1",
        "GET /system/df?type=container&type=image&type=volume&type=build-cache&verbose=1",
        "GET /info",
        "GET /version",
        "GET /plugins",
        "GET /secrets",
        "GET /configs",
    ] {
        let _ = get(&engine, request, 200, None);
    }
    let all = get(&engine, "GET /containers/json?all=1", 200, None).json();
    assert_eq!(all.as_array().map(Vec::len), Some(4), "{all}");
    for request in
        ["GET /containers/none/json", "GET /images/none/json", "GET /networks/nothing", "GET /volumes/none"]
    {
        let _ = get(&engine, request, 404, None);
    }
}

fn changes() {
    let engine = Engine::with_busybox();
    let body =
        json!({"Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "PidsLimit": 100}});
    let made = get(&engine, "POST /containers/create?name=box", 201, Some(&body)).json();
    assert_eq!(made["Id"].as_str().map(str::len), Some(64), "{made}");
    let _ = get(&engine, "POST /containers/box/start", 204, None);
    let _ = get(&engine, "POST /containers/box/start", 304, None);
    let _ = get(
        &engine,
        "POST /containers/box/update",
        200,
        Some(&json!({"Memory": 64 << 20, "MemorySwap": 128 << 20})),
    );
    let exec =
        get(&engine, "POST /containers/box/exec", 201, Some(&json!({"Cmd": ["true"], "AttachStdout": true})))
            .json();
    let id = exec["Id"].as_str().expect("an id").to_owned();
    let _ = get(&engine, &format!("GET /exec/{id}/json"), 200, None);
    let _ = get(&engine, &format!("POST /exec/{id}/start"), 200, Some(&json!({"Detach": true})));
    wait_until("it has ended", || {
        get(&engine, &format!("GET /exec/{id}/json"), 200, None).json()["Running"] == false
    });
    let network = get(&engine, "POST /networks/create", 201, Some(&json!({"Name": "net"}))).json();
    assert_eq!(network["Id"].as_str().map(str::len), Some(64), "{network}");
    let _ = get(&engine, "POST /networks/net/connect", 200, Some(&json!({"Container": "box"})));
    let _ = get(&engine, "GET /networks/net", 200, None);
    let _ = get(&engine, "POST /networks/net/disconnect", 200, Some(&json!({"Container": "box"})));
    let _ = get(&engine, "POST /volumes/create", 201, Some(&json!({"Name": "vol", "Labels": {"a": "b"}})));
    let _ = get(&engine, "POST /commit?container=box&repo=made&tag=one", 201, Some(&json!({})));
    let _ = get(&engine, "POST /images/made:one/tag?repo=made&tag=two", 201, None);
    let _ = get(&engine, "GET /images/made:two/json", 200, None);
    let _ = get(&engine, "DELETE /images/made:two", 200, None);
    let _ = get(&engine, "POST /containers/box/rename?name=other", 204, None);
    let _ = get(&engine, "POST /containers/other/kill", 204, None);
    let _ = get(&engine, "POST /containers/other/wait", 200, None);
    for prune in ["containers", "networks", "volumes", "images", "build"] {
        let _ = get(&engine, &format!("POST /{prune}/prune"), 200, None);
    }
    let secret = json!({"Name": "s", "Data": "c2VjcmV0", "Labels": {}});
    let made = get(&engine, "POST /secrets/create", 201, Some(&secret)).json();
    let _ = get(&engine, &format!("GET /secrets/{}", made["ID"].as_str().expect("an id")), 200, None);
    for request in ["POST /containers/create", "POST /networks/create"] {
        let _ = get(&engine, request, 400, Some(&json!({})));
    }
    let _ = get(&engine, "POST /containers/create", 404, Some(&json!({"Image": "nothing-such"})));
}

/// What comes of a stream until something is in it.
fn lines_until(engine: &Engine, request: &str, wanted: &str, act: impl FnOnce()) -> Vec<Value> {
    let mut stream = connect(engine);
    send(&mut stream, request, &[], None);
    let (mut seen, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let mut act = Some(act);
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let count = stream.read(&mut buffer).expect("more of the stream");
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
        // The head is there, so the engine listens.
        if let Some(act) = act.take() {
            act();
        }
    }
    let text = String::from_utf8_lossy(&seen).into_owned();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

fn streams() {
    let engine = Engine::with_busybox();
    let events = lines_until(&engine, &format!("GET {NEWEST}/events"), "\"Action\":\"destroy\"", || {
        engine.ferry(["volume", "create", "vol"]).exits(0);
        engine.ferry(["network", "create", "net"]).exits(0);
        engine.ferry(["tag", "busybox", "other"]).exits(0);
        engine.ferry(["run", "--rm", "--network", "net", "-v", "vol:/data", "busybox", "true"]).exits(0);
    });
    assert!(events.len() >= 10, "{events:?}");
    for event in &events {
        let breaches = Schema::get().breaches("GET", "/events", 200, event, true);
        assert!(breaches.is_empty(), "{}\n{event:#}", breaches.join("\n"));
    }
    let _ = engine.ferry(["run", "-d", "--init", "--name", "box", "busybox", "sleep", "600"]).ok();
    let stats =
        lines_until(&engine, &format!("GET {NEWEST}/containers/box/stats"), "\"precpu_stats\"", || {});
    for sample in &stats {
        let breaches = Schema::get().breaches("GET", "/containers/box/stats", 200, sample, true);
        assert!(breaches.is_empty(), "{}\n{sample:#}", breaches.join("\n"));
    }
}

fn builds_and_images() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("context");
    std::fs::create_dir(&folder).expect("a folder");
    let file = "FROM busybox\nLABEL a=b\nENV A=b\nEXPOSE 80/tcp\nVOLUME /data\nUSER 1\nWORKDIR /tmp\n\
                HEALTHCHECK --interval=5s CMD true\nSTOPSIGNAL SIGINT\nONBUILD RUN true\nRUN true\nENTRYPOINT [\"sh\"]\n";
    std::fs::write(folder.join("Dockerfile"), file).expect("a file");
    let folder = folder.to_string_lossy().into_owned();
    let _ = engine.ferry(["build", "-q", "--provenance=true", "-t", "built", &folder]).ok();
    for request in [
        "GET /images/built/json",
        "GET /images/built/json?manifests=1",
        "GET /images/built/history",
        "GET /images/built/attestations",
        "GET /images/json?manifests=1&all=1",
        "GET /system/df?verbose=1",
    ] {
        let _ = get(&engine, request, 200, None);
    }
    let _ = get(&engine, "DELETE /images/built?force=1", 200, None);
    let _ = get(&engine, "POST /build/prune?all=1", 200, None);
}

/// BuildKit's clients ask for a session first; a Docker that serves none says 404, and they build the classic way.
fn sessions_of_buildkit_are_refused() {
    let engine = Engine::with_busybox();
    let headers = ["Connection: Upgrade", "Upgrade: h2c", "X-Docker-Expose-Session-Uuid: x"];
    for version in [NEWEST, "/v1.40", ""] {
        let mut stream = connect(&engine);
        send(
            &mut stream,
            &format!("POST {version}/session"),
            &[&headers[..], &["Connection: close"]].concat(),
            None,
        );
        let text = String::from_utf8_lossy(&ferry_tests::http::rest(&mut stream)).into_owned();
        assert!(text.starts_with("HTTP/1.1 404 ") && text.contains("\"message\":"), "{version}: {text}");
    }
    let answer = ask(&engine, &format!("GET {NEWEST}/_ping"), None);
    assert!(answer.head.to_lowercase().contains("builder-version: 1"), "{}", answer.head);
}

//! Every filter of every list, and the parameters that the clients' own tests leave out, asked by hand.

use std::collections::BTreeSet;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::http::{Answer, ask};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("api_filters::containers", containers),
    ("api_filters::images", images),
    ("api_filters::volumes", volumes),
    ("api_filters::networks", networks),
    ("api_filters::events", events),
    ("api_filters::parameters_of_containers", parameters_of_containers),
    ("api_filters::parameters_of_images", parameters_of_images),
];

/// A text as a part of a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn filtered(engine: &Engine, path: &str, filters: &Value) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    ask(engine, &format!("GET /v1.55{path}{separator}filters={}", encoded(&filters.to_string())), None)
}

/// Asks with each filter and compares the names that `name` finds in the answer.
#[track_caller]
fn all_hold(engine: &Engine, path: &str, name: impl Fn(&Value) -> String, cases: &[(Value, &[&str])]) {
    for (filters, wanted) in cases {
        let answer = filtered(engine, path, filters);
        assert_eq!(answer.status, 200, "{filters}: {}", answer.text());
        let list = answer.json();
        let list = list.get("Volumes").unwrap_or(&list);
        let found: BTreeSet<String> = list.as_array().into_iter().flatten().map(&name).collect();
        let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, wanted, "{path} {filters}");
    }
}

#[track_caller]
fn all_refused(engine: &Engine, path: &str, cases: &[Value]) {
    for filters in cases {
        let answer = filtered(engine, path, filters);
        assert_eq!(answer.status, 400, "{path} {filters}: {}", answer.text());
    }
}

/// A running container with all that can be asked for, one that has ended, and one that never ran.
fn furnish(engine: &Engine) {
    engine.ferry(["network", "create", "--label", "a=b", "net"]).exits(0);
    engine.ferry(["volume", "create", "--label", "a=b", "vol"]).exits(0);
    let web = "run -d --init --name web -l a=b --expose 91 -p 127.0.0.1::80 -v vol:/data --network net --health-cmd true \
               --health-interval 1s busybox sleep 600";
    engine.ferry(web.split_whitespace()).exits(0);
    engine.ferry(["run", "--name", "gone", "busybox", "sh", "-c", "exit 3"]).exits(3);
    engine.ferry(["create", "--name", "made", "busybox", "true"]).exits(0);
}

fn containers() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    wait_until("it is healthy", || engine.inspect("web", "{{.State.Health.Status}}") == "healthy");
    let id = engine.inspect("gone", "{{.Id}}");
    let name = |one: &Value| one["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let all = &["web", "gone", "made"][..];
    all_hold(
        &engine,
        "/containers/json?all=1",
        name,
        &[
            (json!({}), all),
            (json!({"status": ["exited"]}), &["gone"]),
            (json!({"status": ["running", "created"]}), &["web", "made"]),
            (json!({"status": {"exited": true, "running": false}}), &["gone"]),
            (json!({"exited": ["3"]}), &["gone"]),
            (json!({"label": ["a"]}), &["web"]),
            (json!({"label": ["a=b"]}), &["web"]),
            (json!({"label": ["a=b", "c"]}), &[]),
            (json!({"name": ["on"]}), &["gone"]),
            (json!({"name": ["^/?made$"]}), &["made"]),
            (json!({"id": [&id[..12]]}), &["gone"]),
            (json!({"ancestor": ["busybox"]}), all),
            (json!({"ancestor": ["nothing-such"]}), &[]),
            (json!({"before": ["gone"]}), &["web"]),
            (json!({"since": ["gone"]}), &["made"]),
            (json!({"expose": ["91"]}), &["web"]),
            (json!({"expose": ["90-92/tcp"]}), &["web"]),
            (json!({"expose": ["91/udp"]}), &[]),
            (json!({"publish": ["80"]}), &["web"]),
            (json!({"publish": ["79-81/tcp"]}), &["web"]),
            (json!({"publish": ["1/udp"]}), &[]),
            (json!({"volume": ["vol"]}), &["web"]),
            (json!({"volume": ["/data"]}), &["web"]),
            (json!({"network": ["net"]}), &["web"]),
            (json!({"health": ["healthy"]}), &["web"]),
            (json!({"health": ["none"]}), &["gone", "made"]),
            (json!({"is-task": ["true"]}), &[]),
            (json!({"isolation": ["default"]}), all),
            (json!({"status": ["exited"], "label": ["a"]}), &[]),
        ],
    );
    all_hold(&engine, "/containers/json", name, &[(json!({}), &["web"])]);
    all_hold(&engine, "/containers/json?limit=1", name, &[(json!({}), &["made"])]);
    all_refused(
        &engine,
        "/containers/json",
        &[
            json!({"nonsense": ["x"]}),
            json!({"status": ["odd"]}),
            json!({"exited": ["x"]}),
            json!({"health": ["odd"]}),
        ],
    );
    for (query, sized) in [("?all=1&size=1", true), ("?all=1", false)] {
        let list = ask(&engine, &format!("GET /v1.55/containers/json{query}"), None).json();
        assert_eq!(list[0].get("SizeRootFs").is_some(), sized, "{query}: {}", list[0]);
    }
}

fn images() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    engine.ferry(["commit", "-c", "LABEL a=b", "box", "labelled:one"]).exits(0);
    engine.ferry(["commit", "-c", "LABEL a=c", "box"]).exits(0);
    let name = |one: &Value| one["RepoTags"][0].as_str().unwrap_or("none").to_owned();
    all_hold(
        &engine,
        "/images/json",
        name,
        &[
            (json!({}), &["busybox:latest", "labelled:one", "none"]),
            (json!({"dangling": ["true"]}), &["none"]),
            (json!({"dangling": ["false"]}), &["busybox:latest", "labelled:one"]),
            (json!({"label": ["a"]}), &["labelled:one", "none"]),
            (json!({"label": ["a=b"]}), &["labelled:one"]),
            (json!({"reference": ["label*"]}), &["labelled:one"]),
            (json!({"reference": ["busybox:*", "none"]}), &["busybox:latest"]),
            (json!({"before": ["labelled:one"]}), &["busybox:latest"]),
            (json!({"since": ["busybox"]}), &["labelled:one", "none"]),
            (json!({"until": ["1h"]}), &["busybox:latest"]),
        ],
    );
    all_refused(&engine, "/images/json", &[json!({"nonsense": ["x"]}), json!({"dangling": ["perhaps"]})]);
}

fn volumes() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    engine.ferry(["volume", "create", "free"]).exits(0);
    let name = |one: &Value| one["Name"].as_str().unwrap_or_default().to_owned();
    all_hold(
        &engine,
        "/volumes",
        name,
        &[
            (json!({}), &["vol", "free"]),
            (json!({"dangling": ["true"]}), &["free"]),
            (json!({"dangling": ["false"]}), &["vol"]),
            (json!({"driver": ["local"]}), &["vol", "free"]),
            (json!({"driver": ["other"]}), &[]),
            (json!({"label": ["a=b"]}), &["vol"]),
            (json!({"label": ["a=c"]}), &[]),
            (json!({"name": ["re"]}), &["free"]),
        ],
    );
    all_refused(&engine, "/volumes", &[json!({"nonsense": ["x"]}), json!({"dangling": ["perhaps"]})]);
}

fn networks() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    engine.ferry(["network", "create", "idle"]).exits(0);
    let id = engine.ferry(["network", "inspect", "-f", "{{.Id}}", "idle"]).ok().to_owned();
    let name = |one: &Value| one["Name"].as_str().unwrap_or_default().to_owned();
    let all = &["bridge", "host", "none", "net", "idle"][..];
    all_hold(
        &engine,
        "/networks",
        name,
        &[
            (json!({}), all),
            (json!({"driver": ["bridge"]}), &["bridge", "net", "idle"]),
            (json!({"driver": ["host"]}), &["host"]),
            (json!({"type": ["custom"]}), &["net", "idle"]),
            (json!({"type": ["builtin"]}), &["bridge", "host", "none"]),
            (json!({"dangling": ["true"]}), &["idle"]),
            (json!({"label": ["a=b"]}), &["net"]),
            (json!({"id": [&id[..12]]}), &["idle"]),
            (json!({"name": ["idl"]}), &["idle"]),
            (json!({"scope": ["local"]}), all),
            (json!({"scope": ["swarm"]}), &[]),
        ],
    );
    all_refused(&engine, "/networks", &[json!({"nonsense": ["x"]}), json!({"dangling": ["perhaps"]})]);
}

/// The events of the past, as `TYPE ACTION`.
fn past(engine: &Engine, filters: &Value) -> Vec<String> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let answer = filtered(engine, &format!("/events?since=1&until={}", now + 1), filters);
    assert_eq!(answer.status, 200, "{filters}: {}", answer.text());
    let text = answer.text();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told = events.map(|event| {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("Type"), word("Action"))
    });
    told.collect()
}

fn events() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    for (filters, wanted, others) in [
        (json!({"container": ["gone"]}), "container die", vec!["volume", "image"]),
        (json!({"event": ["start"]}), "container start", vec!["volume", "network", "image", "create"]),
        (json!({"type": ["volume"]}), "volume create", vec!["container", "network", "image"]),
        (json!({"image": ["busybox"]}), "container start", vec!["volume", "network"]),
        (json!({"label": ["a=b"]}), "container start", vec!["volume", "network"]),
        (json!({"network": ["net"]}), "network create", vec!["container", "volume", "image"]),
        (json!({"volume": ["vol"]}), "volume create", vec!["container", "network", "image"]),
        (json!({"scope": ["local"]}), "container start", vec![]),
        (json!({"event": ["die"], "container": ["web", "gone"]}), "container die", vec!["start"]),
    ] {
        let told = past(&engine, &filters);
        assert!(told.iter().any(|event| event == wanted), "{filters}: {told:?}");
        let odd = told.iter().find(|event| others.iter().any(|other| event.contains(other)));
        assert!(odd.is_none(), "{filters}: {odd:?}");
    }
    for filters in [
        json!({"container": ["nobody"]}),
        json!({"label": ["a=c"]}),
        json!({"scope": ["swarm"]}),
        json!({"plugin": ["x"]}),
        json!({"node": ["x"]}),
        json!({"service": ["x"]}),
        json!({"secret": ["x"]}),
        json!({"config": ["x"]}),
        json!({"daemon": ["x"]}),
    ] {
        assert_eq!(past(&engine, &filters), Vec::<String>::new(), "{filters}");
    }
    all_refused(&engine, "/events?since=1&until=2", &[json!({"nonsense": ["x"]})]);
    // What began later than it ended tells nothing; what is no time is refused.
    assert_eq!(ask(&engine, "GET /v1.55/events?since=yesterday&until=2", None).status, 400);
}

fn parameters_of_containers() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    let get = |request: &str| ask(&engine, request, None);
    // platform
    let body = json!({"Image": "busybox"});
    for (platform, status) in [("linux%2Famd64", 201), ("windows%2Famd64", 404), ("a%2Fb%2Fc%2Fd", 400)] {
        let answer = ask(&engine, &format!("POST /v1.55/containers/create?platform={platform}"), Some(&body));
        assert_eq!(answer.status, status, "{platform}: {}", answer.text());
    }
    let answer = ask(&engine, "POST /ferry/run?platform=windows%2Famd64", Some(&body));
    assert_eq!(answer.status, 404, "{}", answer.text());
    // size
    assert!(get("GET /v1.55/containers/web/json?size=1").json()["SizeRootFs"].as_u64() > Some(0));
    assert!(get("GET /v1.55/containers/web/json").json().get("SizeRootFs").is_none());
    // ps_args
    let top = get("GET /v1.55/containers/web/top?ps_args=-o%20pid,args").json();
    assert_eq!(top["Titles"], json!(["PID", "COMMAND"]));
    assert_eq!(get("GET /v1.55/containers/gone/top").status, 409);
    // condition
    let answer = get("POST /v1.55/containers/gone/wait?condition=not-running");
    assert_eq!(answer.json()["StatusCode"], 3);
    assert_eq!(get("POST /v1.55/containers/gone/wait?condition=odd").status, 400);
    // detachKeys, of start and attach
    assert_eq!(get("POST /v1.55/containers/made/start?detachKeys=ctrl-odd").status, 400);
    assert_eq!(get("POST /v1.55/containers/web/attach?detachKeys=ctrl-odd&stream=1").status, 400);
    // logs of attach
    engine.ferry(["run", "--name", "said", "busybox", "echo", "said"]).exits(0);
    let answer = get("POST /v1.55/containers/said/attach?logs=1&stdout=1");
    assert!(answer.text().contains("said"), "{}", answer.text());
    // name, of create and rename
    assert_eq!(ask(&engine, "POST /v1.55/containers/create?name=web", Some(&body)).status, 409);
    assert_eq!(ask(&engine, "POST /v1.55/containers/create?name=a%20b", Some(&body)).status, 400);
    assert_eq!(get("POST /v1.55/containers/made/rename?name=web").status, 409);
    // force and v
    assert_eq!(get("DELETE /v1.55/containers/web").status, 409);
    assert_eq!(get("DELETE /v1.55/containers/web?force=1&v=1").status, 204);
    assert_eq!(get("DELETE /v1.55/volumes/nothing-such?force=1").status, 204);
    assert_eq!(get("DELETE /v1.55/volumes/nothing-such").status, 404);
    // verbose and scope
    assert_eq!(get("GET /v1.55/networks/net?scope=swarm").status, 404);
    assert_eq!(get("GET /v1.55/networks/net?scope=local&verbose=1").status, 200);
}

fn parameters_of_images() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    let get = |request: &str| ask(&engine, request, None);
    // comment, author, changes, repo and tag of a commit
    let query = "container=box&repo=made&tag=one&comment=why&author=me&changes=ENV%20A=b&pause=0";
    let answer = ask(&engine, &format!("POST /v1.55/commit?{query}"), Some(&json!({})));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let image = get("GET /v1.55/images/made:one/json").json();
    assert_eq!((&image["Comment"], &image["Author"]), (&json!("why"), &json!("me")));
    assert!(image["Config"]["Env"].to_string().contains("A=b"), "{image}");
    // manifests
    let list = get("GET /v1.55/images/json?manifests=1").json();
    let own = &list[0]["Manifests"][0];
    assert_eq!((&own["Kind"], &own["Available"]), (&json!("image"), &json!(true)), "{list}");
    assert!(own["Size"]["Total"].as_u64() >= own["Size"]["Content"].as_u64(), "{own}");
    let of_busybox = get("GET /v1.55/images/busybox/json?manifests=1").json();
    let containers = &of_busybox["Manifests"][0]["ImageData"]["Containers"];
    assert_eq!(*containers, json!([engine.inspect("box", "{{.Id}}")]));
    // platform
    let windows = encoded(r#"{"os": "windows", "architecture": "amd64"}"#);
    for path in ["busybox/json?", "busybox/history?", "busybox/get?", "get?names=busybox&"] {
        let answer = get(&format!("GET /v1.55/images/{path}platform={windows}"));
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert!(answer.text().contains("does not provide the specified platform (windows/amd64)"), "{path}");
    }
    // version
    assert_eq!(get("POST /v1.55/build?version=2").status, 400);
    // shared-size
    for (query, computed) in [("", false), ("?shared-size=1", true)] {
        let list = get(&format!("GET /v1.55/images/json{query}")).json();
        assert_eq!(list[0]["SharedSize"].as_i64() > Some(-1), computed, "{query}: {list}");
    }
    // repo and tag, noprune and force
    assert_eq!(get("POST /v1.55/images/busybox/tag?repo=UPPER").status, 400);
    assert_eq!(get("POST /v1.55/images/busybox/tag?repo=two&tag=names").status, 201);
    assert_eq!(get("DELETE /v1.55/images/two:names?noprune=1").status, 200);
    assert_eq!(get("DELETE /v1.55/images/busybox").status, 409);
    assert_eq!(get("DELETE /v1.55/images/busybox?force=1").status, 200);
}

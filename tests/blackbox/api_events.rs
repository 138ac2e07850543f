//! The stream of events, in a storm.

use std::io::Read as _;

use ferry_tests::Engine;
use ferry_tests::http::{ask, connect, send};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] =
    &[("api_events::a_hundred_listeners_lose_no_event", a_hundred_listeners_lose_no_event)];

/// Containers that are made, start, end and go at once, and listeners that read only afterwards: all of them see all
/// that happened, in one order.
fn a_hundred_listeners_lose_no_event() {
    const LISTENERS: usize = 100;
    const STARTERS: usize = 4;
    const CONTAINERS: usize = 60;
    let engine = Engine::with_busybox();
    let filters = "%7B%22type%22%3A%5B%22container%22%5D%7D";
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let mut stream = connect(&engine);
            send(&mut stream, &format!("GET /v1.51/events?filters={filters}"), &[], None);
            // The head tells that the listener is there.
            let mut head = [0; 12];
            stream.read_exact(&mut head).expect("a head");
            assert_eq!(&head, b"HTTP/1.1 200");
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        for starter in 0..STARTERS {
            let engine = &engine;
            scope.spawn(move || {
                (starter..CONTAINERS).step_by(STARTERS).for_each(|number| start_one(engine, number))
            });
        }
    });
    let mut first = None;
    for mut stream in listeners {
        let (mut seen, mut buffer) = (Vec::new(), [0; 64 * 1024]);
        while actions(&seen).filter(|action| action.ends_with("destroy")).count() < CONTAINERS {
            let more = stream.read(&mut buffer).expect("more events");
            assert!(more > 0, "the stream ended early: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..more]);
        }
        let actions: Vec<String> = actions(&seen).collect();
        for name in ["create", "start", "die", "destroy"] {
            let count = actions.iter().filter(|action| action.ends_with(name)).count();
            assert_eq!(count, CONTAINERS, "{name}: {actions:?}");
        }
        assert_eq!(*first.get_or_insert_with(|| actions.clone()), actions);
    }
}

/// Makes and starts a container that ends at once and removes itself.
fn start_one(engine: &Engine, number: usize) {
    let host = json!({"NetworkMode": "none", "AutoRemove": true});
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host});
    let made = ask(engine, &format!("POST /containers/create?name=box{number}"), Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    let started = ask(engine, &format!("POST /containers/box{number}/start"), None);
    assert_eq!(started.status, 204, "{}", started.text());
}

/// `NAME ACTION` of each whole event of a stream; the lines of chunks in between are none.
fn actions(seen: &[u8]) -> impl Iterator<Item = String> {
    let events =
        seen.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let named = events.filter(Value::is_object).map(|event| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&event["Actor"]["Attributes"]["name"]), text(&event["Action"]))
    });
    named.collect::<Vec<_>>().into_iter()
}

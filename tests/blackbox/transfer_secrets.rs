//! Credentials are for their registry alone, and in no message or log, wherever a registry points to.

use std::fs;

use ferry_tests::engine::wait_until;
use ferry_tests::faulty::{Answer, Faulty, Image, Request};
use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_secrets::uploads_elsewhere_are_sent_without_proof", uploads_elsewhere_are_sent_without_proof),
    ("transfer_secrets::lists_that_go_on_elsewhere", lists_that_go_on_elsewhere),
    ("transfer_secrets::addresses_are_shown_without_credentials", addresses_are_shown_without_credentials),
];

/// Shown to a registry and never to be seen anywhere else.
const SECRET: &str = "s3cret-w0rd";

/// A registry that wants a login, in front of other answers.
fn guarded(request: &Request, answer: impl FnOnce(&Request) -> Answer) -> Answer {
    match request.header("authorization") {
        None => Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => answer(request),
    }
}

fn says_nothing_secret(engine: &Engine, outcome: &Outcome) {
    let log = fs::read_to_string(engine.run_root().join("engine.log")).unwrap_or_default();
    for text in [&outcome.stdout, &outcome.stderr, &log] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

fn asked_without_proof(server: &Faulty) {
    let asked = server.requests();
    assert!(!asked.is_empty());
    for request in &asked {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
}

fn uploads_elsewhere_are_sent_without_proof() {
    let store = Faulty::start(|request| match request.method.as_str() {
        "PATCH" => Answer::status(202).with("Location", request.path.clone()),
        "PUT" => Answer::status(201),
        _ => Answer::status(404),
    });
    let target = store.address.clone();
    let server = Faulty::start(move |request| {
        guarded(request, |request| match request.method.as_str() {
            "HEAD" => Answer::status(404),
            "POST" => Answer::status(202)
                .with("Location", format!("http://{target}/uploads/one?signature={SECRET}")),
            "PUT" => Answer::status(201),
            _ => Answer::status(200),
        })
    });
    let engine = Engine::start();
    engine.ferry(["login", "-u", "ann", "-p", SECRET, &server.address]).exits(0);
    let name = format!("{}/pushed:x", server.address);
    wait_until("the engine's own image is there", || {
        engine.ferry(["tag", "localhost/hello", &name]).code == 0
    });
    let pushed = engine.ferry(["push", &name]);
    says_nothing_secret(&engine, &pushed);
    pushed.exits(0);
    asked_without_proof(&store);
    // The registry itself was shown the proof, to the end.
    let last = server.requests().into_iter().rfind(|request| request.path.contains("/manifests/"));
    assert!(last.is_some_and(|request| request.header("authorization").is_some()));
}

fn lists_that_go_on_elsewhere() {
    let store = Faulty::start(|_| Answer::status(200).body(r#"{"name":"many","tags":["x"]}"#));
    let target = store.address.clone();
    let image = Image::new(91, 1000);
    let server = Faulty::start(move |request| {
        guarded(request, |request| match request.path.contains("/tags/list") {
            true => Answer::status(200)
                .with("Link", format!("<http://{target}/v2/many/tags/list?last=a>; rel=\"next\""))
                .body(r#"{"name":"many","tags":[]}"#),
            false => image.answer(request),
        })
    });
    let engine = Engine::start();
    engine.ferry(["login", "-u", "ann", "-p", SECRET, &server.address]).exits(0);
    engine.ferry(["pull", "-a", &format!("{}/many", server.address)]).exits(0);
    asked_without_proof(&store);
}

fn addresses_are_shown_without_credentials() {
    let engine = Engine::start();
    for (number, target) in [
        // Nothing listens there; there is no such name; it is no address.
        format!("http://ann:{SECRET}@127.0.0.1:1/x?signature={SECRET}"),
        format!("https://ann:{SECRET}@127.0.0.1:1/x?signature={SECRET}"),
        format!("http://ann:{SECRET}@nowhere.invalid/x?signature={SECRET}"),
        format!("ftp://ann:{SECRET}@127.0.0.1/x?signature={SECRET}"),
        format!("http://ann:{SECRET}@127.0.0.1:notaport/x?signature={SECRET}"),
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::new(101 + 2 * number as u64, 1000);
        let server = Faulty::start(move |request| match image.is_layer(request) {
            true => Answer::status(307).with("Location", target.clone()),
            false => image.answer(request),
        });
        let pulled = engine.ferry(["pull", &format!("{}/shown:x", server.address)]);
        says_nothing_secret(&engine, &pulled);
        pulled.exits(1);
    }
}

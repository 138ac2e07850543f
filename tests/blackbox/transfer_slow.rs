//! Networks that are slow, and registries that say nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ferry_tests::faulty::{Answer, Faulty, Image, Request};
use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_slow::large_blobs_come_in_parts", large_blobs_come_in_parts),
    ("transfer_slow::silent_registries_are_given_up", silent_registries_are_given_up),
];

/// Large enough for several parts.
const LARGE: usize = 14 << 20;
/// The pace of a connection: some 3 MB a second, far below what is unpacked.
const PACE: Duration = Duration::from_millis(20);

/// What pulls may cost, whatever their size.
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// How a registry answers a request for a part.
struct Parts {
    name: &'static str,
    answer: fn(&Image, &Request, Answer) -> Answer,
}

const PARTS: &[Parts] = &[
    Parts { name: "honest", answer: |_, _, answer| answer },
    Parts {
        name: "whole",
        answer: |image, _, _| Answer { pace: Some(PACE), ..Answer::status(200).body(image.layer.clone()) },
    },
    Parts {
        name: "from-elsewhere",
        answer: |image, request, answer| match request.range_end() {
            Some(end) => answer.with("Content-Range", format!("bytes 0-{end}/{}", image.layer.len())),
            None => answer,
        },
    },
    Parts {
        name: "refused",
        answer: |_, request, answer| match request.range_end() {
            Some(_) => Answer::status(416),
            None => answer,
        },
    },
    Parts {
        name: "broken",
        answer: |_, _, answer| {
            static BROKE: AtomicBool = AtomicBool::new(false);
            match BROKE.swap(true, Ordering::SeqCst) {
                false => Answer { cut_after: Some(100_000), ..answer },
                true => answer,
            }
        },
    },
];

/// Whatever becomes of the parts, the image is right; where they work, they are used.
fn large_blobs_come_in_parts() {
    let engine = Engine::start();
    let pull = |(seed, parts): (u64, &'static Parts)| {
        let image = Image::new(201 + 2 * seed, LARGE);
        let size = image.layer.len();
        let server = Faulty::start(move |request| match image.is_layer(request) {
            true => {
                let answer = Answer { pace: Some(PACE), ..image.answer(request) };
                if request.range_start().is_some() { (parts.answer)(&image, request, answer) } else { answer }
            }
            false => image.answer(request),
        });
        let name = format!("{}/{}:x", server.address, parts.name);
        (parts.name, size, engine.ferry(["pull", &name]), server.requests())
    };
    let pulled: Vec<_> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..).zip(PARTS).map(|it| scope.spawn(move || pull(it))).collect();
        pulls.into_iter().map(|pull| pull.join().expect("a pull ends")).collect()
    });
    let peak = peak_kib(&engine);
    assert!(peak <= MEMORY_MAX_KIB, "the engine took {peak} KiB");
    for (name, size, outcome, requests) in pulled {
        outcome.exits(0);
        let mut parts: Vec<(usize, usize)> =
            requests.iter().filter_map(|it| Some((it.range_start()?, it.range_end()?))).collect();
        if name != "honest" {
            continue;
        }
        parts.sort_unstable();
        assert!(parts.len() >= 2, "{parts:?} of {size}");
        assert_eq!(parts.last().map(|part| part.1), Some(size - 1), "{parts:?}");
        assert!(parts.windows(2).all(|two| two[0].1 + 1 == two[1].0), "nothing comes twice: {parts:?}");
    }
}

/// The most memory that the engine has had.
fn peak_kib(engine: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid("engine"))).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of that name");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Where a registry falls silent.
struct Silence {
    name: &'static str,
    answer: fn(&Image, &Request) -> Answer,
}

const SILENCES: &[Silence] = &[
    Silence { name: "at-once", answer: |_, _| Answer { silent: true, ..Answer::status(200) } },
    Silence {
        name: "in-the-manifest",
        answer: |image, request| match request.path.contains("/manifests/") {
            true => Answer { stall_after: Some(10), ..image.answer(request) },
            false => image.answer(request),
        },
    },
    Silence {
        name: "at-the-layer",
        answer: |image, request| match image.is_layer(request) {
            true => Answer { silent: true, ..Answer::status(200) },
            false => image.answer(request),
        },
    },
    Silence {
        name: "in-the-layer",
        answer: |image, request| match image.is_layer(request) {
            // From the start each time, so that no attempt gets further than the one before.
            true => Answer { stall_after: Some(1000), ..Answer::status(200).body(image.layer.clone()) },
            false => image.answer(request),
        },
    },
    Silence {
        name: "at-the-token",
        answer: |_, request| {
            let host = request.header("host").unwrap_or_default();
            match request.path.starts_with("/token") {
                true => Answer { stall_after: Some(3), ..Answer::status(200).body("{\"token\": \"x\"}") },
                false => Answer::status(401)
                    .with("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\"")),
            }
        },
    },
];

fn silent_registries_are_given_up() {
    let engine = Engine::start_with(&["--registry-timeout", "1"]);
    let pull = |(seed, silence): (u64, &'static Silence)| {
        let image = Image::new(301 + 2 * seed, 100_000);
        let server = Faulty::start(move |request| (silence.answer)(&image, request));
        engine.ferry(["pull", &format!("{}/{}:x", server.address, silence.name)])
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..).zip(SILENCES).map(|it| scope.spawn(move || pull(it))).collect();
        pulls.into_iter().map(|pull| pull.join().expect("a pull ends")).collect()
    });
    for outcome in outcomes {
        outcome.exits(1).complains("did not answer within 1 s");
    }
}

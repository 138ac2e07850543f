//! Registries that misbehave: each a clear error, nothing half-visible, no credential in any message or log; and pulls
//! that go on from the bytes on disk.

use std::fs;
use std::thread;

use ferry_tests::engine::{kill_process, wait_until};
use ferry_tests::faulty::{Answer, Faulty, Image, Request, digest};
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_faults::wrong_answers", wrong_answers),
    ("transfer_faults::stumbling_registries_are_asked_again", stumbling_registries_are_asked_again),
    ("transfer_faults::credentials_stay_with_their_registry", credentials_stay_with_their_registry),
    ("transfer_faults::broken_connection_goes_on", broken_connection_goes_on),
    ("transfer_faults::cancelled_pull_goes_on", cancelled_pull_goes_on),
    ("transfer_faults::killed_engine_goes_on", killed_engine_goes_on),
    ("transfer_faults::two_pulls_share_the_work", two_pulls_share_the_work),
    ("transfer_faults::damaged_remains_are_thrown_away", damaged_remains_are_thrown_away),
];

const LAYER: usize = 300_000;
/// Shown to a registry and never to be seen anywhere else.
const SECRET: &str = "s3cret-w0rd";

/// One kind of misbehaviour: what it is called, how it answers, what the user is told.
struct Fault {
    name: &'static str,
    told: &'static str,
    answer: fn(&Image, &Request) -> Answer,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "truncated",
        told: "broke off",
        answer: |image, request| {
            // From the start each time, so that no attempt gets further than the one before.
            let request = Request { headers: Vec::new(), ..request.clone() };
            spoil_layer(image, &request, |answer| Answer { cut_after: Some(1000), ..answer })
        },
    },
    Fault {
        name: "short",
        told: "bytes where its manifest announces",
        answer: |image, request| spoil_layer(image, request, |answer| answer.body(vec![0x1f; 100])),
    },
    Fault {
        name: "corrupt",
        told: "corrupt gzip stream",
        answer: |image, request| {
            spoil_layer(image, request, |mut answer| {
                let at = answer.body.len() - 5;
                answer.body[at] ^= 1;
                answer
            })
        },
    },
    Fault {
        name: "another",
        told: "did not come in",
        answer: |image, request| {
            spoil_layer(image, request, |answer| {
                let other = Image::new(99, LAYER).layer;
                let size = answer.body.len();
                answer.body(other.into_iter().chain(std::iter::repeat(0)).take(size).collect::<Vec<u8>>())
            })
        },
    },
    Fault {
        name: "oversized",
        told: "bytes where its manifest announces",
        answer: |image, request| {
            spoil_layer(image, request, |mut answer| {
                answer.body.extend([0; 1000]);
                answer
            })
        },
    },
    Fault {
        name: "announced-too-large",
        told: "bytes where its manifest announces",
        answer: |image, request| {
            spoil_manifest(image, request, |answer| answer.body(image.describe(image.layer.len() + 1)))
        },
    },
    Fault {
        name: "not-a-manifest",
        told: "unsupported media type `text/html`",
        answer: |image, request| {
            spoil_manifest(image, request, |answer| {
                answer.with("Content-Type", "text/html").body("<html>welcome to the portal</html>")
            })
        },
    },
    Fault {
        name: "no-json",
        told: "cannot be read",
        answer: |image, request| {
            spoil_manifest(image, request, |answer| answer.body("{\"schemaVersion\": 2"))
        },
    },
    Fault {
        name: "large-manifest",
        told: "length limit",
        answer: |image, request| spoil_manifest(image, request, |answer| answer.body(vec![b' '; 9 << 20])),
    },
    Fault {
        name: "lying-digest",
        told: "sent bytes with digest",
        answer: |image, request| match request.path.contains("/manifests/") {
            true => image.answer(request).with("Docker-Content-Digest", digest(b"something else")),
            false => image.answer(request),
        },
    },
    Fault {
        name: "lying-length",
        told: "broke off",
        answer: |image, request| {
            spoil_manifest(image, request, |answer| Answer {
                cut_after: Some(usize::MAX),
                ..answer.with("Content-Length", "100000")
            })
        },
    },
    Fault {
        name: "lying-range",
        told: "was asked for",
        answer: |image, request| {
            spoil_layer(image, request, |answer| match request.range_start() {
                None => Answer { cut_after: Some(1000), ..answer },
                Some(_) => answer.with(
                    "Content-Range",
                    format!("bytes 200000-{}/{}", image.layer.len() - 1, image.layer.len()),
                ),
            })
        },
    },
    Fault {
        name: "no-range",
        told: "Content-Range",
        answer: |image, request| {
            spoil_layer(image, request, |answer| match request.range_start() {
                None => Answer { cut_after: Some(1000), ..answer },
                Some(_) => answer.with("Content-Range", "bytes nonsense"),
            })
        },
    },
    Fault {
        name: "config-no-json",
        told: "config sha256:",
        answer: |_, request| {
            let mut broken = Image::new(7, 100);
            broken.config = b"no json at all".to_vec();
            broken.manifest = broken.describe(broken.layer.len());
            broken.answer(request)
        },
    },
    Fault {
        name: "redirect-loop",
        told: "redirects",
        answer: |image, request| match image.is_layer(request) {
            true => Answer::status(307).with("Location", request.path.clone()),
            false => image.answer(request),
        },
    },
    Fault {
        name: "redirect-nowhere",
        told: "points to no address",
        answer: |image, request| match image.is_layer(request) {
            true => Answer::status(307).with("Location", "file:///etc/shadow"),
            false => image.answer(request),
        },
    },
    Fault {
        name: "never-content",
        told: "refuses access",
        answer: |_, _| Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
    },
    Fault {
        name: "strange-proof",
        told: "not understood",
        answer: |_, _| Answer::status(401).with("WWW-Authenticate", "Negotiate"),
    },
    Fault {
        name: "token-loop",
        told: "pull access denied",
        answer: |_, request| match request.path.starts_with("/token") {
            true => Answer::status(200).body("{\"token\": \"abc\"}"),
            false => {
                let host = request.header("host").unwrap_or_default();
                Answer::status(401)
                    .with("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"x\""))
            }
        },
    },
    Fault {
        name: "token-empty",
        told: "an empty token",
        answer: |_, request| match request.path.starts_with("/token") {
            true => Answer::status(200).body("{}"),
            false => {
                let host = request.header("host").unwrap_or_default();
                Answer::status(401).with("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\""))
            }
        },
    },
    Fault {
        name: "too-many-requests",
        told: "it takes requests again in 10 min",
        answer: |_, _| Answer::status(429).with("Retry-After", "600"),
    },
    Fault { name: "broken", told: "503", answer: |_, _| Answer::status(503) },
    Fault {
        name: "layer-gone",
        told: "has no blob",
        answer: |image, request| match image.is_layer(request) {
            true => Answer::status(404),
            false => image.answer(request),
        },
    },
];

fn spoil_layer(image: &Image, request: &Request, spoil: impl FnOnce(Answer) -> Answer) -> Answer {
    let answer = image.answer(request);
    if image.is_layer(request) { spoil(answer) } else { answer }
}

fn spoil_manifest(image: &Image, request: &Request, spoil: impl FnOnce(Answer) -> Answer) -> Answer {
    let mut answer = image.answer(request);
    if !request.path.contains("/manifests/") {
        return answer;
    }
    answer.headers.retain(|(name, _)| name != "Docker-Content-Digest");
    spoil(answer)
}

/// Names in a folder of the data root; none where it is not there.
fn names_in(engine: &Engine, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(engine.data_root().join(folder)) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Each fault has an image of its own.
fn image_of(seed: u64) -> Image {
    Image::new(1000 + 2 * seed, LAYER)
}

fn wrong_answers() {
    let engine = Engine::start();
    // The engine's own image comes in beside the first calls.
    wait_until("the engine's own image is there", || {
        !engine.ferry(["images", "-q", "localhost/hello"]).stdout.is_empty()
    });
    let (layers, images) =
        (names_in(&engine, "layers/sha256"), engine.ferry(["images", "-q"]).ok().to_owned());
    let pull = |(seed, fault): (u64, &'static Fault)| {
        let image = image_of(seed);
        let server = Faulty::start(move |request| (fault.answer)(&image, request));
        (fault, engine.ferry(["pull", &format!("{}/{}:x", server.address, fault.name)]))
    };
    let outcomes: Vec<(&Fault, Outcome)> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..).zip(FAULTS).map(|it| scope.spawn(move || pull(it))).collect();
        pulls.into_iter().map(|pull| pull.join().expect("a pull ends")).collect()
    });
    let unexpected: Vec<String> = outcomes
        .iter()
        .filter(|(fault, outcome)| outcome.code != 1 || !outcome.stderr.contains(fault.told))
        .map(|(fault, outcome)| format!("{}, expected `{}`:\n{outcome}", fault.name, fault.told))
        .collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    assert_eq!(names_in(&engine, "layers/sha256"), layers);
    assert_eq!(engine.ferry(["images", "-q"]).ok(), images);
    // What is kept for the next attempt is the beginning of the right bytes.
    for seed in 0..FAULTS.len() as u64 {
        let layer = image_of(seed).layer;
        let path = engine.data_root().join("partial").join(digest(&layer).replace(':', "-"));
        let kept = fs::read(&path).unwrap_or_default();
        assert!(layer.starts_with(&kept), "{}", FAULTS[seed as usize].name);
    }
}

fn stumbling_registries_are_asked_again() {
    let image = Image::new(21, LAYER);
    let spoiled = image.clone();
    let stumbles = std::sync::atomic::AtomicUsize::new(0);
    // Every other request fails.
    let server =
        Faulty::start(move |request| match stumbles.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 {
            0 => Answer::status(502),
            _ => spoiled.answer(request),
        });
    let engine = Engine::start();
    engine.ferry(["pull", &format!("{}/stumbles:x", server.address)]).exits(0);
}

fn credentials_stay_with_their_registry() {
    for client in CLIENTS {
        let image = Image::new(31, LAYER);
        let blobs = image.clone();
        let store = Faulty::start(move |request| blobs.answer(request));
        let target = store.address.clone();
        let server = Faulty::start(move |request| match request.header("authorization") {
            None => Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""),
            Some(_) if image.is_layer(request) => Answer::status(307).with(
                "Location",
                format!("http://{target}{}?signature={SECRET}", request.path.replace("blobs", "signed")),
            ),
            Some(_) => image.answer(request),
        });
        let engine = Engine::start();
        engine.client(client, ["login", "-u", "ann", "-p", SECRET, &server.address]).exits(0);
        let name = format!("{}/elsewhere:x", server.address);
        // The other host knows nothing under that address; what it is asked for is what matters.
        let pulled = engine.client(client, ["pull", &name]);
        let asked = store.requests();
        assert!(!asked.is_empty(), "{pulled}");
        for request in &asked {
            assert_eq!(request.header("authorization"), None, "{request:?}");
        }
        let log = fs::read_to_string(engine.run_root().join("engine.log")).unwrap_or_default();
        for text in [&pulled.stdout, &pulled.stderr, &log] {
            assert!(!text.contains(SECRET), "{text}");
        }
        pulled.exits(1).complains("has no blob");
    }
}

/// How often the layer was asked for, and from which byte on.
fn layer_requests(server: &Faulty, image: &Image) -> Vec<Option<usize>> {
    let requests = server.requests();
    requests.iter().filter(|request| image.is_layer(request)).map(Request::range_start).collect()
}

fn broken_connection_goes_on() {
    let image = Image::new(41, LAYER);
    let spoiled = image.clone();
    let server = Faulty::start(move |request| match (spoiled.is_layer(request), request.range_start()) {
        (true, None) => Answer { cut_after: Some(100_000), ..spoiled.answer(request) },
        (true, Some(start)) if start < 200_000 => {
            Answer { cut_after: Some(120_000), ..spoiled.answer(request) }
        }
        _ => spoiled.answer(request),
    });
    let engine = Engine::start();
    engine.ferry(["pull", &format!("{}/breaks:x", server.address)]).exits(0);
    let asked = layer_requests(&server, &image);
    assert_eq!(asked, [None, Some(100_000), Some(220_000)]);
}

/// A server that stops in the middle of the layer until it is released, and answers ranges at once.
fn stalling(image: &Image) -> Faulty {
    let spoiled = image.clone();
    Faulty::start(move |request| match (spoiled.is_layer(request), request.range_start()) {
        (true, None) => Answer { stall_after: Some(200_000), ..spoiled.answer(request) },
        _ => spoiled.answer(request),
    })
}

/// Waits until so much of the layer is on disk that another attempt can go on from there.
fn wait_for_remains(engine: &Engine, image: &Image) {
    let path = engine.data_root().join("partial").join(digest(&image.layer).replace(':', "-"));
    wait_until("the first bytes are on disk", || {
        fs::metadata(&path).is_ok_and(|found| found.len() >= 100_000)
    });
}

fn goes_on(engine: &Engine, server: &Faulty, image: &Image, name: &str) {
    engine.ferry(["pull", name]).exits(0);
    let asked = layer_requests(server, image);
    let start = asked.last().copied().flatten().expect("the last request is for a range");
    assert!(start >= 100_000, "{asked:?}");
    assert_eq!(names_in(engine, "partial"), Vec::<String>::new());
}

fn cancelled_pull_goes_on() {
    let image = Image::new(51, LAYER);
    let server = stalling(&image);
    let engine = Engine::start();
    let name = format!("{}/cancelled:x", server.address);
    let mut client = engine.spawn(["pull", &name]);
    wait_for_remains(&engine, &image);
    client.kill().expect("killed");
    client.wait().expect("it ends");
    goes_on(&engine, &server, &image, &name);
}

fn killed_engine_goes_on() {
    let image = Image::new(61, LAYER);
    let server = stalling(&image);
    let engine = Engine::start();
    let name = format!("{}/killed:x", server.address);
    let mut client = engine.spawn(["pull", &name]);
    wait_for_remains(&engine, &image);
    kill_process(engine.pid("engine"));
    client.wait().expect("it ends");
    goes_on(&engine, &server, &image, &name);
}

fn two_pulls_share_the_work() {
    let image = Image::new(71, LAYER);
    let server = stalling(&image);
    let engine = Engine::start();
    let names = ["one", "two"].map(|name| format!("{}/{name}:x", server.address));
    let first = engine.spawn(["pull", &names[0]]);
    wait_for_remains(&engine, &image);
    let second = engine.spawn(["pull", &names[1]]);
    let asks_for_config = |request: &&Request| request.path.contains("/two/blobs/");
    wait_until("the second pull knows its layers", || {
        server.requests().iter().any(|it| asks_for_config(&it))
    });
    server.release();
    for client in [first, second] {
        let output = client.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(layer_requests(&server, &image).len(), 1);
}

fn damaged_remains_are_thrown_away() {
    let image = Image::new(81, LAYER);
    let right = image.clone();
    let server = Faulty::start(move |request| right.answer(request));
    let engine = Engine::start();
    // The keeper answers before the engine has made its folders.
    engine.ferry(["images", "-q"]).exits(0);
    let path = engine.data_root().join("partial").join(digest(&image.layer).replace(':', "-"));
    fs::write(&path, vec![0; 5000]).expect("written");
    engine.ferry(["pull", &format!("{}/remains:x", server.address)]).exits(0);
    assert_eq!(layer_requests(&server, &image), [Some(5000), None]);
    assert!(!path.exists());
}

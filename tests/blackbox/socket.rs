//! Sockets that let a part of the API through, for tools that want `docker.sock`.

use std::path::Path;

use ferry_tests::engine::wait_until;
use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("socket::only_what_is_allowed", only_what_is_allowed),
    ("socket::only_what_has_the_label", only_what_has_the_label),
    ("socket::made_and_removed", made_and_removed),
];

fn through(engine: &Engine, client: &str, socket: &Path, line: &str) -> Outcome {
    let host = format!("unix://{}", socket.display());
    engine.client(client, ["-H", &host].into_iter().chain(line.split(' ')))
}

fn made(engine: &Engine, name: &str, flags: &[&str]) -> std::path::PathBuf {
    let socket = engine.directory().join(name);
    let path = socket.display().to_string();
    let words = ["socket", "create"].into_iter().chain(flags.iter().copied()).chain([path.as_str()]);
    engine.ferry(words).prints(&path);
    socket
}

fn only_what_is_allowed() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", "echo told; sleep 600"]).exits(0);
    let reader = made(&engine, "reader.sock", &[]);
    for client in ["ferry", "docker"] {
        through(&engine, client, &reader, "ps --format {{.Names}}").prints("box");
        through(&engine, client, &reader, "inspect -f {{.Name}} box").prints("/box");
        for line in
            ["logs box", "stop box", "rm -f box", "exec box true", "run busybox true", "volume create x"]
        {
            let refused = through(&engine, client, &reader, line);
            assert!(refused.code != 0 && refused.stderr.contains("socket"), "{line}: {}", refused.stderr);
        }
    }
    let keeper = made(&engine, "keeper.sock", &["--allow", "read,logs,lifecycle", "--allow", "exec"]);
    through(&engine, "docker", &keeper, "logs box").prints("told");
    through(&engine, "docker", &keeper, "exec box echo inside").prints("inside");
    through(&engine, "docker", &keeper, "restart -t 0 box").prints("box");
    let starter = made(&engine, "starter.sock", &["--allow", "lifecycle"]);
    through(&engine, "docker", &starter, "ps").complains("`read` is not allowed on this socket");
    assert!(raw(&starter, "POST /containers/box/restart?t=0").starts_with("HTTP/1.1 204"));
    // Neither another spelling of the path nor a version leads past.
    for path in ["/v1.44/containers/create", "//containers/create", "/containers/%63reate", "/ferry/sockets"]
    {
        let answer = raw(&keeper, &format!("POST {path}"));
        assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

fn raw(socket: &Path, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("it listens");
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn only_what_has_the_label() {
    let engine = Engine::with_busybox();
    for (name, tier) in [("front", "tier=web"), ("back", "tier=db")] {
        engine.ferry(["run", "-d", "--name", name, "--label", tier, "busybox", "sleep", "600"]).exits(0);
        engine.ferry(["volume", "create", "--label", tier, &format!("{name}-data")]).exits(0);
        engine.ferry(["network", "create", "--label", tier, &format!("{name}-net")]).exits(0);
    }
    let socket = made(&engine, "web.sock", &["--allow", "read,lifecycle", "--label", "tier=web"]);
    for client in ["ferry", "docker"] {
        let see = |line: &str| through(&engine, client, &socket, line);
        see("ps -a --format {{.Names}}").prints("front");
        see("ps -a --filter label=tier=db -q").prints("");
        see("volume ls -q").prints("front-data");
        see("network ls --format {{.Name}}").prints("front-net");
        see("inspect -f {{.Name}} front").prints("/front");
        for line in ["inspect back", "stop -t 0 back", "volume inspect back-data", "network inspect back-net"]
        {
            assert_ne!(see(line).code, 0, "{line}");
        }
        see("restart -t 0 front").prints("front");
    }
    assert_eq!(engine.inspect("back", "{{.State.Running}}"), "true");
    engine.ferry(["restart", "-t", "0", "back"]).exits(0);
    let events = "events --since 1 --until 0s --format {{.Actor.Attributes.name}}";
    // The client counts in whole seconds: what happened in the present one comes with the next.
    wait_until("the restart of back is among the past", || {
        engine.docker(words(events)).stdout.contains("back")
    });
    let told = through(&engine, "docker", &socket, events);
    assert!(told.stdout.contains("front") && !told.stdout.contains("back"), "{}", told.stdout);
}

fn made_and_removed() {
    let engine = Engine::with_busybox();
    let socket = made(&engine, "own.sock", &["--label", "a=b", "--mode", "600"]);
    let path = socket.display().to_string();
    engine.ferry(["socket", "ls", "--format", "{{.Allow}} {{.Labels}} {{.Mode}}"]).prints("read a=b 600");
    engine.ferry(["socket", "create", &path]).exits(1).complains("exists already");
    engine
        .ferry(["socket", "create", "--allow", "everything", "/nowhere"])
        .exits(1)
        .complains("it is one of read, logs");
    engine.ferry(["socket", "create", "--mode", "x", "/nowhere"]).exits(1).complains("no file mode");
    // The next engine serves it again.
    let before = engine.pid("engine");
    engine.kill("engine");
    wait_until("another engine answers", || {
        engine.ferry(["version"]).code == 0 && engine.pid("engine") != before
    });
    wait_until("the socket is served", || through(&engine, "ferry", &socket, "version").code == 0);
    engine.ferry(["socket", "rm", &path]).prints(&path);
    assert!(!socket.exists());
    engine.ferry(["socket", "rm", &path]).exits(1).complains("there is no limited socket");
    engine.ferry(["socket", "ls", "-q"]).prints("");
}

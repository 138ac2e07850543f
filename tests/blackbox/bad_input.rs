//! Mistakes: one clear line that names the value and the reason, a hint, docker's exit code, nothing half-made.

use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("bad_input::mistyped_commands_and_flags", mistyped_commands_and_flags),
    ("bad_input::pasted_dashes_and_quotes", pasted_dashes_and_quotes),
    ("bad_input::run_mistakes", run_mistakes),
    ("bad_input::programs_that_do_not_start", programs_that_do_not_start),
    ("bad_input::values", values),
    ("bad_input::folders_and_registries", folders_and_registries),
    ("bad_input::engine_out_of_reach", engine_out_of_reach),
    ("bad_input::garbage_on_the_socket", garbage_on_the_socket),
];

fn check(outcome: &Outcome, code: i32, words: &[&str]) {
    outcome.exits(code);
    for word in words {
        outcome.complains(word);
    }
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
}

fn mistyped_commands_and_flags() {
    let engine = Engine::start();
    check(&engine.ferry(["rnu", "busybox"]), 1, &["rnu", "run"]);
    check(&engine.ferry(["run", "--nmae", "x", "busybox"]), 125, &["--nmae", "--name"]);
    check(&engine.ferry(["ps", "--al"]), 125, &["--al", "--all"]);
    check(&engine.ferry(["container", "lst"]), 1, &["lst"]);
}

fn pasted_dashes_and_quotes() {
    let engine = Engine::with_busybox();
    check(&engine.ferry(["create", "–name", "x", "busybox"]), 1, &["–name", "--name"]);
    check(&engine.ferry(["run", "—rm", "busybox"]), 125, &["—rm", "--rm"]);
    check(&engine.ferry(["run", "“busybox”"]), 125, &["“busybox”", "busybox"]);
    engine.ferry(["ps", "-aq"]).prints("");
}

fn run_mistakes() {
    let engine = Engine::with_busybox();
    check(
        &engine.ferry(["run", "busybox", "-it", "sh"]),
        127,
        &["-it", "before the image", "ferry run -it busybox sh"],
    );
    let _ = engine.ferry(["rm", "-f", "box"]);
    let id = engine.ferry(["run", "-d", "--name", "box", "busybox", "true"]).ok().to_owned();
    check(&engine.ferry(["run", &id[..12]]), 125, &["ferry start"]);
    check(&engine.ferry(["run", "box"]), 125, &["ferry start"]);
    check(&engine.ferry(["run", ""]), 125, &["empty"]);
    check(&engine.ferry(["run", "Busybox"]), 125, &["Busybox", "lowercase"]);
    check(&engine.ferry(["run", "nosuchimage"]), 125, &["nosuchimage"]);
    check(&engine.ferry(["run", "--name", "bad name", "busybox"]), 125, &["bad name"]);
    check(
        &engine.ferry(["run", "-u", "nosuchuser", "busybox"]),
        125,
        &["nosuchuser", "no matching entries in passwd file", "hint: ", "-u 1000"],
    );
    check(&engine.ferry(["run", "-v", "/no/such/folder:/data", "busybox"]), 125, &["/no/such/folder"]);
}

fn programs_that_do_not_start() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("scripts");
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    };
    write("noshebang", "echo hi\n", 0o755);
    write("nox", "#!/bin/sh\necho hi\n", 0o644);
    write("crlf", "#!/bin/sh\r\necho hi\r\n", 0o755);
    write("nointerpreter", "#!/usr/bin/python9\nprint(1)\n", 0o755);
    let volume = format!("{}:/s", folder.display());
    let run = |name: &str| engine.ferry(["run", "--rm", "-v", &volume, "busybox", &format!("/s/{name}")]);
    let outcome = run("noshebang");
    assert!(outcome.code == 126 || outcome.code == 125 || outcome.code == 255, "{outcome}");
    outcome.complains("exec format error");
    check(&run("nox"), 126, &["permission denied"]);
    check(&run("crlf"), 127, &["Windows line ends"]);
    check(&run("nointerpreter"), 127, &["/usr/bin/python9"]);
    engine.ferry(["ps", "-aq"]).prints("");
}

fn values() {
    let engine = Engine::with_busybox();
    for (flags, words) in [
        (&["--memory", "lots"][..], &["lots"][..]),
        (&["--memory", "1k"], &["6"]),
        (&["--cpus", "1000"], &["CPUs"]),
        (&["--cap-add", "FLY"], &["FLY"]),
        (&["--ulimit", "nofile"], &["nofile"]),
        (&["--restart", "sometimes"], &["sometimes"]),
        (&["--device", "/dev/nosuch"], &["/dev/nosuch"]),
        (&["--security-opt", "nonsense=1"], &["nonsense"]),
        (&["--log-driver", "nosuch"], &["nosuch"]),
        (&["--stop-signal", "SIGNOPE"], &["SIGNOPE"]),
        (&["-w", "relative"], &["relative"]),
        (&["--env-file", "/no/such/file"], &["/no/such/file"]),
    ] {
        let mut arguments = vec!["run"];
        // A container that could not start stays, as docker has it; --rm and --restart exclude each other.
        arguments.extend(Some("--rm").filter(|_| flags[0] != "--restart"));
        arguments.extend(flags);
        arguments.extend(["busybox", "true"]);
        check(&engine.ferry(arguments), 125, words);
    }
    engine.ferry(["ps", "-aq"]).prints("");
}

fn folders_and_registries() {
    let engine = Engine::start();
    let here = engine.directory().join("here");
    std::fs::create_dir_all(here.join("frontend")).expect("a folder");
    let build = |folder: &str| {
        let mut command = engine.command(["build", folder]);
        let output = command.current_dir(&here).output().expect("ferry runs");
        Outcome::new(format!("build {folder}"), &output)
    };
    check(&build("frontned"), 1, &["\"frontned\" not found", "hint: did you mean 'frontend'?"]);
    check(&build("nosuchdir"), 1, &["\"nosuchdir\" not found", "hint: ", "ferry build ."]);
    let pulled = engine.ferry(["pull", "nosuch.invalid/x:1"]);
    check(&pulled, 1, &["error: cannot find the address of nosuch.invalid", "hint: check the name"]);
    assert_eq!(pulled.stderr.matches("error: ").count(), 1, "{pulled}");
    assert!(!pulled.stderr.contains("Query {") && !pulled.stderr.contains("client error"), "{pulled}");
}

fn engine_out_of_reach() {
    let engine = Engine::start();
    let outcome = engine.ferry(["-H", "unix:///nonexistent.sock", "ps"]);
    check(&outcome, 1, &["/nonexistent.sock", "ferry engine start"]);
}

fn garbage_on_the_socket() {
    use std::io::{Read, Write};
    let engine = Engine::with_busybox();
    let socket = engine.directory().join("ferry.sock");
    let huge_header = format!("GET /_ping HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(10_000_000));
    let payloads: &[&[u8]] = &[
        b"\0\0\0\0garbage",
        b"GET /v9.99/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{{{{{",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
        huge_header.as_bytes(),
    ];
    for payload in payloads {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a timeout");
        // The engine may hang up while we write: that is an answer too.
        stream.write_all(payload).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let idle: Vec<_> =
        (0..500).map(|_| std::os::unix::net::UnixStream::connect(&socket).expect("it listens")).collect();
    engine.ferry(["run", "--rm", "busybox", "echo", "alive"]).prints("alive");
    drop(idle);
}

//! `ferry why` and `ferry doctor`: what happened to a container, and what is wrong with a machine, in words.

use ferry_tests::Engine;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("why::ends_and_their_reasons", ends_and_their_reasons),
    ("why::what_runs_or_never_ran", what_runs_or_never_ran),
    ("why::the_doctor_looks_around", the_doctor_looks_around),
];

fn ends_and_their_reasons() {
    let engine = Engine::with_busybox();
    let rows: &[(&str, &[&str], &[&str], &[&str])] = &[
        (
            "fine",
            &[],
            &["true"],
            &["fine exited with code 0", "ended by itself and reported no error (true)"],
        ),
        (
            "bad",
            &[],
            &["sh", "-c", "echo my last words; exit 3"],
            &["code 3", "last lines of its log:", "my last words", "next: ferry logs bad"],
        ),
        ("fault", &[], &["sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"], &["code 139", "SIGSEGV"]),
        (
            "hungry",
            &["-m", "16m"],
            &["sh", "-c", "tail /dev/zero"],
            &[
                "more memory than its limit of 16MiB",
                "next: ferry update -m 32m --memory-swap -1 hungry && ferry start hungry",
            ],
        ),
    ];
    for (name, flags, command, expected) in rows {
        let mut run = vec!["run", "--name", name, "--network", "none"];
        run.extend(*flags);
        run.push("busybox");
        run.extend(*command);
        let _ = engine.ferry(run);
        let why = engine.ferry(["why", name]);
        for text in *expected {
            why.exits(0).says(text);
        }
    }
    engine.ferry(["run", "-d", "--name", "told", "--network", "none", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["kill", "told"]).exits(0);
    engine.ferry(["wait", "told"]).exits(0);
    engine.ferry(["why", "told"]).exits(0).says("SIGKILL ended it; the engine sent it");
}

fn what_runs_or_never_ran() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "up", "--network", "none", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["why", "up"]).exits(0).says("up runs, since");
    engine.ferry(["create", "--name", "made", "busybox"]).exits(0);
    engine
        .ferry(["why", "made"])
        .exits(0)
        .says("was created and never started")
        .says("next: ferry start made");
    engine.ferry(["run", "--name", "lost", "busybox", "/no/such"]).exits(127);
    engine
        .ferry(["why", "lost"])
        .exits(0)
        .says("lost could not be started")
        .says("no such file or directory");
    engine.ferry(["why", "nobody"]).exits(1).complains("No such container: nobody").complains("ferry ps -a");
}

fn the_doctor_looks_around() {
    let engine = Engine::start();
    let doctor = engine.ferry(["doctor"]);
    let rows = ["ok    privileges     root", "ok    layers         overlay", "cgroups", "disk", "answers in"];
    for text in rows {
        doctor.exits(0).says(text);
    }
    engine.engine_command("stop").exits(0);
    let missing = engine.ferry(["doctor"]);
    missing.exits(1).says("BAD   engine").says("mend: ferry engine run").says("1 broken");
    engine.engine_command("start").exits(0);
}

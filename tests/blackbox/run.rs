//! `run` and what it takes, through ferry and through the stock docker client.

use ferry_tests::Engine;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("run::prints_and_exits_as_the_command_does", prints_and_exits_as_the_command_does),
];

fn prints_and_exits_as_the_command_does() {
    let engine = Engine::with_busybox();
    for client in ["ferry", "docker"] {
        engine.client(client, ["run", "--rm", "busybox", "echo", "hello"]).exits(0).prints("hello");
        engine.client(client, ["run", "--rm", "busybox", "sh", "-c", "exit 7"]).exits(7);
        engine.client(client, ["run", "--rm", "busybox", "nosuchcommand"]).exits(127);
        engine.client(client, ["run", "--rm", "busybox", "/etc"]).exits(126);
    }
}

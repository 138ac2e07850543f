//! What a pull shows: on terminals of several widths, and where there is none.

use std::process::Command;
use std::time::Duration;

use ferry_tests::faulty::{Answer, Faulty, Image};
use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_progress::on_a_terminal", on_a_terminal),
    ("transfer_progress::without_a_terminal", without_a_terminal),
];

/// Large enough for some figures at this pace.
const BYTES: usize = 6 << 20;
const PACE: Duration = Duration::from_millis(20);

fn slow_registry(seed: u64) -> Faulty {
    let image = Image::new(seed, BYTES);
    Faulty::start(move |request| match image.is_layer(request) {
        true => Answer { pace: Some(PACE), ..image.answer(request) },
        false => image.answer(request),
    })
}

/// Runs `ferry` on a terminal of so many columns, which script(1) lends.
fn on_terminal(engine: &Engine, columns: usize, arguments: &[&str]) -> Outcome {
    let command = engine.command(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    let line = format!("stty rows 40 cols {columns}; exec {}", line.join(" "));
    script.args(["-qec", &line, "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    Outcome::new(format!("ferry {arguments:?}"), &script.output().expect("script(1) of util-linux"))
}

/// The lines that were shown, one after another, without the moves between them.
fn shown(outcome: &Outcome) -> Vec<String> {
    let pieces = outcome.stdout.split(['\r', '\n', '\u{1b}']);
    // What is left of a move is `[2K` or `[3A`.
    let is_move = |text: &&str| {
        text.strip_prefix('[')
            .is_some_and(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).len() <= 1)
    };
    pieces.filter(|piece| !piece.is_empty() && !is_move(piece)).map(str::to_owned).collect()
}

/// Bytes, rate and remaining time of each layer, on one line whatever the width.
fn on_a_terminal() {
    let engine = Engine::start();
    for (seed, columns) in [(901, 160), (903, 80), (905, 40)] {
        let server = slow_registry(seed);
        let pulled = on_terminal(&engine, columns, &["pull", &format!("{}/a:x", server.address)]);
        pulled.exits(0).says("Status: Downloaded newer image");
        let lines = shown(&pulled);
        let layer: Vec<&String> = lines.iter().filter(|line| line.contains(": Downloading")).collect();
        assert!(layer.len() > 2, "{columns} columns: it moves: {pulled}");
        assert!(
            layer.iter().any(|line| line.contains("/6.")),
            "{columns} columns: how many bytes: {layer:?}"
        );
        let whole = |line: &&&String| line.contains("B/s  ") && line.ends_with("s left");
        assert!(columns < 80 || layer.iter().any(|line| whole(&line)), "{columns} columns: {layer:?}");
        assert_eq!(
            layer.iter().any(|line| line.contains("=>")),
            columns > 120,
            "a bar where it fits: {layer:?}"
        );
        let longest = layer.iter().map(|line| line.chars().count()).max();
        assert!(longest < Some(columns), "{columns} columns: nothing wraps: {layer:?}");
    }
}

/// Lines that stay, records for programs, or nothing but the name.
fn without_a_terminal() {
    let engine = Engine::start();
    let server = slow_registry(907);
    let name = format!("{}/a:x", server.address);
    for flags in [&[][..], &["--progress", "plain"]] {
        let pulled = engine.ferry(["pull"].iter().chain(flags).chain(&[name.as_str()]));
        pulled.exits(0).says(": Pull complete").says("Status: Downloaded newer image");
        assert!(!pulled.stdout.contains(['\u{1b}', '\r']), "{pulled}");
        engine.ferry(["rmi", &name]).exits(0);
    }
    let plain = on_terminal(&engine, 100, &["pull", "--progress", "plain", &name]);
    assert!(!plain.stdout.contains('\u{1b}') && plain.stdout.contains("Pull complete"), "{plain}");
    engine.ferry(["rmi", &name]).exits(0);
    let json = engine.ferry(["pull", "--progress", "json", &name]);
    let records = json.ok().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
    let figures = |record: &serde_json::Value| record["progressDetail"]["total"].as_u64().is_some();
    assert!(records.filter(figures).count() > 2, "{json}");
    engine.ferry(["rmi", &name]).exits(0);
    let quiet = engine.ferry(["pull", "-q", &name]);
    quiet.prints(&name);
    engine.ferry(["pull", "--progress", "moon", &name]).exits(1).complains("unknown kind of progress");
}

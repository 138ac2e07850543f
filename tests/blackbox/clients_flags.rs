//! Every command and every flag that the stock client's help names, ferry's names too.

use std::collections::BTreeSet;

use ferry_tests::Engine;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[("clients_flags::every_flag_of_docker", every_flag_of_docker)];

/// Commands of the stock client that are looked at elsewhere or are for a swarm, which a single machine is none of.
const ELSEWHERE: [&str; 12] = [
    "swarm", "node", "service", "stack", "secret", "config", "plugin", "trust", "buildx", "compose", "model",
    "scout",
];
/// Flags that have no meaning outside of a swarm, and words of the help that are no flags of the command.
const NOT_APPLICABLE: [(&str, &[&str]); 6] = [
    (
        "volume create",
        &[
            "--availability",
            "--group",
            "--limit-bytes",
            "--required-bytes",
            "--scope",
            "--secret",
            "--sharing",
            "--topology-preferred",
            "--topology-required",
            "--type",
        ],
    ),
    ("volume ls", &["--cluster"]),
    // The flag of every command; the help of these two names it.
    ("run", &["--help"]),
    ("container run", &["--help"]),
    ("create", &["--help"]),
    ("container create", &["--help"]),
];

fn help(engine: &Engine, client: &str, words: &[String]) -> String {
    let mut command = engine.client_command(client, words.iter().map(String::as_str).chain(["--help"]));
    let output = command.output().expect("the client runs");
    assert!(
        output.status.success(),
        "{client} {words:?} --help: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `-x` and `--xyz` at the beginnings of lines.
fn flags(help: &str) -> BTreeSet<&str> {
    let words = help.lines().filter(|line| line.starts_with("  ")).flat_map(|line| {
        let start = line.trim_start();
        start.split("  ").next().unwrap_or_default().split([',', ' ']).filter(|word| !word.is_empty()).take(2)
    });
    let is_flag = |word: &&str| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        (1..=2).contains(&dashes) && name.starts_with(|first: char| first.is_ascii_lowercase())
    };
    words.filter(is_flag).collect()
}

/// The names below the heads that end in `Commands:`.
fn commands(help: &str) -> Vec<String> {
    let mut within = false;
    let mut found = Vec::new();
    for line in help.lines() {
        if !line.starts_with(' ') {
            within = line.ends_with("Commands:");
        } else if within && let Some(name) = line.split_whitespace().next() {
            found.push(name.trim_end_matches('*').to_owned());
        }
    }
    found
}

fn walk(engine: &Engine, words: &[String], missing: &mut Vec<String>, seen: &mut usize) {
    let (docker, ferry) = (help(engine, "docker", words), help(engine, "ferry", words));
    let path = words.join(" ");
    let excused =
        NOT_APPLICABLE.iter().find(|(command, _)| *command == path).map_or(&[][..], |(_, flags)| flags);
    let own = flags(&ferry);
    let lacking = flags(&docker).into_iter().filter(|flag| !own.contains(flag) && !excused.contains(flag));
    missing.extend(lacking.map(|flag| format!("{path} {flag}")));
    *seen += 1;
    for name in commands(&docker) {
        if !(words.is_empty() && ELSEWHERE.contains(&name.as_str())) {
            walk(engine, &[words, &[name]].concat(), missing, seen);
        }
    }
}

fn every_flag_of_docker() {
    let engine = Engine::start();
    let (mut missing, mut seen) = (Vec::new(), 0);
    walk(&engine, &[], &mut missing, &mut seen);
    assert!(missing.is_empty(), "ferry does not know: {missing:#?}");
    assert!(seen > 100, "{seen} commands looked at");
}

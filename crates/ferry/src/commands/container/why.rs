//! `why`: what happened to a container, in words, and what to type next.
//!
//! Gathers what the engine knows (state, events, log), then works out the text purely.

use ferry_api::container::{HealthResult, Inspect};
use ferry_api::event::Event;
use ferry_api::{Call, Client, Filters};
use ferry_compose::apply::Engine;

use super::inspect;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::{self, time, units};
use crate::session::Session;

/// So many last lines of the log are shown.
const LOG_LINES: usize = 10;
/// So many last results of a health check are shown.
const HEALTH_RESULTS: usize = 3;

/// Runs `why`.
pub async fn why(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let container = inspect(client, &arguments[0]).await?;
    let signals = signals_sent(client, &container).await?;
    let tty = container.config.tty;
    // A log that cannot be read (another driver, or none) is one finding less.
    let lines = Engine::new(client.clone(), "").last_lines(&container.id, LOG_LINES, tty).await;
    let lines = lines.unwrap_or_default();
    let found = explain(&container, &signals, &lines, time::now());
    output::write(found.text(&lines).as_bytes())?;
    Ok(0)
}

/// The signals that went through the engine since the container's last start, in order.
async fn signals_sent(client: &Client, container: &Inspect) -> Result<Vec<String>, Failure> {
    let since = time::parse(&container.state.started_at).unwrap_or_default();
    let mut filters = Filters::default();
    filters.add("container", &container.id);
    filters.add("event", "kill");
    let call = Call::get("/events")
        .query("since", since.to_string())
        .query("until", (time::now() + 1).to_string())
        .query("filters", filters.to_json());
    let mut stream = client.call(call).await?.json_lines::<Event>();
    let mut signals = Vec::new();
    while let Some(event) = stream.next().await? {
        signals.extend(event.actor.attributes.get("signal").cloned());
    }
    Ok(signals)
}

/// What is known, put in words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Explanation {
    headline: String,
    because: Vec<String>,
    next: Vec<String>,
}

impl Explanation {
    fn text(&self, log: &[String]) -> String {
        let mut text = format!("{}\n", self.headline);
        for reason in &self.because {
            text.push_str(&format!("  {reason}\n"));
        }
        if !log.is_empty() {
            text.push_str("last lines of its log:\n");
            log.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        for command in &self.next {
            text.push_str(&format!("next: {command}\n"));
        }
        text
    }
}

fn explain(container: &Inspect, signals: &[String], log: &[String], now: i64) -> Explanation {
    let name = container.name.trim_start_matches('/');
    let state = &container.state;
    let since = |text: &str| time::parse(text).map(|at| units::duration(now - at)).unwrap_or_default();
    let mut found = Explanation::default();
    match state.status.as_str() {
        "running" => found.headline = format!("{name} runs, since {}", since(&state.started_at)),
        "paused" => {
            found.headline = format!("{name} is paused");
            found.next.push(format!("ferry unpause {name}"));
        }
        "created" if state.error.is_empty() => {
            found.headline = format!("{name} was created and never started");
            found.next.push(format!("ferry start {name}"));
        }
        "created" => found.headline = format!("{name} could not be started"),
        "restarting" => {
            found.headline = format!("{name} ended with code {} and is to be started again", state.exit_code);
        }
        status => {
            found.headline =
                format!("{name} {status} with code {}, {} ago", state.exit_code, since(&state.finished_at));
        }
    }
    if !state.error.is_empty() {
        found.because.push(state.error.clone());
    }
    if !state.running {
        explain_end(container, signals, log, &mut found);
    }
    explain_restarts(container, &mut found);
    explain_health(container, &mut found);
    if !state.running && state.status != "created" && found.next.is_empty() {
        found.next.push(format!("ferry logs {name}"));
    }
    found
}

/// Why the program is no more.
fn explain_end(container: &Inspect, signals: &[String], log: &[String], found: &mut Explanation) {
    let state = &container.state;
    let name = container.name.trim_start_matches('/');
    if state.status == "created" && state.error.is_empty() {
        return;
    }
    if state.oom_killed {
        match container.host_config.memory {
            0 => found.because.push("the kernel killed it: there was no more memory".to_owned()),
            limit => {
                let shown = units::binary_size(limit as f64);
                found
                    .because
                    .push(format!("the kernel killed it: it needed more memory than its limit of {shown}"));
                let double = (limit >> 20) * 2;
                found
                    .next
                    .push(format!("ferry update -m {double}m --memory-swap -1 {name} && ferry start {name}"));
            }
        }
        return;
    }
    let code = state.exit_code;
    let program = std::iter::once(&container.path).chain(&container.args).map(String::as_str);
    let command = program.collect::<Vec<_>>().join(" ");
    if code > 128 && code < 128 + 65 {
        found.because.push(signal_reason(code - 128, signals));
    } else if let Some(meaning) = meaning(code).filter(|_| state.status != "created") {
        found.because.push(format!("{meaning} ({command})"));
    }
    found.because.extend(missing_parts(&state.error, log));
}

/// What an exit code says by convention.
fn meaning(code: i64) -> Option<&'static str> {
    match code {
        0 => Some("its command ended by itself and reported no error"),
        126 => Some("its command is there and cannot be executed"),
        127 => Some("its command, or something that the command needs, was not found"),
        1..=125 => Some("its command ended by itself and reported an error"),
        _ => None,
    }
}

/// Who sent a signal, as far as the engine knows.
fn signal_reason(number: i64, signals: &[String]) -> String {
    let what = match number {
        1 => "SIGHUP",
        2 => "SIGINT (an interrupt, as by Ctrl-C)",
        3 => "SIGQUIT",
        4 => "SIGILL (an instruction that this processor does not know)",
        6 => "SIGABRT (it gave up by itself: a failed check)",
        7 => "SIGBUS (memory that is not there)",
        8 => "SIGFPE (a division by zero)",
        9 => "SIGKILL",
        11 => "SIGSEGV (a fault in the program: memory that is not its own)",
        13 => "SIGPIPE (nobody read what it wrote)",
        15 => "SIGTERM (a request to end)",
        24 => "SIGXCPU (its limit of processor time)",
        25 => "SIGXFSZ (its limit of file size)",
        31 => "SIGSYS (a system call that its seccomp profile forbids)",
        _ => return format!("signal {number} ended it"),
    };
    let sent = number.to_string();
    let by = match (signals.contains(&sent), number) {
        (true, 9) if signals.len() > 1 => "; the engine sent it, when the time that a stop gives had passed",
        (true, _) => "; the engine sent it, for a stop, kill or restart that somebody asked for",
        (false, 9) => {
            "; not by the engine: somebody on the host or in the container sent it, or the host ran out of memory"
        }
        (false, 2 | 15) => "; not by the engine: somebody on the host or in the container sent it",
        (false, _) => "",
    };
    format!("{what} ended it{by}")
}

/// Interpreters, libraries and platforms that are missing, told from what the start or the program said.
fn missing_parts(error: &str, log: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if error.contains("no such file or directory") && error.contains("exec") {
        found.push(
            "where the file is there, its first line names an interpreter that the image lacks (#!/bin/bash where only sh is), \
             it has Windows line ends, or it needs a C library that the image lacks"
                .to_owned(),
        );
    }
    if error.contains("exec format error") {
        found.push(
            "it is made for another kind of processor, or is a script without a first line such as #!/bin/sh"
                .to_owned(),
        );
    }
    let library = log.iter().find_map(|line| line.split_once("error while loading shared libraries: "));
    if let Some((_, rest)) = library {
        let library = rest.split(':').next().unwrap_or(rest);
        found.push(format!("the image lacks the library {library}"));
    }
    found
}

fn explain_restarts(container: &Inspect, found: &mut Explanation) {
    if container.restart_count > 0 {
        let policy = &container.host_config.restart_policy.name;
        found
            .because
            .push(format!("restarted {} times so far (restart policy {policy})", container.restart_count));
    }
}

fn explain_health(container: &Inspect, found: &mut Explanation) {
    let Some(health) = &container.state.health else { return };
    if health.status != "unhealthy" && health.failing_streak == 0 {
        return;
    }
    found.because.push(format!("its health check failed {} times in a row", health.failing_streak));
    let show = |result: &HealthResult| {
        let output = result.output.trim();
        let output = if output.is_empty() { "no output" } else { output };
        format!("check at {}: exit {}: {output}", result.start, result.exit_code)
    };
    let results = health.log.iter().flatten().rev().filter(|result| result.exit_code != 0);
    found.because.extend(results.take(HEALTH_RESULTS).map(show));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i64) -> Inspect {
        let mut container = Inspect { name: "/web".into(), path: "serve".into(), ..Inspect::default() };
        container.state.status = "exited".into();
        container.state.exit_code = code;
        container.state.finished_at = "1970-01-01T00:00:10Z".into();
        container.host_config.memory = 64 << 20;
        container
    }

    #[test]
    fn ends_are_told() {
        let rows: &[(i64, bool, &[&str], &[&str], &str)] = &[
            (0, false, &[], &[], "its command ended by itself and reported no error (serve)"),
            (3, false, &[], &[], "its command ended by itself and reported an error (serve)"),
            (137, true, &[], &[], "the kernel killed it: it needed more memory than its limit of 64MiB"),
            (
                137,
                false,
                &["15", "9"],
                &[],
                "SIGKILL ended it; the engine sent it, when the time that a stop gives had passed",
            ),
            (
                137,
                false,
                &["9"],
                &[],
                "SIGKILL ended it; the engine sent it, for a stop, kill or restart that somebody asked for",
            ),
            (139, false, &[], &[], "SIGSEGV (a fault in the program: memory that is not its own) ended it"),
            (
                127,
                false,
                &[],
                &["x: error while loading shared libraries: libz.so.1: cannot open"],
                "the image lacks the library libz.so.1",
            ),
        ];
        for (code, oom, signals, log, expected) in rows {
            let mut container = ended(*code);
            container.state.oom_killed = *oom;
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let found = explain(&container, &owned(signals), &owned(log), 70);
            assert!(found.because.iter().any(|line| line == expected), "{code}: {found:?}");
            assert_eq!(found.headline, format!("web exited with code {code}, About a minute ago"));
        }
    }

    #[test]
    fn failing_health_is_told() {
        let mut container = ended(0);
        container.state.status = "running".into();
        container.state.running = true;
        let result =
            |exit_code, output: &str| HealthResult { exit_code, output: output.into(), ..Default::default() };
        container.state.health = Some(ferry_api::container::Health {
            status: "unhealthy".into(),
            failing_streak: 2,
            log: Some(vec![result(0, "fine"), result(1, "refused\n")]),
        });
        let found = explain(&container, &[], &[], 70);
        assert_eq!(found.because, ["its health check failed 2 times in a row", "check at : exit 1: refused"]);
    }
}

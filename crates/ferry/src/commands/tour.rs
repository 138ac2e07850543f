//! `tour`: a newcomer's first minutes, every step really done.

use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::{Session, default_socket};

/// The table.
pub static COMMANDS: &[Command] =
    &[command!(["tour"], "", "Show the main job, step by step, for real", None, NoFlags, tour)];

/// One step: why, and what is typed.
struct Step {
    why: &'static str,
    words: &'static [&'static str],
}

/// The tour. Names begin with `tour-`, so that nothing of the user's is touched.
const STEPS: &[Step] = &[
    Step {
        why: "Run a container from the image that is built in",
        words: &["run", "--rm", "localhost/hello"],
    },
    Step {
        why: "Run one in the background: a small web page",
        words: &["run", "-d", "--name", "tour-web", "localhost/hello", "web"],
    },
    Step { why: "See what runs", words: &["ps", "--filter", "name=tour-"] },
    Step { why: "Run a second program inside of it", words: &["exec", "tour-web", "/hello", "inside"] },
    Step { why: "Read what it has printed", words: &["logs", "tour-web"] },
    Step {
        why: "Ask for anything about it, with a template",
        words: &["inspect", "-f", "{{.Name}} is {{.State.Status}}, from {{.Config.Image}}", "tour-web"],
    },
    Step { why: "Stop it", words: &["stop", "tour-web"] },
    Step { why: "It is still there, stopped", words: &["ps", "-a", "--filter", "name=tour-"] },
    Step { why: "Remove it", words: &["rm", "tour-web"] },
];

/// An engine of the tour's own, ended with it.
struct PrivateEngine {
    root: PathBuf,
}

impl PrivateEngine {
    fn flags(&self) -> Vec<String> {
        let at = |name: &str| self.root.join(name).display().to_string();
        vec!["--data-root".into(), at("data"), "--run-root".into(), at("run"), "--host".into(), self.host()]
    }

    fn host(&self) -> String {
        format!("unix://{}/ferry.sock", self.root.display())
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        let mut stop = own_program();
        stop.args(["engine", "stop"]).args(self.flags()).stdout(Stdio::null()).stderr(Stdio::null());
        // A tour that failed half-way leaves as little as it can.
        let _ = stop.status();
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn own_program() -> Process {
    Process::new("/proc/self/exe")
}

/// Runs `tour`.
pub async fn tour(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    output::line("A tour of Ferry: every step below is really done.")?;
    let target = session.target()?;
    let socket = default_socket();
    let running = target.named_by.is_some() || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    let mut engine = None;
    let host = if running {
        output::line(&format!("\nAn engine runs already and answers at {}.", target.host))?;
        target.host.to_string()
    } else {
        let private = start_private()?;
        let host = private.host();
        engine = Some(private);
        host
    };
    // Left over from a tour that was broken off.
    let mut clean = own_program();
    let _ = clean
        .args(["rm", "-f", "tour-web"])
        .env("FERRY_HOST", &host)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    for (index, step) in STEPS.iter().enumerate() {
        show(index + 2, step.why, step.words)?;
        let status = own_program().args(step.words).env("FERRY_HOST", &host).stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(Failure::new(format!(
                "the step 'ferry {}' ended with {status}",
                step.words.join(" ")
            ))
            .hint("run 'ferry engine run' in another terminal to see what the engine says"));
        }
    }
    drop(engine);
    output::line(
        "\nThat was the main job. From here it is what you know: 'ferry --help' lists the commands.",
    )?;
    Ok(0)
}

fn show(number: usize, why: &str, words: &[&str]) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    Ok(output::line(&format!("\n{number}. {why}\n   $ ferry {}", words.join(" ")))?)
}

fn quote(word: &str) -> String {
    match word.contains([' ', '{', '$']) {
        true => format!("'{word}'"),
        false => word.to_owned(),
    }
}

fn start_private() -> Result<PrivateEngine, Failure> {
    let root = std::env::temp_dir().join(format!("ferry-tour-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let engine = PrivateEngine { root };
    let words = engine.flags();
    let mut shown = vec!["engine", "start"];
    shown.extend(words.iter().map(String::as_str));
    show(1, "Start an engine (of its own, so that this tour leaves nothing behind)", &shown)?;
    let status = own_program().args(&shown).stdin(Stdio::null()).status()?;
    match status.success() {
        true => Ok(engine),
        false => {
            let log = std::fs::read_to_string(engine.root.join("run/engine.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            let mut failure = Failure::new("the engine did not start");
            failure.causes.extend(last.into_iter().rev().map(str::to_owned));
            Err(failure)
        }
    }
}

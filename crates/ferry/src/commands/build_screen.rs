//! What is shown of a build while it runs, and what it came to.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use ferry_api::client::Response;
use serde_json::Value;

use super::build_live::Live;
use crate::failure::{Failure, Origin};
use crate::session::Session;

/// The forms of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing but the result.
    Quiet,
    /// One line per event.
    Plain,
    /// A table that is drawn over.
    Table,
    /// The events as they come.
    Raw,
}

impl Form {
    /// Reads `--progress`.
    pub fn parse(text: &str, quiet: bool) -> Result<Self, Failure> {
        Ok(match text {
            _ if quiet => Self::Quiet,
            "quiet" | "none" => Self::Quiet,
            "plain" => Self::Plain,
            "tty" => Self::Table,
            "rawjson" => Self::Raw,
            "" | "auto" if io::stderr().is_terminal() => Self::Table,
            "" | "auto" => Self::Plain,
            other => {
                return Err(Failure::new(format!("invalid --progress {other:?}"))
                    .hint("auto, tty, plain, rawjson and quiet are known"));
            }
        })
    }
}

/// How a build's events are shown.
pub struct Shown {
    /// In which form.
    pub form: Form,
    /// Say why steps were not found in the cache.
    pub why_miss: bool,
}

/// What a build gave.
#[derive(Default)]
pub struct Built {
    /// The image's id.
    pub id: String,
    /// The image with the cache that was asked for.
    pub cache_image: String,
    /// When the build ended, RFC 3339.
    pub finished: String,
    /// Names and ids of the base images.
    pub bases: Vec<(String, String)>,
    /// After a failed command: the image in front of it.
    before_failure: String,
    /// What the linter found: rule, message, line.
    pub warnings: Vec<(String, String, u64)>,
}

/// A build that failed.
pub struct Broken {
    message: String,
    before: String,
}

impl Broken {
    /// As the failure of this program.
    pub fn failure(&self) -> Failure {
        Failure { origin: Origin::Engine, ..Failure::new(self.message.as_str()) }
    }

    /// Ends with the failure; before that, a shell is opened in front of the failed command where asked for.
    pub async fn end(self, session: &Session, on_error: &str) -> Result<i32, Failure> {
        match on_error {
            "" => return Err(self.failure()),
            _ if self.before.is_empty() => {
                return Err(self.failure().hint("there is no command to open a shell in front of"));
            }
            _ => {}
        }
        self.failure().report(session.called, session.docker_texts);
        let host = session.target()?.host.unix_path().map(Path::to_owned).unwrap_or_default();
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("--host").arg(format!("unix://{}", host.display())).args(["run", "--rm", "-i"]);
        if io::stdin().is_terminal() {
            command.arg("-t");
        }
        command.args([self.before.as_str(), "sh"]);
        command.status().await?;
        Ok(1)
    }
}

/// How often the table is drawn anew.
const REDRAW: std::time::Duration = std::time::Duration::from_millis(100);

/// Shows an event in the table.
fn table(live: &mut Live, event: &Value, shown: &Shown) -> io::Result<()> {
    let mut out = io::stderr().lock();
    if let Some(text) = event["stream"].as_str() {
        return if text.starts_with("Successfully") { Ok(()) } else { live.text(text, &mut out) };
    }
    if let Some(status) = event["status"].as_str() {
        // Figures of a pull would need lines of their own; its turns are enough.
        let id = event["id"].as_str().unwrap_or_default();
        let line = format!("{id}{}{status}\n", if id.is_empty() { "" } else { ": " });
        return if event["progress"].is_string() { Ok(()) } else { live.text(&line, &mut out) };
    }
    if event["State"] == "missed" && shown.why_miss {
        let reasons: Vec<&str> =
            event["Reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let name = event["Step"]["Name"].as_str().unwrap_or_default().replace('\n', " ");
        return live.text(&format!("{name}: not in the cache: {}\n", reasons.join(", ")), &mut out);
    }
    live.event(event, &mut out)
}

/// Shows events to the end.
pub async fn show(response: Response, shown: &Shown) -> Result<Result<Built, Broken>, Failure> {
    let mut lines = response.json_lines::<Value>();
    let mut screen = Screen::new(shown.form);
    let mut built = Built::default();
    let mut clock = tokio::time::interval(REDRAW);
    loop {
        let next = lines.next();
        tokio::pin!(next);
        let event = loop {
            tokio::select! {
                event = &mut next => break event?,
                _ = clock.tick() => screen.tick()?,
            }
        };
        let Some(event) = event else { break };
        if let Some(message) = event["error"].as_str() {
            return Ok(Err(Broken { message: message.to_owned(), before: built.before_failure }));
        }
        for (name, place) in [
            ("ID", &mut built.id),
            ("CacheImage", &mut built.cache_image),
            ("BeforeFailure", &mut built.before_failure),
            ("Finished", &mut built.finished),
        ] {
            if let Some(found) = event["aux"][name].as_str() {
                found.clone_into(place);
            }
        }
        for base in event["aux"]["Bases"].as_array().into_iter().flatten() {
            let text = |name: &str| base[name].as_str().unwrap_or_default().to_owned();
            built.bases.push((text("Name"), text("Id")));
        }
        for warning in event["aux"]["Warnings"].as_array().into_iter().flatten() {
            let text = |name: &str| warning[name].as_str().unwrap_or_default().to_owned();
            built.warnings.push((text("Rule"), text("Message"), warning["Line"].as_u64().unwrap_or(0)));
        }
        screen.take(&event, shown)?;
    }
    if shown.form != Form::Quiet && shown.form != Form::Raw {
        warnings(&built.warnings)?;
    }
    Ok(Ok(built))
}

/// The image that a step left, by which it can be run.
fn image(event: &Value) -> String {
    event["Image"].as_str().map_or_else(String::new, |id| format!(" image {id}"))
}

/// The findings of the linter, after the build as Docker has them.
fn warnings(found: &[(String, String, u64)]) -> io::Result<()> {
    let mut out = io::stderr().lock();
    match found.len() {
        0 => return Ok(()),
        1 => writeln!(out, "\n 1 warning found (--check shows its place):")?,
        count => writeln!(out, "\n {count} warnings found (--check shows their places):")?,
    }
    for (rule, message, line) in found {
        writeln!(out, " - {rule}: {message} (line {line})")?;
    }
    Ok(())
}

/// One line per event; lines of different steps carry their step's number.
#[derive(Default)]
struct Screen {
    /// The table, where there is one.
    live: Option<Live>,
    /// Steps by their number in the graph, in the order in which they were first shown.
    numbers: HashMap<u64, usize>,
    /// Output of a step that does not end with its line yet.
    partial: HashMap<u64, String>,
}

impl Screen {
    fn new(form: Form) -> Self {
        let [rows, columns] = crate::terminal::size().map(|size| size as usize);
        // Where the size is not known, that of a terminal of old.
        let live = (form == Form::Table).then(|| match rows {
            0 => Live::new(24, 80),
            rows => Live::new(rows, columns),
        });
        Self { live, ..Self::default() }
    }

    fn tick(&mut self) -> io::Result<()> {
        match &mut self.live {
            Some(live) => live.tick(&mut io::stderr().lock()),
            None => Ok(()),
        }
    }

    fn take(&mut self, event: &Value, shown: &Shown) -> io::Result<()> {
        match (shown.form, &mut self.live) {
            (Form::Quiet, _) => Ok(()),
            (Form::Raw, _) => writeln!(io::stderr(), "{event}"),
            (_, Some(live)) => table(live, event, shown),
            (_, None) => self.show(event, shown),
        }
    }

    fn show(&mut self, event: &Value, shown: &Shown) -> io::Result<()> {
        let mut out = io::stderr().lock();
        if let Some(text) = event["stream"].as_str() {
            return match text.starts_with("Successfully") {
                true => Ok(()),
                false => out.write_all(text.as_bytes()),
            };
        }
        if let (Some(status), id) = (event["status"].as_str(), event["id"].as_str().unwrap_or_default()) {
            // Figures of a pull are for terminals that can be drawn over; its turns are enough here.
            return match event["progress"].is_string() {
                true => Ok(()),
                false => writeln!(out, "{id}{}{status}", if id.is_empty() { "" } else { ": " }),
            };
        }
        let Some(step) = event["Step"]["Number"].as_u64() else { return Ok(()) };
        let name = event["Step"]["Name"].as_str().unwrap_or_default();
        // What the builder does for itself interests nobody unless it takes time or fails.
        let internal = name.starts_with("[internal]");
        let known = self.numbers.contains_key(&step);
        let count = self.numbers.len() + 1;
        let number = *self.numbers.entry(step).or_insert(count);
        match event["State"].as_str().unwrap_or_default() {
            "started" => writeln!(out, "#{number} {name}"),
            "cached" if internal => Ok(()),
            "cached" => writeln!(out, "#{number} {name}\n#{number} CACHED{}\n", image(event)),
            "done" => {
                let seconds = event["Seconds"].as_f64().unwrap_or(0.0);
                writeln!(out, "#{number} DONE {seconds:.1}s{}\n", image(event))
            }
            "failed" => {
                self.flush(step, number, &mut out)?;
                writeln!(out, "#{number} FAILED {:.1}s\n", event["Seconds"].as_f64().unwrap_or(0.0))
            }
            "missed" if shown.why_miss => {
                let reasons: Vec<&str> =
                    event["Reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                writeln!(out, "#{number} not in the cache: {}", reasons.join(", "))
            }
            "log" => {
                if !known {
                    writeln!(out, "#{number} {name}")?;
                }
                self.log(step, number, event["Text"].as_str().unwrap_or_default(), &mut out)
            }
            _ => Ok(()),
        }
    }

    fn log(&mut self, step: u64, number: usize, text: &str, out: &mut impl io::Write) -> io::Result<()> {
        let partial = self.partial.entry(step).or_default();
        partial.push_str(text);
        while let Some(end) = partial.find('\n') {
            let line: String = partial.drain(..=end).collect();
            writeln!(out, "#{number} {}", line.trim_end_matches(['\n', '\r']))?;
        }
        Ok(())
    }

    fn flush(&mut self, step: u64, number: usize, out: &mut impl io::Write) -> io::Result<()> {
        match self.partial.remove(&step) {
            Some(rest) if !rest.is_empty() => writeln!(out, "#{number} {rest}"),
            _ => Ok(()),
        }
    }
}

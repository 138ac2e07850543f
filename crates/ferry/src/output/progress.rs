//! The JSON streams of pull, push, load, import and build, shown as they come.

mod speed;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use ferry_api::client::Response;
use ferry_api::progress::{Progress, ProgressDetail};
use serde_json::Value;

use self::speed::Speed;
use super::units;
use crate::failure::{Failure, Origin};

/// Most lines kept up to date on a terminal at once: a layer each.
const MAX_LINES: usize = 512;

/// Narrower terminals have no room for a bar beside the figures.
const ROOM_FOR_A_BAR: usize = 120;
/// What terminals that do not say have.
const USUAL_COLUMNS: usize = 80;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Stdout.
    Stdout,
    /// Stderr, where stdout is for results.
    Stderr,
    /// Stdout, a line per event, even on a terminal.
    Plain,
    /// Stdout, the engine's own records, one JSON document per line.
    Json,
    /// Nowhere: only errors and results are of interest.
    Nowhere,
}

impl To {
    /// What `--progress` and `--quiet` say.
    pub fn chosen(progress: &str, quiet: bool) -> Result<To, Failure> {
        match progress {
            _ if quiet => Ok(To::Nowhere),
            "" | "auto" | "tty" => Ok(To::Stdout),
            "plain" => Ok(To::Plain),
            "json" | "rawjson" => Ok(To::Json),
            "quiet" => Ok(To::Nowhere),
            other => Err(Failure::new(format!(
                "unknown kind of progress {other:?}: there are auto, tty, plain, json and quiet"
            ))),
        }
    }
}

/// Shows a stream to its end; gives its `aux` records.
pub async fn show(response: Response, to: To) -> Result<Vec<Value>, Failure> {
    let mut lines = response.json_lines::<Value>();
    let mut screen = Screen::new(to);
    let mut records = Vec::new();
    while let Some(record) = lines.next().await? {
        if to == To::Json {
            super::line(&record.to_string())?;
        }
        let progress: Progress = serde_json::from_value(record).map_err(io::Error::from)?;
        if let Some(failure) = failure_of(&progress) {
            return Err(failure);
        }
        screen.show(&progress)?;
        records.extend(progress.aux);
    }
    Ok(records)
}

/// Shows nothing while all goes well, and gives the texts; where it does not, they are shown after all.
pub async fn hold_back(response: Response) -> Result<String, Failure> {
    let mut lines = response.json_lines::<Progress>();
    let mut held = String::new();
    while let Some(progress) = lines.next().await? {
        if let Some(failure) = failure_of(&progress) {
            io::stderr().write_all(held.as_bytes())?;
            return Err(failure);
        }
        held.push_str(&progress.stream);
    }
    Ok(held)
}

/// What went wrong, where this says so.
fn failure_of(progress: &Progress) -> Option<Failure> {
    let message = match (&progress.error_detail, progress.error.as_str()) {
        (Some(detail), _) => detail.message.clone(),
        (None, "") => return None,
        (None, error) => error.to_owned(),
    };
    Some(Failure { origin: Origin::Engine, ..Failure::new(message) })
}

struct Screen {
    to: To,
    terminal: bool,
    /// Line of each id, counted from the first one shown.
    lines: HashMap<String, usize>,
    /// How fast each is.
    speeds: HashMap<String, Speed>,
}

impl Screen {
    fn new(to: To) -> Screen {
        let terminal = match to {
            To::Stdout => io::stdout().is_terminal(),
            To::Stderr => io::stderr().is_terminal(),
            To::Plain | To::Json | To::Nowhere => false,
        };
        Screen { to, terminal, lines: HashMap::new(), speeds: HashMap::new() }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match self.to {
            To::Stdout | To::Plain => super::write(text.as_bytes()),
            To::Stderr => io::stderr().write_all(text.as_bytes()),
            To::Json | To::Nowhere => Ok(()),
        }
    }

    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        if !progress.stream.is_empty() {
            return self.write(&progress.stream);
        }
        if progress.status.is_empty() {
            return Ok(());
        }
        let detail =
            progress.progress_detail.as_ref().filter(|detail| detail.current > 0 || detail.total > 0);
        if progress.id.is_empty() {
            self.lines.clear();
            self.speeds.clear();
            return self.write(&format!("{}\n", progress.status));
        }
        if !self.terminal {
            // Without a terminal only what is final is worth a line.
            return match detail {
                Some(_) => Ok(()),
                None => self.write(&format!("{}: {}\n", progress.id, progress.status)),
            };
        }
        let bar = detail.map(|detail| self.bar(&progress.id, &progress.status, detail)).unwrap_or_default();
        let line = format!("{}: {} {bar}", progress.id, progress.status);
        // A line that wraps would be two, and the cursor go to the wrong one.
        let room = self.columns().saturating_sub(1);
        self.update(&progress.id, line.char_indices().nth(room).map_or(&*line, |(end, _)| &line[..end]))
    }

    /// The terminal's width now; it may have changed since the last line.
    fn columns(&self) -> usize {
        let size = match self.to {
            To::Stderr => rustix::termios::tcgetwinsize(io::stderr()),
            _ => rustix::termios::tcgetwinsize(io::stdout()),
        };
        size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(USUAL_COLUMNS)
    }

    /// The bar with rate and remaining time. A layer counts anew with each thing that is done to it.
    fn bar(&mut self, id: &str, status: &str, detail: &ProgressDetail) -> String {
        let drawn = match self.columns() < ROOM_FOR_A_BAR {
            true => figures(detail),
            false => bar(detail),
        };
        if self.speeds.len() >= MAX_LINES {
            return drawn;
        }
        let speed = self.speeds.entry(format!("{id} {status}")).or_default();
        speed.note(Instant::now(), detail.current);
        format!("{drawn}{}", speed.text(detail.total - detail.current))
    }

    /// Replaces the line of `id`, or adds one.
    fn update(&mut self, id: &str, text: &str) -> io::Result<()> {
        let count = self.lines.len();
        match self.lines.get(id) {
            Some(line) => {
                let up = count - line;
                self.write(&format!("\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B"))
            }
            None if count < MAX_LINES => {
                self.lines.insert(id.to_owned(), count);
                self.write(&format!("\x1b[2K\r{text}\n"))
            }
            None => Ok(()),
        }
    }
}

/// `   1.2MB/3.4MB`
fn figures(detail: &ProgressDetail) -> String {
    let current = units::size4(detail.current);
    match detail.total {
        ..=0 => format!("{current:>8}"),
        total => format!("{current:>8}/{}", units::size4(total)),
    }
}

/// `[=====>     ]  1.2MB/3.4MB`
fn bar(detail: &ProgressDetail) -> String {
    const WIDTH: i64 = 50;
    if detail.total <= 0 {
        return figures(detail);
    }
    let done = (detail.current * WIDTH / detail.total).clamp(0, WIDTH) as usize;
    let head = if done < WIDTH as usize { ">" } else { "" };
    let rest = " ".repeat((WIDTH as usize).saturating_sub(done + head.len()));
    format!("[{}{head}{rest}]  {}", "=".repeat(done), figures(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let at = |current, total| bar(&ProgressDetail { current, total, ..Default::default() });
        assert_eq!(at(50, 100), format!("[{}>{}]       50B/100B", "=".repeat(25), " ".repeat(24)));
        assert_eq!(at(100, 100), format!("[{}]      100B/100B", "=".repeat(50)));
        assert_eq!(at(5000, 0), "     5kB");
    }
}

//! Progress: one calm live table on a terminal, plain lines or JSON for scripts. Always on stderr.

use ferry_compose::apply::{Phase, Progress};
use serde_json::json;
use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Live,
    Plain,
    Json,
    Quiet,
}

/// Prints what happens.
pub struct Printer {
    /// Nothing is really done.
    pub dry_run: bool,
    title: String,
    style: Style,
    rows: RefCell<Rows>,
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    /// Lines of the table on the screen.
    drawn: usize,
}

struct Row {
    subject: String,
    state: String,
    phase: Phase,
    began: Instant,
    ended: Option<Instant>,
}

impl Printer {
    /// A printer of the style a word names; `auto` is the live table on a terminal.
    pub fn new(title: &str, word: &str, no_ansi: bool, always: bool) -> Self {
        let live = (io::stderr().is_terminal() || always) && !no_ansi;
        let style = match word {
            "plain" => Style::Plain,
            "json" => Style::Json,
            "quiet" => Style::Quiet,
            "tty" => Style::Live,
            _ if live => Style::Live,
            _ => Style::Plain,
        };
        Printer { dry_run: false, title: title.to_owned(), style, rows: RefCell::default() }
    }

    /// The same for a run in which nothing is really done.
    pub fn dry(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether a table is on the screen that other output would tear.
    pub fn is_live(&self) -> bool {
        self.style == Style::Live
    }

    fn draw(&self, rows: &mut Rows) {
        let height =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(24, |size| usize::from(size.ws_row).max(4));
        let width =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(20));
        let done = rows.rows.iter().filter(|row| row.phase != Phase::Working).count();
        let mut text = String::new();
        if rows.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", rows.drawn));
        }
        text.push_str(&format!("\x1b[2K[+] {} {done}/{}\n", self.title, rows.rows.len()));
        let subject_width = rows.rows.iter().map(|row| row.subject.chars().count()).max().unwrap_or(0);
        // What does not fit on the screen is finished long ago: the newest rows are shown.
        let room = height.saturating_sub(2).max(1);
        let shown = rows.rows.iter().skip(rows.rows.len().saturating_sub(room));
        let mut lines = 1;
        for row in shown {
            let line = row.line(subject_width, width);
            text.push_str(&format!("\x1b[2K{line}\n"));
            lines += 1;
        }
        rows.drawn = lines;
        write(&text);
    }
}

impl Row {
    fn line(&self, subject_width: usize, width: usize) -> String {
        let (sign, colour) = match self.phase {
            Phase::Working => ("·", "36"),
            Phase::Done => ("✔", "32"),
            Phase::Warning => ("!", "33"),
            Phase::Failed => ("✘", "31"),
        };
        let seconds = self.ended.map(|end| format!("  {:.1}s", end.duration_since(self.began).as_secs_f64()));
        let seconds = seconds.unwrap_or_default();
        let room = width.saturating_sub(subject_width + seconds.len() + 6);
        let state: String = self.state.chars().take(room).collect();
        format!(" \x1b[{colour}m{sign}\x1b[0m {:subject_width$}  {state}{seconds}", self.subject)
    }
}

impl Progress for Printer {
    fn state(&self, subject: &str, state: &str, phase: Phase) {
        let mut rows = self.rows.borrow_mut();
        match self.style {
            Style::Quiet => return,
            Style::Plain => return write(&format!(" {subject}  {state}\n")),
            Style::Json => {
                let status = match phase {
                    Phase::Working => "Working",
                    Phase::Done => "Done",
                    Phase::Warning => "Warning",
                    Phase::Failed => "Error",
                };
                return write(&format!("{}\n", json!({"id": subject, "status": status, "text": state})));
            }
            Style::Live => {}
        }
        let now = Instant::now();
        let ended = (phase != Phase::Working).then_some(now);
        match rows.rows.iter_mut().find(|row| row.subject == subject) {
            Some(row) => {
                if row.ended.is_some() {
                    row.began = now;
                }
                row.state = state.to_owned();
                row.phase = phase;
                row.ended = ended;
            }
            None => rows.rows.push(Row {
                subject: subject.to_owned(),
                state: state.to_owned(),
                phase,
                began: now,
                ended,
            }),
        }
        self.draw(&mut rows);
    }

    fn note(&self, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => write(&format!("{}\n", json!({"level": "warning", "msg": text}))),
            Style::Plain => write(&format!("warning: {text}\n")),
            Style::Live => {
                // Above the table: it is wiped, the note takes its place, and it is drawn again below.
                let mut rows = self.rows.borrow_mut();
                let up = if rows.drawn > 0 { format!("\x1b[{}A\x1b[J", rows.drawn) } else { String::new() };
                write(&format!("{up}warning: {text}\n"));
                let had_rows = rows.drawn > 0;
                rows.drawn = 0;
                if had_rows {
                    self.draw(&mut rows);
                }
            }
        }
    }
}

/// Progress that cannot be shown is no reason to stop.
fn write(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

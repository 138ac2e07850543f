//! A build on a terminal: steps that are over stay as one line each; steps under way stand below them with their time
//! and the last lines of their output, drawn over a few times a second.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Instant;

use serde_json::Value;

/// Lines of output shown of each step under way.
const TAIL: usize = 4;

/// Lines of output kept of a step, to be shown when it fails.
const KEPT: usize = 60;

/// The step's own lines of a table that is at most this high: what does not fit scrolls away and cannot be drawn over.
const LEAST_ROWS: usize = 8;

/// One step under way.
struct Step {
    id: u64,
    number: usize,
    name: String,
    begin: Instant,
    lines: VecDeque<String>,
    partial: String,
}

/// The table.
pub struct Live {
    steps: Vec<Step>,
    /// Lines that are drawn and will be drawn over.
    drawn: usize,
    /// Steps shown so far.
    count: usize,
    rows: usize,
    columns: usize,
}

impl Live {
    /// For a terminal of this size.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { steps: Vec::new(), drawn: 0, count: 0, rows: rows.max(LEAST_ROWS), columns: columns.max(20) }
    }

    /// Shows a text above the table, as it is.
    pub fn text(&mut self, text: &str, out: &mut impl Write) -> io::Result<()> {
        self.erase(out)?;
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        self.draw(out)
    }

    /// Takes an event of a step.
    pub fn event(&mut self, event: &Value, out: &mut impl Write) -> io::Result<()> {
        let Some(id) = event["Step"]["Number"].as_u64() else { return Ok(()) };
        let name = event["Step"]["Name"].as_str().unwrap_or_default();
        match event["State"].as_str().unwrap_or_default() {
            "started" => drop(self.step(id, name)),
            "log" => {
                let text = event["Text"].as_str().unwrap_or_default().to_owned();
                self.step(id, name).add(&text);
                // The next tick draws it: output may come much faster than anybody reads.
                return Ok(());
            }
            "cached" if name.starts_with("[internal]") => return Ok(()),
            "cached" => {
                let number = self.next_number();
                let line = self.fit(&format!("#{number} {}", one_line(name)), "cached");
                return self.text(&line, out);
            }
            state @ ("done" | "failed") => {
                let seconds = event["Seconds"].as_f64().unwrap_or(0.0);
                return self.end(id, name, state == "failed", seconds, out);
            }
            _ => return Ok(()),
        }
        self.erase(out)?;
        self.draw(out)
    }

    /// Draws the table anew: time has passed.
    pub fn tick(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        self.erase(out)?;
        self.draw(out)
    }

    fn next_number(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    fn step(&mut self, id: u64, name: &str) -> &mut Step {
        let at = self.steps.iter().position(|step| step.id == id).unwrap_or_else(|| {
            let number = self.next_number();
            self.steps.push(Step {
                id,
                number,
                name: one_line(name),
                begin: Instant::now(),
                lines: VecDeque::new(),
                partial: String::new(),
            });
            self.steps.len() - 1
        });
        &mut self.steps[at]
    }

    fn end(
        &mut self,
        id: u64,
        name: &str,
        failed: bool,
        seconds: f64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.step(id, name);
        let at = self.steps.iter().position(|step| step.id == id).unwrap_or_default();
        let step = self.steps.remove(at);
        let outcome = if failed { format!("failed {seconds:.1}s") } else { format!("{seconds:.1}s") };
        let mut text = self.fit(&format!("#{} {}", step.number, step.name), &outcome);
        text.push('\n');
        if failed {
            for line in step.lines.iter().chain(Some(&step.partial).filter(|line| !line.is_empty())) {
                text.push_str(&format!("   {line}\n"));
            }
        }
        self.text(&text, out)
    }

    fn erase(&mut self, out: &mut impl Write) -> io::Result<()> {
        match std::mem::take(&mut self.drawn) {
            0 => Ok(()),
            lines => write!(out, "\r\x1b[{lines}A\x1b[J"),
        }
    }

    fn draw(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = Vec::new();
        for step in &self.steps {
            let seconds = format!("{:.1}s", step.begin.elapsed().as_secs_f64());
            lines.push(self.fit(&format!("#{} {}", step.number, step.name), &seconds));
            let tail = step.lines.len().saturating_sub(TAIL);
            lines.extend(
                step.lines.iter().skip(tail).map(|line| self.cut(&format!("   {line}"), self.columns)),
            );
        }
        // The newest are of most interest, and only what is on the screen can be drawn over.
        let skipped = lines.len().saturating_sub(self.rows - 1);
        for line in &lines[skipped..] {
            writeln!(out, "{line}")?;
        }
        self.drawn = lines.len() - skipped;
        out.flush()
    }

    /// A text with another at the right edge.
    fn fit(&self, left: &str, right: &str) -> String {
        let room = self.columns.saturating_sub(right.len() + 2);
        let left = self.cut(left, room);
        let gap = room.saturating_sub(left.chars().count()) + 1;
        format!("{left}{:gap$}{right}", "")
    }

    fn cut(&self, text: &str, width: usize) -> String {
        match text.char_indices().nth(width) {
            None => text.to_owned(),
            Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        }
    }
}

impl Step {
    fn add(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            self.partial.push_str(piece.trim_end_matches('\n'));
            if piece.ends_with('\n') {
                let line = one_line(&std::mem::take(&mut self.partial));
                self.lines.push_back(line);
                if self.lines.len() > KEPT {
                    self.lines.pop_front();
                }
            }
        }
    }
}

/// A line without what would move the cursor: of a bar that draws over itself, the last state.
fn one_line(text: &str) -> String {
    let last = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut characters = last.chars();
    while let Some(character) = characters.next() {
        match character {
            // An escape sequence ends with a letter.
            '\u{1b}' => drop(characters.by_ref().find(char::is_ascii_alphabetic)),
            '\t' | '\n' => shown.push(' '),
            other if other.is_control() => {}
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(state: &str, text: &str) -> Value {
        json!({ "Step": { "Number": 7, "Name": "[1/2] RUN x" }, "State": state, "Text": text, "Seconds": 1.25 })
    }

    #[test]
    fn a_step_is_drawn_over_and_stays_as_one_line() {
        let mut live = Live::new(24, 40);
        let mut out = Vec::new();
        live.event(&event("started", ""), &mut out).unwrap();
        live.event(&event("log", "one\ntwo\rthree \u{1b}[31mred\u{1b}[0m\nhalf"), &mut out).unwrap();
        live.tick(&mut out).unwrap();
        live.event(&event("done", ""), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\u{1b}[1A\u{1b}[J"), "{text:?}");
        assert!(text.contains("   three red\n") && text.contains("\r\u{1b}[3A\u{1b}[J"), "{text:?}");
        assert!(text.ends_with("#1 [1/2] RUN x                     1.2s\n"), "{text:?}");
    }

    #[test]
    fn a_failed_step_shows_what_it_wrote() {
        let mut live = Live::new(24, 30);
        let mut out = Vec::new();
        live.event(&event("log", "why\nhalf a line"), &mut out).unwrap();
        live.event(&event("failed", ""), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("failed 1.2s\n   why\n   half a line\n"), "{text:?}");
    }

    #[test]
    fn tables_fit_their_terminal() {
        let mut live = Live::new(10, 20);
        let mut out = Vec::new();
        for number in 0..30 {
            let name = format!("[{number}] RUN something much wider than the terminal");
            let event = json!({ "Step": { "Number": number, "Name": name }, "State": "started" });
            live.event(&event, &mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.rsplit("\u{1b}[J").next().unwrap().lines().count() == 9, "{text:?}");
        assert!(
            text.lines().all(|line| line.rsplit('J').next().unwrap_or(line).chars().count() <= 20),
            "{text:?}"
        );
    }
}

//! Diagnostics: what is wrong, where, and what was probably meant.
//!
//! Owns their form and their text rendering (file, line, column, caret, help); never prints.

use crate::source::{Origin, Sources};
use std::fmt::Write as _;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The project cannot be loaded.
    Error,
    /// Loaded, but probably not what was meant.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A lower-case fact with the value in it.
    pub message: String,
    /// Where it stands, if anywhere.
    pub origin: Option<Origin>,
    /// How many characters the caret underlines.
    pub width: u32,
    /// A second place that belongs to it, with its label.
    pub related: Vec<(Origin, String)>,
    /// What to write instead; may span lines.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            origin: None,
            width: 1,
            related: Vec::new(),
            help: None,
        }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) }
    }

    /// Points it at a place.
    pub fn at(mut self, origin: Origin) -> Self {
        if !origin.is_default() {
            self.origin = Some(origin);
        }
        self
    }

    /// Underlines that many characters.
    pub fn width(mut self, characters: usize) -> Self {
        self.width = characters.clamp(1, 200) as u32;
        self
    }

    /// Adds another place.
    pub fn related(mut self, origin: Origin, label: impl Into<String>) -> Self {
        self.related.push((origin, label.into()));
        self
    }

    /// Adds what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// `error: …`, the place, the line with a caret, the help.
    pub fn render(&self, sources: &Sources) -> String {
        let mut out = String::new();
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = writeln!(out, "{word}: {}", self.message);
        if let Some(origin) = self.origin {
            render_place(&mut out, sources, origin, self.width, "");
        }
        for (origin, label) in &self.related {
            render_place(&mut out, sources, *origin, 1, label);
        }
        if let Some(help) = &self.help {
            let mut lines = help.lines();
            let _ = writeln!(out, "help: {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(out, "      {line}");
            }
        }
        out
    }
}

fn render_place(out: &mut String, sources: &Sources, origin: Origin, width: u32, label: &str) {
    let number = origin.line.to_string();
    let margin = " ".repeat(number.len());
    let _ = writeln!(out, "{margin}--> {}", sources.describe(origin));
    let Some(line) = sources.line(origin) else { return };
    // A tab is one column of the parser but several of a terminal: the caret line repeats it.
    let before: String = line
        .chars()
        .take(origin.column.saturating_sub(1) as usize)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let room = line.chars().count().saturating_sub(origin.column.saturating_sub(1) as usize).max(1);
    let carets = "^".repeat((width as usize).min(room));
    let label = if label.is_empty() { String::new() } else { format!(" {label}") };
    let _ = writeln!(out, "{margin} |\n{number} | {line}\n{margin} | {before}{carets}{label}");
}

/// The findings of one load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In the order they were found.
    pub diagnostics: Vec<Diagnostic>,
}

/// Findings after which a broken file only repeats itself.
const MAX_DIAGNOSTICS: usize = 50;

impl Report {
    /// Records a finding; the same finding twice is one, and a flood is cut.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS && !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether an error is among them.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// All of them as text.
    pub fn render(&self, sources: &Sources) -> String {
        self.diagnostics.iter().map(|d| d.render(sources)).collect::<Vec<_>>().join("\n")
    }
}

/// The candidate nearest to a misspelt name, when it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two names, ignoring case.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut cost = (previous[j] + usize::from(a != b)).min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                cost = cost.min(before[j - 1] + 1);
            }
            current.push(cost);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_found_only_when_near() {
        let names = ["image", "environment", "ports", "volumes", "healthcheck"];
        for (typed, expected) in [
            ("imgae", Some("image")),
            ("enviroment", Some("environment")),
            ("port", Some("ports")),
            ("healtcheck", Some("healthcheck")),
            ("Volumes", Some("volumes")),
            ("banana", None),
        ] {
            assert_eq!(nearest(typed, names), expected, "{typed}");
        }
    }

    #[test]
    fn caret_stands_under_the_column() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "services:\n  web:\n    imgae: x\n");
        let text = Diagnostic::error("unknown key \"imgae\"")
            .at(Origin { file, line: 3, column: 5 })
            .width(5)
            .help("did you mean \"image\"?")
            .render(&sources);
        assert_eq!(
            text,
            "error: unknown key \"imgae\"\n --> compose.yaml:3:5\n  |\n3 |     imgae: x\n  |     ^^^^^\nhelp: did you mean \"image\"?\n"
        );
    }
}

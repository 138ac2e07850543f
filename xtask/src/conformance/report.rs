//! CONFORMANCE.md: a section for each suite, of which a run replaces its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::suites::Suite;
use crate::host;

const HEAD: &str = "# What Ferry's API is to its clients\n\n\
    Written by `cargo xtask conformance`: other people's clients and their own tests, run against a fresh engine that\n\
    has the factory's images and a registry on loopback in the place of Docker Hub.\n\n\
    Not among them is lazydocker, whose Go module cannot be had: Go's module proxy refuses v0.23.3 and v0.24.1 (403), and\n\
    the checksum database does not know v0.20.0 (404).\n";

/// What became of one test.
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not, for this reason.
    Failed(String),
    /// It asks for what cannot be here, for this reason.
    NotApplicable(String),
}

/// A test and what became of it.
pub struct Tested {
    /// Its name in its suite.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Reads lines `ok NAME`, `not ok NAME: WHY` and `skip NAME: WHY`; others are the suite's talk.
pub fn read_lines(text: &str) -> Vec<Tested> {
    let named = |rest: &str| {
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        (name.trim().to_owned(), why.trim().to_owned())
    };
    let tested = text.lines().filter_map(|line| {
        if let Some(name) = line.strip_prefix("ok ") {
            return Some(Tested { name: name.trim().to_owned(), outcome: Outcome::Passed });
        }
        if let Some(rest) = line.strip_prefix("not ok ") {
            let (name, why) = named(rest);
            return Some(Tested { name, outcome: Outcome::Failed(why) });
        }
        let (name, why) = named(line.strip_prefix("skip ")?);
        Some(Tested { name, outcome: Outcome::NotApplicable(why) })
    });
    tested.collect()
}

/// How many are what.
pub fn summary(results: &[Tested]) -> String {
    let (mut passed, mut failed, mut not_applicable) = (0, 0, 0);
    for result in results {
        match result.outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::NotApplicable(_) => not_applicable += 1,
        }
    }
    format!("{passed} passed, {failed} failed, {not_applicable} not applicable")
}

/// The sections of the report by suite.
pub struct Report {
    path: PathBuf,
    sections: BTreeMap<String, String>,
}

impl Report {
    /// What earlier runs have written.
    pub fn read() -> Result<Self> {
        let path = host::workspace().join("CONFORMANCE.md");
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let sections = text.split("\n## ").skip(1).filter_map(|section| {
            let (title, body) = section.split_once('\n')?;
            Some((title.to_owned(), body.to_owned()))
        });
        Ok(Self { path, sections: sections.collect() })
    }

    /// Replaces a suite's section.
    pub fn put(&mut self, suite: &Suite, results: &[Tested]) {
        let mut text = format!("\n{}\n\n**{}**\n", suite.about, summary(results));
        let mut list = |title: &str, pick: &dyn Fn(&Outcome) -> Option<String>| {
            let mut chosen =
                results.iter().filter_map(|one| Some((&one.name, pick(&one.outcome)?))).peekable();
            if chosen.peek().is_none() {
                return;
            }
            let _ = write!(text, "\n{title}:\n\n");
            for (name, why) in chosen {
                let _ = writeln!(text, "- `{name}`: {why}");
            }
        };
        list("Failed", &|outcome| match outcome {
            Outcome::Failed(why) => Some(why.clone()),
            Outcome::Passed | Outcome::NotApplicable(_) => None,
        });
        list("Not applicable", &|outcome| match outcome {
            Outcome::NotApplicable(why) => Some(why.clone()),
            Outcome::Passed | Outcome::Failed(_) => None,
        });
        self.sections.insert(suite.name.to_owned(), text);
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        let mut text = HEAD.to_owned();
        for (title, body) in &self.sections {
            let _ = write!(text, "\n## {title}\n{}\n", body.trim_end_matches('\n'));
        }
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_results() {
        let results = read_lines("talk\nok a::b\nnot ok c: 500: why\nskip d: needs a swarm\n");
        assert_eq!(summary(&results), "1 passed, 1 failed, 1 not applicable");
        assert!(
            matches!(&results[1], Tested { name, outcome: Outcome::Failed(why) } if name == "c" && why == "500: why")
        );
    }
}

//! `build --call`: questions about a Dockerfile that need no build, in buildx's forms.

use ferry_build::dockerfile;
use ferry_build::lower::LowerOptions;
use ferry_build::outline::{self, Need, Outline, Targets};

use super::build_local::LocalContext;
use super::builder::BuildFlags;
use crate::failure::{Failure, Outcome};
use crate::output;

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Build it.
    Build,
    /// The linter's findings.
    Check,
    /// What the target takes.
    Outline,
    /// The stages.
    Targets,
}

/// A method and the form of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// What.
    pub method: Method,
    /// As JSON.
    pub json: bool,
    /// Findings are no failure.
    pub ignore_status: bool,
}

impl Question {
    /// Reads `METHOD[,format=text|json][,ignorestatus]`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut words = text.split(',');
        let method = match words.next().unwrap_or_default() {
            "" | "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => {
                return Err(Failure::new(format!("--call {other} is not known"))
                    .hint("build, check, outline and targets are"));
            }
        };
        let mut question = Self { method, json: false, ignore_status: false };
        for word in words {
            match word {
                "format=json" => question.json = true,
                "format=text" => question.json = false,
                "ignorestatus" | "ignorestatus=true" => question.ignore_status = true,
                "ignorestatus=false" => question.ignore_status = false,
                other => {
                    return Err(Failure::new(format!("invalid --call option {other:?}"))
                        .hint("format=text, format=json and ignorestatus are known"));
                }
            }
        }
        Ok(question)
    }
}

/// Answers `outline` and `targets`.
pub fn answer(context: &LocalContext, question: Question, flags: &BuildFlags) -> Outcome {
    let (file, _) = context.source_file()?;
    let failed = |error: ferry_build::build::BuildError| {
        let place = error.diagnostic().map(|place| place.render(&file, false));
        Failure::new(place.unwrap_or_else(|| error.to_string()))
    };
    let parsed = dockerfile::parse(&file).map_err(|error| failed(error.into()))?;
    match question.method {
        Method::Targets => {
            let targets = outline::targets(&file, &parsed);
            print(question.json, &targets, || targets_table(&targets))
        }
        _ => {
            let outline =
                outline::outline(&file, &parsed, &options(flags)?).map_err(|error| failed(error.into()))?;
            print(question.json, &outline, || outline_text(&outline))
        }
    }
}

fn print(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Outcome {
    let shown = match json {
        true => serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?,
        false => text(),
    };
    output::line(shown.trim_end_matches('\n'))?;
    Ok(0)
}

fn options(flags: &BuildFlags) -> Result<LowerOptions, Failure> {
    let argument = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), std::env::var(text).ok()),
    };
    let mut options = LowerOptions {
        build_args: flags.build_arg.iter().map(argument).collect(),
        target: (!flags.target.is_empty()).then(|| flags.target.clone()),
        ..LowerOptions::default()
    };
    if !flags.platform.is_empty() {
        options.set_platform(&flags.platform).map_err(Failure::new)?;
    }
    Ok(options)
}

fn targets_table(targets: &Targets) -> String {
    let rows = targets.targets.iter().map(|target| {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        [name, target.description.clone()]
    });
    table(["TARGET".to_owned(), "DESCRIPTION".to_owned()], rows, 1)
}

fn outline_text(outline: &Outline) -> String {
    let mut parts = Vec::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = ["TARGET:".to_owned(), outline.name.clone()];
        let description = ["DESCRIPTION:".to_owned(), outline.description.clone()];
        parts.push(table(name, [description].into_iter().filter(|row| !row[1].is_empty()), 1));
    }
    if !outline.args.is_empty() {
        let rows =
            outline.args.iter().map(|arg| [arg.name.clone(), arg.value.clone(), arg.description.clone()]);
        parts.push(table(["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned), rows, 3));
    }
    for (title, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !needs.is_empty() {
            let row = |need: &Need| [need.name.clone(), if need.required { "true" } else { "" }.to_owned()];
            parts.push(table([title.to_owned(), "REQUIRED".to_owned()], needs.iter().map(row), 3));
        }
    }
    parts.join("\n")
}

/// Rows below their head; columns but for the last are as wide as their widest cell.
fn table<const N: usize>(head: [String; N], rows: impl Iterator<Item = [String; N]>, gap: usize) -> String {
    let rows: Vec<[String; N]> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let space = if column + 1 == N { 0 } else { widths[column] + gap - cell.chars().count() };
            text.push_str(cell);
            text.push_str(&" ".repeat(space));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read() {
        assert_eq!(Question::parse("").unwrap().method, Method::Build);
        let question = Question::parse("outline,format=json").unwrap();
        assert_eq!((question.method, question.json), (Method::Outline, true));
        assert!(Question::parse("lint,ignorestatus").unwrap().ignore_status);
        assert!(Question::parse("targets,x").is_err() && Question::parse("print").is_err());
    }
}

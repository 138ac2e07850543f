//! Rules about commands: forms of CMD and ENTRYPOINT, and what RUN lines get wrong.

use super::Check;
use crate::dockerfile::Span;
use crate::dockerfile::ast::{CommandForm, CommandLine, Instruction, Kind, Stage};
use crate::dockerfile::word::{JsonForm, json_form};

/// First components by which a path is told to be meant from the root.
const TOP_DIRECTORIES: [&str; 12] =
    ["usr", "etc", "var", "opt", "bin", "sbin", "lib", "home", "root", "srv", "tmp", "app"];

pub(super) fn check(check: &mut Check<'_>) {
    let dockerfile = check.dockerfile;
    for stage in &dockerfile.stages {
        let shell_set =
            stage.instructions.iter().any(|instruction| matches!(instruction.kind, Kind::Shell(_)));
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Cmd(command) | Kind::Entrypoint(command) => {
                    form(check, instruction, command, shell_set);
                }
                Kind::Run(run) => {
                    looks_like_json(check, instruction, &run.command);
                    apt(check, instruction, &run.command);
                }
                _ => {}
            }
        }
        relative_paths(check, stage);
    }
}

/// Text of a command in the shell form.
fn shell_line(command: &CommandLine) -> Option<&str> {
    match &command.form {
        CommandForm::Shell(line) => Some(line),
        CommandForm::Exec(_) => None,
    }
}

fn form(check: &mut Check<'_>, instruction: &Instruction, command: &CommandLine, shell_set: bool) {
    if shell_line(command).is_none() || looks_like_json(check, instruction, command) || shell_set {
        return;
    }
    let name = instruction.kind.name();
    check
        .report(
            "JSONArgsRecommended",
            instruction.span,
            format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            ),
        )
        .help(format!("{name} [\"program\", \"argument\"]: then signals reach the program and not a shell"));
}

/// Something that was meant as a JSON array and is a shell command instead.
fn looks_like_json(check: &mut Check<'_>, instruction: &Instruction, command: &CommandLine) -> bool {
    let Some(line) = shell_line(command) else { return false };
    let text = line.trim();
    let name = instruction.kind.name();
    if text.starts_with("\\[") {
        let mended = text.replace("\\[", "[").replace("\\]", "]").replace("\\_", "_");
        let finding = check.report(
            "EscapedMarkdown",
            command.span,
            format!("{name} has brackets escaped as in Markdown: it is run by a shell, as text"),
        );
        finding.help(format!("{name} {mended}"));
        if matches!(json_form(&mended), JsonForm::Strings(_)) {
            finding.edit(command.span, mended);
        }
        return true;
    }
    if !(text.starts_with('[') && text.ends_with(']')) || text.starts_with("[ ") && text.contains(" -") {
        return false;
    }
    let mended = text.replace('\'', "\"").replace(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'], "\"");
    let is_array = matches!(json_form(&mended), JsonForm::Strings(_));
    if !is_array {
        return false;
    }
    check
        .report(
            "SingleQuotedJson",
            command.span,
            format!("{name} is not valid JSON, so it silently becomes a shell command"),
        )
        .help(format!("JSON wants double quotes: {name} {mended}"))
        .edit(command.span, mended);
    true
}

/// `apt install` takes yesterday's package lists from the cache unless it updates them itself.
fn apt(check: &mut Check<'_>, instruction: &Instruction, command: &CommandLine) {
    let Some(line) = shell_line(command) else { return };
    for tool in ["apt-get", "apt"] {
        let installs = commands(line).any(|words| calls(&words, tool, "install"));
        let updates =
            commands(line).any(|words| calls(&words, "apt-get", "update") || calls(&words, "apt", "update"));
        let cached = instruction.text.contains("--mount=");
        if installs && !updates && !cached {
            check
                .report(
                    "AptInstallWithoutUpdate",
                    instruction.span,
                    format!(
                        "{tool} install without update in the same RUN: a cached package list may be too old"
                    ),
                )
                .help(format!("RUN {tool} update && {}", line.trim()));
            return;
        }
    }
}

/// The simple commands of a line, as words.
fn commands(line: &str) -> impl Iterator<Item = Vec<&str>> {
    line.split(['&', ';', '|', '\n']).map(|part| part.split_whitespace().collect())
}

fn calls(words: &[&str], tool: &str, action: &str) -> bool {
    let words: Vec<&&str> = words.iter().filter(|word| !word.contains('=') && **word != "sudo").collect();
    words.first().is_some_and(|first| **first == tool) && words[1..].iter().any(|word| **word == action)
}

/// A path like `usr/src/req.txt` in a RUN below WORKDIR: surely the one that a COPY made at `/usr/src`.
fn relative_paths(check: &mut Check<'_>, stage: &Stage) {
    let mut directory = "/".to_owned();
    let mut copied: Vec<String> = Vec::new();
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Workdir(path) => directory = crate::path::join(&directory, &path.value),
            Kind::Copy(transfer) | Kind::Add(transfer) => {
                copied.push(crate::path::join(&directory, &transfer.destination.value));
            }
            Kind::Run(run) if directory != "/" => {
                let Some(line) = shell_line(&run.command) else { continue };
                for word in
                    line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\''))
                {
                    if is_meant_absolute(word, &copied) {
                        let span = place(check, instruction, word);
                        check
                            .report(
                                "RelativePathAfterWorkdir",
                                span,
                                format!("{word} is looked for below {directory}, where WORKDIR points"),
                            )
                            .help(format!("did you mean /{word}?"))
                            .edit(span, format!("/{word}"));
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_meant_absolute(word: &str, copied: &[String]) -> bool {
    let Some((first, _)) = word.split_once('/') else { return false };
    let absolute = format!("/{word}");
    let was_copied = copied.iter().any(|path| {
        absolute == *path || absolute.starts_with(&format!("{}/", path.trim_end_matches('/'))) && path != "/"
    });
    TOP_DIRECTORIES.contains(&first) && (was_copied || matches!(first, "usr" | "etc" | "var"))
}

fn place(check: &Check<'_>, instruction: &Instruction, word: &str) -> Span {
    let text = check.file.slice(instruction.span);
    text.find(word).map_or(instruction.span, |at| {
        let start = instruction.span.start + at;
        Span::new(start, start + word.len())
    })
}

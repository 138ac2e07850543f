//! Warnings about Dockerfiles that build but surprise: Docker's rules under their names, and
//! Ferry's own for traps seen in people's notes. Pure; fixes are edits of the text.

mod command;
mod name;
mod stage;
mod value;

use crate::diagnostic::{Diagnostic, Severity};
use crate::dockerfile::ast::{Dockerfile, Instruction};
use crate::dockerfile::directive::CheckOptions;
use crate::dockerfile::{SourceFile, Span};
use crate::ignore::Ignore;
use ferry_oci::Platform;

/// A rule that is off unless asked for.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// Rules that Docker does not have.
const OWN: [&str; 4] =
    ["SingleQuotedJson", "EscapedMarkdown", "RelativePathAfterWorkdir", "AptInstallWithoutUpdate"];

/// A change of the text that mends a finding without changing what is built, or as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced.
    pub span: Span,
    /// By what.
    pub text: String,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// For people.
    pub diagnostic: Diagnostic,
    /// How to mend it, when that is safe.
    pub edit: Option<Edit>,
}

/// What the rules look at.
pub(crate) struct Check<'a> {
    pub file: &'a SourceFile,
    pub dockerfile: &'a Dockerfile,
    pub ignore: Option<&'a Ignore>,
    pub findings: Vec<Finding>,
}

impl Check<'_> {
    /// Reports a finding.
    pub fn report(&mut self, rule: &'static str, span: Span, message: impl Into<String>) -> &mut Finding {
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            rule: Some(rule),
            message: message.into(),
            span,
            help: None,
        };
        self.findings.push(Finding { diagnostic, edit: None });
        self.findings.last_mut().expect("just pushed")
    }

    /// All instructions with FROMs, in the order of the file.
    pub fn instructions(&self) -> Vec<Instruction> {
        let stages = self.dockerfile.stages.iter();
        let bodies = stages.flat_map(|stage| std::iter::once(&stage.head).chain(&stage.instructions));
        self.dockerfile.global_args.iter().chain(bodies).cloned().collect()
    }
}

impl Finding {
    /// Adds what to do.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.diagnostic.help = Some(text.into());
        self
    }

    /// Adds how to mend it.
    pub fn edit(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.edit = Some(Edit { span, text: text.into() });
        self
    }
}

/// Checks a Dockerfile. `ignore` is the context's `.dockerignore`, when it is known; `options` may
/// come from a build argument and else are those of the `# check=` line.
pub fn lint(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    ignore: Option<&Ignore>,
    options: Option<&CheckOptions>,
) -> Vec<Finding> {
    let mut check = Check { file, dockerfile, ignore, findings: Vec::new() };
    name::check(&mut check);
    stage::check(&mut check);
    value::check(&mut check);
    command::check(&mut check);
    let options = options.unwrap_or(&dockerfile.directives.check);
    let mut findings = check.findings;
    findings.retain(|finding| is_heard(finding.diagnostic.rule.unwrap_or_default(), options));
    findings.sort_by_key(|finding| finding.diagnostic.span.start);
    findings
}

fn is_heard(rule: &str, options: &CheckOptions) -> bool {
    let named = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(rule));
    let experimental = EXPERIMENTAL.contains(&rule) && !named(&options.experimental);
    !options.skip_all && !named(&options.skip) && !experimental
}

/// The name of the rule about bases of another platform.
pub const BASE_PLATFORM: &str = "InvalidBaseImagePlatform";

/// A base image that is for another platform than was asked for: only who has the image can tell.
pub fn base_platform(name: &str, wanted: &str, found: &Platform, place: Span) -> Option<Finding> {
    let expected = Platform::parse(wanted).ok()?;
    if found.architecture.is_empty() || found.satisfies(&expected) {
        return None;
    }
    let message = format!(
        "Base image {name} was pulled with platform \"{found}\", expected \"{expected}\" for current build"
    );
    let diagnostic = Diagnostic {
        severity: Severity::Warning,
        rule: Some(BASE_PLATFORM),
        message,
        span: place,
        help: None,
    };
    Some(Finding { diagnostic, edit: None })
}

/// Findings as a build tells them: those of the text, and those that need the base images.
pub fn of_build(
    file: &SourceFile,
    dockerfile: &Dockerfile,
    ignore: Option<&Ignore>,
    options: &CheckOptions,
    platforms: &[Finding],
) -> Vec<Finding> {
    let mut findings = lint(file, dockerfile, ignore, Some(options));
    findings.extend(platforms.iter().filter(|_| is_heard(BASE_PLATFORM, options)).cloned());
    findings.sort_by_key(|finding| finding.diagnostic.span.start);
    findings
}

/// The page of Docker's manual about a rule; Ferry's own rules have none.
pub fn page(rule: &str) -> Option<String> {
    if OWN.contains(&rule) {
        return None;
    }
    let mut words = String::new();
    let letters: Vec<char> = rule.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        let follows = |other: Option<&char>| other.is_some_and(|other| other.is_ascii_lowercase());
        let begins = letter.is_ascii_uppercase()
            && index > 0
            && (follows(letters.get(index - 1)) || follows(letters.get(index + 1)));
        if begins {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
    }
    Some(format!("https://docs.docker.com/go/dockerfile/rule/{words}/"))
}

/// The text with all edits done.
pub fn fix(file: &SourceFile, findings: &[Finding]) -> Option<String> {
    let mut edits: Vec<&Edit> = findings.iter().filter_map(|finding| finding.edit.as_ref()).collect();
    edits.sort_by_key(|edit| edit.span.start);
    let mut text = String::new();
    let mut at = 0;
    for edit in &edits {
        // Of two edits of one place the first is done; the second is found again by the next run.
        if edit.span.start < at {
            continue;
        }
        text.push_str(&file.text()[at..edit.span.start]);
        text.push_str(&edit.text);
        at = edit.span.end;
    }
    text.push_str(&file.text()[at..]);
    (!edits.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;

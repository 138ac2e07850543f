//! What can be wrong with a Dockerfile's text. The messages are the ones Docker's users know.

use super::source::{SourceFile, Span};

/// One refusal of the parser and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("dockerfile parse error on line {line}: {kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where.
    pub span: Span,
    /// Line, from 1.
    pub line: usize,
}

impl ParseError {
    /// Places a refusal in a file.
    pub fn new(file: &SourceFile, span: Span, kind: ParseErrorKind) -> Self {
        Self { kind, span, line: file.line(span.start) }
    }
}

/// The kinds of refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum ParseErrorKind {
    #[error("file with no instructions")]
    Empty,
    #[error("invalid escape token '{0}' does not match ` or \\")]
    InvalidEscape(String),
    #[error("only one {0} parser directive can be used")]
    DuplicateDirective(String),
    #[error("invalid check directive {0:?}: {1}")]
    InvalidCheck(String, String),
    #[error("unterminated heredoc {0}")]
    UnterminatedHeredoc(String),
    #[error("unknown instruction: {name}{}", did_you_mean(.suggestion))]
    UnknownInstruction { name: String, suggestion: Option<String> },
    #[error("unknown flag: --{name}{}", did_you_mean_flag(.suggestion))]
    UnknownFlag { name: String, suggestion: Option<String> },
    #[error("duplicate flag specified: --{0}")]
    DuplicateFlag(String),
    #[error("missing a value on flag: --{0}")]
    MissingFlagValue(String),
    #[error("invalid value {value:?} for flag --{flag}: {reason}")]
    InvalidFlagValue { flag: String, value: String, reason: String },
    #[error("{0} requires at least one argument")]
    AtLeastOneArgument(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOneArgument(&'static str),
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("{0} must have two arguments")]
    MustHaveTwo(&'static str),
    #[error("syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEquals(String),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("{instruction} requires the arguments to be in JSON form")]
    JsonRequired { instruction: &'static str },
    #[error("unterminated quote in {0:?}")]
    UnterminatedQuote(String),
    #[error("invalid name for build stage: {0:?}, name can't start with a number or contain symbols")]
    InvalidStageName(String),
    #[error("no build stage in current context")]
    NoStage,
    #[error("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildOnbuild,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildForbidden(String),
    #[error("unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType(String),
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    #[error("missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    #[error("parsing produced an invalid run command: a heredoc cannot follow the exec form")]
    HeredocAfterExecForm,
    #[error("invalid mount: {0}")]
    Mount(String),
    #[error("{0} cannot be a heredoc destination")]
    HeredocDestination(String),
    #[error("{what} is {size} bytes, more than the limit of {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

fn did_you_mean_flag(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean --{name}?)")).unwrap_or_default()
}

/// The candidate nearest to `word`, when it is near enough to be a typing mistake.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance > 0 && *distance <= 2 && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut table = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            if i == 0 || j == 0 {
                table[i][j] = i + j;
                continue;
            }
            let replaced = table[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = best;
        }
    }
    table[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_mistakes_only() {
        assert_eq!(nearest("FORM", ["FROM", "RUN"]).as_deref(), Some("FROM"));
        assert_eq!(nearest("chmown", ["chown", "chmod"]).as_deref(), Some("chown"));
        assert_eq!(nearest("FROM", ["FROM"]), None);
        assert_eq!(nearest("services", ["FROM", "RUN"]), None);
    }
}

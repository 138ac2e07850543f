//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the very top of a file.

use super::error::{ParseError, ParseErrorKind};
use super::source::{SourceFile, Span, Spanned};

/// The character that escapes and continues lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``, for files full of Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub fn as_char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }

    /// Cuts a trailing continuation off a line; true when there was one. A doubled escape character
    /// is an escaped character, not a continuation.
    pub fn split_continuation(self, line: &str) -> (&str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.as_char()) {
            Some(kept) if !kept.ends_with(self.as_char()) => (kept, true),
            _ => (line, false),
        }
    }
}

/// What `# check=` asks of the linter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Rules that are silent.
    pub skip: Vec<String>,
    /// All rules are silent.
    pub skip_all: bool,
    /// Experimental rules that are heard.
    pub experimental: Vec<String>,
    /// A warning fails the build.
    pub error: bool,
}

impl CheckOptions {
    /// Parses `skip=A,B;error=true`, from the directive or the build argument.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form key=value"))?;
            let rules =
                || value.split(',').map(|rule| rule.trim().to_owned()).filter(|rule| !rule.is_empty());
            match key.trim() {
                "skip" if value.trim() == "all" => options.skip_all = true,
                "skip" => options.skip.extend(rules()),
                "experimental" => options.experimental.extend(rules()),
                "error" => options.error = parse_bool(value.trim())?,
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        Ok(options)
    }
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is not a boolean")),
    }
}

/// The directives of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// `# syntax=image`
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`
    pub escape: Escape,
    /// `# check=`
    pub check: CheckOptions,
}

impl Directives {
    /// Reads the directives at the top of a file; the first line that is none ends them.
    pub fn parse(file: &SourceFile) -> Result<Self, ParseError> {
        let mut directives = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for span in file.lines() {
            let Some((key, value)) = split(file, span) else { break };
            let refuse = |kind| ParseError::new(file, value.span, kind);
            if !matches!(key.as_str(), "syntax" | "escape" | "check") {
                break;
            }
            if seen.contains(&key) {
                return Err(refuse(ParseErrorKind::DuplicateDirective(key)));
            }
            match key.as_str() {
                "syntax" => directives.syntax = Some(value),
                "check" => {
                    directives.check = CheckOptions::parse(&value.value).map_err(|reason| {
                        refuse(ParseErrorKind::InvalidCheck(value.value.clone(), reason))
                    })?;
                }
                _ => {
                    directives.escape = match value.value.as_str() {
                        "\\" => Escape::Backslash,
                        "`" => Escape::Backtick,
                        other => return Err(refuse(ParseErrorKind::InvalidEscape(other.to_owned()))),
                    }
                }
            }
            seen.push(key);
        }
        Ok(directives)
    }
}

/// `# key = value` of one line.
fn split(file: &SourceFile, span: Span) -> Option<(String, Spanned<String>)> {
    let text = file.slice(span);
    let comment = text.trim_start().strip_prefix('#')?;
    let (key, value) = comment.split_once('=')?;
    let key = key.trim();
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = value.trim();
    let start = span.start + (value.as_ptr() as usize - text.as_ptr() as usize);
    Some((key.to_ascii_lowercase(), Spanned::new(value.to_owned(), Span::new(start, start + value.len()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Directives, String> {
        Directives::parse(&SourceFile::new("d", text.as_bytes())).map_err(|error| error.to_string())
    }

    #[test]
    fn directives_stand_only_at_the_top() {
        assert_eq!(parse("# escape=`\nFROM a").expect("valid").escape, Escape::Backtick);
        assert_eq!(parse("# note\n# escape=`\nFROM a").expect("valid").escape, Escape::Backslash);
        assert_eq!(parse("\n# escape=`").expect("valid").escape, Escape::Backslash);
        assert_eq!(
            parse("#Syntax = docker/dockerfile:1 \n").expect("valid").syntax.expect("set").value,
            "docker/dockerfile:1"
        );
        assert_eq!(parse("# unknown=x\n# escape=`").expect("valid").escape, Escape::Backslash);
    }

    #[test]
    fn bad_directives_are_refused() {
        assert!(parse("# escape=x").expect_err("bad").contains("invalid escape token"));
        assert!(parse("# escape=`\n# escape=`").expect_err("twice").contains("only one escape"));
        assert!(parse("# check=nonsense").expect_err("bad").contains("key=value"));
    }

    #[test]
    fn check_options() {
        let check =
            parse("# check=skip=JSONArgsRecommended,StageNameCasing;error=true").expect("valid").check;
        assert_eq!(check.skip, ["JSONArgsRecommended", "StageNameCasing"]);
        assert!(check.error);
        assert!(parse("# check=skip=all").expect("valid").check.skip_all);
    }

    #[test]
    fn a_doubled_escape_continues_nothing() {
        assert_eq!(Escape::Backslash.split_continuation("a \\  "), ("a ", true));
        assert_eq!(Escape::Backslash.split_continuation("a \\\\"), ("a \\\\", false));
        assert_eq!(Escape::Backtick.split_continuation("C:\\"), ("C:\\", false));
    }
}

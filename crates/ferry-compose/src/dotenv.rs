//! The grammar of `.env` and `env_file` files.
//!
//! Owns parsing and the interpolation inside them; callers say where variables come from.

use crate::interpolate::{TemplateError, substitute};

/// One line `KEY=value`; a key alone has no value and is inherited.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The variable.
    pub key: String,
    /// Its value; absent when the key stands alone.
    pub value: Option<String>,
    /// Line of the key, from 1.
    pub line: u32,
}

/// Why a file is not a valid env file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DotenvError {
    /// A quote that never closes.
    #[error("line {line}: the quote {quote} is never closed")]
    Unterminated {
        /// Line of the key.
        line: u32,
        /// The quote.
        quote: char,
    },
    /// A name with a character names cannot have.
    #[error("line {line}: unexpected character \"{character}\" in variable name \"{name}\"")]
    Name {
        /// Line of the key.
        line: u32,
        /// The offender.
        character: char,
        /// The whole name as read.
        name: String,
    },
    /// No name before the separator.
    #[error("line {line}: a variable name is missing before \"=\"")]
    NoName {
        /// Line.
        line: u32,
    },
    /// A value that could not be filled in.
    #[error("line {line}: {source}")]
    Template {
        /// Line of the key.
        line: u32,
        /// Why.
        #[source]
        source: TemplateError,
    },
}

impl DotenvError {
    /// The line the error is about.
    pub fn line(&self) -> u32 {
        match self {
            DotenvError::Unterminated { line, .. }
            | DotenvError::Name { line, .. }
            | DotenvError::NoName { line }
            | DotenvError::Template { line, .. } => *line,
        }
    }
}

/// Parses a file. `outer` finds variables before those the file itself defined above.
pub fn parse(text: &str, outer: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Assignment>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut reader = Reader { rest: &text, line: 1, outer, found: Vec::new() };
    while reader.skip_blank() {
        reader.assignment()?;
    }
    Ok(reader.found)
}

/// The `raw` format of `env_file`: what `docker run --env-file` reads, with no quotes and no interpolation.
pub fn parse_raw(text: &str) -> Result<Vec<Assignment>, DotenvError> {
    let mut found = Vec::new();
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let number = index as u32 + 1;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line.trim_end(), None),
        };
        if key.is_empty() {
            return Err(DotenvError::NoName { line: number });
        }
        if let Some(character) = key.chars().find(|c| c.is_whitespace()) {
            return Err(DotenvError::Name { line: number, character, name: key.to_owned() });
        }
        found.push(Assignment { key: key.to_owned(), value, line: number });
    }
    Ok(found)
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
    outer: &'a dyn Fn(&str) -> Option<String>,
    found: Vec<Assignment>,
}

impl<'a> Reader<'a> {
    /// Goes past white space and comment lines; false at the end.
    fn skip_blank(&mut self) -> bool {
        loop {
            let trimmed = self.rest.trim_start();
            self.advance(self.rest.len() - trimmed.len());
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.advance(end);
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].bytes().filter(|b| *b == b'\n').count() as u32;
        self.rest = &self.rest[bytes..];
    }

    fn assignment(&mut self) -> Result<(), DotenvError> {
        let line = self.line;
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.rest = after.trim_start_matches([' ', '\t']);
        }
        let end = self.rest.find(['=', ':', '\n']).unwrap_or(self.rest.len());
        let name = self.rest[..end].trim();
        let inherited = !self.rest[end..].starts_with(['=', ':']);
        // A comment may follow a key that stands alone.
        let name = if inherited { name.split(" #").next().unwrap_or(name).trim_end() } else { name };
        if name.is_empty() {
            return Err(DotenvError::NoName { line });
        }
        if let Some(character) = name.chars().find(|c| !is_name_character(*c)) {
            return Err(DotenvError::Name { line, character, name: name.to_owned() });
        }
        let key = name.to_owned();
        if inherited {
            self.advance(end);
            self.found.push(Assignment { key, value: None, line });
            return Ok(());
        }
        self.advance(end + 1);
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let value = self.value(line)?;
        self.found.push(Assignment { key, value: Some(value), line });
        Ok(())
    }

    fn value(&mut self, line: u32) -> Result<String, DotenvError> {
        match self.rest.chars().next() {
            Some('\'') => {
                let raw = self.quoted('\'', line)?;
                Ok(raw.replace("\\'", "'"))
            }
            Some('"') => {
                let raw = self.quoted('"', line)?;
                self.fill(&unescape(raw), line)
            }
            _ => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let mut text = &self.rest[..end];
                if let Some(comment) = comment_start(text) {
                    text = &text[..comment];
                }
                let text = text.trim_end().replace("\\$", "$$");
                self.advance(end);
                self.fill(&text, line)
            }
        }
    }

    /// The text between quotes, escapes untouched; what follows the closing quote on its line is dropped.
    fn quoted(&mut self, quote: char, line: u32) -> Result<&'a str, DotenvError> {
        let body = &self.rest[1..];
        let mut escaped = false;
        for (index, c) in body.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                let text = &body[..index];
                let after = &body[index + 1..];
                let end_of_line = after.find('\n').unwrap_or(after.len());
                self.advance(1 + index + 1 + end_of_line);
                return Ok(text);
            }
        }
        Err(DotenvError::Unterminated { line, quote })
    }

    fn fill(&self, text: &str, line: u32) -> Result<String, DotenvError> {
        let lookup = |name: &str| {
            (self.outer)(name).or_else(|| {
                let earlier = self.found.iter().rev().find(|a| a.key == name)?;
                earlier.value.clone()
            })
        };
        substitute(text, &lookup, &mut |_| {}).map_err(|source| DotenvError::Template { line, source })
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']')
}

/// Where an inline comment begins: `#` after white space, or at the very start.
fn comment_start(text: &str) -> Option<usize> {
    if text.starts_with('#') {
        return Some(0);
    }
    text.match_indices('#').map(|(at, _)| at).find(|at| text[..*at].ends_with([' ', '\t']))
}

/// Backslash escapes of a double-quoted value; `\$` stays a literal dollar through interpolation.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('a') => out.push('\x07'),
            Some('b') => out.push('\x08'),
            Some('f') => out.push('\x0c'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\x0b'),
            Some('c') => break,
            Some('$') => out.push_str("$$"),
            Some('0') => {
                let mut code = 0u32;
                for _ in 0..3 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            Some(other @ ('"' | '\\')) => out.push(other),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let outer = |name: &str| (name == "HOST").then(|| "outer".to_owned());
        match parse(text, &outer) {
            Ok(found) => found
                .iter()
                .map(|a| match &a.value {
                    Some(value) => format!("{}={value}", a.key),
                    None => a.key.clone(),
                })
                .collect::<Vec<_>>()
                .join("|"),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn grammar() {
        for (text, expected) in [
            ("A=1", "A=1"),
            ("A=1\nB=2\n", "A=1|B=2"),
            ("export A=1", "A=1"),
            ("A: 1", "A=1"),
            ("A = 1", "A=1"),
            ("# c\n\n  A=1  \n", "A=1"),
            ("A=1 # c", "A=1"),
            ("A=1#c", "A=1#c"),
            ("A=#c", "A="),
            ("A=", "A="),
            ("A=\nB=2", "A=|B=2"),
            ("A", "A"),
            ("A # c", "A"),
            ("A='x $HOST'", "A=x $HOST"),
            ("A='it\\'s'", "A=it's"),
            ("A='a\nb'\nB=1", "A=a\nb|B=1"),
            ("A=\"x $HOST\"", "A=x outer"),
            ("A=\"a\\nb\\t\\\"c\\\"\"", "A=a\nb\t\"c\""),
            ("A=\"a\nb\" # c\nB=1", "A=a\nb|B=1"),
            ("A=\"\\$HOST\"", "A=$HOST"),
            ("A=\\$HOST", "A=$HOST"),
            ("A=\"\\0101\"", "A=A"),
            ("A=x\nB=${A}y", "A=x|B=xy"),
            ("A=${HOST}", "A=outer"),
            ("A=${NO:-d}", "A=d"),
            ("A=$$x", "A=$x"),
            ("A.b-c[0]=1", "A.b-c[0]=1"),
            ("A=a=b", "A=a=b"),
            ("A=http://x:1/#y", "A=http://x:1/#y"),
            ("\u{feff}A=1\r\nB=2\r\n", "A=1|B=2"),
            ("A=\"x", "! line 1: the quote \" is never closed"),
            ("B=1\nA='x", "! line 2: the quote ' is never closed"),
            ("=1", "! line 1: a variable name is missing before \"=\""),
            ("A B=1", "! line 1: unexpected character \" \" in variable name \"A B\""),
            ("A=${NO:?need}", "! line 1: required variable NO is missing a value: need"),
        ] {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }

    #[test]
    fn raw_format_keeps_quotes_and_dollars() {
        let found = parse_raw("A=\"x\" $Y # z\n# c\nB\n").unwrap();
        assert_eq!(found[0].value.as_deref(), Some("\"x\" $Y # z"));
        assert_eq!((found[1].key.as_str(), &found[1].value), ("B", &None));
        assert!(parse_raw("A b=1").is_err());
    }
}

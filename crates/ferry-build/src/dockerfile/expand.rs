//! Variable expansion and quote removal, as Docker's builder does them: `$v`, `${v}` with all
//! modifiers, single quotes literal, double quotes expanding.

use std::collections::BTreeSet;

use super::directive::Escape;
use super::pattern::ValuePattern;

/// Deepest nesting of `${a:-${b:-..}}`: beyond any use, below the stack's end.
const MAX_NESTING: usize = 64;

/// Longest result of one expansion: values that double themselves line by line end here.
pub const MAX_EXPANDED_BYTES: usize = 1 << 20;

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum ExpandError {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unterminated(&'static str),
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    #[error("{name}: {message}")]
    Refused { name: String, message: String },
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    InvalidPattern { pattern: String, reason: String },
    #[error("substitutions nested more than {MAX_NESTING} deep")]
    TooDeep,
    #[error("expansion is longer than {MAX_EXPANDED_BYTES} bytes")]
    TooLong,
}

/// Where values come from.
pub trait Variables {
    /// The value of a variable that is set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl<F: Fn(&str) -> Option<&'static str>> Variables for F {
    fn get(&self, name: &str) -> Option<&str> {
        self(name)
    }
}

/// An expanded text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text as one word.
    pub text: String,
    /// The text split at unquoted white space.
    pub words: Vec<String>,
    /// Variables that were read and not set.
    pub unset: BTreeSet<String>,
    /// Variables that were read and set.
    pub used: BTreeSet<String>,
}

/// How an expansion treats what it meets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expander {
    /// The escape character.
    pub escape: Escape,
    /// Quotes are ordinary characters (heredoc bodies).
    pub keep_quotes: bool,
    /// Escapes stay in the result.
    pub keep_escapes: bool,
}

impl Expander {
    /// An expander for the words of instructions.
    pub fn new(escape: Escape) -> Self {
        Self { escape, ..Self::default() }
    }

    /// An expander for the bodies of heredocs: only variables are touched.
    pub fn for_heredoc(escape: Escape) -> Self {
        Self { escape, keep_quotes: true, keep_escapes: false }
    }

    /// Expands a text.
    pub fn expand(&self, text: &str, variables: &dyn Variables) -> Result<Expanded, ExpandError> {
        let mut scan = Scan {
            characters: text.chars().collect(),
            at: 0,
            settings: *self,
            variables,
            result: Expanded::default(),
            depth: 0,
        };
        let (text, words) = scan.until(None, self.keep_escapes)?;
        if text.len() > MAX_EXPANDED_BYTES {
            return Err(ExpandError::TooLong);
        }
        Ok(Expanded { text, words, ..scan.result })
    }
}

/// Collects characters into words.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A character that may separate words.
    fn push(&mut self, character: char) {
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Scan<'a> {
    characters: Vec<char>,
    at: usize,
    settings: Expander,
    variables: &'a dyn Variables,
    result: Expanded,
    depth: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek();
        self.at += usize::from(character.is_some());
        character
    }

    /// Expands up to a stop character (taken) or the end.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(ExpandError::TooDeep);
        }
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(character) = self.peek() {
            if text.len() > MAX_EXPANDED_BYTES {
                return Err(ExpandError::TooLong);
            }
            if Some(character) == stop {
                self.at += 1;
                self.depth -= 1;
                return Ok((text, words.finish()));
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if !self.settings.keep_quotes => {
                    let quoted = if character == '"' {
                        self.double_quoted(keep_escapes)?
                    } else {
                        self.single_quoted()?
                    };
                    words.current.push_str(&quoted);
                    text.push_str(&quoted);
                }
                _ => self.plain(keep_escapes, &mut text, &mut words),
            }
        }
        match stop {
            None => {
                self.depth -= 1;
                Ok((text, words.finish()))
            }
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    /// One character without a meaning of its own, or an escaped one.
    fn plain(&mut self, keep_escapes: bool, text: &mut String, words: &mut Words) {
        let Some(character) = self.next() else { return };
        if character != self.settings.escape.as_char() {
            words.push(character);
            text.push(character);
            return;
        }
        let escaped = self.next();
        // In a heredoc only a dollar needs its escape; any other backslash is the file's own.
        let literal = self.settings.keep_quotes && !matches!(escaped, Some('$'));
        if keep_escapes || literal {
            words.current.push(character);
            text.push(character);
        }
        if let Some(escaped) = escaped {
            words.current.push(escaped);
            text.push(escaped);
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(ExpandError::Unterminated("single-quote")),
                Some('\'') => return Ok(text),
                Some(other) => text.push(other),
            }
        }
    }

    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        self.at += 1;
        let escape = self.settings.escape.as_char();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(ExpandError::Unterminated("double-quote")),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(character) => {
                    self.at += 1;
                    if character != escape {
                        text.push(character);
                        continue;
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if matches!(next, '"' | '$') || next == escape => {
                            if keep_escapes {
                                text.push(character);
                            }
                            self.at += 1;
                            text.push(next);
                        }
                        Some(_) => text.push(character),
                    }
                }
            }
        }
    }

    /// `$name` and `${...}`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            _ => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => {
                let modifier = self.next().ok_or(ExpandError::MissingBrace)?;
                self.conditional(&name, modifier, true)
            }
            Some(modifier @ ('+' | '-' | '?')) => self.conditional(&name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.trimmed(&name, modifier),
            Some('/') => self.replaced(&name),
            Some(other) => Err(ExpandError::UnsupportedModifier(other.to_string())),
        }
    }

    /// `${name:-word}` and its kin; with a colon an empty value counts as unset.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.value(name);
        let absent = match &value {
            None => true,
            Some(value) => empty_is_unset && value.is_empty(),
        };
        match modifier {
            '-' => Ok(if absent { word } else { value.unwrap_or_default() }),
            '+' => Ok(if absent { String::new() } else { word }),
            '?' if absent => {
                let default =
                    if value.is_none() { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { default.to_owned() } else { word };
                Err(ExpandError::Refused { name: name.to_owned(), message })
            }
            '?' => Ok(value.unwrap_or_default()),
            other => Err(ExpandError::UnsupportedModifier(format!(":{other}"))),
        }
    }

    /// `${name#p}`, `##`, `%`, `%%`.
    fn trimmed(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let longest = self.peek() == Some(modifier);
        self.at += usize::from(longest);
        let (word, _) = self.until(Some('}'), true)?;
        let pattern = value_pattern(&word)?;
        let value = self.value(name).unwrap_or_default();
        Ok(match modifier {
            '#' => pattern.trim_prefix(&value, longest),
            _ => pattern.trim_suffix(&value, longest),
        })
    }

    /// `${name/p/r}` and `${name//p/r}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let (word, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), false)?;
        let pattern = value_pattern(&word)?;
        let value = self.value(name).unwrap_or_default();
        Ok(pattern.replace(&value, &replacement, all))
    }

    /// Letters, digits and `_`; or digits alone; or one special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            if name.is_empty() && character.is_ascii_digit() {
                while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
                    name.push(digit);
                    self.at += 1;
                }
                return name;
            }
            if name.is_empty() && matches!(character, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                self.at += 1;
                return character.to_string();
            }
            if !character.is_alphanumeric() && character != '_' {
                break;
            }
            name.push(character);
            self.at += 1;
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        let seen = if value.is_some() { &mut self.result.used } else { &mut self.result.unset };
        seen.insert(name.to_owned());
        value
    }
}

fn value_pattern(text: &str) -> Result<ValuePattern, ExpandError> {
    ValuePattern::parse(text)
        .map_err(|reason| ExpandError::InvalidPattern { pattern: text.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<&'static str> {
        match name {
            "foo" => Some("value"),
            "empty" => Some(""),
            "path" => Some("a/b/c.tar.gz"),
            "two" => Some("one two"),
            _ => None,
        }
    }

    fn expand(text: &str) -> String {
        match Expander::default().expand(text, &variables) {
            Ok(expanded) => expanded.text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn substitutions() {
        for (text, wanted) in [
            ("$foo", "value"),
            ("${foo}x", "valuex"),
            ("$foox", ""),
            (r"\$foo", "$foo"),
            ("'$foo'", "$foo"),
            ("\"$foo\"", "value"),
            (r#""\$foo \" \a""#, r#"$foo " \a"#),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("${none:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${foo:+d}", "d"),
            ("${none+d}", ""),
            ("${none:-${foo}}", "value"),
            ("${none:-'a b'}", "a b"),
            ("${path#*/}", "b/c.tar.gz"),
            ("${path##*/}", "c.tar.gz"),
            ("${path%.*}", "a/b/c.tar"),
            ("${path%%.*}", "a/b/c"),
            (r"${path/\//-}", "a-b/c.tar.gz"),
            (r"${path//\//-}", "a-b-c.tar.gz"),
            ("$1x", "x"),
            (r"a\ b", "a b"),
        ] {
            assert_eq!(expand(text), wanted, "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, wanted) in [
            ("${foo", "missing '}'"),
            ("${}", "bad substitution"),
            ("${none:?}", "none: is not allowed to be unset"),
            ("${empty:?gone}", "empty: gone"),
            ("${foo^x}", "unsupported modifier (^)"),
            ("${foo:x}", "unsupported modifier (:x)"),
            ("'a", "single-quote"),
            ("\"a", "double-quote"),
            ("${foo/a}", "missing '/'"),
        ] {
            assert!(expand(text).contains(wanted), "{text}: {}", expand(text));
        }
        assert!(expand(&"${a:-".repeat(100)).contains("nested"));
    }

    #[test]
    fn words_split_after_expansion_but_not_inside_quotes() {
        let words = |text| Expander::default().expand(text, &variables).expect("valid").words;
        assert_eq!(words("$two three"), ["one", "two", "three"]);
        assert_eq!(words("\"$two\" 'x y'"), ["one two", "x y"]);
    }

    #[test]
    fn reads_are_reported() {
        let expanded = Expander::default().expand("$foo $gone", &variables).expect("valid");
        assert!(expanded.unset.contains("gone") && expanded.used.contains("foo"));
    }

    #[test]
    fn heredoc_bodies_keep_quotes() {
        let expander = Expander::for_heredoc(Escape::Backslash);
        let expand = |text| expander.expand(text, &variables).expect("valid").text;
        assert_eq!(expand("a '$foo' \"b\" \\$foo \\n"), "a 'value' \"b\" $foo \\n");
    }
}

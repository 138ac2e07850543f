//! Flags of instructions: `--name`, `--name=value`, checked against each instruction's table.

use super::ast::Word;
use super::directive::{Escape, parse_bool};
use super::error::{ParseError, ParseErrorKind, nearest};
use super::source::{SourceFile, Spanned};
use super::word::RawWord;

/// What a flag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagType {
    /// One value.
    Text,
    /// May be given more than once.
    List,
    /// `--flag` or `--flag=bool`.
    Switch,
}

/// A flag's name and type.
pub type FlagDefinition = (&'static str, FlagType);

/// Takes the leading `--` words off the arguments; returns them and where the rest begins.
pub fn split_flags(arguments: &str, escape: Escape) -> (Vec<RawWord>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += arguments[at..].len() - arguments[at..].trim_start().len();
        if !arguments[at..].starts_with("--") {
            return (flags, at);
        }
        let (text, end) = flag_word(&arguments[at..], escape);
        if text == "--" {
            return (flags, at + end);
        }
        flags.push(RawWord { text, start: at, end: at + end });
        at += end;
    }
}

/// One flag word with its quotes taken off, and its length in the source.
fn flag_word(text: &str, escape: Escape) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            return (word, at);
        }
        if character == escape.as_char() && quote != Some('\'') {
            if let Some((_, escaped)) = characters.next() {
                word.push(escaped);
            }
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        } else {
            word.push(character);
        }
    }
    (word, text.len())
}

/// The flags of one instruction, checked.
pub struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks names, repetitions and missing values.
    pub fn parse(file: &SourceFile, words: &[Word], table: &[FlagDefinition]) -> Result<Self, ParseError> {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for word in words {
            let refuse = |kind| ParseError::new(file, word.span, kind);
            let body = word.value.trim_start_matches("--");
            let (name, value) =
                body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            let Some(&(name, flag_type)) = table.iter().find(|(known, _)| *known == name) else {
                let suggestion = nearest(name, table.iter().map(|(known, _)| *known));
                return Err(refuse(ParseErrorKind::UnknownFlag { name: name.to_owned(), suggestion }));
            };
            if flag_type != FlagType::List && given.iter().any(|(other, _)| *other == name) {
                return Err(refuse(ParseErrorKind::DuplicateFlag(name.to_owned())));
            }
            let value = match (flag_type, value) {
                (FlagType::Switch, None) => "true".to_owned(),
                (FlagType::Switch, Some(value)) => {
                    parse_bool(value).map_err(|reason| refuse(invalid(name, value, reason)))?.to_string()
                }
                (_, Some(value)) if !value.is_empty() => value.to_owned(),
                _ => return Err(refuse(ParseErrorKind::MissingFlagValue(name.to_owned()))),
            };
            given.push((name, Spanned::new(value, word.span)));
        }
        Ok(Self { given })
    }

    /// The value of a flag.
    pub fn text(&self, name: &str) -> Option<Word> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, word)| word.clone())
    }

    /// All values of a flag.
    pub fn list(&self, name: &str) -> Vec<Word> {
        self.given.iter().filter(|(given, _)| *given == name).map(|(_, word)| word.clone()).collect()
    }

    /// A switch, when it was given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).map(|word| word.value == "true")
    }
}

/// The refusal of a flag's value.
pub fn invalid(flag: &str, value: &str, reason: impl Into<String>) -> ParseErrorKind {
    ParseErrorKind::InvalidFlagValue { flag: flag.to_owned(), value: value.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_at_the_first_other_word() {
        let (flags, rest) = split_flags("--a=1  --b='x y' file --c", Escape::Backslash);
        assert_eq!(flags.iter().map(|flag| flag.text.as_str()).collect::<Vec<_>>(), ["--a=1", "--b=x y"]);
        assert_eq!(&"--a=1  --b='x y' file --c"[rest..], "file --c");
        let (flags, rest) = split_flags("-- --a", Escape::Backslash);
        assert!(flags.is_empty());
        assert_eq!(rest, 2);
    }
}

//! Splitting the arguments of an instruction into words, JSON arrays and heredoc starts.
//! Nothing is expanded here; quotes stay in the words until [`super::expand`] takes them off.

use super::directive::Escape;

/// A word and its place in the logical line's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawWord {
    /// The word as written.
    pub text: String,
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// Splits at white space; quotes mean nothing.
pub fn split_blank(text: &str) -> Vec<RawWord> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        match (character.is_ascii_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(first)) => {
                words.push(RawWord { text: text[first..at].to_owned(), start: first, end: at });
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Splits at white space outside of quotes. `Err` carries the word whose quote is never closed.
pub fn split_quoted(text: &str, escape: Escape) -> Result<Vec<RawWord>, String> {
    let mut words = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some(&(start, first)) = characters.peek() {
        if first.is_whitespace() {
            characters.next();
            continue;
        }
        let mut quote = None;
        let mut end = text.len();
        while let Some(&(at, character)) = characters.peek() {
            if quote.is_none() && character.is_whitespace() {
                end = at;
                break;
            }
            characters.next();
            if character == escape.as_char() && quote != Some('\'') {
                characters.next();
            } else if quote == Some(character) {
                quote = None;
            } else if quote.is_none() && matches!(character, '"' | '\'') {
                quote = Some(character);
            }
        }
        if quote.is_some() {
            return Err(text[start..].to_owned());
        }
        words.push(RawWord { text: text[start..end].to_owned(), start, end });
    }
    Ok(words)
}

/// What a JSON-looking argument turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonForm {
    /// The exec form.
    Strings(Vec<String>),
    /// A valid array with something else in it, which Docker refuses.
    NotStrings,
    /// Not valid JSON: silently the shell form.
    NotJson,
}

/// Reads the exec form.
pub fn json_form(text: &str) -> JsonForm {
    let text = text.trim();
    if !text.starts_with('[') {
        return JsonForm::NotJson;
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => JsonForm::NotJson,
        Ok(values) => values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Some(text),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map_or(JsonForm::NotStrings, JsonForm::Strings),
    }
}

/// The start of a heredoc, `<<NAME`, as a word of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocStart {
    /// The terminator without its quotes.
    pub name: String,
    /// `<<-`: leading tabs are taken off the body and the terminator.
    pub strip_tabs: bool,
    /// Variables in the body are expanded (no quote in the terminator).
    pub expand: bool,
}

impl HeredocStart {
    /// Recognises `[fd]<<[-]NAME`.
    pub fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        Some(Self { expand: name == rest, name, strip_tabs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> Vec<String> {
        split_quoted(text, Escape::Backslash)
            .expect("closed quotes")
            .into_iter()
            .map(|word| word.text)
            .collect()
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(quoted(r#"a="b c" d='e f'"#), [r#"a="b c""#, "d='e f'"]);
        assert_eq!(quoted(r"a=b\ c d"), [r"a=b\ c", "d"]);
        assert_eq!(quoted(r#"a="b\" c" d"#), [r#"a="b\" c""#, "d"]);
        assert_eq!(quoted(r"a='b\' c"), [r"a='b\'", "c"]);
        assert!(split_quoted("a='b", Escape::Backslash).is_err());
    }

    #[test]
    fn json_falls_back_to_the_shell_form() {
        assert_eq!(json_form(r#" ["a", "b"] "#), JsonForm::Strings(vec!["a".into(), "b".into()]));
        assert_eq!(json_form("['a']"), JsonForm::NotJson);
        assert_eq!(json_form(r#"["a",]"#), JsonForm::NotJson);
        assert_eq!(json_form(r#"["a"] b"#), JsonForm::NotJson);
        assert_eq!(json_form(r#"["a", 1]"#), JsonForm::NotStrings);
        assert_eq!(json_form("[]"), JsonForm::Strings(Vec::new()));
        assert_eq!(json_form("a"), JsonForm::NotJson);
    }

    #[test]
    fn heredoc_starts() {
        let start = HeredocStart::parse("<<EOF").expect("a heredoc");
        assert_eq!((start.name.as_str(), start.strip_tabs, start.expand), ("EOF", false, true));
        let start = HeredocStart::parse("3<<-\"E\"").expect("a heredoc");
        assert_eq!((start.name.as_str(), start.strip_tabs, start.expand), ("E", true, false));
        for none in ["<<", "<<<word", "a<<b", "<EOF", "<<-"] {
            assert_eq!(HeredocStart::parse(none), None, "{none}");
        }
    }
}

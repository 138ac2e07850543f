//! Finds what word processors and web pages did to a pasted command, and says how it was meant.

use super::Command;
use crate::failure::Failure;
use crate::flags::Order;
use crate::session::Session;

/// Dashes that are not the ASCII one, with their names.
const DASHES: [(char, &str); 5] = [
    ('\u{2010}', "a hyphen (U+2010)"),
    ('\u{2011}', "a non-breaking hyphen (U+2011)"),
    ('\u{2013}', "an en dash (U+2013)"),
    ('\u{2014}', "an em dash (U+2014)"),
    ('\u{2212}', "a minus sign (U+2212)"),
];
/// Quotes that no shell takes for quotes.
const QUOTES: [char; 6] = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{00ab}'];

/// Refuses a word that was meant to be a flag or a quoted value and is not.
pub fn check(session: &Session, command: &'static Command, words: &[String]) -> Result<(), Failure> {
    let specs = (command.specs)();
    let mut takes_value = false;
    for word in words {
        if word == "--" {
            return Ok(());
        }
        if let Some(problem) = problem(word) {
            let repaired = words.iter().map(|word| repair(word)).collect::<Vec<_>>().join(" ");
            // Docker would take the word for an image, and its exit codes then differ by command.
            let code = if session.path.ends_with("run") { 125 } else { 1 };
            let failure = Failure::new(problem).code(code);
            return Err(failure.hint(format!("{} {} {repaired}", session.called, session.path)));
        }
        let is_flag = word.len() > 1 && word.starts_with('-');
        if !is_flag && !takes_value && command.order == Order::BeforeArguments {
            return Ok(());
        }
        takes_value = is_flag
            && !word.contains('=')
            && specs.iter().any(|spec| {
                let letter =
                    word.chars().nth(1).is_some_and(|c| c == spec.short) && word.chars().count() == 2;
                !spec.is_switch && (word.strip_prefix("--") == Some(spec.long) || letter)
            });
    }
    Ok(())
}

fn problem(word: &str) -> Option<String> {
    let mut letters = word.chars();
    let first = letters.next()?;
    let second = letters.next();
    if let Some((_, name)) = DASHES.iter().find(|(dash, _)| *dash == first)
        && second.is_some_and(|c| c.is_alphabetic() || c == '-' || DASHES.iter().any(|(dash, _)| *dash == c))
    {
        return Some(format!("{word:?} begins with {name} where '--' was likely meant"));
    }
    if first == '-' && second.is_some_and(|c| DASHES.iter().any(|(dash, _)| *dash == c)) {
        return Some(format!("{word:?} mixes '-' with a typographic dash where '--' was likely meant"));
    }
    let value = word.split_once('=').map_or(word, |(_, value)| value);
    if QUOTES.iter().any(|quote| word.starts_with(*quote) || value.starts_with(*quote)) {
        return Some(format!("{word:?} has typographic quotes, which the shell does not take for quotes"));
    }
    None
}

fn repair(word: &str) -> String {
    let mut text: String = word.to_owned();
    if let Some(first) = text.chars().next()
        && DASHES.iter().any(|(dash, _)| *dash == first)
    {
        let rest = text.trim_start_matches(|c| c == '-' || DASHES.iter().any(|(dash, _)| *dash == c));
        let dashes = if rest.chars().count() == 1 { "-" } else { "--" };
        text = format!("{dashes}{rest}");
    } else if text.starts_with('-') {
        let rest = text.trim_start_matches(|c| c == '-' || DASHES.iter().any(|(dash, _)| *dash == c));
        if rest.len() + 2 < text.len() || text.chars().nth(1).is_some_and(|c| !c.is_ascii()) {
            text = format!("--{rest}");
        }
    }
    text.chars().map(|c| if QUOTES.contains(&c) { '"' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_words() {
        for (word, wanted) in [
            ("–name", Some("--name")),
            ("—name", Some("--name")),
            ("–d", Some("-d")),
            ("-–rm", Some("--rm")),
            ("“A=b”", Some("\"A=b\"")),
            ("A=“b”", Some("A=\"b\"")),
            ("--name", None),
            ("-it", None),
            ("naïve", None),
            ("5–6", None),
        ] {
            assert_eq!(problem(word).is_some(), wanted.is_some(), "{word}");
            if let Some(wanted) = wanted {
                assert_eq!(repair(word), wanted);
            }
        }
    }
}

//! Flags in the grammar of Go's flag package, which runc's callers write: `--name value`, `--name=value`, `-name
//! value`; flags end at the first other word or at `--`.

use crate::error::CliError;

/// One flag a command knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    name: &'static str,
    short: &'static str,
    value: bool,
}

impl Flag {
    pub const fn value(name: &'static str, short: &'static str) -> Flag {
        Flag { name, short, value: true }
    }

    pub const fn switch(name: &'static str, short: &'static str) -> Flag {
        Flag { name, short, value: false }
    }
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    given: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
}

impl Parsed {
    /// The last value given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Every value given, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// A number given, or `None`.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, CliError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.parse();
        number
            .map(Some)
            .map_err(|_| CliError::usage(format!("invalid value {value:?} for flag -{name}: not a number")))
    }

    /// The only argument.
    pub fn id(&self, command: &str) -> Result<&str, CliError> {
        match self.arguments.as_slice() {
            [id] => Ok(id),
            _ => Err(CliError::usage(format!("\"{command}\" requires exactly 1 argument(s)"))),
        }
    }
}

/// Reads flags up to the first argument.
pub(crate) fn parse(flags: &[Flag], words: &[String]) -> Result<Parsed, CliError> {
    let mut parsed = Parsed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let stripped = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let name = match stripped {
            Some("") if word == "--" => break,
            Some(name) if !name.is_empty() => name,
            _ => {
                parsed.arguments.push(word.clone());
                break;
            }
        };
        let (name, inline) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let flag =
            flags.iter().find(|flag| flag.name == name || (!flag.short.is_empty() && flag.short == name));
        let Some(flag) = flag else {
            return Err(CliError::usage(format!("Incorrect Usage: flag provided but not defined: -{name}")));
        };
        let value = match (flag.value, inline) {
            (_, Some(value)) => value,
            (false, None) => "true".to_owned(),
            (true, None) => words.next().cloned().ok_or_else(|| {
                CliError::usage(format!("Incorrect Usage: flag needs an argument: -{name}"))
            })?,
        };
        parsed.given.push((flag.name, value));
    }
    parsed.arguments.extend(words.cloned());
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] =
        &[Flag::value("bundle", "b"), Flag::switch("detach", "d"), Flag::value("env", "e")];

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn go_grammar() {
        let parsed = parse(FLAGS, &words("-b /x --detach --env=A=1 -e B id -b y")).unwrap();
        assert_eq!(parsed.value("bundle"), Some("/x"));
        assert!(parsed.has("detach"));
        assert_eq!(parsed.values("env").collect::<Vec<_>>(), ["A=1", "B"]);
        assert_eq!(parsed.arguments, ["id", "-b", "y"]);
        assert_eq!(parse(FLAGS, &words("-- -b")).unwrap().arguments, ["-b"]);
        assert!(!parse(FLAGS, &words("--detach=false x")).unwrap().has("detach"));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| parse(FLAGS, &words(text)).unwrap_err().to_string();
        assert_eq!(error("--nope x"), "Incorrect Usage: flag provided but not defined: -nope");
        assert_eq!(error("--bundle"), "Incorrect Usage: flag needs an argument: -bundle");
    }
}

//! Words to flags and arguments.

use super::{FlagSet, FlagSpec};

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Anywhere.
    Interspersed,
    /// Only before the first argument; what follows belongs to someone else.
    BeforeArguments,
}

/// What a command line says.
#[derive(Debug)]
pub struct Parsed<F> {
    /// The flags.
    pub flags: F,
    /// The rest.
    pub arguments: Vec<String>,
    /// `--help` (or `-h`, where no flag has that letter) was among them.
    pub help: bool,
}

/// A flag that cannot be taken, in the words scripts know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No flag has this name.
    #[error("unknown flag: --{name}")]
    Unknown {
        /// Without dashes and value.
        name: String,
        /// The flag that was likely meant.
        nearest: Option<&'static str>,
    },
    /// No flag has this letter.
    #[error("unknown shorthand flag: {letter:?} in -{word}")]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// The word it stands in.
        word: String,
    },
    /// The value is missing.
    #[error("flag needs an argument: {0}")]
    NeedsValue(String),
    /// The value cannot be meant.
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    Invalid {
        /// What was given.
        value: String,
        /// `--name` or `-n, --name`.
        flag: String,
        /// Why not.
        reason: String,
    },
    /// Not a flag at all: `--=x`, `---x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
}

/// Reads `words` as flags of `F` and arguments.
pub fn parse<F: FlagSet>(words: Vec<String>, order: Order) -> Result<Parsed<F>, FlagError> {
    let mut parser = Parser { specs: F::specs(), flags: F::default(), help: false };
    let mut arguments = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            arguments.extend(words);
            break;
        }
        if word.len() < 2 || !word.starts_with('-') {
            arguments.push(word);
            if order == Order::BeforeArguments {
                arguments.extend(words);
                break;
            }
            continue;
        }
        match word.strip_prefix("--") {
            Some(long) => parser.long(long, &word, &mut words)?,
            None => parser.letters(&word[1..], &mut words)?,
        }
        if parser.help {
            break;
        }
    }
    Ok(Parsed { flags: parser.flags, arguments, help: parser.help })
}

struct Parser<F> {
    specs: Vec<&'static FlagSpec>,
    flags: F,
    help: bool,
}

type Words = std::vec::IntoIter<String>;

impl<F: FlagSet> Parser<F> {
    fn long(&mut self, long: &str, word: &str, words: &mut Words) -> Result<(), FlagError> {
        if long.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(word.to_owned()));
        }
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let Some(spec) = self.specs.iter().find(|spec| spec.long == name).copied() else {
            if name == "help" {
                self.help = true;
                return Ok(());
            }
            let nearest = crate::cli::nearest(name, self.specs.iter().map(|spec| spec.long));
            return Err(FlagError::Unknown { name: name.to_owned(), nearest });
        };
        let value = match value {
            Some(value) => value,
            None if spec.is_switch => "true".to_owned(),
            None => words.next().ok_or_else(|| FlagError::NeedsValue(format!("--{name}")))?,
        };
        self.set(spec, &value)
    }

    fn letters(&mut self, cluster: &str, words: &mut Words) -> Result<(), FlagError> {
        let mut rest = cluster;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let Some(spec) = self.specs.iter().find(|spec| spec.short == letter && letter != '-').copied()
            else {
                if letter == 'h' {
                    self.help = true;
                    return Ok(());
                }
                return Err(FlagError::UnknownLetter { letter, word: cluster.to_owned() });
            };
            if let Some(value) = rest.strip_prefix('=') {
                return self.set(spec, value);
            }
            if spec.is_switch {
                self.set(spec, "true")?;
                continue;
            }
            let value = match rest {
                "" => {
                    words.next().ok_or_else(|| FlagError::NeedsValue(format!("{letter:?} in -{cluster}")))?
                }
                value => value.to_owned(),
            };
            return self.set(spec, &value);
        }
        Ok(())
    }

    fn set(&mut self, spec: &FlagSpec, value: &str) -> Result<(), FlagError> {
        let result = self.flags.set(spec.long, value).expect("a set takes each of its own specs");
        result.map_err(|reason| FlagError::Invalid { value: value.to_owned(), flag: display(spec), reason })
    }
}

fn display(spec: &FlagSpec) -> String {
    match spec.short {
        '-' => format!("--{}", spec.long),
        letter => format!("-{letter}, --{}", spec.long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::flags! {
        /// Flags under test.
        pub struct TestFlags {
            interactive: bool = 'i' "interactive" "a switch";
            tty: bool = 't' "tty" "a switch";
            env: Vec<String> = 'e' "env" <list> "a list";
            name: String = '-' "name" <string> "a text";
            tail: Option<i64> = 'n' "tail" <int> "a number";
        }
    }

    fn check(line: &str, order: Order, wanted: &str) {
        let words = line.split_whitespace().map(str::to_owned).collect();
        let found = match parse::<TestFlags>(words, order) {
            Ok(Parsed { flags: f, arguments, help }) => format!(
                "i={} t={} e={:?} name={} n={:?} args={arguments:?} help={help}",
                f.interactive as u8, f.tty as u8, f.env, f.name, f.tail
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, wanted, "{line}");
    }

    #[test]
    fn grammar() {
        use Order::{BeforeArguments as B, Interspersed as I};
        check("-it a b", I, r#"i=1 t=1 e=[] name= n=None args=["a", "b"] help=false"#);
        check("a -it b", I, r#"i=1 t=1 e=[] name= n=None args=["a", "b"] help=false"#);
        check("a -it b", B, r#"i=0 t=0 e=[] name= n=None args=["a", "-it", "b"] help=false"#);
        check(
            "-eA=1 -e B -e=C --env=D=2 x",
            I,
            r#"i=0 t=0 e=["A=1", "B", "C", "D=2"] name= n=None args=["x"] help=false"#,
        );
        check("--tty=false -i=0 --name -x", I, "i=0 t=0 e=[] name=-x n=None args=[] help=false");
        check("-n5 -- --tail -", I, r#"i=0 t=0 e=[] name= n=Some(5) args=["--tail", "-"] help=false"#);
        check("- x", B, r#"i=0 t=0 e=[] name= n=None args=["-", "x"] help=false"#);
        check("--help --nonsense", I, "i=0 t=0 e=[] name= n=None args=[] help=true");
        check("--namee x", I, "unknown flag: --namee");
        check("-ix", I, "unknown shorthand flag: 'x' in -ix");
        check("--name", I, "flag needs an argument: --name");
        check("-ite", I, "flag needs an argument: 'e' in -ite");
        check(
            "--tail x",
            I,
            r#"invalid argument "x" for "-n, --tail" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        );
        check(
            "--tty=maybe",
            I,
            r#"invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        );
        check("---x", I, "bad flag syntax: ---x");
    }
}

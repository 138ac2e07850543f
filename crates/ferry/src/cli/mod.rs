//! The command line: the table of commands, dispatch, help, and repairs of what was pasted.

mod dispatch;
mod help;
mod nearest;
mod repair;

use std::future::Future;
use std::pin::Pin;

pub use dispatch::{Globals, global_specs, run};
pub use help::print_overview;
pub use nearest::nearest;

use crate::failure::{Failure, Origin, Outcome};
use crate::flags::{self, FlagError, FlagSet, FlagSpec, Order};
use crate::session::Session;

/// What a command's function gives: no thread is ever involved, so it need not be `Send`.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None.
    None,
    /// Exactly this many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// This many or fewer.
    AtMost(usize),
    /// Between these two, both included.
    Between(usize, usize),
}

/// One command.
pub struct Command {
    /// Every path that calls it, the one to show first: `["ps", "container ls", "container ps"]`.
    pub names: &'static [&'static str],
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// How many arguments.
    pub arity: Arity,
    /// Where flags may stand.
    pub order: Order,
    /// Its flags.
    pub specs: fn() -> Vec<&'static FlagSpec>,
    /// Runs it with the words after its name.
    pub run: for<'a> fn(&'a Session, &'static Command, Vec<String>) -> Running<'a>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Command").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Declares a [`Command`]: names, usage, help, arity, order, the type of its flags, its function.
#[macro_export]
macro_rules! command {
    ([$($name:literal),+], $usage:literal, $about:literal, $arity:expr, $flags:ty, $run:path) => {
        $crate::command!([$($name),+], $usage, $about, $arity; Interspersed, $flags, $run)
    };
    ([$($name:literal),+], $usage:literal, $about:literal, $arity:expr; $order:ident, $flags:ty, $run:path) => {
        $crate::cli::Command {
            names: &[$($name),+],
            usage: $usage,
            about: $about,
            arity: {
                #[allow(unused_imports, reason = "each use names one of them")]
                use $crate::cli::Arity::*;
                $arity
            },
            order: $crate::flags::Order::$order,
            specs: <$flags as $crate::flags::FlagSet>::specs,
            run: |session, command, words| Box::pin(async move {
                match $crate::cli::arguments::<$flags>(session, command, words)? {
                    Some((flags, arguments)) => $run(session, flags, arguments).await,
                    None => Ok(0),
                }
            }),
        }
    };
}

/// Reads the words of a command; None when help was asked for and printed.
pub fn arguments<F: FlagSet>(
    session: &Session,
    command: &'static Command,
    words: Vec<String>,
) -> Result<Option<(F, Vec<String>)>, Failure> {
    repair::check(session, command, &words)?;
    let parsed =
        flags::parse::<F>(words, command.order).map_err(|error| flag_failure(session, command, &error))?;
    if parsed.help {
        help::print_command(session, command)?;
        return Ok(None);
    }
    check_arity(session, command, command.arity, parsed.arguments.len())?;
    Ok(Some((parsed.flags, parsed.arguments)))
}

fn flag_failure(session: &Session, command: &'static Command, error: &FlagError) -> Failure {
    let mut failure = usage_failure(session, command, error.to_string()).code(125);
    if let FlagError::Unknown { nearest: Some(nearest), .. } = error {
        failure = failure.hint(format!("did you mean '--{nearest}'?"));
    }
    failure
}

/// A failure that shows how the command is used.
pub fn usage_failure(session: &Session, command: &'static Command, message: String) -> Failure {
    Failure { origin: Origin::Usage(command, session.path.clone()), ..Failure::new(message) }
}

/// Checks how many arguments were given; for commands whose flags decide how many they take.
pub fn check_arity(
    session: &Session,
    command: &'static Command,
    arity: Arity,
    given: usize,
) -> Result<(), Failure> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let wanted = match arity {
        Arity::None if given == 0 => return Ok(()),
        Arity::None => "accepts no arguments".to_owned(),
        Arity::Exactly(n) if given == n => return Ok(()),
        Arity::Exactly(n) => format!("requires {n} {}", plural(n)),
        Arity::AtLeast(n) if given >= n => return Ok(()),
        Arity::AtLeast(n) => format!("requires at least {n} {}", plural(n)),
        Arity::AtMost(n) if given <= n => return Ok(()),
        Arity::AtMost(n) => format!("requires at most {n} {}", plural(n)),
        Arity::Between(low, high) if (low..=high).contains(&given) => return Ok(()),
        Arity::Between(low, high) => format!("requires at least {low} and at most {high} arguments"),
    };
    let name = &session.path;
    let called = session.called;
    let message = match session.docker_texts {
        true => format!("{called}: '{called} {name}' {wanted}"),
        false => format!("'{called} {name}' {wanted}, got {given}"),
    };
    Err(usage_failure(session, command, message))
}

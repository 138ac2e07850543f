//! What a command printed and how it ended, with assertions that show the whole of it when they fail.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// A finished command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command as typed.
    pub command: String,
    /// Exit code; 128+n where signal n ended it.
    pub code: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Outcome {
    /// Takes a finished process's output.
    #[must_use]
    pub fn new(command: String, output: &Output) -> Self {
        let signalled = || 128 + output.status.signal().unwrap_or_default();
        Self {
            command,
            code: output.status.code().unwrap_or_else(signalled),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts exit code 0 and gives standard output without the newline at its end.
    #[track_caller]
    #[must_use]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end_matches('\n')
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Asserts that standard output is exactly this (newlines at the end aside).
    #[track_caller]
    pub fn prints(&self, expected: &str) -> &Self {
        assert_eq!(self.stdout.trim_end_matches('\n'), expected, "{self}");
        self
    }

    /// Asserts that standard output holds a text.
    #[track_caller]
    pub fn says(&self, expected: &str) -> &Self {
        assert!(self.stdout.contains(expected), "standard output lacks `{expected}`\n{self}");
        self
    }

    /// Asserts that standard error holds a text.
    #[track_caller]
    pub fn complains(&self, expected: &str) -> &Self {
        assert!(self.stderr.contains(expected), "standard error lacks `{expected}`\n{self}");
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "$ {}\nexit code {}", self.command, self.code)?;
        writeln!(out, "--- standard output\n{}", self.stdout)?;
        writeln!(out, "--- standard error\n{}", self.stderr)
    }
}

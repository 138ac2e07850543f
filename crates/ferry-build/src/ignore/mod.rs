//! `.dockerignore`: patterns compiled once, matched over paths given in bytes, and able to say when a
//! whole folder can be skipped. Never reads files.

mod glob;

use glob::Glob;

/// Most patterns one file may hold: far above real files, low enough that matching stays quick.
const MAX_PATTERNS: usize = 10_000;

/// A `.dockerignore` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum IgnoreError {
    #[error("illegal exclusion pattern: \"!\" on line {0}")]
    BareExclamation(usize),
    #[error("syntax error in pattern {0:?}")]
    BadPattern(String),
    #[error("{0} patterns, more than the limit of {MAX_PATTERNS}")]
    TooMany(usize),
}

/// A compiled list of patterns; the last one that matches decides.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    /// A `!` pattern exists, so a folder that is ignored may still hold files that are not.
    has_exceptions: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: Glob,
    exception: bool,
}

impl Ignore {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            // A comment mark counts only in the first column.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            if line == "!" {
                return Err(IgnoreError::BareExclamation(index + 1));
            }
            if !line.is_empty() {
                patterns.push(line.to_owned());
            }
        }
        Self::compile(&patterns)
    }

    /// Compiles patterns as `--exclude` and `.dockerignore` give them.
    pub fn compile(patterns: &[String]) -> Result<Self, IgnoreError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(IgnoreError::TooMany(patterns.len()));
        }
        let mut ignore = Self::default();
        for pattern in patterns {
            let (exception, body) = match pattern.trim().strip_prefix('!') {
                Some(body) => (true, body.trim()),
                None => (false, pattern.trim()),
            };
            let cleaned = clean(body);
            if cleaned.is_empty() {
                continue;
            }
            let glob = Glob::compile(&cleaned).ok_or_else(|| IgnoreError::BadPattern(pattern.clone()))?;
            ignore.has_exceptions |= exception;
            ignore.patterns.push(Pattern { glob, exception });
        }
        Ok(ignore)
    }

    /// Nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The verdict on the root, from which a walk starts.
    pub fn root(&self) -> Verdict {
        Verdict { matched: vec![false; self.patterns.len()], ignored: false }
    }

    /// The verdict on a path below a folder whose verdict is known. A pattern that matched a folder
    /// matches all below it, exceptions included; the last pattern that matches decides.
    pub fn judge(&self, parent: &Verdict, path: &[u8]) -> Verdict {
        let mut verdict = Verdict { matched: parent.matched.clone(), ignored: false };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let matched = parent.matched[index] || pattern.glob.matches(path);
            verdict.matched[index] = matched;
            if matched {
                verdict.ignored = !pattern.exception;
            }
        }
        verdict
    }

    /// The verdict on a path with all its parents looked at.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut verdict = self.root();
        let bytes = path.as_bytes();
        for end in memchr::memchr_iter(b'/', bytes).chain([bytes.len()]) {
            verdict = self.judge(&verdict, &bytes[..end]);
        }
        verdict.ignored
    }

    /// Whether an ignored folder needs no look inside: no exception can match below it.
    pub fn can_skip(&self, folder: &[u8], verdict: &Verdict) -> bool {
        if !verdict.ignored {
            return false;
        }
        if !self.has_exceptions {
            return true;
        }
        !self.patterns.iter().enumerate().any(|(index, pattern)| {
            pattern.exception && !verdict.matched[index] && pattern.glob.may_match_below(folder)
        })
    }
}

/// What the patterns say about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which patterns match the path or a parent of it.
    matched: Vec<bool>,
    /// The path is ignored.
    pub ignored: bool,
}

/// Go's `filepath.Clean` for a pattern, with leading and trailing slashes taken off; "." is empty.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_some_and(|last| *last != "..") {
                    parts.pop();
                } else if !pattern.starts_with('/') {
                    parts.push("..");
                }
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, ignored: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(patterns).expect(patterns);
        for path in ignored {
            assert!(ignore.is_ignored(path), "{patterns:?} must ignore {path}");
        }
        for path in kept {
            assert!(!ignore.is_ignored(path), "{patterns:?} must keep {path}");
        }
    }

    #[test]
    fn patterns_as_docker_reads_them() {
        check("# note\n*/temp*\n", &["a/temp", "a/temporary/x"], &["temp", "a/b/temp"]);
        check("*/*/temp*", &["a/b/temp"], &["a/temp"]);
        check("temp?", &["tempa"], &["temp", "tempab"]);
        check("**/*.go", &["a.go", "a/b/c.go"], &["a.gox"]);
        check("*.md\n!README.md", &["x.md"], &["README.md", "docs/x.md"]);
        check("*.md\n!README*.md\nREADME-secret.md", &["README-secret.md"], &["README.md"]);
        check("node_modules", &["node_modules", "node_modules/a/b"], &["a/node_modules"]);
        check("**/node_modules", &["node_modules/x", "a/b/node_modules/x"], &["node_modulesx"]);
        check("/build/", &["build/x"], &["a/build"]);
        check("a/**", &["a/b", "a/b/c"], &["a"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb"]);
        check("**", &["a", "a/b"], &[]);
        check("*\n!src", &["x", "y/z"], &["src", "src/deep/a"]);
        check("dir\n!dir/keep", &["dir/x"], &["dir/keep", "dir/keep/y"]);
        check(".", &[], &["a"]);
        check("  padded  ", &["padded"], &[]);
        check("a\\*b", &["a*b"], &["axb"]);
        check("[ab]c", &["ac", "bc"], &["cc"]);
        check("./x/../y", &["y"], &["x"]);
        check("#x\n #y", &["#y"], &["#x"]);
        check("**/.git", &[".git/config", "a/.git"], &[".gitignore"]);
        check("a.b", &["a.b"], &["axb"]);
        check("foo**", &["foo", "foobar", "foo/x", "foobar/x"], &["fo"]);
    }

    #[test]
    fn refusals() {
        assert_eq!(Ignore::parse("a\n!").err(), Some(IgnoreError::BareExclamation(2)));
        assert!(matches!(Ignore::parse("[").err(), Some(IgnoreError::BadPattern(_))));
    }

    #[test]
    fn folders_are_skipped_unless_an_exception_reaches_into_them() {
        let skips = |patterns: &str, folder: &str| {
            let ignore = Ignore::parse(patterns).expect(patterns);
            let verdict = ignore.judge(&ignore.root(), folder.as_bytes());
            ignore.can_skip(folder.as_bytes(), &verdict)
        };
        assert!(skips("node_modules", "node_modules"));
        assert!(!skips("node_modules", "src"));
        assert!(skips("*\n!src", "docs"));
        assert!(!skips("*\n!docs/a", "docs"));
        assert!(!skips("*\n!**/keep", "docs"));
        assert!(skips("*\n!src/*/x", "docs"));
    }
}

//! Two small pattern languages: Go's `filepath.Match` for paths, and the `*`/`?` patterns of
//! `${name#pattern}` for values.

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub struct BadPattern(pub String);

/// Whether a text has a character that [`matches()`] treats specially.
pub fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// Go's `filepath.Match`: `*` and `?` stop at `/`, `[a-z]` and `[^a]` classes, `\` escapes.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let pattern_characters: Vec<char> = pattern.chars().collect();
    let name_characters: Vec<char> = name.chars().collect();
    match_here(&pattern_characters, &name_characters).ok_or_else(|| BadPattern(pattern.to_owned()))
}

/// `None` is a malformed pattern. Only the last `*` needs to be remembered: an earlier one can never
/// help where a later one failed, so matching stays quadratic at worst.
fn match_here(pattern: &[char], name: &[char]) -> Option<bool> {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() {
            // The rest must be valid even where it can no longer match.
            return match p == pattern.len() {
                true => Some(true),
                false => validate(&pattern[p..]).then_some(false),
            };
        }
        let step = if p < pattern.len() { match_one(&pattern[p..], name[n])? } else { (false, 0) };
        if step.0 {
            p += step.1;
            n += 1;
            continue;
        }
        match star {
            Some((after, from)) if name[from] != '/' => {
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            _ => return validate(&pattern[p..]).then_some(false),
        }
    }
}

/// Matches one character against the head of a pattern; how much of the pattern that took.
fn match_one(pattern: &[char], character: char) -> Option<(bool, usize)> {
    match pattern[0] {
        '?' => Some((character != '/', 1)),
        '\\' => pattern.get(1).map(|escaped| (*escaped == character, 2)),
        '[' => match_class(pattern, character),
        other => Some((other == character, 1)),
    }
}

fn match_class(pattern: &[char], character: char) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return Some((found != negated, at + 1));
        }
        let low = class_character(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            class_character(pattern, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&character);
        ranges += 1;
    }
}

fn class_character(pattern: &[char], at: &mut usize) -> Option<char> {
    let mut character = *pattern.get(*at)?;
    if matches!(character, '-' | ']') {
        return None;
    }
    if character == '\\' {
        *at += 1;
        character = *pattern.get(*at)?;
    }
    *at += 1;
    // A class is only whole with its bracket.
    pattern.get(*at).map(|_| character)
}

fn validate(mut pattern: &[char]) -> bool {
    while let Some(&first) = pattern.first() {
        let taken = match first {
            '*' => Some((true, 1)),
            _ => match_one(pattern, '\0'),
        };
        match taken {
            Some((_, length)) => pattern = &pattern[length..],
            None => return false,
        }
    }
    true
}

/// One element of a value pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Literal(char),
    Any,
    Many,
}

/// A `*`/`?` pattern over a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuePattern(Vec<Element>);

impl ValuePattern {
    /// Reads a pattern; `\` escapes `*`, `?`, `\`, and the `}` or `/` that would end it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut elements = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            elements.push(match character {
                '*' => Element::Many,
                '?' => Element::Any,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Element::Literal(escaped),
                    Some(other) => return Err(format!("invalid escape '\\{other}'")),
                    None => return Err("escape at the end".to_owned()),
                },
                other => Element::Literal(other),
            });
        }
        Ok(Self(elements))
    }

    /// Lengths (in characters) of the prefixes of `value` that match, in rising order.
    fn prefix_lengths(&self, value: &[char]) -> Vec<usize> {
        // The set of reachable lengths, element by element.
        let mut reachable = vec![false; value.len() + 1];
        reachable[0] = true;
        for element in &self.0 {
            let mut next = vec![false; value.len() + 1];
            match element {
                Element::Many => {
                    let first = reachable.iter().position(|reached| *reached).unwrap_or(next.len());
                    next[first..].fill(true);
                }
                element => {
                    for at in (0..value.len()).filter(|at| reachable[*at]) {
                        let fits = match element {
                            Element::Literal(literal) => *literal == value[at],
                            _ => true,
                        };
                        next[at + 1] |= fits;
                    }
                }
            }
            reachable = next;
        }
        (0..=value.len()).filter(|at| reachable[*at]).collect()
    }

    fn reversed(&self) -> Self {
        Self(self.0.iter().rev().copied().collect())
    }

    /// `${name#pattern}`, with `longest` `${name##pattern}`.
    pub fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        let lengths = self.prefix_lengths(&characters);
        let cut = if longest { lengths.last() } else { lengths.first() };
        characters[cut.copied().unwrap_or(0)..].iter().collect()
    }

    /// `${name%pattern}`, with `longest` `${name%%pattern}`.
    pub fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let backwards: String = value.chars().rev().collect();
        self.reversed().trim_prefix(&backwards, longest).chars().rev().collect()
    }

    /// `${name/pattern/replacement}`, with `all` `${name//pattern/replacement}`.
    pub fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        let mut replaced = false;
        while at <= characters.len() {
            let length = match all || !replaced {
                true => self.prefix_lengths(&characters[at..]).last().copied(),
                false => None,
            };
            if let Some(length) = length {
                result.push_str(replacement);
                replaced = true;
                if length > 0 {
                    at += length;
                    // What matched up to the end leaves no empty match behind it.
                    if at == characters.len() {
                        break;
                    }
                    continue;
                }
            }
            result.extend(characters.get(at));
            at += 1;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, name, wanted) in [
            ("*.go", "a.go", true),
            ("*.go", "a/b.go", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b", "a/b", false),
            ("?", "é", true),
            ("?", "/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*", "", true),
            ("a", "", false),
            ("", "", true),
            ("ab[c]", "abc", true),
            ("a*", "a", true),
        ] {
            assert_eq!(matches(pattern, name), Ok(wanted), "{pattern} {name}");
        }
        for bad in ["[", "[]a]", "a[", "[-]", "[a", r"\", "x[a-"] {
            assert!(matches(bad, "a").is_err() || matches(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_trimmed_and_replaced() {
        let pattern = |text: &str| ValuePattern::parse(text).expect("valid");
        assert_eq!(pattern("*/").trim_prefix("a/b/c", false), "b/c");
        assert_eq!(pattern("*/").trim_prefix("a/b/c", true), "c");
        assert_eq!(pattern("/*").trim_suffix("a/b/c", false), "a/b");
        assert_eq!(pattern("/*").trim_suffix("a/b/c", true), "a");
        assert_eq!(pattern("x").trim_prefix("abc", true), "abc");
        assert_eq!(pattern("o").replace("foo boo", "0", false), "f0o boo");
        assert_eq!(pattern("o").replace("foo boo", "0", true), "f00 b00");
        assert_eq!(pattern("f*o").replace("foo boo", "X", false), "X");
        assert!(ValuePattern::parse(r"\a").is_err());
    }
}

//! One pattern of `.dockerignore`, compiled. Matches bytes, because file names are bytes.

/// A compiled pattern; always matches the whole path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// Leading path components without wildcards, for pruning.
    literal_parts: Vec<Vec<u8>>,
    /// Without any wildcard the comparison is one of bytes.
    literal: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: one character other than `/`.
    One,
    /// `*`: any characters other than `/`.
    Many,
    /// `**`: anything, also nothing.
    All,
    /// `**/`: any folders, also none.
    Folders,
    /// `[..]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles a cleaned pattern; `None` for malformed ones.
    pub fn compile(pattern: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '*' if characters.peek() == Some(&'*') => {
                    characters.next();
                    if characters.peek() == Some(&'/') {
                        characters.next();
                        tokens.push(Token::Folders);
                    } else {
                        tokens.push(Token::All);
                    }
                }
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '\\' => push_character(&mut tokens, characters.next()?),
                '[' => tokens.push(class(&mut characters)?),
                other => push_character(&mut tokens, other),
            }
        }
        let literal = tokens
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect::<Option<Vec<u8>>>();
        Some(Self { literal_parts: literal_parts(&tokens), literal, tokens })
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.literal {
            Some(literal) => literal == path,
            None => matches_from(&self.tokens, path),
        }
    }

    /// Whether some path below `folder` could match: false is certain, true is a guess.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        folder
            .split(|byte| *byte == b'/')
            .zip(&self.literal_parts)
            .all(|(part, wanted)| part == wanted.as_slice())
    }
}

fn push_character(tokens: &mut Vec<Token>, character: char) {
    tokens.extend(character.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte));
}

/// Whole leading components that are plain bytes.
fn literal_parts(tokens: &[Token]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for token in tokens {
        match token {
            Token::Byte(b'/') => parts.push(std::mem::take(&mut part)),
            Token::Byte(byte) => part.push(*byte),
            _ => return parts,
        }
    }
    parts.push(part);
    parts
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut low = characters.next()?;
        match low {
            ']' if !ranges.is_empty() => return Some(Token::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => low = characters.next()?,
            _ => {}
        }
        let high = match characters.next_if_eq(&'-') {
            None => low,
            Some(_) => match characters.next()? {
                '\\' => characters.next()?,
                ']' => return None,
                other => other,
            },
        };
        ranges.push((low, high));
    }
}

/// Backtracks only to the last star of each kind: `*` within a component, `**` across them.
fn matches_from(tokens: &[Token], path: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut deep: Option<(usize, usize, bool)> = None;
    loop {
        match tokens.get(t) {
            Some(Token::Many) => {
                star = Some((t + 1, p));
                t += 1;
                continue;
            }
            Some(token @ (Token::All | Token::Folders)) => {
                deep = Some((t + 1, p, *token == Token::Folders));
                star = None;
                t += 1;
                continue;
            }
            None if p == path.len() => return true,
            Some(token) if p < path.len() => {
                if let Some(length) = one(token, &path[p..]) {
                    t += 1;
                    p += length;
                    continue;
                }
            }
            _ => {}
        }
        match (star, deep) {
            (Some((after, from)), _) if from < path.len() && path[from] != b'/' => {
                star = Some((after, from + 1));
                (t, p) = (after, from + 1);
            }
            (_, Some((after, from, folders))) => {
                // `**/` may only end behind a slash.
                let next = match folders {
                    false => (from < path.len()).then_some(from + 1),
                    true => memchr::memchr(b'/', &path[from..]).map(|at| from + at + 1),
                };
                let Some(next) = next else { return false };
                deep = Some((after, next, folders));
                star = None;
                (t, p) = (after, next);
            }
            _ => return false,
        }
    }
}

/// How many bytes of the path a single token takes.
fn one(token: &Token, path: &[u8]) -> Option<usize> {
    match token {
        Token::Byte(byte) => (path[0] == *byte).then_some(1),
        Token::One => (path[0] != b'/').then(|| character_length(path)),
        Token::Class { negated, ranges } => {
            let length = character_length(path);
            let character = std::str::from_utf8(&path[..length]).ok()?.chars().next()?;
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
            (inside != *negated && character != '/').then_some(length)
        }
        Token::Many | Token::All | Token::Folders => None,
    }
}

/// Length of the UTF-8 character at the head of a name; a byte that begins none counts alone.
fn character_length(bytes: &[u8]) -> usize {
    let length = match bytes[0] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    length.min(bytes.len())
}

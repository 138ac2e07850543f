//! Text to tokens.

use super::error::{TemplateError, position};

/// A token with where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Byte offset in the template.
    pub offset: usize,
    /// What it is.
    pub kind: Kind,
}

/// Kinds of tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text between actions, trimmed as `{{-` and `-}}` ask.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A name: function, keyword, `true`, `nil`.
    Word(String),
    /// `.Name`
    Field(String),
    /// `$name` or `$`
    Variable(String),
    /// `.`
    Dot,
    /// A quoted text, unquoted.
    Quoted(String),
    /// A number as written.
    Number(String),
    /// `|`, `(`, `)`, `,`, `=`, `:=`
    Symbol(&'static str),
    /// White space, which separates a field from what is before it.
    Space,
}

/// Cuts a template into tokens.
pub fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    lexer.template()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, TemplateError> {
        let line = position(self.text, self.at).0;
        Err(TemplateError::Parse { line, reason: reason.into() })
    }

    fn push(&mut self, offset: usize, kind: Kind) {
        self.tokens.push(Token { offset, kind });
    }

    fn template(&mut self) -> Result<(), TemplateError> {
        let mut trim_left = false;
        loop {
            let open = self.rest().find("{{");
            let end = open.map_or(self.text.len(), |open| self.at + open);
            let mut piece = &self.text[self.at..end];
            let after = &self.text[end..];
            let trims_right = after.starts_with("{{-") && after[3..].starts_with(|c: char| c.is_whitespace());
            if trim_left {
                piece = piece.trim_start();
            }
            if trims_right {
                piece = piece.trim_end();
            }
            if !piece.is_empty() {
                let token = Token { offset: self.at, kind: Kind::Text(piece.to_owned()) };
                self.tokens.push(token);
            }
            if open.is_none() {
                return Ok(());
            }
            self.at = end + if trims_right { 3 } else { 2 };
            trim_left = self.action(end)?;
        }
    }

    /// Reads up to and with `}}`; true when it was `-}}`.
    fn action(&mut self, start: usize) -> Result<bool, TemplateError> {
        if let Some(trimmed) = self.comment()? {
            return Ok(trimmed);
        }
        self.push(start, Kind::Open);
        loop {
            let rest = self.rest();
            let spaces = rest.len() - rest.trim_start().len();
            let offset = self.at;
            if spaces > 0 && rest[spaces..].starts_with("-}}") {
                self.at += spaces + 3;
                self.push(offset + spaces, Kind::Close);
                return Ok(true);
            }
            if spaces > 0 {
                self.at += spaces;
                self.push(offset, Kind::Space);
                continue;
            }
            if rest.starts_with("}}") {
                self.at += 2;
                self.push(offset, Kind::Close);
                return Ok(false);
            }
            self.token()?;
        }
    }

    fn comment(&mut self) -> Result<Option<bool>, TemplateError> {
        let rest = self.rest().trim_start();
        if !rest.starts_with("/*") {
            return Ok(None);
        }
        let Some(end) = rest.find("*/") else { return self.fail("unclosed comment") };
        let tail = &rest[end + 2..];
        let begin = self.text.len() - tail.len();
        let spaces = tail.len() - tail.trim_start().len();
        if tail.starts_with("}}") {
            self.at = begin + 2;
            Ok(Some(false))
        } else if spaces > 0 && tail[spaces..].starts_with("-}}") {
            self.at = begin + spaces + 3;
            Ok(Some(true))
        } else {
            self.fail("comment ends before closing delimiter")
        }
    }

    fn token(&mut self) -> Result<(), TemplateError> {
        let start = self.at;
        let rest = self.text[start..].to_owned();
        let Some(first) = rest.chars().next() else { return self.fail("unclosed action") };
        let second = rest[first.len_utf8()..].chars().next();
        let kind = match first {
            '"' => return self.quoted(start),
            '`' => return self.raw(start),
            '\'' => return self.character(start),
            '|' => self.symbol("|"),
            '(' => self.symbol("("),
            ')' => self.symbol(")"),
            ',' => self.symbol(","),
            '=' => self.symbol("="),
            ':' if second == Some('=') => self.symbol(":="),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.at += 1;
                match self.name() {
                    name if name.is_empty() => Kind::Dot,
                    name => Kind::Field(name),
                }
            }
            '$' => {
                self.at += 1;
                let name = self.name();
                Kind::Variable(format!("${name}"))
            }
            '+' | '-' if second.is_some_and(|c| c.is_ascii_digit() || c == '.') => self.number(),
            c if c.is_ascii_digit() => self.number(),
            c if c.is_alphabetic() || c == '_' => Kind::Word(self.name()),
            other => return self.fail(format!("unexpected {other:?} in command")),
        };
        self.push(start, kind);
        Ok(())
    }

    fn symbol(&mut self, symbol: &'static str) -> Kind {
        self.at += symbol.len();
        Kind::Symbol(symbol)
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        self.at += end;
        name
    }

    fn number(&mut self) -> Kind {
        let rest = self.rest();
        let body = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let mut end = rest.len();
        let mut before = ' ';
        for (index, c) in rest.char_indices() {
            let sign = matches!(c, '+' | '-') && (index == 0 || matches!(before, 'e' | 'E'));
            if !body(c) && !sign {
                end = index;
                break;
            }
            before = c;
        }
        let number = rest[..end].to_owned();
        self.at += end;
        Kind::Number(number)
    }

    fn quoted(&mut self, start: usize) -> Result<(), TemplateError> {
        let mut text = String::new();
        let mut letters = self.text[start + 1..].char_indices();
        while let Some((index, c)) = letters.next() {
            match c {
                '"' => {
                    self.at = start + 1 + index + 1;
                    self.push(start, Kind::Quoted(text));
                    return Ok(());
                }
                '\n' => break,
                '\\' => match escape(&mut letters) {
                    Some(c) => text.push(c),
                    None => return self.fail("invalid syntax"),
                },
                c => text.push(c),
            }
        }
        self.fail("unterminated quoted string")
    }

    fn raw(&mut self, start: usize) -> Result<(), TemplateError> {
        let Some(end) = self.text[start + 1..].find('`') else {
            return self.fail("unterminated raw quoted string");
        };
        let text = self.text[start + 1..start + 1 + end].to_owned();
        self.at = start + end + 2;
        self.push(start, Kind::Quoted(text));
        Ok(())
    }

    fn character(&mut self, start: usize) -> Result<(), TemplateError> {
        let mut letters = self.text[start + 1..].char_indices();
        let c = match letters.next() {
            Some((_, '\\')) => escape(&mut letters),
            Some((_, c)) if c != '\'' && c != '\n' => Some(c),
            _ => None,
        };
        match (c, letters.next()) {
            (Some(c), Some((index, '\''))) => {
                self.at = start + 1 + index + 1;
                self.push(start, Kind::Number((c as u32).to_string()));
                Ok(())
            }
            _ => self.fail("unterminated character constant"),
        }
    }
}

/// The letter that an escape stands for; the backslash was read.
fn escape(letters: &mut std::str::CharIndices<'_>) -> Option<char> {
    let (_, c) = letters.next()?;
    let digits = match c {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'v' => return Some('\x0b'),
        '\\' | '"' | '\'' => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + letters.next()?.1.to_digit(16)?;
    }
    char::from_u32(code)
}

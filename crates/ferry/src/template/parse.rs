//! Tokens to a tree.

use std::collections::BTreeMap;

use super::error::{TemplateError, position};
use super::functions;
use super::lex::{Kind, Token, lex};

/// How deep blocks and parentheses may nest: far above any use, far below the stack.
const MAX_DEPTH: usize = 100;

/// A template ready to render.
#[derive(Debug)]
pub struct Template {
    /// The text it was made from, for positions in errors.
    pub(super) text: String,
    pub(super) body: Vec<Node>,
    pub(super) named: BTreeMap<String, Vec<Node>>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { name: String, pipe: Option<Pipe>, offset: usize },
    Break,
    Continue,
}

#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub pipe: Pipe,
    pub then: Vec<Node>,
    pub otherwise: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub variables: Vec<String>,
    /// `=` and not `:=`.
    pub assigns: bool,
    pub commands: Vec<Vec<Term>>,
}

#[derive(Debug, Clone)]
pub(super) struct Term {
    pub offset: usize,
    /// As written, for errors.
    pub source: String,
    pub kind: TermKind,
}

#[derive(Debug, Clone)]
pub(super) enum TermKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Fields(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Pipe(Box<Pipe>, Vec<String>),
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let tokens = lex(text)?;
        let mut parser = Parser {
            text,
            tokens,
            at: 0,
            named: BTreeMap::new(),
            variables: vec!["$".to_owned()],
            loops: 0,
            depth: 0,
        };
        let (body, end) = parser.list(true)?;
        debug_assert!(matches!(end, End::Eof), "a top list ends with the text");
        Ok(Template { text: text.to_owned(), body, named: parser.named })
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    named: BTreeMap<String, Vec<Node>>,
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

/// What ended a list of nodes.
enum End {
    Closed,
    Else,
    ElseIf,
    ElseWith,
    Eof,
}

type Parsed<T> = Result<T, TemplateError>;

impl Parser<'_> {
    fn fail<T>(&self, reason: impl Into<String>) -> Parsed<T> {
        let offset = self.tokens.get(self.at).map_or(self.text.len(), |token| token.offset);
        Err(TemplateError::Parse { line: position(self.text, offset).0, reason: reason.into() })
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Kind::Space) {
            self.at += 1;
        }
    }

    fn close(&mut self, context: &str) -> Parsed<()> {
        self.skip_space();
        match self.peek() {
            Some(Kind::Close) => {
                self.at += 1;
                Ok(())
            }
            other => {
                let found = describe(other);
                self.fail(format!("unexpected {found} in {context}"))
            }
        }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("too deeply nested");
        }
        Ok(())
    }

    fn list(&mut self, top: bool) -> Parsed<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        self.deeper()?;
        while let Some(token) = self.next() {
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => match self.action(top, &mut nodes)? {
                    None => {}
                    Some(_) if top => {
                        self.at -= 1;
                        return self.fail("unexpected {{end}}");
                    }
                    Some(end) => {
                        self.depth -= 1;
                        return Ok((nodes, end));
                    }
                },
            }
        }
        self.depth -= 1;
        if top { Ok((nodes, End::Eof)) } else { self.fail("unexpected EOF") }
    }

    /// Reads one action; Some when it ends the list.
    fn action(&mut self, top: bool, nodes: &mut Vec<Node>) -> Parsed<Option<End>> {
        self.skip_space();
        let word = match self.peek() {
            Some(Kind::Word(word)) => word.clone(),
            _ => String::new(),
        };
        let keyword =
            ["if", "with", "range", "template", "define", "block", "end", "else", "break", "continue"];
        if keyword.contains(&word.as_str()) {
            self.at += 1;
            self.skip_space();
        }
        match word.as_str() {
            "if" => nodes.push(Node::If(self.branch("if")?)),
            "with" => nodes.push(Node::With(self.branch("with")?)),
            "range" => nodes.push(Node::Range(self.branch("range")?)),
            "template" => nodes.push(self.template_call()?),
            "define" if top => self.define()?,
            "define" => return self.fail("unexpected {{define}}"),
            "block" => nodes.push(self.block()?),
            "break" | "continue" if self.loops == 0 => {
                return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
            }
            "break" => {
                self.close("{{break}}")?;
                nodes.push(Node::Break);
            }
            "continue" => {
                self.close("{{continue}}")?;
                nodes.push(Node::Continue);
            }
            "end" => {
                self.close("end")?;
                return Ok(Some(End::Closed));
            }
            "else" => return self.after_else().map(Some),
            _ => {
                let pipe = self.pipe("command")?;
                self.close("command")?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn after_else(&mut self) -> Parsed<End> {
        let end = match self.peek() {
            Some(Kind::Word(word)) if word == "if" => End::ElseIf,
            Some(Kind::Word(word)) if word == "with" => End::ElseWith,
            _ => {
                self.close("else")?;
                return Ok(End::Else);
            }
        };
        self.at += 1;
        self.skip_space();
        Ok(end)
    }

    fn branch(&mut self, context: &str) -> Parsed<Branch> {
        let scope = self.variables.len();
        self.deeper()?;
        let pipe = self.pipe(context)?;
        self.close(context)?;
        self.loops += usize::from(context == "range");
        let (then, mut end) = self.list(false)?;
        self.loops -= usize::from(context == "range");
        let mut otherwise = Vec::new();
        match end {
            End::ElseIf if context == "if" => otherwise.push(Node::If(self.branch("if")?)),
            End::ElseWith if context == "with" => otherwise.push(Node::With(self.branch("with")?)),
            End::ElseIf | End::ElseWith => return self.fail(format!("unexpected {{{{else}}}} in {context}")),
            End::Else => {
                (otherwise, end) = self.list(false)?;
                if !matches!(end, End::Closed) {
                    return self.fail("expected end; found {{else}}");
                }
            }
            End::Closed | End::Eof => {}
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Branch { pipe, then, otherwise })
    }

    fn name(&mut self, context: &str) -> Parsed<String> {
        self.skip_space();
        match self.next().map(|token| token.kind) {
            Some(Kind::Quoted(name)) => Ok(name),
            other => {
                self.at -= 1;
                self.fail(format!("unexpected {} in {context}", describe(other.as_ref())))
            }
        }
    }

    fn template_call(&mut self) -> Parsed<Node> {
        let offset = self.tokens.get(self.at).map_or(0, |token| token.offset);
        let name = self.name("template clause")?;
        self.skip_space();
        let pipe = match self.peek() {
            Some(Kind::Close) => None,
            _ => Some(self.pipe("template clause")?),
        };
        self.close("template clause")?;
        Ok(Node::Template { name, pipe, offset })
    }

    fn define(&mut self) -> Parsed<()> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        let body = self.named_body()?;
        self.named.insert(name, body);
        Ok(())
    }

    fn block(&mut self) -> Parsed<Node> {
        let offset = self.tokens.get(self.at).map_or(0, |token| token.offset);
        let name = self.name("block clause")?;
        let pipe = self.pipe("block clause")?;
        self.close("block clause")?;
        let body = self.named_body()?;
        self.named.insert(name.clone(), body);
        Ok(Node::Template { name, pipe: Some(pipe), offset })
    }

    /// A body with variables and loops of its own.
    fn named_body(&mut self) -> Parsed<Vec<Node>> {
        let outer =
            (std::mem::replace(&mut self.variables, vec!["$".to_owned()]), std::mem::take(&mut self.loops));
        let (body, end) = self.list(false)?;
        if !matches!(end, End::Closed) {
            return self.fail("unexpected {{else}} in define clause");
        }
        (self.variables, self.loops) = outer;
        Ok(body)
    }

    fn pipe(&mut self, context: &str) -> Parsed<Pipe> {
        self.deeper()?;
        self.skip_space();
        let (variables, assigns) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(context)?;
            if command.is_empty() {
                return match self.peek() {
                    Some(Kind::Close) | Some(Kind::Symbol(")")) if commands.is_empty() => {
                        self.fail(format!("missing value for {context}"))
                    }
                    other => {
                        let found = describe(other);
                        self.fail(format!("unexpected {found} in {context}"))
                    }
                };
            }
            commands.push(command);
            self.skip_space();
            if self.peek() != Some(&Kind::Symbol("|")) {
                break;
            }
            self.at += 1;
        }
        self.check_stages(&commands)?;
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipe { variables, assigns, commands })
    }

    /// Every command after the first gets a value, so it has to be something that takes one.
    fn check_stages(&self, commands: &[Vec<Term>]) -> Parsed<()> {
        for (index, command) in commands.iter().enumerate().skip(1) {
            if matches!(
                command[0].kind,
                TermKind::Bool(_)
                    | TermKind::Dot
                    | TermKind::Nil
                    | TermKind::Int(_)
                    | TermKind::Float(_)
                    | TermKind::Text(_)
            ) {
                return self.fail(format!("non executable command in pipeline stage {}", index + 1));
            }
        }
        Ok(())
    }

    fn declaration(&mut self, context: &str) -> Parsed<(Vec<String>, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            self.skip_space();
            names.push(name);
            match self.peek() {
                Some(Kind::Symbol(":=")) => {
                    self.at += 1;
                    return Ok((names, false));
                }
                Some(Kind::Symbol("=")) => {
                    self.at += 1;
                    if let Some(unknown) = names.iter().find(|name| !self.variables.contains(name)) {
                        return self.fail(format!("undefined variable {unknown:?}"));
                    }
                    return Ok((names, true));
                }
                Some(Kind::Symbol(",")) if context == "range" && names.len() == 1 => {
                    self.at += 1;
                    self.skip_space();
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str) -> Parsed<Vec<Term>> {
        let mut terms = Vec::new();
        loop {
            self.skip_space();
            match self.operand(context)? {
                Some(term) => terms.push(term),
                None => return Ok(terms),
            }
            match self.peek() {
                Some(Kind::Space | Kind::Close | Kind::Symbol("|" | ")")) | None => {}
                other => {
                    let found = describe(other);
                    return self.fail(format!("unexpected {found} in operand"));
                }
            }
        }
    }

    fn operand(&mut self, context: &str) -> Parsed<Option<Term>> {
        let Some(token) = self.tokens.get(self.at).cloned() else { return self.fail("unclosed action") };
        let mut offset = token.offset;
        let mut kind = match token.kind {
            Kind::Dot => TermKind::Dot,
            Kind::Field(name) => TermKind::Fields(vec![name]),
            Kind::Variable(name) if self.variables.contains(&name) => TermKind::Variable(name, Vec::new()),
            Kind::Variable(name) => return self.fail(format!("undefined variable {name:?}")),
            Kind::Quoted(text) => TermKind::Text(text),
            Kind::Number(number) => match parse_number(&number) {
                Some(kind) => kind,
                None => return self.fail(format!("bad number syntax: {number:?}")),
            },
            Kind::Word(word) => match word.as_str() {
                "true" => TermKind::Bool(true),
                "false" => TermKind::Bool(false),
                "nil" => TermKind::Nil,
                name if functions::exists(name) => TermKind::Function(word),
                _ => return self.fail(format!("function {word:?} not defined")),
            },
            Kind::Symbol("(") => {
                self.at += 1;
                let pipe = self.pipe("parenthesized pipeline")?;
                self.skip_space();
                if self.peek() != Some(&Kind::Symbol(")")) {
                    return self.fail(format!("unclosed left paren in {context}"));
                }
                TermKind::Pipe(Box::new(pipe), Vec::new())
            }
            _ => return Ok(None),
        };
        self.at += 1;
        if let Some(first) = self.fields(&mut kind)? {
            offset = first;
        }
        let end = self.tokens.get(self.at).map_or(self.text.len(), |token| token.offset);
        let source = self.text[token.offset..end].trim_end().to_owned();
        Ok(Some(Term { offset, source, kind }))
    }

    /// Adds `.Name` parts that follow directly; gives where the first of them begins, which is what Go's
    /// errors point at.
    fn fields(&mut self, kind: &mut TermKind) -> Parsed<Option<usize>> {
        let mut first = None;
        while let Some(Kind::Field(name)) = self.peek().cloned() {
            first.get_or_insert(self.tokens[self.at].offset);
            match kind {
                TermKind::Fields(names) | TermKind::Variable(_, names) | TermKind::Pipe(_, names) => {
                    names.push(name)
                }
                TermKind::Dot => return self.fail("unexpected . after term \".\""),
                _ => return self.fail(format!("unexpected .{name} after a term that has no fields")),
            }
            self.at += 1;
        }
        Ok(first)
    }
}

fn parse_number(text: &str) -> Option<TermKind> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: [&str; 2], radix| {
        let rest = digits.strip_prefix(prefix[0]).or_else(|| digits.strip_prefix(prefix[1]))?;
        i64::from_str_radix(rest, radix).ok()
    };
    let whole = radix(["0x", "0X"], 16)
        .or_else(|| radix(["0b", "0B"], 2))
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| digits.parse().ok());
    match whole {
        Some(value) => Some(TermKind::Int(sign * value)),
        None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            plain.parse().ok().map(TermKind::Float)
        }
        None => None,
    }
}

fn describe(kind: Option<&Kind>) -> String {
    match kind {
        None => "EOF".into(),
        Some(Kind::Text(text)) => format!("{text:?}"),
        Some(Kind::Open) => "\"{{\"".into(),
        Some(Kind::Close) => "\"}}\"".into(),
        Some(Kind::Word(word)) => format!("<{word}>"),
        Some(Kind::Field(name)) => format!("<.{name}>"),
        Some(Kind::Variable(name)) => format!("{name:?}"),
        Some(Kind::Dot) => "<.>".into(),
        Some(Kind::Quoted(text)) => format!("{text:?}"),
        Some(Kind::Number(number)) => format!("{number:?}"),
        Some(Kind::Symbol(symbol)) => format!("{symbol:?}"),
        Some(Kind::Space) => "\" \"".into(),
    }
}

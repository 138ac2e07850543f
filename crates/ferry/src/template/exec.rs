//! A tree and a value to text.

use std::rc::Rc;

use super::error::{TemplateError, position};
use super::functions;
use super::parse::{Branch, Node, Pipe, Template, Term, TermKind};
use super::print;
use super::value::Value;

/// How deep templates may call each other: recursion that does not end must not end the process.
const MAX_CALLS: usize = 100;
/// Longest output: a template that repeats itself must not fill the memory.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// How to render.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A key that a map lacks is an error and not `<no value>`.
    pub missing_key_is_error: bool,
    /// The values are column heads: functions that shape values give them back unchanged.
    pub header: bool,
}

/// Renders `template` over `value`.
pub(super) fn execute(template: &Template, value: &Value, options: Options) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), value.clone())];
    let mut executor = Executor { template, options, out: String::new(), variables, calls: 0 };
    executor.nodes(&template.body, value)?;
    Ok(executor.out)
}

struct Executor<'a> {
    template: &'a Template,
    options: Options,
    out: String,
    variables: Vec<(String, Value)>,
    calls: usize,
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

type Executed<T> = Result<T, TemplateError>;

impl<'a> Executor<'a> {
    fn fail_at<T>(&self, offset: usize, context: &str, reason: impl Into<String>) -> Executed<T> {
        let (line, column) = position(&self.template.text, offset);
        Err(TemplateError::Execute { line, column, context: context.to_owned(), reason: reason.into() })
    }

    fn fail<T>(&self, term: &Term, reason: impl Into<String>) -> Executed<T> {
        self.fail_at(term.offset, &term.source, reason)
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Executed<Flow> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Value) -> Executed<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    print::top_level(&value, &mut self.out);
                }
            }
            Node::If(branch) => return self.conditional(branch, dot, false),
            Node::With(branch) => return self.conditional(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template { name, pipe, offset } => self.call_template(name, pipe.as_ref(), *offset, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        if self.out.len() > MAX_OUTPUT {
            return self.fail_at(0, "", format!("output is longer than {MAX_OUTPUT} bytes"));
        }
        Ok(Flow::On)
    }

    fn conditional(&mut self, branch: &'a Branch, dot: &Value, moves_dot: bool) -> Executed<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match (value.is_true(), moves_dot) {
            (true, true) => self.nodes(&branch.then, &value)?,
            (true, false) => self.nodes(&branch.then, dot)?,
            (false, _) => self.nodes(&branch.otherwise, dot)?,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Executed<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (Value::Int(index as i64), item.clone()))
                .collect(),
            Value::Map(map) => {
                map.iter().map(|(key, item)| (Value::text(key.as_str()), item.clone())).collect()
            }
            Value::Int(count) if *count <= MAX_OUTPUT as i64 => {
                (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect()
            }
            Value::Nil | Value::NilPointer | Value::NilList | Value::NilMap => Vec::new(),
            other => {
                let term = &branch.pipe.commands[0][0];
                return self.fail(term, format!("range can't iterate over {}", print::verb_v(other)));
            }
        };
        if items.is_empty() {
            let flow = self.nodes(&branch.otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            self.variables.truncate(scope);
            self.range_variables(&branch.pipe, key, &item);
            match self.nodes(&branch.then, &item)? {
                Flow::Break => break,
                Flow::On | Flow::Continue => {}
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn range_variables(&mut self, pipe: &Pipe, key: Value, item: &Value) {
        let values = match pipe.variables.len() {
            0 => return,
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in pipe.variables.iter().zip(values) {
            if pipe.assigns {
                self.assign(name, value);
            } else {
                self.variables.push((name.clone(), value));
            }
        }
    }

    fn call_template(&mut self, name: &str, pipe: Option<&Pipe>, offset: usize, dot: &Value) -> Executed<()> {
        let value = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let context = format!("{{{{template {name:?}}}}}");
        let Some(body) = self.template.named.get(name) else {
            return self.fail_at(offset, &context, format!("template {name:?} not defined"));
        };
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return self.fail_at(offset, &context, format!("exceeded maximum template depth ({MAX_CALLS})"));
        }
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
        self.nodes(body, &value)?;
        self.variables = outer;
        self.calls -= 1;
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(entry) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            entry.1 = value;
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Executed<Value> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        // A range sets its variables itself, once per item; the values set here are dropped before the first.
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &[Term], dot: &Value, piped: Option<Value>) -> Executed<Value> {
        let first = &command[0];
        match &first.kind {
            TermKind::Function(name) => self.function(first, name, &command[1..], dot, piped),
            TermKind::Fields(_) | TermKind::Variable(..) | TermKind::Pipe(..) => {
                let mut arguments = self.arguments(&command[1..], dot)?;
                arguments.extend(piped);
                self.chain(first, dot, arguments)
            }
            _ if command.len() > 1 || piped.is_some() => {
                self.fail(first, format!("can't give argument to non-function {}", first.source))
            }
            TermKind::Nil => self.fail(first, "nil is not a command"),
            _ => self.term(first, dot),
        }
    }

    fn arguments(&mut self, terms: &[Term], dot: &Value) -> Executed<Vec<Value>> {
        terms.iter().map(|term| self.term(term, dot)).collect()
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Executed<Value> {
        Ok(match &term.kind {
            TermKind::Dot => dot.clone(),
            TermKind::Nil => Value::Nil,
            TermKind::Bool(value) => Value::Bool(*value),
            TermKind::Int(value) => Value::Int(*value),
            TermKind::Float(value) => Value::Float(*value),
            TermKind::Text(text) => Value::text(text.as_str()),
            TermKind::Function(name) => return self.function(term, name, &[], dot, None),
            _ => return self.chain(term, dot, Vec::new()),
        })
    }

    fn chain(&mut self, term: &Term, dot: &Value, arguments: Vec<Value>) -> Executed<Value> {
        let (mut value, fields) = match &term.kind {
            TermKind::Fields(fields) => (dot.clone(), fields),
            TermKind::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                (found.map_or(Value::Nil, |(_, value)| value.clone()), fields)
            }
            TermKind::Pipe(pipe, fields) => (self.pipe(pipe, dot)?, fields),
            _ => return self.term(term, dot),
        };
        for (index, name) in fields.iter().enumerate() {
            let last = index + 1 == fields.len();
            value = match self.field(term, &value, name)? {
                Value::Method(method) => {
                    let given: &[Value] = if last { &arguments } else { &[] };
                    match method(given) {
                        Ok(value) if last => return Ok(value),
                        Ok(value) => value,
                        Err(reason) => return self.fail(term, format!("error calling {name}: {reason}")),
                    }
                }
                value => value,
            };
        }
        if !arguments.is_empty() {
            let what = fields.last().map_or(term.source.as_str(), String::as_str);
            let reason = match fields.is_empty() {
                true => format!("can't give argument to non-function {what}"),
                false => format!("{what} is not a method but has arguments"),
            };
            return self.fail(term, reason);
        }
        Ok(value)
    }

    fn field(&self, term: &Term, value: &Value, name: &str) -> Executed<Value> {
        match value {
            Value::Map(map) => match map.get(name) {
                Some(value) => Ok(value.clone()),
                None if self.options.missing_key_is_error => {
                    self.fail(term, format!("map has no entry for key {name:?}"))
                }
                None => Ok(Value::Nil),
            },
            Value::NilMap if !self.options.missing_key_is_error => Ok(Value::Nil),
            Value::NilMap => self.fail(term, format!("map has no entry for key {name:?}")),
            Value::Struct(fields) => {
                let exact = fields.iter().find(|field| field.name == name);
                // Go's own field names differ from JSON's in the case of initialisms only: .ID, .NanoCPUs.
                let exported = name.starts_with(|c: char| c.is_ascii_uppercase());
                let found = exact.or_else(|| {
                    fields.iter().find(|field| exported && field.name.eq_ignore_ascii_case(name))
                });
                match found {
                    Some(field) => Ok(field.value.clone()),
                    None => self.fail(term, format!("can't evaluate field {name} in type struct")),
                }
            }
            Value::Nil | Value::NilPointer => {
                self.fail(term, format!("nil pointer evaluating interface {{}}.{name}"))
            }
            other => self.fail(term, format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    fn function(
        &mut self,
        term: &Term,
        name: &str,
        terms: &[Term],
        dot: &Value,
        piped: Option<Value>,
    ) -> Executed<Value> {
        if name == "and" || name == "or" {
            return self.short_circuit(term, name, terms, dot, piped);
        }
        let mut arguments = self.arguments(terms, dot)?;
        arguments.extend(piped);
        if self.options.header && functions::shapes_values(name) {
            return Ok(functions::header_argument(name, &arguments));
        }
        let reason = match functions::call(name, &arguments) {
            Ok(value) => return Ok(value),
            Err(functions::CallError::Arguments(reason)) => reason,
            Err(functions::CallError::Failed(reason)) => format!("error calling {name}: {reason}"),
        };
        let words: Vec<&str> = std::iter::once(term.source.as_str())
            .chain(terms.iter().map(|term| term.source.as_str()))
            .collect();
        self.fail_at(term.offset, &words.join(" "), reason)
    }

    /// `and` and `or` evaluate only as much as they need.
    fn short_circuit(
        &mut self,
        term: &Term,
        name: &str,
        terms: &[Term],
        dot: &Value,
        piped: Option<Value>,
    ) -> Executed<Value> {
        let stop = name == "or";
        let mut value = None;
        for argument in terms {
            let this = self.term(argument, dot)?;
            if this.is_true() == stop {
                return Ok(this);
            }
            value = Some(this);
        }
        match piped.or(value) {
            Some(value) => Ok(value),
            None => self.fail(term, format!("wrong number of args for {name}: want at least 1 got 0")),
        }
    }
}

/// Makes a method out of a closure.
impl<F> From<F> for Value
where
    F: Fn(&[Value]) -> Result<Value, String> + 'static,
{
    fn from(method: F) -> Value {
        Value::Method(Rc::new(method))
    }
}

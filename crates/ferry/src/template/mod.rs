//! Go's text templates over JSON-like values, for `--format` and `inspect -f`.
//!
//! Owns the language (actions, pipelines, variables, `if`, `range`, `with`, `define`, `template`, `block`,
//! `break`, `continue`), Go's built-in functions, the ones Docker adds, and Go's way of printing values and
//! wording errors. Never touches the network or a terminal.
//!
//! ```text
//! text --lex--> tokens --parse--> Template --execute(value)--> text
//! ```

mod error;
mod exec;
mod functions;
mod lex;
mod parse;
mod print;
mod value;
mod value_ser;

pub use error::TemplateError;
pub use exec::Options;
pub use parse::Template;
pub use value::Value;

impl Template {
    /// The text it was made from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Renders one value.
    #[cfg(test)]
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        exec::execute(self, value, Options::default())
    }

    /// Renders with options.
    pub fn render_with(&self, value: &Value, options: Options) -> Result<String, TemplateError> {
        exec::execute(self, value, options)
    }
}

#[cfg(test)]
mod tests;

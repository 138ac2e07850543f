//! `--format`: a list of rows through a template, as a table, as JSON, or as the template says.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::failure::Failure;
use crate::output::{self, table};
use crate::template::{Options, Template, Value};

/// A kind of list: its columns and how it looks when nobody says how.
pub struct List {
    /// Field and the head of its column.
    pub columns: &'static [(&'static str, &'static str)],
    /// The template of the table.
    pub default: &'static str,
    /// The template with `--quiet`; empty where there is no such flag.
    pub quiet: &'static str,
}

/// One row: fields to values.
pub type Row = Vec<(&'static str, Value)>;

/// What the flags and the configuration file say about the format.
#[derive(Debug, Default, Clone)]
pub struct Choice {
    /// `--format`.
    pub format: String,
    /// The format of the configuration file, for when no flag is given.
    pub configured: String,
    /// `--quiet`.
    pub quiet: bool,
    /// What `--format raw` means in this list: old scripts read it; empty where Docker never had it.
    pub raw: &'static str,
}

impl List {
    /// Prints rows as the flags say.
    pub fn print(&self, choice: &Choice, rows: Vec<Row>) -> Result<(), Failure> {
        self.print_with(self.default, choice, rows)
    }

    /// Prints rows with a default template of this call's own.
    pub fn print_with(&self, default: &str, choice: &Choice, rows: Vec<Row>) -> Result<(), Failure> {
        let text = self.render(default, choice, rows)?;
        Ok(output::write(text.as_bytes())?)
    }

    /// The text of rows.
    pub fn render(&self, default: &str, choice: &Choice, rows: Vec<Row>) -> Result<String, Failure> {
        let format = match (choice.format.as_str(), choice.configured.as_str()) {
            ("" | "table", _) if choice.quiet => self.quiet,
            ("", configured) if !configured.is_empty() => configured,
            ("" | "table", _) => return self.as_table(default, rows),
            ("raw", _) if !choice.raw.is_empty() => choice.raw,
            (format, _) => format,
        };
        match format.strip_prefix("table") {
            Some(rest) if rest.starts_with(|c: char| c.is_whitespace()) => {
                self.as_table(rest.trim_start_matches(' '), rows)
            }
            _ if format == "json" || format == "{{json .}}" => {
                // A row's own JSON is safe to put into a page, as Go's encoder makes it by default.
                let text = as_lines("{{json .}}", rows)?;
                Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
            }
            _ => as_lines(format, rows),
        }
    }

    fn as_table(&self, template: &str, rows: Vec<Row>) -> Result<String, Failure> {
        let template = unescape(template);
        let parsed = parse(&template)?;
        let mut heads: BTreeMap<String, Value> =
            self.columns.iter().map(|(field, head)| ((*field).to_owned(), Value::text(*head))).collect();
        heads.insert("Label".into(), Value::from(label_head));
        let heads = Value::Map(Rc::new(heads));
        let head = parsed.render_with(&heads, Options { header: true, missing_key_is_error: false });
        let mut text = head.map_err(|error| template_failure(&error))?;
        text.push('\n');
        let plain = plain_fields(&template);
        for row in rows {
            if !plain.as_ref().is_some_and(|fields| push_plain(&mut text, fields, &row)) {
                text.push_str(&render(&parsed, row)?);
            }
            text.push('\n');
        }
        Ok(table::align(&text))
    }
}

/// The fields of a template that is nothing but fields between tabs, as all tables by default are.
fn plain_fields(template: &str) -> Option<Vec<&str>> {
    template.split('\t').map(plain_field).collect()
}

fn plain_field(cell: &str) -> Option<&str> {
    let name = cell.strip_prefix("{{.")?.strip_suffix("}}")?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(name)
}

/// Puts a row's fields behind each other, a third of a template's work; false, and nothing done, where one is missing
/// or more than a text.
fn push_plain(text: &mut String, fields: &[&str], row: &Row) -> bool {
    let begin = text.len();
    for (index, field) in fields.iter().enumerate() {
        let Some((_, Value::Text(cell))) = row.iter().find(|(name, _)| name == field) else {
            text.truncate(begin);
            return false;
        };
        if index > 0 {
            text.push('\t');
        }
        text.push_str(cell);
    }
    true
}

/// The head of a label's column is its name: its last part, as Docker shortens it.
fn label_head(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [Value::Text(name)] => {
            let name = name.rsplit('.').next().unwrap_or(name).replace(['-', '_'], " ");
            Ok(Value::text(name))
        }
        _ => Err("wrong number of args for Label: want 1".into()),
    }
}

fn as_lines(template: &str, rows: Vec<Row>) -> Result<String, Failure> {
    let template = unescape(template);
    let parsed = parse(&template)?;
    let mut text = String::new();
    for row in rows {
        text.push_str(&render(&parsed, row)?);
        text.push('\n');
    }
    Ok(text)
}

fn render(template: &Template, row: Row) -> Result<String, Failure> {
    // Docker's rows are structs with methods: a field they lack is an error.
    let options = Options { header: false, missing_key_is_error: true };
    template.render_with(&Value::map(row), options).map_err(|error| template_failure(&error))
}

fn parse(text: &str) -> Result<Template, Failure> {
    Template::parse(text).map_err(|error| Failure::new(format!("failed to parse template: {error}")))
}

fn template_failure(error: &crate::template::TemplateError) -> Failure {
    Failure::new(format!("failed to execute template: {error}"))
}

/// `\t` and `\n` as people write them in a shell.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Renders one object (`info`, `version`) with a template over its JSON form.
pub fn object(format: &str, value: &Value) -> Result<String, Failure> {
    let format = if format == "json" { "{{json .}}" } else { format };
    let template = parse(&unescape(format))?;
    let mut text = template
        .render_with(value, Options { header: false, missing_key_is_error: true })
        .map_err(|error| template_failure(&error))?;
    text.push('\n');
    Ok(text)
}

/// The `Label` method over these labels.
pub fn label_method(labels: BTreeMap<String, String>) -> Value {
    Value::from(move |arguments: &[Value]| match arguments {
        [Value::Text(name)] => {
            Ok(Value::text(labels.get(name.as_ref()).map(String::as_str).unwrap_or_default()))
        }
        _ => Err("wrong number of args for Label: want 1".to_owned()),
    })
}

/// Labels as Docker prints them in one cell: `a=1,b=2`.
pub fn labels_cell(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// Cuts to `width` columns, the last being an ellipsis.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The first 12 digits of an id, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, id)| id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List {
        columns: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
        default: "{{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.x.tier".to_owned(), "web".to_owned())]);
        vec![vec![
            ("ID", Value::text("9c37")),
            ("Names", Value::text("a,b")),
            ("Label", label_method(labels)),
        ]]
    }

    fn check(format: &str, quiet: bool, wanted: &str) {
        let choice = Choice { format: format.into(), quiet, ..Default::default() };
        let text = LIST.render(LIST.default, &choice, rows()).unwrap_or_else(|failure| failure.message);
        assert_eq!(text, wanted, "{format}");
    }

    #[test]
    fn formats() {
        check("", false, "CONTAINER ID   NAMES\n9c37           a,b\n");
        check("table", false, "CONTAINER ID   NAMES\n9c37           a,b\n");
        check("", true, "9c37\n");
        check("json", false, "{\"ID\":\"9c37\",\"Names\":\"a,b\"}\n");
        check("{{.ID}}: {{.Names}}", false, "9c37: a,b\n");
        check("table {{.Names}}\\t{{.ID}}", false, "NAMES     CONTAINER ID\na,b       9c37\n");
        check("table {{upper .Names}}\t{{.Label \"com.x.tier\"}}", false, "NAMES     tier\nA,B       web\n");
        check(
            "{{.Nope}}",
            false,
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        );
    }
}

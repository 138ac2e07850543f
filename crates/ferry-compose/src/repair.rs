//! Files damaged on their way: indentation lost in a copy, Markdown escapes, tabs.
//!
//! Owns the recognition of such damage and the reconstruction of the likely text; only
//! ever a suggestion, the loader never loads what it did not read.

use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Origin};

/// Lines of reconstructed text a diagnostic shows.
const MAX_SHOWN_LINES: usize = 60;

const TOP_LEVEL: [&str; 9] =
    ["version", "name", "include", "services", "networks", "volumes", "configs", "secrets", "models"];

/// Whether a key carries an escape only Markdown writes (`MYSQL\_ROOT\_PASSWORD`, `\- a`).
pub fn is_escaped_key(text: &str) -> bool {
    text.contains("\\_") || is_escaped_item(text)
}

/// Whether a value is a list item whose dash Markdown escaped (`\- 8080:8080`).
pub fn is_escaped_item(text: &str) -> bool {
    text.starts_with("\\- ") || text == "\\-"
}

/// The error for one escaped key or item.
pub fn escaped_markdown(text: &str, origin: Origin) -> Diagnostic {
    Diagnostic::error(format!("\"{text}\" holds a backslash that Markdown adds"))
        .at(origin)
        .width(text.chars().count())
        .help(format!("write {}", unescape(text)))
}

/// A better explanation for a file that did not load, when the whole text tells one.
pub fn explain(file: FileId, text: &str) -> Option<Diagnostic> {
    lost_indentation(file, text).or_else(|| tab_indentation(file, text)).or_else(|| escapes(file, text))
}

/// `services:` followed by a line that stands as far left as itself.
fn lost_indentation(file: FileId, text: &str) -> Option<Diagnostic> {
    let lines: Vec<&str> = text.lines().collect();
    let content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let services = lines.iter().position(|line| line.trim_end() == "services:")?;
    let (offset, next) = lines[services + 1..].iter().enumerate().find(|(_, line)| content(line))?;
    let key = key_of(next)?;
    if next.starts_with([' ', '\t']) || TOP_LEVEL.contains(&key.as_str()) || key.starts_with("x-") {
        return None;
    }
    let line = services + 1 + offset;
    let origin = Origin { file, line: line as u32 + 1, column: 1 };
    Some(
        Diagnostic::error(format!("\"{key}\" stands as far left as \"services\": the indentation was lost"))
            .at(origin)
            .width(next.trim_end().chars().count())
            .help(format!("the file probably means:\n\n{}", reindent(&lines).join("\n"))),
    )
}

fn tab_indentation(file: FileId, text: &str) -> Option<Diagnostic> {
    let (index, line) = text
        .lines()
        .enumerate()
        .find(|(_, line)| line.len() > line.trim_start().len() && indentation(line).contains('\t'))?;
    let tab = indentation(line).chars().position(|c| c == '\t')?;
    let origin = Origin { file, line: index as u32 + 1, column: tab as u32 + 1 };
    let fixed = format!("{}{}", indentation(line).replace('\t', "  "), line.trim_start());
    Some(
        Diagnostic::error("a tab indents this line; YAML allows only spaces")
            .at(origin)
            .help(format!("write it with spaces:\n\n{fixed}")),
    )
}

fn escapes(file: FileId, text: &str) -> Option<Diagnostic> {
    let damaged = |line: &str| line.contains("\\_") || line.trim_start().starts_with("\\-");
    let (index, line) = text.lines().enumerate().find(|(_, line)| damaged(line))?;
    let column = line.find('\\').map_or(0, |at| line[..at].chars().count());
    let origin = Origin { file, line: index as u32 + 1, column: column as u32 + 1 };
    let fixed: Vec<String> = text.lines().filter(|line| damaged(line)).map(unescape).collect();
    Some(
        Diagnostic::error("the line holds a backslash that Markdown adds")
            .at(origin)
            .width(2)
            .help(format!("without it:\n\n{}", shorten(fixed).join("\n"))),
    )
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

fn key_of(line: &str) -> Option<String> {
    let line = unescape(line);
    let (key, _) = line.trim().split_once(':')?;
    Some(key.trim_matches(['"', '\'']).to_owned())
}

fn unescape(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some('_' | '-' | '*' | '[' | ']' | '#' | '"' | '`' | '.') if c == '\\' => {}
            _ => out.push(c),
        }
    }
    out
}

/// Where the reconstruction of a flattened file stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Under a top-level key other than services.
    Section,
    /// Under `services:`.
    Services,
    /// Under an attribute of a service that may hold lines of its own.
    Attribute,
}

/// Puts services, their attributes, and list items and map entries on their own levels again.
fn reindent(lines: &[&str]) -> Vec<String> {
    let mut place = Place::Section;
    let mut out = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let line = unescape(line.trim());
        let Some(key) = key_of(&line) else {
            out.push(if line.starts_with("- ") { format!("      {line}") } else { line });
            continue;
        };
        let next_is_item = lines.get(index + 1).is_some_and(|next| unescape(next.trim()).starts_with("- "));
        let opens = line.ends_with(':');
        let indent = if line.starts_with("- ") {
            6
        } else if is_top_level(&key, place, next_is_item) {
            place = if key == "services" { Place::Services } else { Place::Section };
            0
        } else if place == Place::Section {
            2
        } else if crate::schema::service_attributes().contains(&key.as_str()) {
            place = Place::Attribute;
            4
        } else if opens || place == Place::Services {
            place = Place::Services;
            2
        } else {
            6
        };
        out.push(format!("{}{line}", " ".repeat(indent)));
    }
    shorten(out)
}

/// `volumes`, `networks`, `configs` and `secrets` are attributes too, where a list follows.
fn is_top_level(key: &str, place: Place, next_is_item: bool) -> bool {
    let inside = place != Place::Section;
    TOP_LEVEL.contains(&key) && !(inside && next_is_item && key != "services") && !key.is_empty()
}

fn shorten(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MAX_SHOWN_LINES {
        lines.truncate(MAX_SHOWN_LINES);
        lines.push("...".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn help(text: &str) -> String {
        let mut sources = Sources::default();
        let file = sources.add("f", text);
        explain(file, text).and_then(|d| d.help).unwrap_or_default()
    }

    #[test]
    fn a_flattened_file_is_put_back_on_its_levels() {
        let flat = "version: '3.1'\nservices:\ndb:\nimage: mariadb\nrestart: always\nenvironment:\nMYSQL\\_ROOT\\_PASSWORD: example\nadminer:\nimage: adminer\nrestart: always\nports:\n\\- 8080:8080\n";
        assert_eq!(
            help(flat),
            "the file probably means:\n\nversion: '3.1'\nservices:\n  db:\n    image: mariadb\n    restart: always\n    environment:\n      MYSQL_ROOT_PASSWORD: example\n  adminer:\n    image: adminer\n    restart: always\n    ports:\n      - 8080:8080"
        );
    }

    #[test]
    fn tabs_and_escapes_show_the_fixed_line() {
        assert!(help("services:\n\tweb:\n").ends_with("  web:"));
        assert!(help("services:\n  web:\n    ports:\n      \\- 80:80\n").ends_with("      - 80:80"));
        assert_eq!(help("services:\n  web:\n    image: a\n"), "");
    }
}

//! Errors and warnings that point into the Dockerfile: line, column, caret.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::dockerfile::{SourceFile, Span};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// It can.
    Warning,
}

/// Something to say about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How grave.
    pub severity: Severity,
    /// Name of the rule, for warnings of the linter.
    pub rule: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(message: impl Into<String>, span: Span) -> Self {
        Self { severity: Severity::Error, rule: None, message: message.into(), span, help: None }
    }

    /// The finding with its lines of the file, as people read it.
    pub fn render(&self, file: &SourceFile, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let span = visible(file, self.span);
        let snippet = Snippet::source(file.text())
            .path(file.name())
            .annotation(AnnotationKind::Primary.span(span.range()));
        let title = level.primary_title(&self.message);
        let title = match self.rule {
            Some(rule) => title.id(rule),
            None => title,
        };
        let mut group = title.element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string()
    }
}

/// The first line of a span: a caret below a whole heredoc helps nobody.
fn visible(file: &SourceFile, span: Span) -> Span {
    let end = span.end.min(file.text().len());
    let start = span.start.min(end);
    let text = &file.text()[start..end];
    let first = text.find('\n').map_or(end, |at| start + at);
    Span::new(start, first.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_shown_with_a_caret() {
        let file = SourceFile::new("Dockerfile", b"FROM a\nRNU x\n");
        let mut diagnostic = Diagnostic::error("unknown instruction: RNU", Span::new(7, 10));
        diagnostic.help = Some("did you mean RUN?".to_owned());
        let text = diagnostic.render(&file, false);
        for part in ["error: unknown instruction: RNU", "Dockerfile:2:1", "RNU x", "^^^", "did you mean RUN?"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

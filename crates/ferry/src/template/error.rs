//! Errors in Go's words: `template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"`.

/// A template that cannot be read or cannot be applied to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template: :{line}: {reason}")]
    Parse {
        /// Counted from 1.
        line: usize,
        /// In Go's words.
        reason: String,
    },
    /// The value does not fit.
    #[error("template: :{line}:{column}: executing \"\" at <{context}>: {reason}")]
    Execute {
        /// Counted from 1.
        line: usize,
        /// Byte in the line, counted from 0.
        column: usize,
        /// The expression.
        context: String,
        /// In Go's words.
        reason: String,
    },
}

/// Line (from 1) and byte in the line (from 0) of an offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, before.len() - start)
}

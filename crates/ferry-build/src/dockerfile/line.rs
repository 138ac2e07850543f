//! Physical lines into logical ones: comments, continuations, heredoc bodies.
//! A logical line remembers where each of its characters stood, so that every word keeps its span.

use super::directive::Escape;
use super::source::{SourceFile, Span};

/// Continuation lines joined into one, comments between them dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalLine {
    /// The joined text, without the leading blanks of the first line.
    pub text: String,
    /// (offset in `text`, offset in the source) of each joined piece.
    pieces: Vec<(usize, usize)>,
    /// From the first to the last character in the source.
    pub span: Span,
    /// An empty line stood between continuations.
    pub empty_continuation: Option<Span>,
}

impl LogicalLine {
    /// Where a byte of the joined text stands in the source.
    pub fn source_offset(&self, logical: usize) -> usize {
        let index = self.pieces.partition_point(|&(at, _)| at <= logical).saturating_sub(1);
        let (at, source) = self.pieces[index];
        source + (logical - at)
    }

    /// Where a part of the joined text stands in the source.
    pub fn source_span(&self, start: usize, end: usize) -> Span {
        if start >= end {
            let at = self.source_offset(start);
            return Span::new(at, at);
        }
        // The end is found through the last byte inside, so that a span never runs into the next piece.
        Span::new(self.source_offset(start), self.source_offset(end - 1) + 1)
    }
}

/// Reads logical lines off a file.
pub struct LineReader<'a> {
    file: &'a SourceFile,
    lines: Vec<Span>,
    next: usize,
    escape: Escape,
}

impl<'a> LineReader<'a> {
    /// Starts at the top of the file.
    pub fn new(file: &'a SourceFile, escape: Escape) -> Self {
        Self { file, lines: file.lines().collect(), next: 0, escape }
    }

    /// The next logical line that is neither blank nor a comment.
    pub fn next_line(&mut self) -> Option<LogicalLine> {
        loop {
            let span = self.take()?;
            let text = self.file.slice(span).trim_end_matches('\r');
            let content = text.trim_start();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let start = span.start + (text.len() - content.len());
            let mut line = LogicalLine {
                text: String::new(),
                pieces: vec![(0, start)],
                span: Span::new(start, span.start + text.len()),
                empty_continuation: None,
            };
            let (kept, mut open) = self.escape.split_continuation(content);
            line.text.push_str(kept);
            while open {
                open = self.join_next(&mut line);
            }
            if line.text.trim().is_empty() {
                continue;
            }
            return Some(line);
        }
    }

    /// Appends the next physical line; false when the logical line ends with it.
    fn join_next(&mut self, line: &mut LogicalLine) -> bool {
        let Some(span) = self.take() else { return false };
        let text = self.file.slice(span).trim_end_matches('\r');
        let content = text.trim_start();
        if content.starts_with('#') {
            return true;
        }
        if content.is_empty() {
            line.empty_continuation.get_or_insert(span);
            return true;
        }
        let (kept, open) = self.escape.split_continuation(text);
        line.pieces.push((line.text.len(), span.start));
        line.text.push_str(kept);
        line.span.end = span.start + text.len();
        open
    }

    /// The body of a heredoc up to its terminator; the raw lines with their ends.
    pub fn heredoc_body(&mut self, terminator: &str, strip_tabs: bool) -> Option<(String, Span)> {
        let mut body = String::new();
        let first = self.lines.get(self.next).map_or(self.file.text().len(), |span| span.start);
        loop {
            let span = self.take()?;
            let text = self.file.slice(span).trim_end_matches('\r');
            let candidate = if strip_tabs { text.trim_start_matches('\t') } else { text };
            if candidate == terminator {
                return Some((body, Span::new(first, span.end)));
            }
            body.push_str(text);
            body.push('\n');
        }
    }

    fn take(&mut self) -> Option<Span> {
        let span = self.lines.get(self.next).copied();
        self.next += usize::from(span.is_some());
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> Vec<String> {
        let file = SourceFile::new("d", text.as_bytes());
        let mut reader = LineReader::new(&file, Escape::Backslash);
        std::iter::from_fn(|| reader.next_line()).map(|line| line.text).collect()
    }

    #[test]
    fn continuations_join_and_comments_between_vanish() {
        assert_eq!(joined("RUN a \\\n  # note\n\n  b\n"), ["RUN a   b"]);
        assert_eq!(joined("RUN a \\  \nb"), ["RUN a b"]);
        assert_eq!(joined("RUN a \\\\\nRUN b"), ["RUN a \\\\", "RUN b"]);
        assert_eq!(joined("  # c\n\n  RUN a"), ["RUN a"]);
        assert_eq!(joined("RUN a\r\nRUN b \\\r\n c\r\n"), ["RUN a", "RUN b  c"]);
        assert_eq!(joined("RUN a \\"), ["RUN a "]);
    }

    #[test]
    fn spans_survive_joining() {
        let file = SourceFile::new("d", b"RUN one \\\n  # c\n  two\n");
        let line = LineReader::new(&file, Escape::Backslash).next_line().expect("one line");
        let at = line.text.find("two").expect("joined");
        assert_eq!(file.slice(line.source_span(at, at + 3)), "two");
        let at = line.text.find("one").expect("joined");
        assert_eq!(file.slice(line.source_span(at, at + 3)), "one");
    }
}

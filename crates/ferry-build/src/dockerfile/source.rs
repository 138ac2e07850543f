//! Text of a Dockerfile with positions: byte spans, and their lines and columns.
//! Never interprets a byte of it.

use std::ops::Range;

/// A half-open byte range of a [`SourceFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span of the bytes `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end, "a span ends where it starts or later");
        Self { start, end }
    }

    /// The same as a range, for slicing.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The smallest span that holds both.
    pub fn join(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }
}

/// A value and where it stands in the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts a value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A named text with an index of its lines.
#[derive(Debug, Clone)]
pub struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// Takes the bytes of a Dockerfile. Bytes that are not UTF-8 (comments in old encodings) become
    /// replacement characters, as they do in Docker's output; a byte-order mark is dropped.
    pub fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).into_owned();
        let line_starts =
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// What the user calls the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of one span.
    pub fn slice(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    /// Line, from 1, of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Line and column in characters, both from 1, of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.line_starts[line - 1];
        (line, self.text[start..offset.min(self.text.len())].chars().count() + 1)
    }

    /// The physical lines with their spans; a span leaves out the line's end.
    pub fn lines(&self) -> impl Iterator<Item = Span> + '_ {
        (0..self.line_starts.len()).filter_map(|index| {
            let start = self.line_starts[index];
            let end = self.line_starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
            (start < self.text.len()).then(|| Span::new(start, end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let file = SourceFile::new("Dockerfile", "FROM a\nRUN é b\n".as_bytes());
        assert_eq!(file.line_column(0), (1, 1));
        assert_eq!(file.line_column(7), (2, 1));
        assert_eq!(file.line_column(14), (2, 7));
        assert_eq!(file.lines().count(), 2);
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        assert_eq!(SourceFile::new("d", b"\xef\xbb\xbfFROM a").text(), "FROM a");
    }
}

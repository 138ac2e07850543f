//! Source texts and places in them: every node of a loaded file knows file, line and column.
//!
//! Owns the texts for as long as diagnostics may point into them; never reads a file itself.

use std::path::{Path, PathBuf};

/// A file among the [`Sources`] of one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

/// A place in a source file; line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file.
    pub file: FileId,
    /// Line, from 1; 0 where the value was made by Ferry itself (a default).
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Origin {
    /// The origin of values that stand in no file: defaults and derived settings.
    pub const DEFAULT: Origin = Origin { file: FileId(u32::MAX), line: 0, column: 0 };

    /// Whether the value was derived and not written by anyone.
    pub fn is_default(&self) -> bool {
        self.line == 0
    }
}

/// One source: the path as it is shown, and the text.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's path, absolute where the loader knew the working directory.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// All texts read during a load, in the order they were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Keeps a text and names it.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> FileId {
        self.files.push(Source { path: path.into(), text: text.into() });
        FileId((self.files.len() - 1) as u32)
    }

    /// The source of an id, absent for [`Origin::DEFAULT`].
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.files.get(file.0 as usize)
    }

    /// The text of a file; empty for derived values.
    pub fn text(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| source.text.as_str())
    }

    /// The path of a file; empty for derived values.
    pub fn path(&self, file: FileId) -> &Path {
        self.get(file).map_or(Path::new(""), |source| source.path.as_path())
    }

    /// One line of a file without its line end.
    pub fn line(&self, origin: Origin) -> Option<&str> {
        let index = (origin.line as usize).checked_sub(1)?;
        self.get(origin.file)?.text.lines().nth(index)
    }

    /// `path:line:column` as diagnostics print it.
    pub fn describe(&self, origin: Origin) -> String {
        match self.get(origin.file) {
            Some(source) => format!("{}:{}:{}", source.path.display(), origin.line, origin.column),
            None => "default".to_owned(),
        }
    }
}

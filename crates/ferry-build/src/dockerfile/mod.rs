//! The Dockerfile language: text with positions, lexer, parser, variable expansion.
//! Never looks at files, images or the cache.

pub mod ast;
pub mod directive;
pub mod duration;
pub mod error;
pub mod expand;
pub mod flag;
mod instruction;
pub mod line;
pub mod mount;
pub mod parse;
pub mod pattern;
pub mod source;
pub mod word;

pub use error::{ParseError, ParseErrorKind};
pub use parse::{parse, parse_instructions};
pub use source::{SourceFile, Span, Spanned};

//! Logical lines into instructions, instructions into stages.

use super::ast::{Dockerfile, Heredoc, Instruction, Kind, Stage, Word};
use super::directive::Directives;
use super::error::{ParseError, ParseErrorKind, nearest};
use super::flag::split_flags;
use super::instruction;
use super::line::{LineReader, LogicalLine};
use super::source::{SourceFile, Span, Spanned};
use super::word::{HeredocStart, JsonForm, json_form, split_quoted};

/// Largest Dockerfile that is read: far above any real one, small enough to hold several times over.
pub const MAX_DOCKERFILE_BYTES: usize = 8 << 20;

/// Every keyword, for suggestions.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a whole Dockerfile.
pub fn parse(file: &SourceFile) -> Result<Dockerfile, ParseError> {
    if file.text().len() > MAX_DOCKERFILE_BYTES {
        let kind = ParseErrorKind::TooLarge {
            what: "the Dockerfile",
            size: file.text().len(),
            limit: MAX_DOCKERFILE_BYTES,
        };
        return Err(ParseError::new(file, Span::default(), kind));
    }
    let directives = Directives::parse(file)?;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in parse_instructions(file, &directives)? {
        match (&instruction.kind, stages.last_mut()) {
            (Kind::From(from), _) => {
                stages.push(Stage { from: from.clone(), head: instruction, instructions: Vec::new() });
            }
            (_, Some(stage)) => stage.instructions.push(instruction),
            (Kind::Arg(_), None) => global_args.push(instruction),
            (_, None) => return Err(ParseError::new(file, instruction.span, ParseErrorKind::NoStage)),
        }
    }
    Ok(Dockerfile { directives, global_args, stages })
}

/// Parses a text that may hold any instructions, as ONBUILD triggers and `commit --change` do.
pub fn parse_instructions(
    file: &SourceFile,
    directives: &Directives,
) -> Result<Vec<Instruction>, ParseError> {
    let mut reader = LineReader::new(file, directives.escape);
    let mut instructions = Vec::new();
    while let Some(line) = reader.next_line() {
        instructions.push(parse_line(file, directives, &line, &mut reader)?);
    }
    if instructions.is_empty() {
        return Err(ParseError::new(file, Span::default(), ParseErrorKind::Empty));
    }
    Ok(instructions)
}

/// An instruction split into its parts, before its own parser looks at them.
pub struct Parts<'a> {
    /// The file, for errors.
    pub file: &'a SourceFile,
    /// Directives, for the escape character.
    pub directives: &'a Directives,
    /// The logical line.
    pub line: &'a LogicalLine,
    /// The keyword as written.
    pub keyword: Word,
    /// Leading `--` words.
    pub flags: Vec<Word>,
    /// What follows keyword and flags, trimmed.
    pub arguments: &'a str,
    /// Where `arguments` begins in the line.
    pub arguments_start: usize,
    /// Bodies of the heredocs.
    pub heredocs: Vec<Heredoc>,
}

impl<'a> Parts<'a> {
    /// Splits a line at keyword, flags and arguments.
    fn split(file: &'a SourceFile, directives: &'a Directives, line: &'a LogicalLine) -> Self {
        Self::split_at(file, directives, line, 0)
    }

    /// The same from somewhere inside the line, for what follows ONBUILD.
    pub fn split_at(
        file: &'a SourceFile,
        directives: &'a Directives,
        line: &'a LogicalLine,
        from: usize,
    ) -> Self {
        let text = line.text.trim_end();
        let keyword_end = text[from..].find(char::is_whitespace).map_or(text.len(), |at| from + at);
        let keyword = Spanned::new(text[from..keyword_end].to_owned(), line.source_span(from, keyword_end));
        let (flags, rest) = split_flags(&text[keyword_end..], directives.escape);
        let flags = flags
            .into_iter()
            .map(|word| {
                Spanned::new(word.text, line.source_span(keyword_end + word.start, keyword_end + word.end))
            })
            .collect();
        let rest = keyword_end + rest;
        let arguments = text[rest..].trim_start();
        let arguments_start = text.len() - arguments.len();
        Self { file, directives, line, keyword, flags, arguments, arguments_start, heredocs: Vec::new() }
    }

    /// A refusal that points at the arguments.
    pub fn refuse(&self, kind: ParseErrorKind) -> ParseError {
        ParseError::new(self.file, self.arguments_span(), kind)
    }

    /// Where the arguments stand; the keyword when there are none.
    pub fn arguments_span(&self) -> Span {
        if self.arguments.is_empty() {
            return self.keyword.span;
        }
        self.span(0, self.arguments.len())
    }

    /// Where a part of the arguments stands.
    pub fn span(&self, start: usize, end: usize) -> Span {
        self.line.source_span(self.arguments_start + start, self.arguments_start + end)
    }
}

fn parse_line(
    file: &SourceFile,
    directives: &Directives,
    line: &LogicalLine,
    reader: &mut LineReader<'_>,
) -> Result<Instruction, ParseError> {
    let mut parts = Parts::split(file, directives, line);
    let mut span = line.span;
    for start in heredoc_starts(&parts) {
        let (body, body_span) = reader.heredoc_body(&start.name, start.strip_tabs).ok_or_else(|| {
            ParseError::new(file, line.span, ParseErrorKind::UnterminatedHeredoc(start.name.clone()))
        })?;
        span = span.join(body_span);
        let content = if start.strip_tabs { strip_leading_tabs(&body) } else { body };
        parts.heredocs.push(Heredoc { name: start.name, content, expand: start.expand, span: body_span });
    }
    let kind = parse_kind(&parts)?;
    Ok(Instruction {
        keyword: parts.keyword.clone(),
        span,
        text: line.text.trim().to_owned(),
        empty_continuation: line.empty_continuation,
        kind,
    })
}

/// Chooses the instruction's own parser.
pub fn parse_kind(parts: &Parts<'_>) -> Result<Kind, ParseError> {
    match parts.keyword.value.to_ascii_uppercase().as_str() {
        "ADD" => instruction::add(parts),
        "ARG" => instruction::arg(parts),
        "CMD" => instruction::cmd(parts),
        "COPY" => instruction::copy(parts),
        "ENTRYPOINT" => instruction::entrypoint(parts),
        "ENV" => instruction::env(parts),
        "EXPOSE" => instruction::expose(parts),
        "FROM" => instruction::from(parts),
        "HEALTHCHECK" => instruction::healthcheck(parts),
        "LABEL" => instruction::label(parts),
        "MAINTAINER" => instruction::maintainer(parts),
        "ONBUILD" => instruction::onbuild(parts),
        "RUN" => instruction::run(parts),
        "SHELL" => instruction::shell(parts),
        "STOPSIGNAL" => instruction::stopsignal(parts),
        "USER" => instruction::user(parts),
        "VOLUME" => instruction::volume(parts),
        "WORKDIR" => instruction::workdir(parts),
        _ => Err(ParseError::new(
            parts.file,
            parts.keyword.span,
            ParseErrorKind::UnknownInstruction {
                name: parts.keyword.value.clone(),
                suggestion: nearest(&parts.keyword.value, KEYWORDS),
            },
        )),
    }
}

/// The heredocs that an instruction's words open; only RUN, COPY and ADD (also behind ONBUILD) have them.
fn heredoc_starts(parts: &Parts<'_>) -> Vec<HeredocStart> {
    let keyword = parts.keyword.value.to_ascii_uppercase();
    if keyword == "ONBUILD" {
        let trigger = Parts::split_at(parts.file, parts.directives, parts.line, parts.arguments_start);
        return if trigger.keyword.value.eq_ignore_ascii_case("ONBUILD") {
            Vec::new()
        } else {
            heredoc_starts(&trigger)
        };
    }
    if !matches!(keyword.as_str(), "RUN" | "COPY" | "ADD")
        || matches!(json_form(parts.arguments), JsonForm::Strings(_))
    {
        return Vec::new();
    }
    split_quoted(parts.arguments, parts.directives.escape)
        .unwrap_or_default()
        .iter()
        .filter_map(|word| HeredocStart::parse(&word.text))
        .collect()
}

fn strip_leading_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ast::{CommandForm, Healthcheck, TransferSource};
    use super::*;

    fn parsed(text: &str) -> Result<Dockerfile, String> {
        parse(&SourceFile::new("Dockerfile", text.as_bytes())).map_err(|error| error.to_string())
    }

    /// The kind of the one instruction behind `FROM a`.
    fn kind(instruction: &str) -> Kind {
        let file = parsed(&format!("FROM a\n{instruction}")).expect(instruction);
        file.stages[0].instructions[0].kind.clone()
    }

    fn refusal(instruction: &str) -> String {
        parsed(&format!("FROM a\n{instruction}")).expect_err(instruction)
    }

    #[test]
    fn stages_and_global_arguments() {
        let file = parsed("ARG V=1\nFROM a:$V AS One\nRUN x\nfrom --platform=linux/arm64 one as two\n")
            .expect("valid");
        assert_eq!(file.global_args.len(), 1);
        assert_eq!(file.stages[0].name().as_deref(), Some("one"));
        assert_eq!(file.stages[1].from.platform.as_ref().expect("given").value, "linux/arm64");
    }

    #[test]
    fn structural_refusals() {
        for (text, wanted) in [
            ("", "file with no instructions"),
            ("# only a comment\n", "file with no instructions"),
            ("RUN x", "no build stage"),
            ("FORM a", "unknown instruction: FORM (did you mean FROM?)"),
            ("FROM a\nRNU x", "line 2: unknown instruction: RNU (did you mean RUN?)"),
            ("FROM", "either one or three"),
            ("FROM a AS", "either one or three"),
            ("FROM a AS 1x", "invalid name for build stage"),
        ] {
            let message = parsed(text).expect_err(text);
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn instruction_refusals() {
        for (text, wanted) in [
            ("COPY a", "COPY requires at least two arguments"),
            ("COPY", "COPY requires at least one argument"),
            ("COPY --form=x a b", "unknown flag: --form (did you mean --from?)"),
            ("COPY --chown a b", "missing a value on flag: --chown"),
            ("COPY --link=maybe a b", "not a boolean"),
            ("COPY --from=a --from=b c d", "duplicate flag"),
            ("RUN", "RUN requires at least one argument"),
            ("RUN [\"a\", 1]", "comprised of strings only"),
            ("RUN --network=moon x", "must be one of default, none, host"),
            ("RUN --mount=type=cache x", "requires a target"),
            ("RUN <<EOF\nx", "unterminated heredoc EOF"),
            ("ENV a", "must have two arguments"),
            ("ENV a=b c", "can't find ="),
            ("ENV =b", "names can not be blank"),
            ("ENV a='b", "unterminated quote"),
            ("LABEL a=b c", "can't find ="),
            ("ARG", "requires at least one argument"),
            ("SHELL sh -c", "to be in JSON form"),
            ("HEALTHCHECK CMD", "missing command"),
            ("HEALTHCHECK NONE x", "takes no arguments"),
            ("HEALTHCHECK TEST x", "unknown type"),
            ("HEALTHCHECK --interval=5 CMD x", "missing unit"),
            ("ONBUILD FROM a", "isn't allowed as an ONBUILD trigger"),
            ("ONBUILD ONBUILD RUN x", "chaining ONBUILD"),
            ("EXPOSE", "requires at least one argument"),
            ("USER", "requires exactly one argument"),
            ("COPY a <<EOF\nEOF", "heredoc destination"),
        ] {
            assert!(refusal(text).contains(wanted), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn commands_in_both_forms() {
        let form = |text: &str| match kind(text) {
            Kind::Cmd(command) => command.form,
            other => panic!("{other:?}"),
        };
        assert_eq!(form("CMD a  b"), CommandForm::Shell("a  b".into()));
        assert_eq!(form(r#"CMD [ "a", "b c" ]"#), CommandForm::Exec(vec!["a".into(), "b c".into()]));
        assert_eq!(form("CMD ['python', 'x']"), CommandForm::Shell("['python', 'x']".into()));
        assert_eq!(form(r#"CMD \["fortune"\]"#), CommandForm::Shell(r#"\["fortune"\]"#.into()));
    }

    #[test]
    fn pairs_in_both_forms() {
        let pairs = |text: &str| match kind(text) {
            Kind::Env(values) => {
                values.pairs.into_iter().map(|(key, value)| (key.value, value.value)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(pairs("ENV a b  c"), [("a".into(), "b  c".into())]);
        assert_eq!(pairs("ENV a=1 b=\"2 3\""), [("a".into(), "1".into()), ("b".into(), "\"2 3\"".into())]);
        assert_eq!(pairs("ENV PYTHONUNBUFFERED 1"), [("PYTHONUNBUFFERED".into(), "1".into())]);
    }

    #[test]
    fn heredocs_of_run_and_copy() {
        let Kind::Run(run) = kind("RUN <<-EOF\n\techo a\n\tEOF\n") else { panic!("a RUN") };
        assert_eq!(run.heredocs[0].content, "echo a\n");
        let Kind::Copy(copy) = kind("COPY <<a.txt <<'b' c /dest/\nx $y\na.txt\nz\nb\n") else {
            panic!("a COPY")
        };
        assert_eq!(copy.sources.len(), 3);
        let TransferSource::Inline(first) = &copy.sources[0] else { panic!("a heredoc") };
        assert_eq!((first.name.as_str(), first.content.as_str(), first.expand), ("a.txt", "x $y\n", true));
        let TransferSource::Inline(second) = &copy.sources[1] else { panic!("a heredoc") };
        assert!(!second.expand);
        let file = parsed("FROM a\nRUN <<EOF cat\nFROM b\nEOF\nUSER x").expect("valid");
        assert_eq!(file.stages.len(), 1);
        assert_eq!(file.stages[0].instructions.len(), 2);
    }

    #[test]
    fn onbuild_keeps_its_text() {
        let Kind::Onbuild(onbuild) = kind("onbuild  COPY . /app") else { panic!("an ONBUILD") };
        assert_eq!(onbuild.expression, "COPY . /app");
        assert_eq!(onbuild.trigger.kind.name(), "COPY");
    }

    #[test]
    fn healthchecks() {
        let Kind::Healthcheck(Healthcheck::Command { interval, retries, .. }) =
            kind("HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://x/")
        else {
            panic!("a HEALTHCHECK")
        };
        assert_eq!((interval, retries), (Some(5_000_000_000), Some(3)));
        assert_eq!(kind("HEALTHCHECK NONE"), Kind::Healthcheck(Healthcheck::None));
    }

    #[test]
    fn words_keep_their_places_over_continuations() {
        let text = "FROM a\nCOPY one \\\n  # why\n  two \\\n  /dest/\n";
        let file = SourceFile::new("d", text.as_bytes());
        let Kind::Copy(copy) = &parse(&file).expect("valid").stages[0].instructions[0].kind else {
            panic!("a COPY")
        };
        assert_eq!(file.slice(copy.destination.span), "/dest/");
        assert_eq!(file.line_column(copy.destination.span.start), (5, 3));
    }

    #[test]
    fn the_escape_directive_rules_continuations() {
        let file = parsed("# escape=`\nFROM a\nRUN dir C:\\ `\n  /s\nCOPY a C:\\b\\").expect("valid");
        assert_eq!(file.stages[0].instructions.len(), 2);
    }
}

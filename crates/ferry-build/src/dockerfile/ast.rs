//! The typed form of a Dockerfile. Values are unexpanded: variables and quotes are still in them.

use super::directive::Directives;
use super::source::{Span, Spanned};

/// A word as written, and where.
pub type Word = Spanned<String>;

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at the top.
    pub directives: Directives,
    /// ARGs before the first FROM.
    pub global_args: Vec<Instruction>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// A FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The FROM instruction.
    pub from: From,
    /// FROM as an instruction, for positions and texts.
    pub head: Instruction,
    /// What follows.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The name after AS, in lower case as it is compared.
    pub fn name(&self) -> Option<String> {
        self.from.name.as_ref().map(|name| name.value.to_lowercase())
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The keyword as written.
    pub keyword: Word,
    /// The whole instruction with its heredocs.
    pub span: Span,
    /// The joined line as written, for progress and history.
    pub text: String,
    /// Where an empty line stands inside a continuation.
    pub empty_continuation: Option<Span>,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the instructions are")]
pub enum Kind {
    Add(Transfer),
    Arg(Vec<ArgDefinition>),
    Cmd(CommandLine),
    Copy(Transfer),
    Entrypoint(CommandLine),
    Env(KeyValues),
    Expose(Vec<Word>),
    From(From),
    Healthcheck(Healthcheck),
    Label(KeyValues),
    Maintainer(Word),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `FROM [--platform=p] image [AS name]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Image, stage or `scratch`.
    pub base: Word,
    /// The stage's name.
    pub name: Option<Word>,
    /// The word AS as written.
    pub as_keyword: Option<Word>,
    /// `--platform`
    pub platform: Option<Word>,
}

/// One `name[=default]` of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub name: Word,
    /// The default.
    pub default: Option<Word>,
}

/// The pairs of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValues {
    /// Name and value.
    pub pairs: Vec<(Word, Word)>,
    /// Written in the old form `ENV name value`.
    pub legacy: bool,
}

/// A command in the shell or the exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Which form.
    pub form: CommandForm,
    /// Where.
    pub span: Span,
}

/// The two forms of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandForm {
    /// One line for the shell.
    Shell(String),
    /// A JSON array.
    Exec(Vec<String>),
}

impl CommandForm {
    /// Nothing is to be run.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Shell(line) => line.is_empty(),
            Self::Exec(arguments) => arguments.is_empty(),
        }
    }
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// The `--mount` values as written.
    pub mounts: Vec<Word>,
    /// `--network`
    pub network: Option<Word>,
    /// `--security`
    pub security: Option<Word>,
    /// `--device` values.
    pub devices: Vec<Word>,
    /// Bodies of `<<NAME` words.
    pub heredocs: Vec<Heredoc>,
}

/// The body of a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator.
    pub name: String,
    /// The lines, tabs stripped where asked.
    pub content: String,
    /// Variables in it are expanded by COPY and ADD.
    pub expand: bool,
    /// The body in the source, with its terminator.
    pub span: Span,
}

/// Where COPY and ADD take from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferSource {
    /// A path, pattern or URL.
    Path(Word),
    /// A heredoc: a file of the heredoc's name.
    Inline(Heredoc),
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What is copied.
    pub sources: Vec<TransferSource>,
    /// Whereto.
    pub destination: Word,
    /// `--from` of COPY.
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents` of COPY.
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<Word>,
    /// `--checksum` of ADD.
    pub checksum: Option<Word>,
    /// `--keep-git-dir` of ADD.
    pub keep_git_dir: bool,
    /// `--unpack` of ADD.
    pub unpack: Option<bool>,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`
    None,
    /// `CMD`
    Command {
        /// What is run.
        command: CommandLine,
        /// Nanoseconds between probes.
        interval: Option<i64>,
        /// Nanoseconds a probe may take.
        timeout: Option<i64>,
        /// Nanoseconds in which failures do not count.
        start_period: Option<i64>,
        /// Nanoseconds between probes in the start period.
        start_interval: Option<i64>,
        /// Failures until unhealthy.
        retries: Option<i64>,
    },
}

/// `ONBUILD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger's text, as the image's configuration stores it.
    pub expression: String,
    /// The trigger, parsed.
    pub trigger: Box<Instruction>,
}

impl Kind {
    /// The keyword in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::From(_) => "FROM",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

//! `tag load save import`.

use std::io;

use bytes::Bytes;
use ferry_api::Call;
use futures_util::stream;
use tokio::io::AsyncReadExt as _;

use crate::commands::container::{refuse_terminal, save_answer};
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::progress::{self, To};
use crate::session::Session;
use crate::terminal;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

crate::flags! {
    /// Flags of `load`.
    pub struct LoadFlags {
        input: String = 'i' "input" <string> "Read from tar archive file, instead of STDIN";
        platform: Vec<String> = '-' "platform" <strings> "Load only the given platform(s)";
        quiet: bool = 'q' "quiet" "Suppress the load output";
    }
}

crate::flags! {
    /// Flags of `save`.
    pub struct SaveFlags {
        output: String = 'o' "output" <string> "Write to a file, instead of STDOUT";
        platform: Vec<String> = '-' "platform" <strings> "Save only the given platform(s)";
    }
}

crate::flags! {
    /// Flags of `import`.
    pub struct ImportFlags {
        change: Vec<String> = 'c' "change" <list> "Apply Dockerfile instruction to the created image";
        message: String = 'm' "message" <string> "Set commit message for imported image";
        platform: String = '-' "platform" <string> "Set platform if server is multi-platform capable";
    }
}

/// Runs `tag`.
pub async fn tag(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let (repository, tag) = super::split_tag(&arguments[1]);
    let call = Call::post(format!("/images/{}/tag", Call::segment(&arguments[0])))
        .query("repo", repository)
        .query_text("tag", tag);
    session.engine().await?.call(call).await?.discard().await?;
    Ok(0)
}

/// A file or stdin as a body.
pub async fn file_body(
    path: &str,
) -> Result<impl stream::Stream<Item = io::Result<Bytes>> + Send + 'static, Failure> {
    let file: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match path {
        "" | "-" => Box::new(tokio::io::stdin()),
        path => Box::new(
            tokio::fs::File::open(path)
                .await
                .map_err(|error| Failure::from_error(&error).context(&format!("cannot open {path}")))?,
        ),
    };
    Ok(stream::unfold(file, async |mut file| {
        let mut buffer = vec![0; CHUNK];
        match file.read(&mut buffer).await {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some((Ok(Bytes::from(buffer)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    }))
}

/// Runs `load`.
pub async fn load(session: &Session, flags: LoadFlags, _arguments: Vec<String>) -> Outcome {
    if flags.input.is_empty() && terminal::stdin_is_terminal() {
        return Err(Failure::new("requested load from stdin, but stdin is empty")
            .hint(format!("{} load -i FILE", session.called)));
    }
    let body = file_body(&flags.input).await?;
    let mut call = Call::post("/images/load").query("quiet", if flags.quiet { "1" } else { "0" });
    for platform in &flags.platform {
        call = call.query("platform", platform);
    }
    let answer = session.engine().await?.call(call.stream("application/x-tar", body)).await?;
    progress::show(answer, To::Stdout).await?;
    Ok(0)
}

/// Runs `save`.
pub async fn save(session: &Session, flags: SaveFlags, names: Vec<String>) -> Outcome {
    refuse_terminal(&flags.output)?;
    let mut call = Call::get("/images/get");
    for name in &names {
        call = call.query("names", name);
    }
    for platform in &flags.platform {
        call = call.query("platform", platform);
    }
    save_answer(session.engine().await?.call(call).await?, &flags.output).await?;
    Ok(0)
}

/// Runs `import`.
pub async fn import(session: &Session, flags: ImportFlags, arguments: Vec<String>) -> Outcome {
    let source = arguments[0].as_str();
    let (repository, tag) = arguments.get(1).map_or(("", ""), |name| super::split_tag(name));
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let mut call = Call::post("/images/create")
        .query("fromSrc", if remote { source } else { "-" })
        .query_text("repo", repository)
        .query_text("tag", tag)
        .query_text("message", &flags.message)
        .query_text("platform", &flags.platform);
    for change in &flags.change {
        call = call.query("changes", change);
    }
    if !remote {
        call = call.stream("text/plain", file_body(source).await?);
    }
    progress::show(session.engine().await?.call(call).await?, To::Stdout).await?;
    Ok(0)
}

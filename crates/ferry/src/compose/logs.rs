//! `logs`, and the painting of several containers' output on one screen.

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_api::Call;
use ferry_api::multiplex::{Decoder, Stream};
use ferry_compose::apply::{Engine, Watch, observe_containers};
use ferry_compose::labels;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::rc::Rc;
use tokio::sync::{mpsc, watch};

crate::flags! {
    /// Flags of `logs`.
    pub struct LogsFlags {
        follow: bool = 'f' "follow" "Follow log output";
        index: Option<i64> = '-' "index" <int> "index of the container if service has multiple replicas";
        no_color: bool = '-' "no-color" "Produce monochrome output";
        no_log_prefix: bool = '-' "no-log-prefix" "Don't print prefix in logs";
        since: String = '-' "since" <string> "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)";
        tail: Option<String> = 'n' "tail" <string> "Number of lines to show from the end of the logs for each container (default \"all\")";
        timestamps: bool = 't' "timestamps" "Show timestamps";
        until: String = '-' "until" <string> "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)";
    }
}

/// The longest line that is kept together; longer ones are printed in pieces.
const MAX_LINE: usize = 1024 * 1024;

/// From where a container's output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Everything of its present run.
    ThisRun,
    /// Only what comes from now on.
    FromNow,
    /// All it ever wrote.
    Everything,
}

/// Colours of names, as Docker's: cyan, yellow, green, magenta, blue, then the bright ones.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];

/// Prints lines of several containers, each with its name in front.
pub struct Painter {
    prefix: bool,
    timestamps: bool,
    names: Rc<RefCell<Names>>,
    tasks: BTreeMap<String, tokio::task::JoinHandle<()>>,
    sender: mpsc::UnboundedSender<Line>,
    printer: Option<tokio::task::JoinHandle<()>>,
    gate: watch::Sender<bool>,
}

#[derive(Default)]
struct Names {
    known: Vec<String>,
}

struct Line {
    name: String,
    colour: usize,
    width: usize,
    text: Vec<u8>,
    to_stderr: bool,
}

impl Painter {
    /// A painter.
    pub fn new(colours: bool, prefix: bool, timestamps: bool) -> Self {
        let (sender, mut lines) = mpsc::unbounded_channel::<Line>();
        let (gate, mut open) = watch::channel(true);
        let printer = tokio::spawn(async move {
            if open.wait_for(|open| *open).await.is_err() {
                return;
            }
            while let Some(line) = lines.recv().await {
                let bytes = line.bytes(colours, prefix);
                let written = if line.to_stderr && !prefix {
                    io::stderr().lock().write_all(&bytes)
                } else {
                    output::write(&bytes)
                };
                // Nobody reads any more: the containers go on, the printing ends.
                if written.is_err() {
                    return;
                }
            }
        });
        Painter {
            prefix,
            timestamps,
            names: Rc::default(),
            tasks: BTreeMap::new(),
            sender,
            printer: Some(printer),
            gate,
        }
    }

    /// Lines wait while a live table is on the screen.
    pub fn hold(&self, hold: bool) {
        self.gate.send_replace(!hold);
    }

    fn place(&self, name: &str) -> (usize, usize) {
        let mut names = self.names.borrow_mut();
        let index = names.known.iter().position(|known| known == name).unwrap_or_else(|| {
            names.known.push(name.to_owned());
            names.known.len() - 1
        });
        (index, names.known.iter().map(|name| name.chars().count()).max().unwrap_or(0))
    }

    /// Makes room for names that will come, so that lines stand in one column from the beginning.
    pub fn expect(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.place(&name);
        }
    }

    /// A line of our own about a container.
    pub fn say(&self, name: &str, text: &str) {
        let short = short(name);
        let (colour, width) = self.place(&short);
        if self.prefix {
            let text = format!("{short} {text}").into_bytes();
            let _ = self.sender.send(Line { name: String::new(), colour, width, text, to_stderr: false });
        }
    }

    /// Follows a container's output in the background.
    pub fn follow(&mut self, engine: &Engine, id: &str, name: &str, _service: &str, from: Follow) {
        let query = Query { follow: true, from: Some(from), timestamps: self.timestamps, ..Query::default() };
        let task = self.start(engine, id, name, query);
        if let Some(before) = self.tasks.insert(id.to_owned(), task)
            && from == Follow::FromNow
        {
            before.abort();
        }
    }

    fn start(&self, engine: &Engine, id: &str, name: &str, query: Query) -> tokio::task::JoinHandle<()> {
        let short = short(name);
        let (colour, width) = self.place(&short);
        let (engine, id, sender) = (engine.clone(), id.to_owned(), self.sender.clone());
        tokio::spawn(async move {
            let line =
                |text: Vec<u8>, to_stderr| Line { name: short.clone(), colour, width, text, to_stderr };
            if let Err(failure) =
                read(&engine, &id, &query, |text, to_stderr| sender.send(line(text, to_stderr)).is_ok()).await
                && !failure.message.contains("No such container")
            {
                let _ = sender
                    .send(line(format!("cannot read its output: {}", failure.message).into_bytes(), true));
            }
        })
    }

    /// Waits for the last lines of a container that has ended.
    pub async fn finish(&mut self, id: &str) {
        if let Some(task) = self.tasks.remove(id) {
            let _ = tokio::time::timeout(LAST_LINES, task).await;
        }
    }

    /// Waits for the last lines of all, and prints them.
    pub async fn finish_all(&mut self) {
        for (_, task) in std::mem::take(&mut self.tasks) {
            let _ = tokio::time::timeout(LAST_LINES, task).await;
        }
        let (closed, _) = mpsc::unbounded_channel();
        self.sender = closed;
        if let Some(printer) = self.printer.take() {
            let _ = printer.await;
        }
    }
}

/// How long the engine may take to hand out the last lines of a container that has ended.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(2);

impl Line {
    fn bytes(&self, colours: bool, prefix: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + 40);
        if prefix && !self.name.is_empty() {
            let name = format!("{:width$}  | ", self.name, width = self.width);
            if colours {
                let colour = COLOURS[self.colour % COLOURS.len()];
                out.extend_from_slice(format!("\x1b[{colour}m{name}\x1b[0m").as_bytes());
            } else {
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.extend_from_slice(&self.text);
        out.push(b'\n');
        out
    }
}

/// `app-web-1` to `web-1`: within a project its name says nothing.
fn short(name: &str) -> String {
    match name.split_once(['-', '_']) {
        Some((_, rest)) if !rest.is_empty() && rest.contains(['-', '_']) => rest.to_owned(),
        _ => name.to_owned(),
    }
}

/// What of a log is asked for.
#[derive(Clone, Debug, Default)]
struct Query {
    follow: bool,
    from: Option<Follow>,
    since: String,
    until: String,
    tail: String,
    timestamps: bool,
}

/// Reads a log line by line; ends when `line` says that nobody wants more.
async fn read(
    engine: &Engine,
    id: &str,
    query: &Query,
    mut line: impl FnMut(Vec<u8>, bool) -> bool,
) -> Result<(), Failure> {
    let container = engine.inspect(id).await?;
    let mut call = Call::get(format!("/containers/{}/logs", Call::segment(id)))
        .query("frames", "shared")
        .query("stdout", "1")
        .query("stderr", "1")
        .query_if("follow", query.follow)
        .query_if("timestamps", query.timestamps)
        .query_text("until", &query.until);
    call = match query.from {
        Some(Follow::ThisRun) => call.query_text("since", &begin_of_run(&container.state)),
        Some(Follow::Everything) => call,
        Some(Follow::FromNow) => call.query("tail", "0"),
        None => call.query_text("since", &query.since).query_text("tail", &query.tail),
    };
    let mut response = engine.client.call(call).await?;
    let mut lines = [Vec::new(), Vec::new()];
    let mut decoder = Decoder::default();
    while let Some(chunk) = response.chunk().await? {
        if container.config.tty {
            if !split(&mut lines[0], &chunk, |text| line(text, false)) {
                return Ok(());
            }
            continue;
        }
        decoder.push(&chunk);
        while let Some((stream, piece)) = decoder.next_piece().map_err(|error| Failure::from_error(&error))? {
            let to_stderr = stream == Stream::Stderr;
            if !split(&mut lines[usize::from(to_stderr)], &piece, |text| line(text, to_stderr)) {
                return Ok(());
            }
        }
    }
    for (index, rest) in lines.into_iter().enumerate() {
        if !rest.is_empty() {
            line(rest, index == 1);
        }
    }
    Ok(())
}

/// Where a run's output begins. What a container writes may be older than the time of its start that the engine
/// notes, so a run is cut off at the end of the one before; of one that has ended already only its start is known.
fn begin_of_run(state: &ferry_api::container::State) -> String {
    instant(if state.running { &state.finished_at } else { &state.started_at })
}

/// A time as the API takes it; nothing where there is none.
fn instant(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_second() > 0 => format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()),
        _ => String::new(),
    }
}

/// Cuts at line ends; what has no end yet stays.
fn split(rest: &mut Vec<u8>, bytes: &[u8], mut line: impl FnMut(Vec<u8>) -> bool) -> bool {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        rest.extend_from_slice(piece);
        if piece.ends_with(b"\n") || rest.len() > MAX_LINE {
            let mut whole = std::mem::take(rest);
            while whole.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                whole.pop();
            }
            if !line(whole) {
                return false;
            }
        }
    }
    true
}

/// Runs `logs`.
pub async fn logs(compose: &Compose, flags: LogsFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    let time = |text: &str| output::time::query(text).map_err(Failure::new);
    let query = Query {
        follow: flags.follow,
        from: None,
        since: if flags.since.is_empty() { String::new() } else { time(&flags.since)? },
        until: if flags.until.is_empty() { String::new() } else { time(&flags.until)? },
        tail: flags.tail.unwrap_or_default(),
        timestamps: flags.timestamps,
    };
    let chosen: Vec<_> = containers
        .iter()
        .filter(|c| !c.hook && (services.is_empty() && !c.oneoff || services.contains(&c.service)))
        .filter(|c| flags.index.is_none_or(|index| c.number.map(i64::from) == Some(index)))
        .collect();
    let mut painter =
        Painter::new(compose.colours() && !flags.no_color, !flags.no_log_prefix, flags.timestamps);
    painter.expect(chosen.iter().map(|container| short(&container.name)));
    for container in &chosen {
        let task = painter.start(&engine, &container.id, &container.name, query.clone());
        painter.tasks.insert(container.id.clone(), task);
    }
    if !flags.follow {
        for (_, task) in std::mem::take(&mut painter.tasks) {
            let _ = task.await;
        }
        painter.finish_all().await;
        return Ok(0);
    }
    follow_new(&engine, &mut painter, &services).await
}

/// New and restarted containers join in, until Ctrl-C or until nothing runs any more.
async fn follow_new(engine: &Engine, painter: &mut Painter, services: &[String]) -> Outcome {
    let watch = Watch::start(engine).await?;
    let mut listener = watch.subscribe();
    loop {
        let running = observe_containers(engine).await?;
        let any = |c: &ferry_compose::found::FoundContainer| {
            c.status.is_up() && (services.is_empty() || services.contains(&c.service))
        };
        if !running.iter().any(any) {
            painter.finish_all().await;
            return Ok(0);
        }
        tokio::select! {
            event = listener.recv() => {
                let Ok(event) = event else { continue };
                let attribute = |key: &str| event.actor.attributes.get(key).cloned().unwrap_or_default();
                let service = attribute(labels::SERVICE);
                if event.action == "start" && (services.is_empty() || services.contains(&service)) {
                    painter.follow(engine, &event.actor.id, &attribute("name"), &service, Follow::ThisRun);
                }
            }
            _ = tokio::signal::ctrl_c() => return Err(Failure::silent(130)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_ends() {
        let mut rest = Vec::new();
        let mut found = Vec::new();
        for chunk in ["a\nb", "c\r\n", "d"] {
            split(&mut rest, chunk.as_bytes(), |line| {
                found.push(String::from_utf8(line).unwrap());
                true
            });
        }
        assert_eq!((found, rest), (vec!["a".to_owned(), "bc".to_owned()], b"d".to_vec()));
    }

    #[test]
    fn short_names() {
        for (name, expected) in
            [("app-web-1", "web-1"), ("app_web_1", "web_1"), ("fixed", "fixed"), ("my-name", "my-name")]
        {
            assert_eq!(short(name), expected);
        }
    }
}

//! What the network service has to say, one line per event to standard error: a daemon's is the
//! engine's log. The lines look as the engine's do; a whole logging library would be a third of
//! the keeper's memory.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use ferry_shim::clock::now_text;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Sends events of the whole process to standard error from now on.
pub fn start() {
    // Fails when the program set up its own; then that one is meant.
    let _ = tracing::subscriber::set_global_default(Lines);
}

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= LevelFilter::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    // Nothing here opens spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { text: String::new(), fields: String::new() };
        event.record(&mut line);
        let level = event.metadata().level();
        let text = format!("{} {level:>5} keeper: {}{}\n", now_text(), line.text, line.fields);
        // There is nowhere else to say that the log cannot be written.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message and its fields.
struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_the_message() {
        struct Keep(std::sync::mpsc::Sender<String>);
        impl Subscriber for Keep {
            fn enabled(&self, metadata: &Metadata<'_>) -> bool {
                Lines.enabled(metadata)
            }
            fn new_span(&self, attributes: &Attributes<'_>) -> Id {
                Lines.new_span(attributes)
            }
            fn record(&self, _: &Id, _: &Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn event(&self, event: &Event<'_>) {
                let mut line = Line { text: String::new(), fields: String::new() };
                event.record(&mut line);
                self.0.send(line.text + &line.fields).unwrap();
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }
        let (sender, lines) = std::sync::mpsc::channel();
        tracing::subscriber::with_default(Keep(sender), || {
            tracing::warn!(container = "web", port = 80, "cannot be published");
            tracing::debug!("not said");
        });
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["cannot be published container=\"web\" port=80"]);
    }
}

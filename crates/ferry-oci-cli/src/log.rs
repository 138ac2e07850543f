//! Messages, in logrus' two formats: to stderr, or to the file that the caller reads them from.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use crate::error::CliError;

/// Where messages go.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    file: Option<Arc<File>>,
    json: bool,
}

impl Log {
    pub fn stderr() -> Log {
        Log { file: None, json: false }
    }

    /// Appends to a file.
    pub fn open(path: &str, format: &str) -> Result<Log, CliError> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(CliError::file("open log file", path))?;
        let mut log = Log { file: Some(Arc::new(file)), json: false };
        log.set_format(format)?;
        Ok(log)
    }

    pub fn set_format(&mut self, format: &str) -> Result<(), CliError> {
        self.json = match format {
            "text" => false,
            "json" => true,
            _ => return Err(CliError::usage(format!("invalid log-format: {format}"))),
        };
        Ok(())
    }

    /// Something that the container goes without.
    pub fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// The reason of a failure; on stderr too where messages go elsewhere.
    pub fn fatal(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            self.print(&format!("{message}\n"));
        }
    }

    fn write(&self, level: &str, message: &str) {
        let time = format!("{:.0}", jiff::Timestamp::now());
        let line = if self.json {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        } else {
            format!("time={time:?} level={level} msg={message:?}\n")
        };
        match &self.file {
            // A log that cannot be written must not keep a container from being started or deleted.
            Some(file) => drop((&**file).write_all(line.as_bytes())),
            None => self.print(&line),
        }
    }

    fn print(&self, line: &str) {
        drop(std::io::stderr().write_all(line.as_bytes()));
    }
}

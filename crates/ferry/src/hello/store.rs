//! `hello store`: keeps counters. A client sends `add NAME` or `get NAME` in a line and gets the number.
//!
//! ```text
//! /data/counters      NAME NUMBER per line, replaced whole at every change
//! ```

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The port that is listened on.
pub const PORT: u16 = 7000;
/// Longest line of a client.
const MAX_LINE: u64 = 256;
/// Most counters kept.
const MAX_COUNTERS: usize = 10_000;
/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(60);

type Counters = Arc<Mutex<BTreeMap<String, u64>>>;

/// Serves for ever.
pub fn serve() -> io::Result<()> {
    let folder = Path::new("/data");
    std::fs::create_dir_all(folder)?;
    let counters: Counters = Arc::new(Mutex::new(load(folder)?));
    let listener = TcpListener::bind(("::", PORT)).or_else(|_| TcpListener::bind(("0.0.0.0", PORT)))?;
    println!("store: listening on port {PORT}, data under {}", folder.display());
    for stream in listener.incoming() {
        let (stream, counters) = (stream?, counters.clone());
        std::thread::spawn(move || {
            // A client that goes away in the middle concerns nobody else.
            let _ = talk(stream, &counters, folder);
        });
    }
    Ok(())
}

fn load(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    let text = match std::fs::read_to_string(folder.join("counters")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect())
}

fn save(folder: &Path, counters: &BTreeMap<String, u64>) -> io::Result<()> {
    let text: String = counters.iter().map(|(name, number)| format!("{name} {number}\n")).collect();
    let temporary = folder.join("counters.new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, folder.join("counters"))
}

fn talk(stream: TcpStream, counters: &Counters, folder: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = answer(line.trim(), counters, folder);
        writeln!(writer, "{answer}")?;
    }
}

fn answer(line: &str, counters: &Counters, folder: &Path) -> String {
    let Ok(mut counters) = counters.lock() else { return "error: the store is broken".into() };
    match line.split_once(' ') {
        Some(("get", name)) => counters.get(name).copied().unwrap_or(0).to_string(),
        Some(("add", name)) if !name.contains(char::is_whitespace) => {
            if counters.len() >= MAX_COUNTERS && !counters.contains_key(name) {
                return "error: too many counters".into();
            }
            let number = counters.entry(name.to_owned()).or_insert(0);
            *number += 1;
            let number = *number;
            match save(folder, &counters) {
                Ok(()) => number.to_string(),
                Err(error) => format!("error: {error}"),
            }
        }
        _ => "error: say 'add NAME' or 'get NAME'".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let counters: Counters = Arc::default();
        for (line, wanted) in [("add hits", "1"), ("add hits", "2"), ("get hits", "2"), ("get other", "0")] {
            assert_eq!(answer(line, &counters, folder.path()), wanted);
        }
        assert!(answer("remove hits", &counters, folder.path()).starts_with("error"));
        assert_eq!(load(folder.path()).unwrap()["hits"], 2);
    }
}

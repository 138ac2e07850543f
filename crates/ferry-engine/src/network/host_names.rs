//! `NAME.ferry.localhost`: names of running containers in a file that the host's resolver reads
//! (usually `/etc/hosts`), where the engine was asked to keep them there.
//!
//! Only lines between this engine's own two marks are ever touched.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::live::addresses;
use crate::engine::Engine;

/// What follows a container's name.
const SUFFIX: &str = "ferry.localhost";

/// Makes the file say what runs now. A failure is logged: no container depends on it.
pub fn refresh(engine: &Arc<Engine>) {
    /// Two writers would undo each other.
    static WRITING: Mutex<()> = Mutex::new(());
    let Some(path) = &engine.options.names_file else { return };
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = ferry_net::service::table_name(&engine.options.data_root);
    let result = std::fs::read_to_string(path).and_then(|text| {
        let edited = replace_block(&text, &mark, &lines(engine));
        if edited == text { Ok(()) } else { write(path, &edited) }
    });
    if let Err(error) = result {
        tracing::warn!(file = %path.display(), %error, "the host does not know the containers' names");
    }
}

fn lines(engine: &Engine) -> String {
    let mut running: Vec<_> =
        engine.containers.all().into_iter().filter(|one| one.status().has_process()).collect();
    running.sort_by_key(|one| one.lock().record.name.clone());
    let mut text = String::new();
    for container in running {
        let inner = container.lock();
        for settings in inner.record.endpoints.values() {
            for address in addresses([&settings.ip_address, &settings.global_ipv6_address]) {
                let _ = writeln!(text, "{address}\t{}.{SUFFIX}", inner.record.name);
            }
        }
    }
    text
}

/// The text with the lines between this engine's marks replaced.
fn replace_block(text: &str, mark: &str, lines: &str) -> String {
    let (begin, end) = (format!("# {mark}: names of containers"), format!("# {mark}: end"));
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            line if line == begin => inside = true,
            line if line == end => inside = false,
            line if !inside => kept.extend([line, "\n"]),
            _ => {}
        }
    }
    if !lines.is_empty() {
        let _ = write!(kept, "{begin}\n{lines}{end}\n");
    }
    kept
}

/// Whole at once where the folder allows it; in place where the file is a mount.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("ferry-new");
    let replaced = std::fs::write(&temporary, text).and_then(|()| {
        std::fs::set_permissions(&temporary, std::fs::metadata(path)?.permissions())?;
        std::fs::rename(&temporary, path)
    });
    match replaced {
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            std::fs::remove_file(&temporary)?;
            std::fs::write(path, text)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_block_changes() {
        let file = "127.0.0.1 localhost\n# ferry-1: names of containers\nold\n# ferry-1: end\n# mine\n";
        let edited = replace_block(file, "ferry-1", "172.17.0.2\tweb.ferry.localhost\n");
        assert_eq!(
            edited,
            "127.0.0.1 localhost\n# mine\n# ferry-1: names of containers\n\
             172.17.0.2\tweb.ferry.localhost\n# ferry-1: end\n"
        );
        assert_eq!(replace_block(&edited, "ferry-1", ""), "127.0.0.1 localhost\n# mine\n");
        assert_eq!(replace_block(file, "ferry-2", ""), file);
    }
}

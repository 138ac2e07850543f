//! `ps`: the processes of a container, as the host's ps shows them.

use std::process::Command;

use crate::Global;
use crate::arguments::{Flag, parse};
use crate::error::CliError;
use crate::list::print;
use crate::state::Directory;

const FLAGS: &[Flag] = &[Flag::value("format", "f")];

/// Runs `ps`.
pub(crate) fn ps(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(FLAGS, words)?;
    let Some((id, options)) = parsed.arguments.split_first() else {
        return Err(CliError::usage("\"ps\" requires a minimum of 1 argument"));
    };
    // Flags of our own may follow the name too.
    let mut options = options.to_vec();
    let mut format = parsed.value("format").unwrap_or("table").to_owned();
    if let [flag, value, ..] = options.as_slice()
        && (flag == "--format" || flag == "-f" && (value == "json" || value == "table"))
    {
        format = value.clone();
        options.drain(..2);
    }
    let directory = Directory::open(&global.root, id)?;
    let state = directory.read()?;
    let pids = match state.cgroup()? {
        Some(cgroup) => cgroup.processes()?,
        None => vec![state.init_process_pid],
    };
    match format.as_str() {
        "json" => print(&serde_json::to_string(&pids).expect("numbers always serialize")),
        "table" => table(&pids, &options),
        _ => Err(CliError::usage("invalid format option")),
    }
}

fn table(pids: &[i32], options: &[String]) -> Result<i32, CliError> {
    let options = if options.is_empty() { vec!["-ef".to_owned()] } else { options.to_vec() };
    let output = Command::new("ps").args(&options).output().map_err(CliError::file("run", "ps"))?;
    if !output.status.success() {
        return Err(CliError::other(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_ascii_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| CliError::other("couldn't find PID field in ps output"))?;
    let mut shown = vec![head];
    shown.extend(lines.filter(|line| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    }));
    print(&shown.join("\n"))
}

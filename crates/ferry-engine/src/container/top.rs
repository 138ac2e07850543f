//! `docker top`: the processes of a container, as `ps` on the host would show them.
//!
//! Read from `/proc` directly: no `ps` need be installed. The options understood are the ones people use:
//! `-ef`, `aux`, and a list of columns with `-o`.

use std::collections::HashMap;

use ferry_api::container::Top;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Ticks per second of the times in `/proc/PID/stat`.
const TICKS: u64 = 100;

/// `ps` options that are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopError {
    /// An option other than the known ones.
    #[error("ps arguments {0:?} are not supported: use -ef, aux, or -o COLUMN,...")]
    Arguments(String),
    /// A column nobody knows.
    #[error(
        "ps column {0:?} is not supported: use pid, ppid, user, uid, gid, comm, args, time, etime, stime, tty, stat, nice, rss, vsz, pcpu or nlwp"
    )]
    Column(String),
}

/// A column and its title.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    kind: Kind,
    title: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Uid,
    Gid,
    Pid,
    Parent,
    CpuShare,
    CpuPercent,
    MemoryPercent,
    StartTime,
    Elapsed,
    Terminal,
    State,
    Time,
    Virtual,
    Resident,
    Threads,
    Nice,
    Name,
    Command,
}

const NAMES: &[(&str, Kind, &str)] = &[
    ("user", Kind::User, "USER"),
    ("euser", Kind::User, "EUSER"),
    ("uid", Kind::Uid, "UID"),
    ("gid", Kind::Gid, "GID"),
    ("pid", Kind::Pid, "PID"),
    ("ppid", Kind::Parent, "PPID"),
    ("c", Kind::CpuShare, "C"),
    ("pcpu", Kind::CpuPercent, "%CPU"),
    ("%cpu", Kind::CpuPercent, "%CPU"),
    ("pmem", Kind::MemoryPercent, "%MEM"),
    ("%mem", Kind::MemoryPercent, "%MEM"),
    ("stime", Kind::StartTime, "STIME"),
    ("start", Kind::StartTime, "START"),
    ("etime", Kind::Elapsed, "ELAPSED"),
    ("tty", Kind::Terminal, "TT"),
    ("tname", Kind::Terminal, "TTY"),
    ("stat", Kind::State, "STAT"),
    ("s", Kind::State, "S"),
    ("time", Kind::Time, "TIME"),
    ("cputime", Kind::Time, "TIME"),
    ("vsz", Kind::Virtual, "VSZ"),
    ("rss", Kind::Resident, "RSS"),
    ("nlwp", Kind::Threads, "NLWP"),
    ("ni", Kind::Nice, "NI"),
    ("nice", Kind::Nice, "NI"),
    ("comm", Kind::Name, "COMMAND"),
    ("ucmd", Kind::Name, "CMD"),
    ("args", Kind::Command, "COMMAND"),
    ("cmd", Kind::Command, "CMD"),
    ("command", Kind::Command, "COMMAND"),
];

/// Reads `ps` options into columns.
fn columns(arguments: &str) -> Result<Vec<Column>, TopError> {
    let fixed = |list: &[(Kind, &str)]| {
        list.iter().map(|(kind, title)| Column { kind: *kind, title: (*title).to_owned() }).collect()
    };
    let words: Vec<&str> = arguments.split_whitespace().collect();
    match words.as_slice() {
        [] | ["-ef" | "-fe"] => Ok(fixed(&[
            (Kind::User, "UID"),
            (Kind::Pid, "PID"),
            (Kind::Parent, "PPID"),
            (Kind::CpuShare, "C"),
            (Kind::StartTime, "STIME"),
            (Kind::Terminal, "TTY"),
            (Kind::Time, "TIME"),
            (Kind::Command, "CMD"),
        ])),
        ["aux" | "-aux" | "auxww" | "auxw"] => Ok(fixed(&[
            (Kind::User, "USER"),
            (Kind::Pid, "PID"),
            (Kind::CpuPercent, "%CPU"),
            (Kind::MemoryPercent, "%MEM"),
            (Kind::Virtual, "VSZ"),
            (Kind::Resident, "RSS"),
            (Kind::Terminal, "TTY"),
            (Kind::State, "STAT"),
            (Kind::StartTime, "START"),
            (Kind::Time, "TIME"),
            (Kind::Command, "COMMAND"),
        ])),
        ["-o" | "-eo" | "-Ao" | "-axo" | "axo", lists @ ..] if !lists.is_empty() => lists
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty())
            .map(column)
            .collect(),
        _ => Err(TopError::Arguments(arguments.to_owned())),
    }
}

fn column(text: &str) -> Result<Column, TopError> {
    let (name, title) = text.split_once('=').unwrap_or((text, ""));
    let found = NAMES.iter().find(|(known, _, _)| *known == name.to_ascii_lowercase());
    let (_, kind, default) = found.ok_or_else(|| TopError::Column(name.to_owned()))?;
    let title = if title.is_empty() { (*default).to_owned() } else { title.to_owned() };
    Ok(Column { kind: *kind, title })
}

/// What `/proc` says of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    uid: u32,
    gid: u32,
    name: String,
    command: String,
    state: char,
    terminal: u32,
    ticks: u64,
    start_ticks: u64,
    threads: u64,
    nice: i64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// The table for these processes.
pub fn top(pids: &[i32], arguments: &str, memory: u64) -> Result<Top, TopError> {
    let columns = columns(arguments)?;
    let host = HostClock::read(memory);
    let processes = pids.iter().filter_map(|pid| Process::read(*pid));
    Ok(Top {
        titles: columns.iter().map(|column| column.title.clone()).collect(),
        processes: processes
            .map(|process| columns.iter().map(|column| process.cell(column.kind, &host)).collect())
            .collect(),
    })
}

struct HostClock {
    boot: i64,
    now: Timestamp,
    memory: u64,
    users: HashMap<u32, String>,
}

impl HostClock {
    fn read(memory: u64) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot =
            stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        });
        Self { boot, now: Timestamp::now(), memory, users: users.collect() }
    }

    fn started(&self, process: &Process) -> Timestamp {
        let seconds = self.boot + i64::try_from(process.start_ticks / TICKS).unwrap_or(0);
        Timestamp::new(seconds, 0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn running_for(&self, process: &Process) -> u64 {
        let span = self.now.duration_since(self.started(process));
        u64::try_from(span.as_secs()).unwrap_or(0)
    }
}

impl Process {
    /// `None` when it has ended meanwhile.
    fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Self::parse(pid, &file("stat").ok()?, &file("status").unwrap_or_default(), &command)
    }

    fn parse(pid: i32, stat: &str, status: &str, command: &[u8]) -> Option<Self> {
        // The name stands in parentheses and may hold anything, parentheses too.
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let id = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let words: Vec<_> = command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        let line = words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            uid: id("Uid:"),
            gid: id("Gid:"),
            command: if line.is_empty() { format!("[{name}]") } else { line },
            name,
            state: fields.first()?.chars().next()?,
            terminal: u32::try_from(number(4)).unwrap_or(0),
            ticks: number(11) + number(12),
            start_ticks: number(19),
            threads: number(17),
            nice: fields.get(16).and_then(|text| text.parse().ok()).unwrap_or(0),
            virtual_bytes: number(20),
            resident_pages: number(21),
        })
    }

    fn cell(&self, kind: Kind, host: &HostClock) -> String {
        let page = rustix::param::page_size() as u64;
        let percent = |part: f64, whole: f64| if whole > 0.0 { part * 100.0 / whole } else { 0.0 };
        let busy = percent((self.ticks / TICKS) as f64, host.running_for(self) as f64);
        match kind {
            Kind::User => host.users.get(&self.uid).cloned().unwrap_or_else(|| self.uid.to_string()),
            Kind::Uid => self.uid.to_string(),
            Kind::Gid => self.gid.to_string(),
            Kind::Pid => self.pid.to_string(),
            Kind::Parent => self.parent.to_string(),
            Kind::CpuShare => format!("{}", busy.min(99.0) as u64),
            Kind::CpuPercent => format!("{busy:.1}"),
            Kind::MemoryPercent => {
                format!("{:.1}", percent((self.resident_pages * page) as f64, host.memory as f64))
            }
            Kind::StartTime => host.started(self).to_zoned(TimeZone::system()).strftime("%H:%M").to_string(),
            Kind::Elapsed => clock_time(host.running_for(self), false),
            Kind::Terminal => terminal(self.terminal),
            Kind::State => self.state.to_string(),
            Kind::Time => clock_time(self.ticks / TICKS, true),
            Kind::Virtual => (self.virtual_bytes / 1024).to_string(),
            Kind::Resident => (self.resident_pages * page / 1024).to_string(),
            Kind::Threads => self.threads.to_string(),
            Kind::Nice => self.nice.to_string(),
            Kind::Name => self.name.clone(),
            Kind::Command => self.command.clone(),
        }
    }
}

fn clock_time(seconds: u64, with_hours: bool) -> String {
    let (days, hours, minutes, rest) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, with_hours || hours > 0) {
        (0, true) => format!("{hours:02}:{minutes:02}:{rest:02}"),
        (0, false) => format!("{minutes:02}:{rest:02}"),
        (days, _) => format!("{days}-{hours:02}:{minutes:02}:{rest:02}"),
    }
}

/// Name of a terminal by its device number.
fn terminal(device: u32) -> String {
    const PTS: std::ops::RangeInclusive<u32> = 136..=143;
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => "?".into(),
        major if PTS.contains(&major) => format!("pts/{minor}"),
        4 => format!("tty{minor}"),
        _ => format!("{major},{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_columns() {
        let titles = |text: &str| {
            columns(text)
                .map(|list| list.into_iter().map(|column| column.title).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(titles("").as_deref(), Ok("UID PID PPID C STIME TTY TIME CMD"));
        assert_eq!(titles("-ef").as_deref(), Ok("UID PID PPID C STIME TTY TIME CMD"));
        assert_eq!(titles("aux").as_deref(), Ok("USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"));
        assert_eq!(titles("-o pid,comm=NAME").as_deref(), Ok("PID NAME"));
        assert!(matches!(titles("-o pid,xyz"), Err(TopError::Column(_))));
        assert!(matches!(titles("--forest"), Err(TopError::Arguments(_))));
    }

    #[test]
    fn processes_parse_with_any_name() {
        let stat = "7 (a) b(c) S 1 7 7 34816 7 4194304 1 2 3 4 150 50 0 0 20 5 3 0 1000 4096000 25 1844";
        let status = "Name:\tx\nUid:\t5\t6\t6\t6\nGid:\t7\t8\t8\t8\n";
        let process = Process::parse(7, stat, status, b"sh\0-c\0x y\0").unwrap();
        assert_eq!((process.name.as_str(), process.command.as_str()), ("a) b(c", "sh -c x y"));
        assert_eq!((process.parent, process.uid, process.gid, process.state), (1, 6, 8, 'S'));
        assert_eq!((process.ticks, process.start_ticks, process.threads, process.nice), (200, 1000, 3, 5));
        assert_eq!(terminal(process.terminal), "pts/0");
        assert_eq!(clock_time(3725, true), "01:02:05");
        assert_eq!(clock_time(65, false), "01:05");
        assert_eq!(clock_time(90_000, true), "1-01:00:00");
        assert!(Process::parse(7, "garbage", "", b"").is_none());
    }
}

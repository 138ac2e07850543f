//! Whom to ask for names outside: the host's resolv.conf, as it changes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The most servers asked, as the C library's resolver has it.
const MOST_SERVERS: usize = 3;
/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// No resolver configuration is larger; more is not read.
const LARGEST_FILE: usize = 64 << 10;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines.
    pub servers: Vec<IpAddr>,
    /// The last `search` or `domain` line.
    pub search: Vec<String>,
    /// `options` words.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the lines that matter; others are nobody's loss.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address: Option<IpAddr> =
                        words.next().and_then(|word| word.split('%').next()?.parse().ok());
                    conf.servers.extend(address);
                }
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }
}

/// The host's resolver configuration as containers can use it: where it points to
/// a resolver on the host's loopback, the servers behind that resolver when known.
pub fn host_resolv_conf() -> ResolvConf {
    let conf = read(Path::new("/etc/resolv.conf"));
    if !conf.servers.iter().all(IpAddr::is_loopback) {
        return conf;
    }
    let behind = read(Path::new("/run/systemd/resolve/resolv.conf"));
    ResolvConf { servers: behind.servers, ..conf }
}

fn read(path: &Path) -> ResolvConf {
    // A host without the file has no servers; names outside are then refused.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let end = text.floor_char_boundary(LARGEST_FILE.min(text.len()));
    ResolvConf::parse(&text[..end])
}

/// The host's servers, read again when the file changes.
#[derive(Debug)]
pub(crate) struct HostServers {
    path: PathBuf,
    looked: Option<Instant>,
    changed: Option<SystemTime>,
    servers: Vec<IpAddr>,
}

impl HostServers {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), looked: None, changed: None, servers: Vec::new() }
    }

    /// The servers now.
    pub(crate) fn get(&mut self, now: Instant) -> &[IpAddr] {
        let due = self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_INTERVAL);
        if due {
            self.looked = Some(now);
            let changed = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
            if self.changed != changed || self.servers.is_empty() {
                self.changed = changed;
                self.servers = read(&self.path).servers;
                self.servers.truncate(MOST_SERVERS);
            }
        }
        &self.servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_lines() {
        let text = "# made by hand\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver bad\n\
                    domain a\nsearch b.example c.example\noptions ndots:2 edns0\noptions trust-ad\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(conf.servers, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(conf.search, ["b.example", "c.example"]);
        assert_eq!(conf.options, ["ndots:2", "edns0", "trust-ad"]);
    }

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let file = std::env::temp_dir().join(format!("ferry-resolv-{}", std::process::id()));
        std::fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
        let mut servers = HostServers::new(&file);
        let start = Instant::now();
        assert_eq!(servers.get(start), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        std::fs::write(&file, "nameserver 10.0.0.2\n").unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_eq!(servers.get(start + LOOK_INTERVAL), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        std::fs::remove_file(&file).unwrap();
    }
}

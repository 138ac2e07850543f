//! The files every container finds under `/etc`: `hostname`, `hosts`, `resolv.conf`.
//!
//! Written at each start. A container that shares another's network shares its files; one that has the
//! host's network sees the host's names.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Container;
use super::record::Record;
use super::start::StartError;
use crate::engine::Engine;
use crate::network::{Attachment, Mode};
use crate::spec::EtcFiles;

/// Where a container's files are, written or not. One that shares another's network shares its files.
pub fn places(engine: &Engine, container: &Container, record: &Record) -> EtcFiles {
    let own = EtcFiles {
        hostname: container.dir.hostname_path(),
        hosts: container.dir.hosts_path(),
        resolv_conf: container.dir.resolv_conf_path(),
    };
    let Mode::Container(peer) = Mode::parse(&record.host_config.network_mode) else { return own };
    match engine.containers.find(peer) {
        Ok(peer) => {
            EtcFiles { hosts: peer.dir.hosts_path(), resolv_conf: peer.dir.resolv_conf_path(), ..own }
        }
        Err(_) => own,
    }
}

/// Writes the files and tells where they are.
pub fn write(
    engine: &Engine,
    container: &Container,
    record: &Record,
    attachment: &Attachment,
) -> Result<EtcFiles, StartError> {
    let own = places(engine, container, record);
    let mode = Mode::parse(&record.host_config.network_mode);
    if own.hosts != container.dir.hosts_path() {
        put(&own.hostname, &format!("{}\n", record.config.hostname))?;
        return Ok(own);
    }
    put(&own.hostname, &format!("{}\n", record.config.hostname))?;
    let host_file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hosts = match mode {
        Mode::Host => host_file("/etc/hosts") + &extra_hosts(record, attachment),
        Mode::None | Mode::Container(_) | Mode::Network(_) => hosts(record, attachment),
    };
    put(&own.hosts, &hosts)?;
    put(&own.resolv_conf, &resolv_conf(record, attachment, &host_file("/etc/resolv.conf")))?;
    Ok(own)
}

fn put(path: &Path, text: &str) -> Result<(), StartError> {
    std::fs::write(path, text).map_err(|source| StartError::Write { path: path.to_path_buf(), source })
}

/// Docker's `/etc/hosts`.
fn hosts(record: &Record, attachment: &Attachment) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    text.push_str(&extra_hosts(record, attachment));
    for (address, names) in &attachment.hosts {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    text
}

/// After a running container joined or left a network: its own lines of `hosts` change, all
/// others stay as they are, and so does a `resolv.conf` that somebody wrote to meanwhile.
pub fn networks_changed(container: &Container, record: &Record, before: &Attachment, after: &Attachment) {
    let gone: Vec<IpAddr> = before.hosts.iter().map(|(address, _)| *address).collect();
    edit_hosts(container, &gone, &after.hosts);
    let path = container.dir.resolv_conf_path();
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (former, now) = (resolv_conf(record, before, &host), resolv_conf(record, after, &host));
    let untouched = || std::fs::read_to_string(&path).is_ok_and(|text| text == former);
    if former != now && untouched() {
        put_or_warn(container, &path, &now);
    }
}

/// Takes the lines of addresses that a container does not have any more out of its `hosts`.
pub fn forget_addresses(container: &Container, addresses: &[IpAddr]) {
    edit_hosts(container, addresses, &[]);
}

fn edit_hosts(container: &Container, gone: &[IpAddr], new: &[(IpAddr, Vec<String>)]) {
    let path = container.dir.hosts_path();
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let edited = replace_hosts(&text, gone, new);
    if edited != text {
        put_or_warn(container, &path, &edited);
    }
}

fn put_or_warn(container: &Container, path: &Path, text: &str) {
    if let Err(error) = overwrite(path, text) {
        tracing::warn!(container = %container.id, %error, "the container does not see its changed networks");
    }
}

/// The container has these files open as mounts, so that they are written in place; and never emptied before, for an
/// engine may be killed in any moment.
fn overwrite(path: &Path, text: &str) -> std::io::Result<()> {
    let file = std::fs::File::options().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

fn replace_hosts(text: &str, gone: &[IpAddr], new: &[(IpAddr, Vec<String>)]) -> String {
    let is_gone = |line: &&str| {
        let address = line.split_whitespace().next().and_then(|word| word.parse().ok());
        address.is_some_and(|address| gone.contains(&address))
    };
    let mut edited: String =
        text.lines().filter(|line| !is_gone(line)).flat_map(|line| [line, "\n"]).collect();
    for (address, names) in new {
        let _ = writeln!(edited, "{address}\t{}", names.join(" "));
    }
    edited
}

/// `--add-host NAME:ADDRESS`.
fn extra_hosts(record: &Record, attachment: &Attachment) -> String {
    let mut text = String::new();
    for entry in record.host_config.extra_hosts.iter().flatten() {
        let Some((name, address)) = entry.split_once([':', '=']) else { continue };
        let gateway = attachment.host_gateway.filter(|_| address == "host-gateway").map(|ip| ip.to_string());
        let address = gateway.as_deref().unwrap_or(address.trim_matches(['[', ']']));
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// Name servers of the container: those asked for, those of its network, or the host's that it can reach.
fn resolv_conf(record: &Record, attachment: &Attachment, host: &str) -> String {
    let config = &record.host_config;
    let own_network = !matches!(Mode::parse(&config.network_mode), Mode::Host);
    let mut text = String::new();
    let asked: Vec<String> = config.dns.clone().unwrap_or_default();
    let servers: Vec<String> = match (attachment.name_servers.is_empty(), asked.is_empty()) {
        (false, _) => attachment.name_servers.iter().map(IpAddr::to_string).collect(),
        (true, false) => asked,
        (true, true) => host_values(host, "nameserver")
            .flatten()
            .filter(|server| !(own_network && is_loopback(server)))
            .map(str::to_owned)
            .collect(),
    };
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let lists = [("search", &config.dns_search), ("options", &config.dns_options)];
    for (keyword, asked) in lists {
        let mut words: Vec<String> = match asked {
            Some(asked) if !asked.is_empty() => asked.clone(),
            _ => host_values(host, keyword).flatten().map(str::to_owned).collect(),
        };
        // The containers' names have no dots, so they are asked for before the search list is tried.
        let sets_ndots = words.iter().any(|word| word.starts_with("ndots:"));
        if keyword == "options" && !attachment.name_servers.is_empty() && !sets_ndots {
            words.push("ndots:0".into());
        }
        // A single dot asks for no search list at all.
        if !words.is_empty() && words != ["."] {
            let _ = writeln!(text, "{keyword} {}", words.join(" "));
        }
    }
    text
}

fn host_values<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = std::str::SplitWhitespace<'a>> {
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(keyword)).then_some(words)
    })
}

fn is_loopback(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use ferry_api::container::HostConfig;

    use super::*;

    fn record(host_config: HostConfig) -> Record {
        let text = r#"{"version":1,"id":"abc","name":"web","created":"","image_id":"","layers":[],
            "config":{"Hostname":"box"},"host_config":{},"state":{}}"#;
        Record { host_config, ..Record::decode("abc", text.as_bytes()).unwrap() }
    }

    #[test]
    fn names_come_from_the_request_the_network_or_the_host() {
        let host = "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch corp.example a.example\n";
        let plain = record(HostConfig::default());
        let text = resolv_conf(&plain, &Attachment::default(), host);
        assert_eq!(text, "nameserver 10.0.0.1\nsearch corp.example a.example\n");
        let asked = record(HostConfig {
            dns: Some(vec!["9.9.9.9".into()]),
            dns_search: Some(vec![".".into()]),
            dns_options: Some(vec!["ndots:1".into()]),
            ..HostConfig::default()
        });
        let text = resolv_conf(&asked, &Attachment::default(), host);
        assert_eq!(text, "nameserver 9.9.9.9\noptions ndots:1\n");
        let network =
            Attachment { name_servers: vec!["127.0.0.11".parse().unwrap()], ..Attachment::default() };
        assert!(resolv_conf(&plain, &network, host).starts_with("nameserver 127.0.0.11\n"));
        let on_host = record(HostConfig { network_mode: "host".into(), ..HostConfig::default() });
        assert!(resolv_conf(&on_host, &Attachment::default(), host).contains("127.0.0.53"));
    }

    #[test]
    fn own_lines_change_and_others_stay() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tbox\n# mine\n10.9.9.9 db\n";
        let new = [("10.0.1.2".parse().unwrap(), vec!["box".into()])];
        let edited = replace_hosts(text, &["10.0.0.2".parse().unwrap()], &new);
        assert_eq!(edited, "127.0.0.1\tlocalhost\n# mine\n10.9.9.9 db\n10.0.1.2\tbox\n");
    }

    #[test]
    fn hosts_have_localhost_and_what_was_added() {
        let record = record(HostConfig {
            extra_hosts: Some(vec!["db:10.1.1.1".into(), "v6:[::2]".into(), "x=1.1.1.1".into()]),
            ..HostConfig::default()
        });
        let attachment = Attachment {
            hosts: vec![("10.0.0.2".parse().unwrap(), vec!["box".into()])],
            ..Attachment::default()
        };
        let text = hosts(&record, &attachment);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.1.1.1\tdb\n::2\tv6\n1.1.1.1\tx\n10.0.0.2\tbox\n"), "{text}");
    }
}

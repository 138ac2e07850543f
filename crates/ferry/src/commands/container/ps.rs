//! `ps`.

use ferry_api::Call;
use ferry_api::container::{Port, Summary};

use crate::commands::filters;
use crate::failure::Outcome;
use crate::output::format::{self, Choice, List, Row, ellipsis, short_id};
use crate::output::{time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `ps`.
    pub struct PsFlags {
        all: bool = 'a' "all" "Show all containers (default shows just running)";
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        last: Option<i64> = 'n' "last" <int> "Show n last created containers (includes all states) (default -1)";
        latest: bool = 'l' "latest" "Show the latest created container (includes all states)";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
        quiet: bool = 'q' "quiet" "Only display container IDs";
        size: bool = 's' "size" "Display total file sizes";
    }
}

const DEFAULT: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
                   state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
                   labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

static LIST: List = List {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("HealthStatus", "HEALTH"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
    default: DEFAULT,
    quiet: "{{.ID}}",
};

/// Runs `ps`.
pub async fn ps(session: &Session, flags: PsFlags, _arguments: Vec<String>) -> Outcome {
    let filters = filters(&flags.filter)?;
    let limit = if flags.latest { Some(1) } else { flags.last.filter(|count| *count >= 0) };
    let choice = Choice {
        format: flags.format.clone(),
        configured: session.config().ps_format.clone(),
        quiet: flags.quiet,
        raw: if flags.quiet { "container_id: {{.ID}}" } else { RAW },
    };
    let size = flags.size || choice.format.contains(".Size") || choice.format.contains("json .");
    let brief = choice.format.is_empty() && choice.configured.is_empty();
    let mut call = Call::get("/containers/json")
        .query_if("all", flags.all)
        .query_if("size", size)
        .query_if("ferry-brief", brief && !size);
    if let Some(limit) = limit {
        call = call.query("limit", limit.to_string());
    }
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let containers: Vec<Summary> = session.engine().await?.call(call).await?.json().await?;
    let row = if brief { table_row } else { summary_row };
    let rows = containers.iter().map(|container| row(container, !flags.no_trunc)).collect();
    let default = if flags.size { format!("{DEFAULT}\t{{{{.Size}}}}") } else { DEFAULT.to_owned() };
    LIST.print_with(&default, &choice, rows)?;
    Ok(0)
}

/// What the table shows of one container.
fn table_row(container: &Summary, truncate: bool) -> Row {
    let id = if truncate { short_id(&container.id) } else { &container.id };
    let command = if truncate { ellipsis(&container.command, 20) } else { container.command.clone() };
    vec![
        ("ID", Value::text(id)),
        ("Image", Value::text(image_name(&container.image, truncate))),
        ("Command", Value::text(format!("\"{command}\""))),
        ("RunningFor", Value::text(time::ago(container.created))),
        ("Status", Value::text(container.status.as_str())),
        ("Ports", Value::text(ports(&container.ports))),
        ("Names", Value::text(names(&container.names, truncate))),
        ("Size", Value::text(size_text(container))),
    ]
}

fn size_text(container: &Summary) -> String {
    let own = units::size(container.size_rw.unwrap_or(0));
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", units::size(all)),
        _ => own,
    }
}

/// The row of one container, with all that a template can name.
pub fn summary_row(container: &Summary, truncate: bool) -> Row {
    let short = |text: &str, width| if truncate { ellipsis(text, width) } else { text.to_owned() };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| short(if mount.name.is_empty() { &mount.source } else { &mount.name }, 15))
        .collect();
    let local = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let health = container.health.as_ref().map(|health| health.status.as_str()).unwrap_or_default();
    let mut row = table_row(container, truncate);
    row.extend([
        ("CreatedAt", Value::text(time::local(container.created))),
        ("State", Value::text(container.state.as_str())),
        ("HealthStatus", Value::text(health)),
        ("Labels", Value::text(format::labels_cell(&container.labels))),
        ("Label", format::label_method(container.labels.clone())),
        ("Mounts", Value::text(mounts.join(","))),
        ("LocalVolumes", Value::text(local.to_string())),
        ("Networks", Value::text(networks.join(","))),
        ("Platform", Value::Nil),
    ]);
    row
}

/// Names without their slash; when shortened, links of others (`/a/b`) are left away.
fn names(names: &[String], truncate: bool) -> String {
    let plain = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    plain.filter(|name| !truncate || !name.contains('/')).collect::<Vec<_>>().join(",")
}

/// An image given by its id is shortened as ids are, a digest behind a name is cut off.
fn image_name(image: &str, truncate: bool) -> String {
    if image.is_empty() {
        return "<no image>".into();
    }
    if !truncate {
        return image.to_owned();
    }
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return short_id(image).to_owned();
    }
    image.split_once('@').map_or(image, |(name, _)| name).to_owned()
}

/// `0.0.0.0:8080->80/tcp, 90-91/udp`, as docker writes it: neighbours are one range where both
/// sides have the same numbers, ports that are led elsewhere come last.
pub fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.protocol));
    let mut texts = Vec::new();
    let mut elsewhere = Vec::new();
    let mut groups: Vec<PortGroup<'_>> = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let address = bracketed(&port.ip);
            elsewhere
                .push(format!("{address}:{}->{}/{}", port.public_port, port.private_port, port.protocol));
            continue;
        }
        let (first, last) = (port.private_port, port.private_port);
        let new = PortGroup { ip: &port.ip, protocol: &port.protocol, first, last };
        match groups.iter_mut().find(|group| group.ip == new.ip && group.protocol == new.protocol) {
            Some(group) if group.last.checked_add(1) == Some(first) => group.last = first,
            Some(group) => texts.push(std::mem::replace(group, new).text()),
            None => groups.push(new),
        }
    }
    texts.extend(groups.iter().map(PortGroup::text));
    texts.extend(elsewhere);
    texts.join(", ")
}

/// Neighbouring ports with the same number on both sides, or only the container's.
struct PortGroup<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl PortGroup<'_> {
    fn text(&self) -> String {
        let range = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.ip {
            "" => format!("{range}/{}", self.protocol),
            ip => format!("{}:{range}->{range}/{}", bracketed(ip), self.protocol),
        }
    }
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16, protocol: &str) -> Port {
        Port { ip: ip.into(), private_port, public_port, protocol: protocol.into() }
    }

    #[test]
    fn port_cells() {
        assert_eq!(
            ports(&[port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            ports(&[port("", 0, 80, "tcp"), port("", 0, 81, "tcp"), port("", 0, 90, "udp")]),
            "80-81/tcp, 90/udp"
        );
        assert_eq!(
            ports(&[
                port("0.0.0.0", 8000, 8000, "tcp"),
                port("::", 8000, 8000, "tcp"),
                port("0.0.0.0", 8001, 8001, "tcp"),
                port("::", 8001, 8001, "tcp"),
                port("0.0.0.0", 53, 53, "udp"),
                port("127.0.0.1", 9000, 82, "tcp")
            ]),
            "0.0.0.0:53->53/udp, 0.0.0.0:8000-8001->8000-8001/tcp, [::]:8000-8001->8000-8001/tcp, \
             127.0.0.1:9000->82/tcp"
        );
        assert_eq!(ports(&[port("", 18080, 80, "tcp")]), "80/tcp");
        assert_eq!(ports(&[]), "");
    }

    #[test]
    fn a_classic_table() {
        let container = Summary {
            id: "9c3786ba438c0123456789".into(),
            names: vec!["/celery01".into()],
            image: "web_app".into(),
            command: "celery -A config worker".into(),
            created: time::now() - 15 * 3600,
            status: "Exited (137) 14 hours ago".into(),
            ..Default::default()
        };
        let text = LIST.render(DEFAULT, &Choice::default(), vec![summary_row(&container, true)]).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE     COMMAND                  CREATED        STATUS                      PORTS     NAMES\n\
             9c3786ba438c   web_app   \"celery -A config wo…\"   15 hours ago   Exited (137) 14 hours ago             celery01\n"
        );
    }

    #[test]
    fn image_names() {
        let id = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(image_name(&id, true), "abababababab");
        assert_eq!(image_name(&"ab".repeat(32), true), "abababababab");
        assert_eq!(image_name("web@sha256:abc", true), "web");
        assert_eq!(image_name("", true), "<no image>");
    }
}

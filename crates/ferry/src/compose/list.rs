//! `ps`, `images`, `ls`, `port`, `top`, `volumes` and `version`.

use super::context::{Compose, pick};
use super::{COMPATIBLE_VERSION, Called};
use crate::commands::container::summary_row;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::format::{Choice, List, Row};
use crate::output::{self, units};
use crate::template::Value;
use ferry_api::container::{Summary, Top};
use ferry_api::{Call, Filters};
use ferry_compose::apply::observe_containers;
use ferry_compose::found::FoundContainer;
use ferry_compose::labels;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

crate::flags! {
    /// Flags of `ps`.
    pub struct PsFlags {
        all: bool = 'a' "all" "Show all stopped containers (including those created by the run command)";
        filter: Vec<String> = '-' "filter" <list> "Filter services by a property (supported filters: status)";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
        orphans: Option<bool> = '-' "orphans" "Include orphaned services (not declared by project) (default true)";
        quiet: bool = 'q' "quiet" "Only display IDs";
        services: bool = '-' "services" "Display services";
        status: Vec<String> = '-' "status" <list> "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]";
    }
}

crate::flags! {
    /// Flags of `images`.
    pub struct ImagesFlags {
        format: String = '-' "format" <string> "Format the output. Values: [table | json]";
        quiet: bool = 'q' "quiet" "Only display IDs";
    }
}

crate::flags! {
    /// Flags of `ls`.
    pub struct LsFlags {
        all: bool = 'a' "all" "Show all stopped Compose projects";
        filter: Vec<String> = '-' "filter" <list> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Format the output. Values: [table | json]";
        quiet: bool = 'q' "quiet" "Only display project names";
    }
}

crate::flags! {
    /// Flags of `port`.
    pub struct PortFlags {
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
        protocol: Option<String> = '-' "protocol" <string> "tcp or udp (default \"tcp\")";
    }
}

crate::flags! {
    /// Flags of `volumes`.
    pub struct VolumesFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only display volume names";
    }
}

crate::flags! {
    /// Flags of `version`.
    pub struct VersionFlags {
        format: Option<String> = 'f' "format" <string> "Format the output. Values: [pretty | json]";
        short: bool = '-' "short" "Shows only Compose's version number";
    }
}

static PS: List = List {
    columns: &[
        ("Name", "NAME"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("Service", "SERVICE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("ID", "CONTAINER ID"),
        ("State", "STATE"),
        ("HealthStatus", "HEALTH"),
        ("ExitCode", "EXIT CODE"),
        ("Project", "PROJECT"),
        ("Labels", "LABELS"),
        ("Networks", "NETWORKS"),
        ("Mounts", "MOUNTS"),
    ],
    default: "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
    quiet: "{{.ID}}",
};

/// Runs `ps`.
pub async fn ps(compose: &Compose, flags: PsFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    let mut statuses = flags.status.clone();
    for filter in &flags.filter {
        match filter.split_once('=') {
            Some(("status", status)) => statuses.push(status.to_owned()),
            _ => {
                return Err(
                    Failure::new(format!("unknown filter \"{filter}\"")).hint("only status=... is known")
                );
            }
        }
    }
    let shown = |c: &&FoundContainer| {
        let wanted = services.is_empty() || services.contains(&c.service);
        let known = flags.orphans != Some(false) || target.services.contains_key(&c.service);
        let alive = match statuses.as_slice() {
            [] => flags.all || c.status.is_up(),
            list => list.contains(&c.summary.state),
        };
        wanted && known && alive && !c.hook && (flags.all || !c.oneoff || c.status.is_up())
    };
    let chosen: Vec<&FoundContainer> = containers.iter().filter(shown).collect();
    if flags.services {
        let names: BTreeSet<&str> = chosen.iter().map(|container| container.service.as_str()).collect();
        names.into_iter().try_for_each(output::line)?;
        return Ok(0);
    }
    if flags.quiet {
        chosen.iter().try_for_each(|container| output::line(&container.id))?;
        return Ok(0);
    }
    let choice = Choice { format: flags.format, ..Choice::default() };
    let rows = chosen.iter().map(|container| row(container, !flags.no_trunc)).collect();
    PS.print(&choice, rows)?;
    Ok(0)
}

fn row(container: &FoundContainer, truncate: bool) -> Row {
    let mut row = summary_row(&container.summary, truncate);
    let project = container.summary.labels.get(labels::PROJECT).cloned().unwrap_or_default();
    row.push(("Name", Value::text(container.name.as_str())));
    row.push(("Service", Value::text(container.service.as_str())));
    row.push(("Project", Value::text(project)));
    row.push(("ExitCode", Value::Int(container.exit_code.unwrap_or(0))));
    row
}

/// Runs `images`.
pub async fn images(compose: &Compose, flags: ImagesFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    let mut lines = String::from("CONTAINER\tREPOSITORY\tTAG\tIMAGE ID\tSIZE\n");
    let mut objects = Vec::new();
    let mut ids = BTreeSet::new();
    for container in
        containers.iter().filter(|c| !c.hook && (services.is_empty() || services.contains(&c.service)))
    {
        let id = &container.summary.image_id;
        let image = engine.image(id).await?.unwrap_or_default();
        let name = &container.summary.image;
        let (repository, tag) = match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) => (repository.to_owned(), tag.to_owned()),
            None => (name.clone(), "latest".to_owned()),
        };
        let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
        lines.push_str(&format!(
            "{}\t{repository}\t{tag}\t{short}\t{}\n",
            container.name,
            units::size(image.size)
        ));
        objects.push(json!({
            "ID": id, "ContainerName": container.name, "Repository": repository, "Tag": tag, "Size": image.size,
        }));
        ids.insert(id.trim_start_matches("sha256:").to_owned());
    }
    match flags.format.as_str() {
        _ if flags.quiet => ids.iter().try_for_each(|id| output::line(id))?,
        "json" => output::line(&serde_json::Value::Array(objects).to_string())?,
        _ => output::write(output::table::align(&lines).as_bytes())?,
    }
    Ok(0)
}

/// Runs `ls`.
pub async fn ls(compose: &Compose, flags: LsFlags, _: Vec<String>) -> Outcome {
    let client = compose.session.engine().await?;
    let mut filters = Filters::default();
    filters.add("label", labels::PROJECT);
    let call = Call::get("/containers/json").query_if("all", flags.all).query("filters", filters.to_json());
    let bytes = client.call(call).await?.bytes().await?;
    let all: Vec<Summary> = ferry_api::from_answer(&bytes).map_err(|error| Failure::from_error(&error))?;
    let mut projects: BTreeMap<String, Vec<Summary>> = BTreeMap::new();
    for container in all {
        let name = container.labels.get(labels::PROJECT).cloned().unwrap_or_default();
        projects.entry(name).or_default().push(container);
    }
    let wanted: Vec<&str> = flags.filter.iter().filter_map(|filter| filter.strip_prefix("name=")).collect();
    projects.retain(|name, _| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)));
    let mut lines = String::from("NAME\tSTATUS\tCONFIG FILES\n");
    let mut objects = Vec::new();
    for (name, containers) in &projects {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        containers.iter().for_each(|container| *states.entry(&container.state).or_default() += 1);
        let status =
            states.iter().map(|(state, count)| format!("{state}({count})")).collect::<Vec<_>>().join(", ");
        let files = containers
            .iter()
            .find_map(|c| c.labels.get(labels::CONFIG_FILES))
            .cloned()
            .unwrap_or_else(|| "N/A".to_owned());
        lines.push_str(&format!("{name}\t{status}\t{files}\n"));
        objects.push(json!({"Name": name, "Status": status, "ConfigFiles": files}));
    }
    match flags.format.as_str() {
        _ if flags.quiet => projects.keys().try_for_each(|name| output::line(name))?,
        "json" => output::line(&serde_json::Value::Array(objects).to_string())?,
        _ => output::write(output::table::align(&lines).as_bytes())?,
    }
    Ok(0)
}

/// Runs `port`.
pub async fn port(compose: &Compose, flags: PortFlags, arguments: Vec<String>) -> Outcome {
    let [service, port] = arguments.as_slice() else { unreachable!("the table wants two arguments") };
    let (port, protocol) = match port.split_once('/') {
        Some((port, protocol)) => (port, protocol.to_owned()),
        None => (port.as_str(), flags.protocol.clone().unwrap_or_else(|| "tcp".to_owned())),
    };
    let wanted: u16 = port.parse().map_err(|_| Failure::new(format!("\"{port}\" is not a port number")))?;
    let target = compose.target_or_name(&[])?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, std::slice::from_ref(service))?;
    let container = pick(&containers, service, flags.index.unwrap_or(0))?;
    let found = container
        .summary
        .ports
        .iter()
        .find(|p| p.private_port == wanted && p.protocol == protocol && p.public_port != 0);
    match found {
        Some(port) => {
            let ip = if port.ip.contains(':') { format!("[{}]", port.ip) } else { port.ip.clone() };
            output::line(&format!("{ip}:{}", port.public_port))?;
            Ok(0)
        }
        None => Err(Failure::new(format!(
            "no port {wanted}/{protocol} for container {} is published",
            container.name
        ))),
    }
}

/// Runs `top`.
pub async fn top(compose: &Compose, _: NoFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    for container in containers
        .iter()
        .filter(|c| c.status.is_up() && (services.is_empty() || services.contains(&c.service)))
    {
        let top: Top =
            engine.json(Call::get(format!("/containers/{}/top", Call::segment(&container.id)))).await?;
        let mut text = format!("{}\n", top.titles.join("\t"));
        top.processes.iter().for_each(|process| text.push_str(&format!("{}\n", process.join("\t"))));
        output::line(&container.name)?;
        output::line(&output::table::align(&text))?;
    }
    Ok(0)
}

static VOLUMES: List = List {
    columns: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Scope", "SCOPE"),
    ],
    default: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

/// Runs `volumes`.
pub async fn volumes(compose: &Compose, flags: VolumesFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    let used: BTreeSet<&String> = containers
        .iter()
        .filter(|c| services.is_empty() || services.contains(&c.service))
        .flat_map(|c| c.volumes.values())
        .collect();
    let all = engine.volumes().await?;
    let rows = all.iter().filter(|volume| used.contains(&volume.name)).map(|volume| {
        vec![
            ("Driver", Value::text(volume.driver.as_str())),
            ("Name", Value::text(volume.name.as_str())),
            ("Mountpoint", Value::text(volume.mountpoint.as_str())),
            ("Scope", Value::text(volume.scope.as_str())),
        ]
    });
    VOLUMES
        .print(&Choice { format: flags.format, quiet: flags.quiet, ..Choice::default() }, rows.collect())?;
    Ok(0)
}

/// Runs `version`.
pub async fn version(compose: &Compose, flags: VersionFlags, _: Vec<String>) -> Outcome {
    if flags.format.as_deref() == Some("json") {
        output::line(
            &json!({"version": format!("v{COMPATIBLE_VERSION}"), "ferry": labels::OWN_VERSION}).to_string(),
        )?;
        return Ok(0);
    }
    print_version(compose.called, flags.short)
}

/// The version: of Docker Compose whose behaviour this is, where a tool asks by that name, and our own.
pub fn print_version(called: Called, short: bool) -> Outcome {
    let own = labels::OWN_VERSION;
    output::line(&match (called, short) {
        (Called::Ferry, true) => own.to_owned(),
        (_, true) => COMPATIBLE_VERSION.to_owned(),
        (Called::Ferry, false) => {
            format!("Ferry Compose version {own} (compatible with Docker Compose v{COMPATIBLE_VERSION})")
        }
        (_, false) => format!("Docker Compose version v{COMPATIBLE_VERSION} (Ferry {own})"),
    })?;
    Ok(0)
}

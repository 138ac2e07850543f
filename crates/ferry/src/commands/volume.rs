//! Commands about volumes.

use ferry_api::volume::{CreateRequest, ListResponse, PruneResponse, Volume};
use ferry_api::{Call, Filters};

use super::container::options::pairs;
use super::{confirm, each, filters};
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::output::format::{Choice, List, Row, label_method, labels_cell};
use crate::output::{self, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `volume create`.
    pub struct CreateFlags {
        driver: String = 'd' "driver" <string> "Specify volume driver name (default \"local\")";
        label: Vec<String> = '-' "label" <list> "Set metadata for a volume";
        name: String = '-' "name" <string> "Specify volume name (old way)";
        opt: Vec<String> = 'o' "opt" <map> "Set driver specific options";
    }
}

crate::flags! {
    /// Flags of `volume ls`.
    pub struct LsFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Provide filter values (e.g. \"dangling=true\")";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only display volume names";
    }
}

crate::flags! {
    /// Flags of `volume rm`.
    pub struct RmFlags {
        force: bool = 'f' "force" "Force the removal of one or more volumes";
    }
}

crate::flags! {
    /// Flags of `volume update`.
    pub struct UpdateFlags {
        availability: String = '-' "availability" <string> "Cluster Volume availability (\"active\", \"pause\", \"drain\")";
    }
}

crate::flags! {
    /// Flags of `volume prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused volumes, not just anonymous ones";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"label=<label>\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(["volume create"], "[OPTIONS] [VOLUME]", "Create a volume", AtMost(1), CreateFlags, create),
    command!(["volume ls", "volume list"], "[OPTIONS]", "List volumes", None, LsFlags, ls),
    command!(
        ["volume rm", "volume remove"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        AtLeast(1),
        RmFlags,
        rm
    ),
    command!(
        ["volume update"],
        "[OPTIONS] VOLUME",
        "Update a volume (cluster volumes only)",
        Exactly(1),
        UpdateFlags,
        update
    ),
    command!(["volume prune"], "[OPTIONS]", "Remove unused local volumes", None, PruneFlags, prune),
];

static LIST: List = List {
    columns: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    default: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

/// Runs `volume create`.
pub async fn create(session: &Session, flags: CreateFlags, arguments: Vec<String>) -> Outcome {
    let name = match (arguments.first(), flags.name.is_empty()) {
        (Some(_), false) => {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (Some(name), true) => name.clone(),
        (None, _) => flags.name,
    };
    let request = CreateRequest {
        name,
        driver: flags.driver,
        driver_opts: Some(pairs(&flags.opt)),
        labels: Some(pairs(&flags.label)),
    };
    let answer = session.engine().await?.call(Call::post("/volumes/create").json(&request)).await?;
    output::line(&answer.json::<Volume>().await?.name)?;
    Ok(0)
}

/// Runs `volume ls`.
pub async fn ls(session: &Session, flags: LsFlags, _arguments: Vec<String>) -> Outcome {
    let filters = filters(&flags.filter)?;
    let mut call = Call::get("/volumes");
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let answer: ListResponse = session.engine().await?.call(call).await?.json().await?;
    let mut volumes = answer.volumes.unwrap_or_default();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let choice = Choice {
        format: flags.format,
        configured: session.config().volumes_format.clone(),
        quiet: flags.quiet,
        raw: if flags.quiet { "name: {{.Name}}" } else { "name: {{.Name}}\ndriver: {{.Driver}}\n" },
    };
    LIST.print(&choice, volumes.iter().map(row).collect())?;
    Ok(0)
}

/// The row of one volume.
pub fn row(volume: &Volume) -> Row {
    let labels = volume.labels.clone().unwrap_or_default();
    let usage = volume.usage_data.as_ref();
    let number = |value: Option<i64>| value.filter(|value| *value >= 0);
    let not_known = || "N/A".to_owned();
    vec![
        ("Name", Value::text(volume.name.as_str())),
        ("Driver", Value::text(volume.driver.as_str())),
        ("Scope", Value::text(volume.scope.as_str())),
        ("Mountpoint", Value::text(volume.mountpoint.as_str())),
        ("Labels", Value::text(labels_cell(&labels))),
        ("Label", label_method(labels)),
        (
            "Links",
            Value::text(
                number(usage.map(|usage| usage.ref_count)).map_or_else(not_known, |count| count.to_string()),
            ),
        ),
        ("Size", Value::text(number(usage.map(|usage| usage.size)).map_or_else(not_known, units::size4))),
        ("Availability", Value::text("N/A")),
        ("Group", Value::text("N/A")),
        ("Status", Value::text("N/A")),
    ]
}

/// Runs `volume rm`.
pub async fn rm(session: &Session, flags: RmFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let force = flags.force;
    each(&names, async |name: &str| {
        let call = Call::delete(format!("/volumes/{}", Call::segment(name))).query_if("force", force);
        match client.call(call).await {
            Ok(done) => Ok(done.discard().await?),
            Err(error) => {
                let in_use = error.status() == Some(409);
                let failure = Failure::from(error);
                Err(if in_use {
                    failure
                        .hint("remove the containers that use it first ('ferry ps -a --filter volume=NAME')")
                } else {
                    failure
                })
            }
        }
    })
    .await
}

/// Runs `volume update`: only volumes of a cluster have something to update.
pub async fn update(session: &Session, _flags: UpdateFlags, arguments: Vec<String>) -> Outcome {
    let call = Call::get(format!("/volumes/{}", Call::segment(&arguments[0])));
    session.engine().await?.call(call).await?.discard().await?;
    Err(Failure::new("can only update cluster volumes"))
}

/// Runs `volume prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let what = if flags.all { "all local volumes" } else { "anonymous local volumes" };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !flags.force && !confirm(&question)? {
        return Ok(0);
    }
    let mut filters = filters(&flags.filter)?;
    if flags.all {
        filters.add("all", "true");
    }
    let reclaimed = prune_all(session, &filters).await?;
    output::line(&format!("Total reclaimed space: {}", units::size4(reclaimed as i64)))?;
    if !flags.all && flags.filter.is_empty() && !session.docker_texts {
        note_named(session).await?;
    }
    Ok(0)
}

/// Says what a prune has left, since it takes only volumes that nobody named.
async fn note_named(session: &Session) -> Result<(), Failure> {
    let mut filters = Filters::default();
    filters.add("dangling", "true");
    let call = Call::get("/volumes").query("filters", filters.to_json());
    let left: ListResponse = session.engine().await?.call(call).await?.json().await?;
    match left.volumes.unwrap_or_default().len() {
        0 => {}
        1 => output::note("1 named volume is not used by any container and stays; -a removes it too"),
        left => output::note(&format!(
            "{left} named volumes are not used by any container and stay; -a removes them too"
        )),
    }
    Ok(())
}

/// Removes unused volumes and lists them; gives the space.
pub async fn prune_all(session: &Session, filters: &Filters) -> Result<u64, Failure> {
    let mut filters = filters.clone();
    session.config().filter_prune(&mut filters);
    let call = Call::post("/volumes/prune").query("filters", filters.to_json());
    let pruned: PruneResponse = session.engine().await?.call(call).await?.json().await?;
    let deleted = pruned.volumes_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        output::line("Deleted Volumes:")?;
        for name in &deleted {
            output::line(name)?;
        }
        output::line("")?;
    }
    Ok(pruned.space_reclaimed)
}

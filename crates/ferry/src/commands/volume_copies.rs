//! Ferry's own commands about the data of volumes: snapshots, restore, clone, backup.

use ferry_api::volume::{CloneRequest, RestoreRequest, Snapshot, SnapshotRequest, Volume};
use ferry_api::{Call, client::ClientError};

use super::container::commit::{refuse_terminal, save};
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output::format::{Choice, List, Row};
use crate::output::{self, time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `volume snapshot`.
    pub struct SnapshotFlags {
        rm: bool = '-' "rm" "Remove this snapshot instead of making it";
    }
}

crate::flags! {
    /// Flags of `volume restore`.
    pub struct RestoreFlags {
        force: bool = 'f' "force" "Replace the data that is in the volume";
    }
}

crate::flags! {
    /// Flags of `volume snapshots`.
    pub struct SnapshotsFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        quiet: bool = 'q' "quiet" "Only display snapshot names";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["volume snapshot"],
        "[OPTIONS] VOLUME SNAPSHOT",
        "Keep the present state of a volume's data; containers that write to it are frozen meanwhile",
        Exactly(2),
        SnapshotFlags,
        snapshot
    ),
    command!(
        ["volume restore"],
        "[OPTIONS] VOLUME SNAPSHOT",
        "Put a kept state back in the place of a volume's data",
        Exactly(2),
        RestoreFlags,
        restore
    ),
    command!(
        ["volume snapshots"],
        "[OPTIONS] VOLUME",
        "List the snapshots of a volume",
        Exactly(1),
        SnapshotsFlags,
        snapshots
    ),
    command!(
        ["volume clone"],
        "VOLUME NEW",
        "Make a new volume with the data of another",
        Exactly(2),
        NoFlags,
        clone
    ),
    command!(
        ["volume backup"],
        "VOLUME [FILE]",
        "Write a volume's data as a tar to a file or to stdout",
        Between(1, 2),
        NoFlags,
        backup
    ),
];

static LIST: List = List {
    columns: &[
        ("Name", "SNAPSHOT NAME"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
    ],
    default: "{{.Name}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.Name}}",
};

fn at(volume: &str, rest: &str) -> String {
    format!("/ferry/volumes/{}/{rest}", Call::segment(volume))
}

/// Runs `volume snapshot`.
pub async fn snapshot(session: &Session, flags: SnapshotFlags, arguments: Vec<String>) -> Outcome {
    let (volume, name) = (&arguments[0], &arguments[1]);
    let client = session.engine().await?;
    if flags.rm {
        let path = at(volume, &format!("snapshots/{}", Call::segment(name)));
        client.call(Call::delete(path)).await?.discard().await?;
    } else {
        let request = SnapshotRequest { name: name.clone() };
        let call = Call::post(at(volume, "snapshots")).json(&request);
        client.call(call).await?.json::<Snapshot>().await?;
    }
    output::line(name)?;
    Ok(0)
}

/// Runs `volume restore`.
pub async fn restore(session: &Session, flags: RestoreFlags, arguments: Vec<String>) -> Outcome {
    let (volume, name) = (&arguments[0], &arguments[1]);
    let request = RestoreRequest { name: name.clone(), force: flags.force };
    let call = Call::post(at(volume, "restore")).json(&request);
    let called = &session.called;
    match session.engine().await?.call(call).await {
        Ok(done) => done.discard().await?,
        Err(error) => return Err(explained(error, volume, called)),
    }
    output::line(volume)?;
    Ok(0)
}

fn explained(error: ClientError, volume: &str, called: &str) -> Failure {
    let conflict = error.status() == Some(409);
    let failure = Failure::from(error);
    let hint = match conflict {
        true if failure.message.contains("is not empty") => {
            format!(
                "keep what is there with '{called} volume snapshot {volume} NAME', or replace it with --force"
            )
        }
        true => format!("stop it first ('{called} ps --filter volume={volume}' lists the containers)"),
        false => return failure,
    };
    failure.hint(hint)
}

/// Runs `volume snapshots`.
pub async fn snapshots(session: &Session, flags: SnapshotsFlags, arguments: Vec<String>) -> Outcome {
    let call = Call::get(at(&arguments[0], "snapshots"));
    let found: Vec<Snapshot> = session.engine().await?.call(call).await?.json().await?;
    let choice = Choice { format: flags.format, quiet: flags.quiet, ..Choice::default() };
    LIST.print(&choice, found.iter().map(row).collect())?;
    Ok(0)
}

fn row(snapshot: &Snapshot) -> Row {
    let since = time::parse(&snapshot.created_at).map(time::ago).unwrap_or_default();
    vec![
        ("Name", Value::text(snapshot.name.as_str())),
        ("CreatedSince", Value::text(since)),
        ("CreatedAt", Value::text(snapshot.created_at.as_str())),
        ("Size", Value::text(units::size4(i64::try_from(snapshot.size).unwrap_or(i64::MAX)))),
    ]
}

/// Runs `volume clone`.
pub async fn clone(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let request = CloneRequest { name: arguments[1].clone() };
    let call = Call::post(at(&arguments[0], "clone")).json(&request);
    let made: Volume = session.engine().await?.call(call).await?.json().await?;
    output::line(&made.name)?;
    Ok(0)
}

/// Runs `volume backup`.
pub async fn backup(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let file = arguments.get(1).map_or("", String::as_str);
    if refuse_terminal(file).is_err() {
        return Err(Failure::new("a tar would garble this terminal")
            .hint(format!("name a file: '{} volume backup {} FILE'", session.called, arguments[0])));
    }
    let answer = session.engine().await?.call(Call::get(at(&arguments[0], "backup"))).await?;
    save(answer, file).await?;
    if std::fs::metadata(file).is_ok_and(|found| found.is_file()) {
        // A backup that a power cut takes away is none.
        std::fs::File::open(file).and_then(|file| file.sync_all())?;
    }
    Ok(0)
}

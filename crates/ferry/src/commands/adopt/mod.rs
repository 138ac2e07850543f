//! `ferry adopt`: images, volumes, networks and container definitions of a Docker become this engine's. The old ones are
//! only read.

mod bolt;
mod found;
mod give;
mod layer;
mod root;
mod socket;

use std::path::Path;

use ferry_api::{Client, Host};
use found::Found;

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;

/// Docker's, where nobody names another.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
const DATA_ROOT: &str = "/var/lib/docker";
const KINDS: [&str; 4] = ["images", "volumes", "networks", "containers"];

crate::flags! {
    /// Flags of `adopt`.
    pub struct AdoptFlags {
        dry_run: bool = '-' "dry-run" "Only tell what would be taken over";
        only: Vec<String> = '-' "only" <list> "Take over these kinds alone: images, volumes, networks, containers";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["adopt"],
    "[OPTIONS] [SOCKET|FOLDER]",
    "Take over images, volumes, networks and container definitions of a Docker, which stay there untouched",
    AtMost(1),
    AdoptFlags,
    adopt
)];

/// Runs `adopt`.
pub async fn adopt(session: &Session, flags: AdoptFlags, arguments: Vec<String>) -> Outcome {
    let only: Vec<&str> = flags.only.iter().flat_map(|list| list.split(',')).collect();
    if let Some(kind) = only.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Failure::new(format!("--only {kind}: it is one of {}", KINDS.join(", "))));
    }
    let wanted = |kind: &str| only.is_empty() || only.contains(&kind);
    let source = arguments.into_iter().next().map_or_else(default_source, Ok)?;
    let (mut found, origin) = read(session, &source).await?;
    if !wanted("images") {
        found.images.clear();
    }
    if !wanted("volumes") {
        found.volumes.clear();
    }
    if !wanted("networks") {
        found.networks.clear();
    }
    if !wanted("containers") {
        found.containers.clear();
    }
    if flags.dry_run {
        return tell(&source, &found);
    }
    give::give(session.engine().await?, origin.as_ref(), found).await
}

/// A running Docker knows best what it has; where none runs, its files are read.
fn default_source() -> Result<String, Failure> {
    let listens = |path: &&&str| std::os::unix::net::UnixStream::connect(path).is_ok();
    if let Some(socket) = SOCKETS.iter().find(listens) {
        return Ok(format!("unix://{socket}"));
    }
    match Path::new(DATA_ROOT).is_dir() {
        true => Ok(DATA_ROOT.to_owned()),
        false => Err(Failure::new(format!("there is neither a Docker at {} nor {DATA_ROOT}", SOCKETS[0]))
            .hint("name its socket or its data root: 'ferry adopt unix:///PATH' or 'ferry adopt /FOLDER'")),
    }
}

async fn read(session: &Session, source: &str) -> Result<(Found, Option<Client>), Failure> {
    let path = Path::new(source);
    if path.is_dir() {
        return Ok((root::read(path)?, None));
    }
    let address = if source.contains("://") { source.to_owned() } else { format!("unix://{source}") };
    let host = Host::parse(&address).map_err(|error| Failure::from_error(&error))?;
    let client = Client::new(host);
    // An engine that takes itself over would find every name taken.
    let id = async |client: &Client| -> Result<String, Failure> {
        let info: serde_json::Value = client.call(ferry_api::Call::get("/info")).await?.json().await?;
        Ok(socket::text(&info, "ID"))
    };
    client.negotiate().await?;
    if id(&client).await? == id(session.engine().await?).await? {
        return Err(Failure::new(format!("{source} is this engine itself"))
            .hint("name Docker's socket or its data root"));
    }
    Ok((socket::read(&client).await?, Some(client)))
}

fn tell(source: &str, found: &Found) -> Outcome {
    output::line(&format!("From {source} would be taken over:"))?;
    for image in &found.images {
        let names = if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(" ") };
        output::line(&format!("image      {names} {}", image.id))?;
    }
    for volume in &found.volumes {
        output::line(&format!("volume     {} {}", volume.name, volume.data.display()))?;
    }
    for network in &found.networks {
        output::line(&format!("network    {}", network.name))?;
    }
    for container in &found.containers {
        output::line(&format!("container  {}", container.name))?;
    }
    for note in &found.notes {
        output::note(&format!("left out: {note}"));
    }
    Ok(0)
}

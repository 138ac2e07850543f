//! `system prune`.

use super::{df, forecast};
use ferry_api::Call;
use ferry_api::image::BuildPruneResponse;

use crate::commands::{confirm, container, filters, image, network, volume};
use crate::failure::{Failure, Outcome};
use crate::output::{self, units};
use crate::session::Session;

crate::flags! {
    /// Flags of `system prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused images not just dangling ones";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"label=<key>=<value>\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
        volumes: bool = '-' "volumes" "Prune anonymous volumes";
    }
}

/// Runs `system prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    if !flags.force && !ask(session, &flags).await? {
        return Ok(0);
    }
    let filters = filters(&flags.filter)?;
    if flags.volumes && filters.contains("until") {
        return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut reclaimed = container::prune_all(session, &filters).await?;
    // An engine that has no networks, volumes or build cache has none to remove.
    optional(network::prune_all(session, &filters).await)?;
    if flags.volumes {
        reclaimed += optional(volume::prune_all(session, &filters).await)?;
    }
    reclaimed += image::prune_all(session, filters.clone(), flags.all).await?;
    reclaimed += optional(prune_cache(session, &filters, flags.all, None).await)?;
    output::line(&format!("Total reclaimed space: {}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

/// Says what would go, and asks. Called as `docker`, in Docker's words.
async fn ask(session: &Session, flags: &PruneFlags) -> Result<bool, Failure> {
    if session.docker_texts || !flags.filter.is_empty() {
        return confirm(&question(flags));
    }
    let usage = df::fetch(session).await?;
    let scope = forecast::Scope { all: flags.all, volumes: flags.volumes };
    let lines = forecast::forecast(&usage, unused_networks(session).await?, scope);
    if lines.is_empty() {
        output::line("Nothing to remove.")?;
        return Ok(false);
    }
    let items: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
    confirm(&format!("This will remove:\n{items}\nAre you sure you want to continue?"))
}

async fn unused_networks(session: &Session) -> Result<usize, Failure> {
    let mut filters = ferry_api::Filters::default();
    filters.add("dangling", "true");
    filters.add("type", "custom");
    let call = Call::get("/networks").query("filters", filters.to_json());
    let found: Vec<serde_json::Value> = session.engine().await?.call(call).await?.json().await?;
    Ok(found.len())
}

fn optional<T: Default>(result: Result<T, Failure>) -> Result<T, Failure> {
    match result {
        Err(failure) if failure.message == "page not found" => Ok(T::default()),
        other => other,
    }
}

/// Removes what builds have left and lists it; gives the space.
pub async fn prune_cache(
    session: &Session,
    filters: &ferry_api::Filters,
    all: bool,
    keep: Option<i64>,
) -> Result<u64, Failure> {
    let mut call = Call::post("/build/prune").query_if("all", all);
    if let Some(keep) = keep {
        // Engines before API 1.48 know it by its old name.
        call = call.query("reserved-space", keep.to_string()).query("keep-storage", keep.to_string());
    }
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let pruned: BuildPruneResponse = session.engine().await?.call(call).await?.json().await?;
    let deleted = pruned.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        output::line("Deleted build cache objects:")?;
        for id in &deleted {
            output::line(id)?;
        }
        output::line("")?;
    }
    Ok(pruned.space_reclaimed)
}

fn question(flags: &PruneFlags) -> String {
    let mut items = vec!["all stopped containers", "all networks not used by at least one container"];
    if flags.volumes {
        items.push("all anonymous volumes not used by at least one container");
    }
    items.push(match flags.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    items.push(if flags.all { "all build cache" } else { "unused build cache" });
    let mut text = String::from("WARNING! This will remove:\n");
    for item in items {
        text.push_str(&format!("  - {item}\n"));
    }
    if !flags.filter.is_empty() {
        text.push_str(&format!(
            "\n  Items to be pruned will be filtered with:\n  - {}\n",
            flags.filter.join("\n  - ")
        ));
    }
    text + "\nAre you sure you want to continue?"
}

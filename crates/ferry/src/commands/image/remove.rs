//! `rmi` and `image prune`.

use ferry_api::image::{DeleteItem, PruneResponse};
use ferry_api::{Call, Filters};

use crate::commands::{confirm, filters};
use crate::failure::{Failure, Outcome};
use crate::output::{self, units};
use crate::session::Session;

crate::flags! {
    /// Flags of `rmi`.
    pub struct RmiFlags {
        force: bool = 'f' "force" "Force removal of the image";
        no_prune: bool = '-' "no-prune" "Do not delete untagged parents";
        platform: Vec<String> = '-' "platform" <strings> "Remove only the given platform variant";
    }
}

crate::flags! {
    /// Flags of `image prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused images, not just dangling ones";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=<timestamp>\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
    }
}

/// Runs `rmi`. One after the other: removing an image may remove what the next one names.
pub async fn rmi(session: &Session, flags: RmiFlags, names: Vec<String>) -> Outcome {
    let client = session.engine().await?;
    let mut failures = Vec::new();
    for name in &names {
        let mut call = Call::delete(format!("/images/{}", Call::segment(name)))
            .query_if("force", flags.force)
            .query_if("noprune", flags.no_prune);
        for platform in &flags.platform {
            call = call.query("platforms", platform);
        }
        match client.call(call).await {
            Ok(answer) => print_items(&answer.json::<Vec<DeleteItem>>().await?)?,
            Err(error) if flags.force && error.is_not_found() => output::note(&format!("{error}")),
            Err(error) => {
                let used = error.status() == Some(409);
                let failure = Failure::from(error);
                failures.push(if used {
                    failure.hint(format!(
                        "remove the containers that use it first, or: {} rmi -f {name}",
                        session.called
                    ))
                } else {
                    failure
                });
            }
        }
    }
    Failure::many(failures).map_or(Ok(0), Err)
}

fn print_items(items: &[DeleteItem]) -> Result<(), Failure> {
    for item in items {
        match item.deleted.is_empty() {
            true => output::line(&format!("Untagged: {}", item.untagged))?,
            false => output::line(&format!("Deleted: {}", item.deleted))?,
        }
    }
    Ok(())
}

/// Runs `image prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let what = match flags.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !flags.force && !confirm(&question)? {
        return Ok(0);
    }
    let reclaimed = prune_all(session, filters(&flags.filter)?, flags.all).await?;
    output::line(&format!("Total reclaimed space: {}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

/// Removes unused images and lists them; gives the space.
pub async fn prune_all(session: &Session, mut filters: Filters, all: bool) -> Result<u64, Failure> {
    filters.add("dangling", if all { "false" } else { "true" });
    session.config().filter_prune(&mut filters);
    let call = Call::post("/images/prune").query("filters", filters.to_json());
    let pruned: PruneResponse = session.engine().await?.call(call).await?.json().await?;
    let deleted = pruned.images_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        output::line("Deleted Images:")?;
        for item in &deleted {
            match item.deleted.is_empty() {
                true => output::line(&format!("untagged: {}", item.untagged))?,
                false => output::line(&format!("deleted: {}", item.deleted))?,
            }
        }
        output::line("")?;
    }
    Ok(pruned.space_reclaimed)
}

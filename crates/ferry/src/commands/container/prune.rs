//! `container prune`.

use ferry_api::container::PruneResponse;
use ferry_api::{Call, Filters};

use crate::commands::{confirm, filters};
use crate::failure::{Failure, Outcome};
use crate::output::{self, units};
use crate::session::Session;

crate::flags! {
    /// Flags of `container prune`.
    pub struct PruneFlags {
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=<timestamp>\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
    }
}

/// Runs `container prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !flags.force && !confirm(question)? {
        return Ok(0);
    }
    let reclaimed = prune_all(session, &filters(&flags.filter)?).await?;
    output::line(&format!("Total reclaimed space: {}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

/// Removes stopped containers and lists them; gives the space.
pub async fn prune_all(session: &Session, filters: &Filters) -> Result<u64, Failure> {
    let mut filters = filters.clone();
    session.config().filter_prune(&mut filters);
    let call = Call::post("/containers/prune").query("filters", filters.to_json());
    let pruned: PruneResponse = session.engine().await?.call(call).await?.json().await?;
    let deleted = pruned.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        output::line("Deleted Containers:")?;
        for id in &deleted {
            output::line(id)?;
        }
        output::line("")?;
    }
    Ok(pruned.space_reclaimed)
}

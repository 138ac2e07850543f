//! `builder du` and `builder prune`.

use ferry_api::Call;

use super::{confirm, filters, system};
use crate::failure::Outcome;
use crate::flags::Bytes as Size;
use crate::output::{self, units};
use crate::session::Session;

crate::flags! {
    /// Flags of `builder prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused build cache, not just dangling ones";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=24h\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
        keep_storage: Option<Size> = '-' "keep-storage" <bytes> "Amount of disk space to keep for cache";
        reserved_space: Option<Size> = '-' "reserved-space" <bytes> "Amount of disk space to keep for cache";
    }
}

crate::flags! {
    /// Flags of `builder du`.
    pub struct UsageFlags {
        verbose: bool = '-' "verbose" "Show every record in full";
    }
}

/// Runs `builder du`.
pub async fn usage(session: &Session, flags: UsageFlags, _arguments: Vec<String>) -> Outcome {
    const WIDTH: usize = 60;
    let records: Vec<serde_json::Value> =
        session.engine().await?.call(Call::get("/ferry/build/cache")).await?.json().await?;
    let mut total = 0;
    output::line(&format!("{:<14}{:>10}  {:>4}  {:<6}  STEP", "ID", "SIZE", "USES", "SHARED"))?;
    for record in &records {
        let size = record["Size"].as_i64().unwrap_or(0);
        total += size;
        let id = record["Id"].as_str().unwrap_or_default();
        let step = record["Description"].as_str().unwrap_or_default().replace('\n', " ");
        let (id, step) = match flags.verbose {
            true => (id.to_owned(), step),
            false => (id.chars().take(12).collect(), step.chars().take(WIDTH).collect()),
        };
        let shared = if record["Shared"].as_bool().unwrap_or(false) { "yes" } else { "no" };
        let uses = record["Uses"].as_u64().unwrap_or(0);
        output::line(&format!("{id:<14}{:>10}  {uses:>4}  {shared:<6}  {step}", units::size(size)))?;
    }
    output::line(&format!("Total:\t{}", units::size(total)))?;
    Ok(0)
}

/// Runs `builder prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let what = if flags.all { "all build cache" } else { "all dangling build cache" };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !flags.force && !confirm(&question)? {
        return Ok(0);
    }
    let keep = flags.keep_storage.or(flags.reserved_space).map(|size| size.0);
    let reclaimed = system::prune_cache(session, &filters(&flags.filter)?, flags.all, keep).await?;
    output::line(&format!("Total:\t{}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

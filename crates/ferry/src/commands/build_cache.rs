//! `builder du` and `builder prune`.

use ferry_api::system::BuildCache;
use ferry_api::{Call, Filters};

use super::{confirm, filters, system};
use crate::failure::{Failure, Outcome};
use crate::flags::Bytes as Size;
use crate::output::format::{Choice, List, Row, ellipsis, short_id};
use crate::output::{self, time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `builder prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused build cache, not just dangling ones";
        builder: String = '-' "builder" <string> "Override the configured builder instance (default: the engine itself)";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=24h\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
        keep_storage: Option<Size> = '-' "keep-storage" <bytes> "Amount of disk space to keep for cache";
        max_used_space: Option<Size> = '-' "max-used-space" <bytes> "Maximum amount of disk space allowed to keep for cache";
        min_free_space: Option<Size> = '-' "min-free-space" <bytes> "Target amount of free disk space after pruning";
        reserved_space: Option<Size> = '-' "reserved-space" <bytes> "Amount of disk space always allowed to keep for cache";
        verbose: bool = '-' "verbose" "Say what each record was, before it goes";
    }
}

crate::flags! {
    /// Flags of `builder du`.
    pub struct UsageFlags {
        builder: String = '-' "builder" <string> "Override the configured builder instance (default: the engine itself)";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (id, type, description, inuse, shared, private, until)";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'json' or 'TEMPLATE'";
        verbose: bool = '-' "verbose" "Show every record in full";
    }
}

static LIST: List = List {
    columns: &[
        ("ID", "ID"),
        ("Size", "SIZE"),
        ("UsageCount", "USES"),
        ("Shared", "SHARED"),
        ("LastUsedSince", "LAST ACCESSED"),
        ("Step", "STEP"),
    ],
    default: "{{.ID}}\t{{.Size}}\t{{.UsageCount}}\t{{.Shared}}\t{{.LastUsedSince}}\t{{.Step}}",
    quiet: "",
};

/// Most of a step that the table shows.
const WIDTH: usize = 60;

/// Runs `builder du`.
pub async fn usage(session: &Session, flags: UsageFlags, _arguments: Vec<String>) -> Outcome {
    super::builders::check(&flags.builder)?;
    let asked = filters(&flags.filter)?;
    let mut records = Vec::new();
    for record in system::cache_records(session).await? {
        if fits(&record, &asked)? {
            records.push(record);
        }
    }
    if !flags.format.is_empty() {
        let choice = Choice { format: flags.format, ..Choice::default() };
        LIST.print(&choice, records.iter().map(row).collect())?;
        return Ok(0);
    }
    match flags.verbose {
        true => {
            for record in &records {
                output::line(&in_full(record))?;
            }
        }
        false => LIST.print(&Choice::default(), records.iter().map(row).collect())?,
    }
    totals(&records)
}

fn totals(records: &[BuildCache]) -> Outcome {
    let sum = |wanted: &dyn Fn(&BuildCache) -> bool| -> String {
        units::size4(records.iter().filter(|record| wanted(record)).map(|record| record.size).sum())
    };
    if records.iter().any(|record| record.shared) {
        output::line(&format!("Shared:\t\t{}", sum(&|record| record.shared)))?;
        output::line(&format!("Private:\t{}", sum(&|record| !record.shared)))?;
    }
    output::line(&format!("Reclaimable:\t{}", sum(&|record| !record.in_use)))?;
    output::line(&format!("Total:\t\t{}", sum(&|_| true)))?;
    Ok(0)
}

fn row(record: &BuildCache) -> Row {
    let since = |text: &str| time::parse(text).map(time::ago).unwrap_or_default();
    let step = record.description.replace('\n', " ");
    vec![
        ("ID", Value::text(short_id(&record.id))),
        ("Size", Value::text(units::size4(record.size))),
        ("UsageCount", Value::text(record.usage_count.to_string())),
        ("Shared", Value::text(if record.shared { "yes" } else { "no" })),
        ("LastUsedSince", Value::text(record.last_used_at.as_deref().map(since).unwrap_or_default())),
        ("CreatedSince", Value::text(since(&record.created_at))),
        ("CreatedAt", Value::text(record.created_at.as_str())),
        ("LastUsedAt", Value::text(record.last_used_at.clone().unwrap_or_default())),
        ("Type", Value::text(record.kind.as_str())),
        ("InUse", Value::text(record.in_use.to_string())),
        ("Reclaimable", Value::text((!record.in_use).to_string())),
        ("Mutable", Value::text("false")),
        ("Description", Value::text(record.description.as_str())),
        ("Step", Value::text(ellipsis(&step, WIDTH))),
    ]
}

/// A record as buildx tells it.
fn in_full(record: &BuildCache) -> String {
    let last = record.last_used_at.as_deref().and_then(time::parse).map(time::ago).unwrap_or_default();
    format!(
        "ID:\t\t{}\nCreated at:\t{}\nMutable:\tfalse\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\nDescription:\t{}\n\
         Usage count:\t{}\nLast used:\t{last}\nType:\t\t{}\n",
        record.id,
        record.created_at,
        !record.in_use,
        record.shared,
        units::size4(record.size),
        record.description,
        record.usage_count,
        record.kind
    )
}

/// Whether a record is one that the filters ask for.
fn fits(record: &BuildCache, asked: &Filters) -> Result<bool, Failure> {
    let known = ["id", "type", "description", "inuse", "shared", "private", "mutable", "immutable", "until"];
    if let Some((unknown, _)) = asked.iter().find(|(key, _)| !known.contains(key)) {
        return Err(Failure::new(format!("invalid filter {unknown:?}"))
            .hint(format!("there are {}", known.join(", "))));
    }
    let is = |value: &str, truth: bool| !matches!(value, "0" | "false") == truth;
    let all = |key: &str, holds: &dyn Fn(&str) -> bool| asked.get(key).all(holds);
    for text in asked.get("until") {
        let bound = time::query(text).map_err(Failure::new)?;
        let bound: f64 = bound.parse().unwrap_or_default();
        let used = record.last_used_at.as_deref().and_then(time::parse).unwrap_or_default();
        if used as f64 > bound {
            return Ok(false);
        }
    }
    Ok(all("id", &|id| record.id.starts_with(id))
        && all("type", &|kind| kind == record.kind)
        && all("description", &|text| record.description.contains(text))
        && all("inuse", &|value| is(value, record.in_use))
        && all("shared", &|value| is(value, record.shared))
        && all("private", &|value| is(value, !record.shared))
        && all("mutable", &|value| is(value, false))
        && all("immutable", &|value| is(value, true)))
}

/// Runs `builder prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    super::builders::check(&flags.builder)?;
    let what = if flags.all { "all build cache" } else { "all dangling build cache" };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !flags.force && !confirm(&question)? {
        return Ok(0);
    }
    let records = match flags.verbose || flags.min_free_space.is_some() {
        true => system::cache_records(session).await?,
        false => Vec::new(),
    };
    let keep = [flags.keep_storage, flags.reserved_space, flags.max_used_space].into_iter().flatten().next();
    let keep = match flags.min_free_space {
        // So much goes as is missing on the disk.
        Some(wanted) => Some(kept_for(session, wanted.0, keep.map(|size| size.0), &records).await?),
        None => keep.map(|size| size.0),
    };
    let asked = filters(&flags.filter)?;
    if flags.verbose {
        for record in &records {
            output::line(&in_full(record))?;
        }
    }
    let reclaimed = system::prune_cache(session, &asked, flags.all, keep).await?;
    output::line(&format!("Total:\t{}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

/// How much of the cache may stay, so that this much of the engine's disk is free.
async fn kept_for(
    session: &Session,
    wanted: i64,
    keep: Option<i64>,
    records: &[BuildCache],
) -> Result<i64, Failure> {
    let info: serde_json::Value = session.engine().await?.call(Call::get("/info")).await?.json().await?;
    let root = info["DockerRootDir"].as_str().unwrap_or_default().to_owned();
    let disk = rustix::fs::statvfs(&root).map_err(|errno| {
        Failure::from_error(&std::io::Error::from(errno))
            .context(&format!("cannot see how much of {root} is free"))
            .hint("--min-free-space works for an engine of this machine")
    })?;
    let free = i64::try_from(disk.f_bavail.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
    let held: i64 = records.iter().map(|record| record.size).sum();
    // An engine takes zero for "no bound": one byte is as good as none.
    let stays = held.saturating_sub(wanted.saturating_sub(free).max(0)).max(1);
    Ok(keep.map_or(stays, |keep| stays.min(keep)))
}

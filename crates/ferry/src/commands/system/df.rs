//! `system df`.

use std::rc::Rc;

use ferry_api::Call;
use ferry_api::container::Summary as Container;
use ferry_api::image::Summary as Image;
use ferry_api::system::{BuildCache, DiskUsage};
use ferry_api::volume::Volume;

use crate::commands::{container, image, volume};
use crate::failure::{Failure, Outcome};
use crate::output::format::{Choice, List, Row, object, short_id};
use crate::output::{self, time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `system df`.
    pub struct DfFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        verbose: bool = 'v' "verbose" "Show detailed information on space usage";
    }
}

static LIST: List = List {
    columns: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "",
};

/// What is there, whatever shape of the answer it came in.
pub(super) struct Usage {
    pub layers: i64,
    pub images: Vec<Image>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub cache: Vec<BuildCache>,
}

/// Runs `system df`.
pub async fn df(session: &Session, flags: DfFlags, _arguments: Vec<String>) -> Outcome {
    let usage = fetch(session).await?;
    if flags.verbose && flags.format.is_empty() {
        return verbose(&usage);
    }
    if flags.verbose && !flags.format.starts_with("table") {
        output::write(object(&flags.format, &everything(&usage))?.as_bytes())?;
        return Ok(0);
    }
    let choice = Choice { format: flags.format, ..Default::default() };
    LIST.print(&choice, rows(&usage))?;
    Ok(0)
}

/// Asks the engine.
pub(super) async fn fetch(session: &Session) -> Result<Usage, Failure> {
    let call = Call::get("/system/df").query("verbose", "1");
    Ok(read(session.engine().await?.call(call).await?.json().await?))
}

/// The records of the build cache.
pub async fn cache_records(session: &Session) -> Result<Vec<BuildCache>, Failure> {
    let call = Call::get("/system/df").query("verbose", "1").query("type", "build-cache");
    Ok(read(session.engine().await?.call(call).await?.json().await?).cache)
}

fn read(answer: DiskUsage) -> Usage {
    let images = answer.images.or(answer.image_usage.as_ref().and_then(|usage| usage.items.clone()));
    let layers = answer.layers_size.or(answer.image_usage.map(|usage| usage.total_size));
    Usage {
        layers: layers.unwrap_or(0),
        images: images.unwrap_or_default(),
        containers: answer
            .containers
            .or(answer.container_usage.and_then(|usage| usage.items))
            .unwrap_or_default(),
        volumes: answer.volumes.or(answer.volume_usage.and_then(|usage| usage.items)).unwrap_or_default(),
        cache: answer
            .build_cache
            .or(answer.build_cache_usage.and_then(|usage| usage.items))
            .unwrap_or_default(),
    }
}

fn rows(usage: &Usage) -> Vec<Row> {
    let used_images: i64 = usage
        .images
        .iter()
        .filter(|image| image.containers > 0)
        .map(|image| image.size - image.shared_size.max(0))
        .sum();
    let active_images = usage.images.iter().filter(|image| image.containers > 0).count();
    let size = |container: &Container| container.size_rw.unwrap_or(0);
    let runs =
        |container: &&Container| matches!(container.state.as_str(), "running" | "paused" | "restarting");
    let containers: i64 = usage.containers.iter().map(size).sum();
    let stopped: i64 = usage.containers.iter().filter(|container| !runs(container)).map(size).sum();
    let volume_size = |volume: &Volume| volume.usage_data.as_ref().map_or(0, |usage| usage.size.max(0));
    let in_use = |volume: &&Volume| volume.usage_data.as_ref().is_some_and(|usage| usage.ref_count > 0);
    let volumes: i64 = usage.volumes.iter().map(volume_size).sum();
    let unused: i64 = usage.volumes.iter().filter(|volume| !in_use(volume)).map(volume_size).sum();
    let cache: i64 = usage.cache.iter().filter(|record| !record.shared).map(|record| record.size).sum();
    let free: i64 =
        usage.cache.iter().filter(|record| !record.shared && !record.in_use).map(|record| record.size).sum();
    let active_cache = usage.cache.iter().filter(|record| record.in_use).count();
    vec![
        row(
            "Images",
            usage.images.len(),
            active_images,
            usage.layers,
            usage.layers - used_images.min(usage.layers),
        ),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(runs).count(),
            containers,
            stopped,
        ),
        row(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(in_use).count(),
            volumes,
            unused,
        ),
        row("Build Cache", usage.cache.len(), active_cache, cache, free),
    ]
}

fn row(kind: &'static str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    let share = match size {
        0 => String::new(),
        size => format!(" ({}%)", reclaimable * 100 / size),
    };
    let share = if kind == "Build Cache" { String::new() } else { share };
    vec![
        ("Type", Value::text(kind)),
        ("TotalCount", Value::text(total.to_string())),
        ("Active", Value::text(active.to_string())),
        ("Size", Value::text(units::size4(size))),
        ("Reclaimable", Value::text(format!("{}{share}", units::size4(reclaimable)))),
    ]
}

static IMAGES: List = List {
    columns: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    default: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    quiet: "",
};
static CONTAINERS: List = List {
    columns: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    default: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    quiet: "",
};
static VOLUMES: List = List {
    columns: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    default: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    quiet: "",
};
static CACHE: List = List {
    columns: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    default: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    quiet: "",
};

fn verbose(usage: &Usage) -> Outcome {
    let print = |title: &str, list: &List, rows: Vec<Row>| -> Result<(), Failure> {
        output::line(title)?;
        output::line("")?;
        list.print(&Choice::default(), rows)
    };
    print("Images space usage:", &IMAGES, usage.images.iter().map(image::summary_row).collect())?;
    print("\nContainers space usage:", &CONTAINERS, container_rows(usage, true))?;
    print("\nLocal Volumes space usage:", &VOLUMES, usage.volumes.iter().map(volume::row).collect())?;
    let total = usage.cache.iter().filter(|record| !record.shared).map(|record| record.size).sum();
    print(
        &format!("\nBuild cache usage: {}", units::size4(total)),
        &CACHE,
        usage.cache.iter().map(|record| cache_row(record, true)).collect(),
    )?;
    Ok(0)
}

/// Containers with what they wrote: the image below is another line's.
fn container_rows(usage: &Usage, truncate: bool) -> Vec<Row> {
    let row = |container: &Container| {
        container::summary_row(&Container { size_root_fs: None, ..container.clone() }, truncate)
    };
    usage.containers.iter().map(row).collect()
}

/// All lists as one value, for templates.
fn everything(usage: &Usage) -> Value {
    let list = |rows: Vec<Row>| Value::List(Rc::new(rows.into_iter().map(Value::map).collect()));
    Value::map([
        ("Images", list(usage.images.iter().map(image::full_row).collect())),
        ("Containers", list(container_rows(usage, false))),
        ("Volumes", list(usage.volumes.iter().map(volume::row).collect())),
        ("BuildCache", list(usage.cache.iter().map(|record| cache_row(record, false)).collect())),
    ])
}

fn cache_row(record: &BuildCache, truncate: bool) -> Row {
    let last_used = record.last_used_at.as_deref();
    let since = |text: &str| time::parse(text).map(time::ago).unwrap_or_default();
    vec![
        ("ID", Value::text(if truncate { short_id(&record.id) } else { &record.id })),
        ("CacheType", Value::text(record.kind.as_str())),
        ("CreatedAt", Value::text(time::local_with_fraction(&record.created_at).unwrap_or_default())),
        ("Description", Value::text(record.description.as_str())),
        ("InUse", Value::text(record.in_use.to_string())),
        ("LastUsedAt", Value::text(last_used.and_then(time::local_with_fraction).unwrap_or_default())),
        ("Parent", Value::text("")),
        ("Size", Value::text(units::size4(record.size))),
        ("CreatedSince", Value::text(since(&record.created_at))),
        ("LastUsedSince", Value::text(last_used.map(since).unwrap_or_default())),
        ("UsageCount", Value::text(record.usage_count.to_string())),
        ("Shared", Value::text(record.shared.to_string())),
    ]
}

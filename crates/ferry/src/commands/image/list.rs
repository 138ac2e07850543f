//! `images`.

use ferry_api::Call;
use ferry_api::image::Summary;

use crate::commands::filters;
use crate::failure::{Failure, Outcome};
use crate::output::format::{Choice, List, Row, short_id};
use crate::output::{time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `images`.
    pub struct ImagesFlags {
        all: bool = 'a' "all" "Show all images (default hides intermediate images)";
        digests: bool = '-' "digests" "Show digests";
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
        quiet: bool = 'q' "quiet" "Only show image IDs";
        tree: bool = '-' "tree" "List multi-platform images as a tree (EXPERIMENTAL)";
    }
}

static LIST: List = List {
    columns: &[
        ("Containers", "CONTAINERS"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
    default: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
};
const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
                   virtual_size: {{.Size}}\n";
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// Runs `images`.
pub async fn images(session: &Session, flags: ImagesFlags, arguments: Vec<String>) -> Outcome {
    let mut filters = filters(&flags.filter)?;
    if let Some(reference) = arguments.first() {
        filters.add("reference", reference);
    }
    let mut call = Call::get("/images/json").query_if("all", flags.all);
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    if flags.tree {
        refuse_with_tree(&flags)?;
        return super::tree::print(session, call, flags.all).await;
    }
    let images: Vec<Summary> = session.engine().await?.call(call).await?.json().await?;
    let choice = Choice {
        format: flags.format.clone(),
        configured: session.config().images_format.clone(),
        quiet: flags.quiet,
        raw: if flags.quiet { "image_id: {{.ID}}" } else { RAW },
    };
    let digests = flags.digests || choice.format.contains(".Digest");
    let mut rows = Vec::new();
    for image in &images {
        for (repository, tag, digest) in names(image, digests) {
            rows.push(row(image, &repository, &tag, &digest, !flags.no_trunc));
        }
    }
    if flags.quiet && flags.format.is_empty() {
        // An id for each name, as Docker prints it.
        return LIST.print(&choice, rows).map(|()| 0);
    }
    LIST.print_with(if flags.digests { WITH_DIGESTS } else { LIST.default }, &choice, rows)?;
    Ok(0)
}

/// A tree has a form of its own.
fn refuse_with_tree(flags: &ImagesFlags) -> Result<(), Failure> {
    let given = [
        ("--quiet", flags.quiet),
        ("--no-trunc", flags.no_trunc),
        ("--digests", flags.digests),
        ("--format", !flags.format.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failure::new(format!("{name} is not yet supported with --tree"))),
        None => Ok(()),
    }
}

/// The names an image is listed under: one row each.
fn names(image: &Summary, digests: bool) -> Vec<(String, String, String)> {
    let none = || "<none>".to_owned();
    let digest_of = |repository: &str| {
        let found = image.repo_digests.iter().find_map(|known| {
            let (name, digest) = known.split_once('@')?;
            (name == repository).then(|| digest.to_owned())
        });
        found.unwrap_or_else(none)
    };
    let mut rows = Vec::new();
    for name in image.repo_tags.iter().filter(|name| *name != "<none>:<none>") {
        let (repository, tag) = super::split_tag(name);
        rows.push((repository.to_owned(), tag.to_owned(), digest_of(repository)));
    }
    if rows.is_empty() || digests {
        for known in &image.repo_digests {
            let Some((repository, digest)) = known.split_once('@') else { continue };
            if repository != "<none>" && !rows.iter().any(|(name, _, _)| name == repository) {
                rows.push((repository.to_owned(), none(), digest.to_owned()));
            }
        }
    }
    if rows.is_empty() {
        rows.push((none(), none(), none()));
    }
    rows
}

fn row(image: &Summary, repository: &str, tag: &str, digest: &str, truncate: bool) -> Row {
    let size = |bytes: i64| if bytes < 0 { "N/A".to_owned() } else { units::size4(bytes) };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    let containers = if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() };
    let since = if image.created > 0 { time::ago(image.created) } else { "N/A".into() };
    vec![
        ("ID", Value::text(if truncate { short_id(&image.id) } else { &image.id })),
        ("Repository", Value::text(repository)),
        ("Tag", Value::text(tag)),
        ("Digest", Value::text(digest)),
        ("CreatedSince", Value::text(since)),
        ("CreatedAt", Value::text(time::local(image.created))),
        ("Size", Value::text(units::size(image.size))),
        ("SharedSize", Value::text(size(image.shared_size))),
        ("UniqueSize", Value::text(size(unique))),
        ("VirtualSize", Value::text(units::size4(image.size))),
        ("Containers", Value::text(containers)),
    ]
}

/// The row of an image under its first name, for `system df`.
pub fn summary_row(image: &Summary) -> Row {
    let (repository, tag, digest) = names(image, false).swap_remove(0);
    row(image, &repository, &tag, &digest, true)
}

/// The same with whole ids.
pub fn full_row(image: &Summary) -> Row {
    let (repository, tag, _) = names(image, false).swap_remove(0);
    row(image, &repository, &tag, "", false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_table() {
        let image = |id: &str, tags: &[&str], hours: i64, size: i64| Summary {
            id: format!("sha256:{id}0000"),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            created: time::now() - hours * 3600,
            size,
            ..Default::default()
        };
        let images = [
            image("31dd8a363408", &["web_app:latest"], 15, 2_810_000_000),
            image("e163ad2e6335", &[], 15, 2_810_000_000),
            image("85349ca642c4", &["python:3.8-buster"], 14 * 24, 884_000_000),
        ];
        let rows = images.iter().map(summary_row).collect();
        assert_eq!(
            LIST.render(LIST.default, &Choice::default(), rows).unwrap(),
            "REPOSITORY   TAG          IMAGE ID       CREATED        SIZE\n\
             web_app      latest       31dd8a363408   15 hours ago   2.81GB\n\
             <none>       <none>       e163ad2e6335   15 hours ago   2.81GB\n\
             python       3.8-buster   85349ca642c4   2 weeks ago    884MB\n"
        );
    }
}

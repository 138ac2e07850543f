//! `pull push search`.

use ferry_api::image::SearchResult;
use ferry_api::{Call, Client};

use super::credentials::{auth_header, registry_of, with_login_hint};
use crate::commands::filters;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::output::format::{Choice, List, ellipsis};
use crate::output::progress::{self, To};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `pull`.
    pub struct PullFlags {
        all_tags: bool = 'a' "all-tags" "Download all tagged images in the repository";
        disable_content_trust: Option<bool> = '-' "disable-content-trust" "Skip image verification (default true)";
        platform: String = '-' "platform" <string> "Set platform if server is multi-platform capable";
        progress: String = '-' "progress" <string> "Kind of progress output (auto, tty, plain, json, quiet)";
        quiet: bool = 'q' "quiet" "Suppress verbose output";
    }
}

crate::flags! {
    /// Flags of `push`.
    pub struct PushFlags {
        all_tags: bool = 'a' "all-tags" "Push all tags of an image to the repository";
        compression: String = '-' "compression" <string> "Compression of the layers: gzip or zstd; those that are packed otherwise are packed anew, which changes the digest (default: as they are, own layers gzip)";
        compression_level: Option<i64> = '-' "compression-level" <int> "Level of the compression (gzip 1 to 9, zstd 1 to 22; default 3)";
        disable_content_trust: Option<bool> = '-' "disable-content-trust" "Skip image signing (default true)";
        platform: String = '-' "platform" <string> "Push a platform-specific manifest as a single-platform image to the registry";
        progress: String = '-' "progress" <string> "Kind of progress output (auto, tty, plain, json, quiet)";
        quiet: bool = 'q' "quiet" "Suppress verbose output";
    }
}

crate::flags! {
    /// Flags of `search`.
    pub struct SearchFlags {
        filter: Vec<String> = 'f' "filter" <filter> "Filter output based on conditions provided";
        format: String = '-' "format" <string> "Pretty-print search using a Go template";
        limit: Option<i64> = '-' "limit" <int> "Max number of search results";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
    }
}

/// Fetches an image and shows how it goes.
pub async fn pull_image(
    session: &Session,
    client: &Client,
    name: &str,
    platform: &str,
    to: To,
) -> Result<(), Failure> {
    let call = pull_call(session, name, platform)?;
    let shown = async { progress::show(client.call(call).await?, to).await };
    shown.await.map(drop).map_err(|failure| with_login_hint(session, name, failure))
}

/// The call that pulls an image, with the credentials of its registry.
pub fn pull_call(session: &Session, name: &str, platform: &str) -> Result<Call, Failure> {
    let full = super::with_tag(name);
    let (repository, tag) = match full.split_once('@') {
        Some((repository, digest)) => (repository, digest),
        None => super::split_tag(&full),
    };
    Ok(Call::post("/images/create")
        .query("fromImage", repository)
        .query_text("tag", tag)
        .query_text("platform", platform)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?))
}

async fn fetch(
    session: &Session,
    client: &Client,
    repository: &str,
    tag: &str,
    platform: &str,
    to: To,
) -> Result<(), Failure> {
    let call = Call::post("/images/create")
        .query("fromImage", repository)
        .query_text("tag", tag)
        .query_text("platform", platform)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?);
    let shown = async { progress::show(client.call(call).await?, to).await };
    shown.await.map(drop).map_err(|failure| with_login_hint(session, repository, failure))
}

/// Runs `pull`.
pub async fn pull(session: &Session, flags: PullFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let client = session.engine().await?;
    let to = To::chosen(&flags.progress, flags.quiet)?;
    let chatty = to == To::Stdout || to == To::Plain;
    if flags.all_tags {
        if !super::split_tag(name).1.is_empty() || name.contains('@') {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        fetch(session, client, name, "", &flags.platform, to).await?;
        return Ok(0);
    }
    let full = super::with_tag(name);
    if full != *name && chatty {
        output::line("Using default tag: latest")?;
    }
    pull_image(session, client, name, &flags.platform, to).await?;
    if to != To::Json {
        output::line(&full_name(&full))?;
    }
    Ok(0)
}

/// `docker.io/library/busybox:latest`.
pub fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Runs `push`.
pub async fn push(session: &Session, flags: PushFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let (repository, tag) = super::split_tag(name);
    if flags.all_tags && !tag.is_empty() {
        return Err(Failure::new("tag can't be used with --all-tags/-a"));
    }
    let tag = match (flags.all_tags, tag) {
        (true, _) => "",
        (false, "") => "latest",
        (false, tag) => tag,
    };
    let to = To::chosen(&flags.progress, flags.quiet)?;
    let chatty = to == To::Stdout || to == To::Plain;
    if !flags.all_tags && tag == "latest" && !name.ends_with(":latest") && chatty {
        output::line("Using default tag: latest")?;
    }
    let call = Call::post(format!("/images/{}/push", Call::segment(repository)))
        .query_text("tag", tag)
        .query_text("platform", &flags.platform)
        .query_text("compression", &flags.compression)
        .query_text(
            "compression-level",
            &flags.compression_level.map(|level| level.to_string()).unwrap_or_default(),
        )
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?);
    let pushed = async { progress::show(session.engine().await?.call(call).await?, to).await };
    pushed.await.map_err(|failure| with_login_hint(session, repository, failure))?;
    if to == To::Nowhere {
        output::line(&full_name(&format!("{repository}:{tag}")))?;
    }
    Ok(0)
}

/// Pushes an image with the credentials of its registry.
pub async fn push_image(session: &Session, name: &str, to: To) -> Result<(), Failure> {
    push_image_as(session, name, PushAs::default(), to).await.map(drop)
}

/// How an image is to be pushed.
#[derive(Debug, Clone, Copy, Default)]
pub struct PushAs<'a> {
    /// This image, by its digest: the name is that of a repository.
    pub image: Option<&'a str>,
    /// How its layers are to be packed.
    pub compression: &'a str,
    /// How hard.
    pub level: &'a str,
}

/// Pushes an image; gives what the registry has then.
pub async fn push_image_as(
    session: &Session,
    name: &str,
    how: PushAs<'_>,
    to: To,
) -> Result<serde_json::Value, Failure> {
    let (repository, tag) = super::split_tag(name);
    let mut call = Call::post(format!("/images/{}/push", Call::segment(repository)))
        .query_text("compression", how.compression)
        .query_text("compression-level", how.level)
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(repository))?);
    call = match how.image {
        Some(image) => call.query("image", image),
        None => call.query("tag", if tag.is_empty() { "latest" } else { tag }),
    };
    let told = progress::show(session.engine().await?.call(call).await?, to).await?;
    Ok(told.into_iter().next_back().unwrap_or_default())
}

static SEARCH: List = List {
    columns: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
    default: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "",
};

/// Runs `search`.
pub async fn search(session: &Session, flags: SearchFlags, arguments: Vec<String>) -> Outcome {
    let mut call = Call::get("/images/search")
        .query("term", &arguments[0])
        .header("X-Registry-Auth", auth_header(session.config(), registry_of(&arguments[0]))?);
    if let Some(limit) = flags.limit {
        call = call.query("limit", limit.to_string());
    }
    let filters = filters(&flags.filter)?;
    if !filters.is_empty() {
        call = call.query("filters", filters.to_json());
    }
    let results: Vec<SearchResult> = session.engine().await?.call(call).await?.json().await?;
    let mark = |on: bool| Value::text(if on { "[OK]" } else { "" });
    let rows = results.iter().map(|result| {
        let description = result.description.replace(['\n', '\r'], " ");
        vec![
            ("Name", Value::text(result.name.as_str())),
            (
                "Description",
                Value::text(if flags.no_trunc { description } else { ellipsis(&description, 45) }),
            ),
            ("StarCount", Value::text(result.star_count.to_string())),
            ("IsOfficial", mark(result.is_official)),
            ("IsAutomated", mark(result.is_automated)),
        ]
    });
    let choice = Choice { format: flags.format, ..Default::default() };
    SEARCH.print(&choice, rows.collect())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names() {
        for (name, full) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("me/app:1", "docker.io/me/app:1"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("ghcr.io/me/app:1", "ghcr.io/me/app:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}

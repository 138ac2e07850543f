//! Commands about images.

mod credentials;
mod explore;
mod history;
mod list;
pub mod manifest;
mod registry;
mod remove;
mod transfer;
mod tree;

pub use credentials::registry_config;
pub use list::{full_row, summary_row};
pub use registry::{PushAs, pull_call, pull_image, push_image, push_image_as};
pub use remove::prune_all;
pub use transfer::file_body;

use crate::cli::Command;
use crate::command;
use crate::flags::NoFlags;

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["images", "image ls", "image list"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        AtMost(1),
        list::ImagesFlags,
        list::images
    ),
    command!(
        ["rmi", "image rm", "image remove"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        AtLeast(1),
        remove::RmiFlags,
        remove::rmi
    ),
    command!(
        ["tag", "image tag"],
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        Exactly(2),
        NoFlags,
        transfer::tag
    ),
    command!(
        ["load", "image load"],
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        None,
        transfer::LoadFlags,
        transfer::load
    ),
    command!(
        ["save", "image save"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        AtLeast(1),
        transfer::SaveFlags,
        transfer::save
    ),
    command!(
        ["import", "image import"],
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        Between(1, 2),
        transfer::ImportFlags,
        transfer::import
    ),
    command!(
        ["history", "image history"],
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        Exactly(1),
        history::HistoryFlags,
        history::history
    ),
    command!(
        ["image explore"],
        "[OPTIONS] IMAGE",
        "Show what each layer of an image brings, and what of it is wasted",
        Exactly(1),
        explore::ExploreFlags,
        explore::explore
    ),
    command!(
        ["image diff"],
        "[OPTIONS] IMAGE IMAGE",
        "Show how the files of two images differ",
        Exactly(2),
        explore::DiffFlags,
        explore::diff
    ),
    command!(["image prune"], "[OPTIONS]", "Remove unused images", None, remove::PruneFlags, remove::prune),
    command!(
        ["pull", "image pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        Exactly(1),
        registry::PullFlags,
        registry::pull
    ),
    command!(
        ["push", "image push"],
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        Exactly(1),
        registry::PushFlags,
        registry::push
    ),
    command!(
        ["login"],
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        AtMost(1),
        credentials::LoginFlags,
        credentials::login
    ),
    command!(["logout"], "[SERVER]", "Log out from a registry", AtMost(1), NoFlags, credentials::logout),
    command!(
        ["search"],
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        Exactly(1),
        registry::SearchFlags,
        registry::search
    ),
];

/// Name and tag of `name[:tag]`; the colon of a registry's port is no tag's.
pub fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// `name:latest` where there is neither tag nor digest.
pub fn with_tag(name: &str) -> String {
    match split_tag(name) {
        (_, "") if !name.contains('@') => format!("{name}:latest"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (name, split, full) in [
            ("busybox", ("busybox", ""), "busybox:latest"),
            ("busybox:1", ("busybox", "1"), "busybox:1"),
            ("host:5000/x", ("host:5000/x", ""), "host:5000/x:latest"),
            ("host:5000/x:2", ("host:5000/x", "2"), "host:5000/x:2"),
        ] {
            assert_eq!((split_tag(name), with_tag(name)), (split, full.to_owned()));
        }
        assert_eq!(with_tag("x@sha256:abc"), "x@sha256:abc");
    }
}

//! `images --tree`: each image with what it was made for, in columns as wide as they need to be.

use ferry_api::Call;
use ferry_api::image::Summary;
use serde_json::Value;

use crate::failure::Outcome;
use crate::output::format::short_id;
use crate::output::{self, units};
use crate::session::Session;

/// Between two columns.
const GAP: usize = 3;
/// A terminal of which nothing is known, and the narrowest one.
const WIDTH: (usize, usize) = (80, 20);
/// The least that is left for names; columns that would take more are left out.
const NAMES_MIN: usize = 12;
const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";

/// Where a text stands in its column.
#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

/// What the last column's letter means.
const LEGEND: &str = "Info ->  U In Use ";

/// What stands beside a name: title, width and place. The first column is that of the names.
const COLUMNS: [(&str, usize, Align); 4] = [
    ("ID", 12, Align::Left),
    ("DISK USAGE", 10, Align::Right),
    ("CONTENT SIZE", 12, Align::Right),
    ("EXTRA", 5, Align::Left),
];

/// A line's columns.
type Details = [String; 4];

/// An image: the lines of its names, and those of its platforms.
struct Tree {
    names: Vec<String>,
    details: Details,
    platforms: Vec<(String, Details)>,
}

/// Asks and prints. `call` has the filters; images without names are shown where `all` are wanted.
pub async fn print(session: &Session, call: Call, all: bool) -> Outcome {
    let mut images: Vec<Summary> =
        session.engine().await?.call(call.query("manifests", "1")).await?.json().await?;
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    let trees: Vec<Tree> = images.iter().filter(|image| all || has_name(image)).map(tree).collect();
    output::write(draw(&trees, output::terminal_width()).as_bytes())?;
    Ok(0)
}

fn has_name(image: &Summary) -> bool {
    image.repo_tags.iter().any(|name| name != "<none>:<none>")
}

fn tree(image: &Summary) -> Tree {
    let manifests = image.manifests.iter().flatten().filter(|manifest| manifest["Kind"] == "image");
    let platforms: Vec<_> = manifests.clone().map(|one| (platform(one), of_manifest(one))).collect();
    let content = manifests.clone().filter_map(|one| one["Size"]["Content"].as_i64()).sum();
    let is_used = image.containers > 0 || manifests.clone().any(is_used);
    Tree {
        names: match has_name(image) {
            true => image.repo_tags.iter().rev().cloned().collect(),
            false => vec!["<untagged>".to_owned()],
        },
        details: details(&image.id, image.size, content, is_used),
        platforms,
    }
}

fn is_used(manifest: &Value) -> bool {
    manifest["ImageData"]["Containers"].as_array().is_some_and(|containers| !containers.is_empty())
}

fn of_manifest(manifest: &Value) -> Details {
    let size = |key: &str| manifest["Size"][key].as_i64().unwrap_or_default();
    details(manifest["ID"].as_str().unwrap_or_default(), size("Total"), size("Content"), is_used(manifest))
}

fn details(id: &str, usage: i64, content: i64, is_used: bool) -> Details {
    let mark = if is_used { "U" } else { " " };
    [short_id(id).to_owned(), units::size(usage), units::size(content), mark.to_owned()]
}

/// `linux/arm/v7`.
fn platform(manifest: &Value) -> String {
    let platform = &manifest["ImageData"]["Platform"];
    let parts = ["os", "architecture", "variant"].map(|key| platform[key].as_str().unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// All lines, in a terminal of this width.
fn draw(trees: &[Tree], width: Option<usize>) -> String {
    let width = width.unwrap_or(WIDTH.0).max(WIDTH.1);
    let mut room = width;
    let mut columns = &COLUMNS[..];
    for (index, (_, wide, _)) in COLUMNS.iter().enumerate() {
        if room.saturating_sub(wide + GAP) < NAMES_MIN {
            columns = &COLUMNS[..index];
            break;
        }
        room -= wide + GAP;
    }
    let names = room.min(widest(trees));
    let mut text = format!("{WARNING}\n{LEGEND:>width$}\n\n{}", padded("IMAGE", names, Align::Left));
    for (title, wide, align) in columns {
        text.push_str(&format!("{}{}", " ".repeat(GAP), padded(title, *wide, *align)));
    }
    text.push('\n');
    for tree in trees {
        let heads: Vec<String> = tree.names.iter().map(|name| padded(name, names, Align::Left)).collect();
        line(&mut text, columns, &heads.join("\n"), &tree.details);
        for (at, (platform, details)) in tree.platforms.iter().enumerate() {
            let branch = if at + 1 == tree.platforms.len() { "└─" } else { "├─" };
            line(&mut text, columns, &padded(&format!("{branch} {platform}"), names, Align::Left), details);
        }
        text.push('\n');
    }
    text
}

fn line(text: &mut String, columns: &[(&str, usize, Align)], head: &str, details: &Details) {
    text.push_str(head);
    for ((_, wide, align), value) in columns.iter().zip(details) {
        text.push_str(&format!("{}{}", " ".repeat(GAP), padded(value, *wide, *align)));
    }
    text.push('\n');
}

/// How wide the names and platforms are. The sign before a platform is counted by its bytes, as Docker does.
fn widest(trees: &[Tree]) -> usize {
    let names = trees.iter().flat_map(|tree| &tree.names).map(String::len);
    let platforms = trees.iter().flat_map(|tree| &tree.platforms).map(|(name, _)| name.len() + "└─ ".len());
    names.chain(platforms).max().unwrap_or_default().max("IMAGE".len())
}

fn padded(text: &str, width: usize, align: Align) -> String {
    let length = text.chars().count();
    if length > width {
        let kept: String = text.chars().take(width.saturating_sub(3)).collect();
        return format!("{kept}...");
    }
    match align {
        Align::Left => format!("{text:<width$}"),
        Align::Right => format!("{text:>width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        Tree {
            names: vec!["busybox:latest".to_owned(), "other:one".to_owned()],
            details: details("sha256:0123456789abcdef", 4_260_000, 1_900_000, true),
            platforms: vec![(
                "linux/amd64".to_owned(),
                details("sha256:fedcba9876543210", 6_160_000, 1_900_000, false),
            )],
        }
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let drawn = draw(&[sample()], None);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[1].len(), 80);
        assert_eq!(lines[3], "IMAGE                ID             DISK USAGE   CONTENT SIZE   EXTRA");
        assert_eq!(lines[4].trim_end(), "busybox:latest");
        assert_eq!(lines[5], "other:one            0123456789ab       4.26MB          1.9MB   U    ");
        assert_eq!(lines[6].trim_end(), "└─ linux/amd64       fedcba987654       6.16MB          1.9MB");
    }

    #[test]
    fn narrow_terminals_get_fewer_columns() {
        let drawn = draw(&[sample()], Some(30));
        assert_eq!(drawn.lines().nth(3), Some("IMAGE             ID          "));
        assert_eq!(draw(&[], Some(1)).lines().nth(3), Some("IMAGE"));
    }
}

//! `image explore`, `image diff`: what is in images.

use ferry_api::Call;
use serde_json::Value as Json;

use crate::failure::{Failure, Outcome};
use crate::output::format::ellipsis;
use crate::output::{self, table, units};
use crate::session::Session;

/// Widest command that a table shows.
const COMMAND_WIDTH: usize = 60;

crate::flags! {
    /// Flags of `image explore`.
    pub struct ExploreFlags {
        files: bool = '-' "files" "List the files that a container sees, with the layer that each is from";
        format: String = '-' "format" <string> "Format output (\"table\", or \"json\" for a document per line)";
        wasted: Option<i64> = 'n' "wasted" <int> "How many wasted paths to name (default 10)";
    }
}

crate::flags! {
    /// Flags of `image diff`.
    pub struct DiffFlags {
        format: String = '-' "format" <string> "Format output (\"table\", or \"json\" for a document per line)";
        quiet: bool = 'q' "quiet" "Say nothing; the exit code is 1 where the images differ";
    }
}

fn wants_json(format: &str) -> Result<bool, Failure> {
    match format {
        "" | "table" => Ok(false),
        "json" => Ok(true),
        other => Err(Failure::new(format!("unknown format {other:?}: there are table and json"))),
    }
}

/// Runs `image explore`.
pub async fn explore(session: &Session, flags: ExploreFlags, arguments: Vec<String>) -> Outcome {
    let json = wants_json(&flags.format)?;
    let mut call =
        Call::get("/ferry/image/explore").query("name", &arguments[0]).query_if("files", flags.files);
    if let Some(wasted) = flags.wasted {
        call = call.query("wasted", wasted.to_string());
    }
    let mut lines = session.engine().await?.call(call).await?.json_lines::<Json>();
    while let Some(line) = lines.next().await? {
        check(&line)?;
        if json {
            output::line(&line.to_string())?;
        } else if let Some(file) = line.get("File") {
            output::line(&file_line(file))?;
        } else {
            output::write(summary(&line["Explored"]).as_bytes())?;
        }
    }
    Ok(0)
}

/// An error that ended the walk.
fn check(line: &Json) -> Result<(), Failure> {
    match line["Error"].as_str() {
        Some(error) => Err(Failure::new(error)),
        None => Ok(()),
    }
}

fn number(value: &Json) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

/// `f 0755    1.2MB  3  /bin/busybox`
fn file_line(file: &Json) -> String {
    format!(
        "{} {:04o} {:>9} {:>3}  {}",
        text(&file["Kind"]),
        number(&file["Mode"]),
        units::size4(number(&file["Size"])),
        number(&file["Layer"]) + 1,
        text(&file["Path"])
    )
}

fn summary(explored: &Json) -> String {
    let none = Vec::new();
    let list = |key: &str| explored[key].as_array().unwrap_or(&none).clone();
    let head = ["LAYER", "SIZE", "WASTED", "ADDED", "CHANGED", "REMOVED", "CREATED BY"];
    let mut rows = vec![head.join("\t")];
    for (at, layer) in list("Layers").iter().enumerate() {
        let row = [
            (at + 1).to_string(),
            units::size4(number(&layer["Size"])),
            units::size4(number(&layer["Wasted"])),
            number(&layer["Added"]).to_string(),
            number(&layer["Changed"]).to_string(),
            number(&layer["Removed"]).to_string(),
            ellipsis(&text(&layer["CreatedBy"]).replace(['\n', '\t'], " "), COMMAND_WIDTH),
        ];
        rows.push(row.join("\t"));
    }
    let mut shown = table::align(&(rows.join("\n") + "\n"));
    let (size, wasted) = (number(&explored["Size"]), number(&explored["Wasted"]));
    let share = if size > 0 { wasted as f64 * 100.0 / size as f64 } else { 0.0 };
    shown.push_str(&format!(
        "\n{} in all, {} ({share:.1} %) of it wasted\n",
        units::size4(size),
        units::size4(wasted)
    ));
    for path in list("WastedPaths") {
        let layers = number(&path["Layers"]);
        shown.push_str(&format!(
            "{:>9}  in {layers} layers  {}\n",
            units::size4(number(&path["Wasted"])),
            text(&path["Path"])
        ));
    }
    shown
}

/// Runs `image diff`.
pub async fn diff(session: &Session, flags: DiffFlags, arguments: Vec<String>) -> Outcome {
    let json = wants_json(&flags.format)?;
    let call = Call::get("/ferry/image/diff").query("first", &arguments[0]).query("second", &arguments[1]);
    let mut lines = session.engine().await?.call(call).await?.json_lines::<Json>();
    let mut differ = false;
    while let Some(line) = lines.next().await? {
        check(&line)?;
        differ = true;
        match (flags.quiet, json) {
            (true, _) => {}
            (false, true) => output::line(&line["Change"].to_string())?,
            (false, false) => output::line(&change_line(&line["Change"]))?,
        }
    }
    Ok(i32::from(flags.quiet && differ))
}

/// `C /etc/passwd  1.2kB -> 1.3kB`
fn change_line(change: &Json) -> String {
    let (before, after) = (number(&change["Before"]), number(&change["After"]));
    let sizes = match text(&change["Kind"]) {
        "Changed" if before != after => format!("  {} -> {}", units::size4(before), units::size4(after)),
        "Added" if after > 0 => format!("  +{}", units::size4(after)),
        "Deleted" if before > 0 => format!("  -{}", units::size4(before)),
        _ => String::new(),
    };
    let letter = text(&change["Kind"]).get(..1).unwrap_or("?");
    format!("{letter} {}{sizes}", text(&change["Path"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines() {
        let change = |kind: &str, before: i64, after: i64| {
            change_line(&json!({ "Kind": kind, "Path": "/x", "Before": before, "After": after }))
        };
        assert_eq!(change("Added", 0, 2000), "A /x  +2kB");
        assert_eq!(change("Changed", 1000, 2000), "C /x  1kB -> 2kB");
        assert_eq!(change("Changed", 5, 5), "C /x");
        assert_eq!(change("Deleted", 0, 0), "D /x");
        let file = json!({ "Path": "/bin/sh", "Kind": "f", "Mode": 0o755, "Size": 1000, "Layer": 0 });
        assert_eq!(file_line(&file), "f 0755       1kB   1  /bin/sh");
    }
}

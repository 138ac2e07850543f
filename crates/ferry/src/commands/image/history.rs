//! `history`.

use ferry_api::Call;
use ferry_api::image::HistoryItem;

use crate::failure::Outcome;
use crate::output::format::{Choice, List, Row, ellipsis, short_id};
use crate::output::{time, units};
use crate::session::Session;
use crate::template::Value;

crate::flags! {
    /// Flags of `history`.
    pub struct HistoryFlags {
        format: String = '-' "format" <string> "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'";
        human: Option<bool> = 'H' "human" "Print sizes and dates in human readable format (default true)";
        no_trunc: bool = '-' "no-trunc" "Don't truncate output";
        platform: String = '-' "platform" <string> "Show history for the given platform";
        quiet: bool = 'q' "quiet" "Only show image IDs";
    }
}

static LIST: List = List {
    columns: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    default: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};
const NOT_HUMAN: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// Runs `history`.
pub async fn history(session: &Session, flags: HistoryFlags, arguments: Vec<String>) -> Outcome {
    let call = Call::get(format!("/images/{}/history", Call::segment(&arguments[0])))
        .query_text("platform", &flags.platform);
    let items: Vec<HistoryItem> = session.engine().await?.call(call).await?.json().await?;
    let human = flags.human.unwrap_or(true);
    let rows = items.iter().map(|item| row(item, human, !flags.no_trunc)).collect();
    let choice = Choice { format: flags.format, quiet: flags.quiet, ..Default::default() };
    LIST.print_with(if human { LIST.default } else { NOT_HUMAN }, &choice, rows)?;
    Ok(0)
}

fn row(item: &HistoryItem, human: bool, truncate: bool) -> Row {
    let created_by = item.created_by.replace('\t', " ");
    let created_by = if truncate { ellipsis(&created_by, 45) } else { created_by };
    let id = if truncate && item.id != "<missing>" { short_id(&item.id) } else { &item.id };
    vec![
        ("ID", Value::text(id)),
        ("CreatedSince", Value::text(if item.created <= 0 { "N/A".into() } else { time::ago(item.created) })),
        ("CreatedAt", Value::text(time::local_rfc3339(item.created))),
        ("CreatedBy", Value::text(created_by)),
        ("Size", Value::text(if human { units::size(item.size) } else { item.size.to_string() })),
        ("Comment", Value::text(item.comment.as_str())),
    ]
}

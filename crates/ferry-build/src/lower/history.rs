//! Lines of an image's history, and Go's way of printing the values in them.

use ferry_oci::image::History;

use crate::llb::VertexId;

/// The remark that marks lines as made from a Dockerfile; tools look for it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A line of history whose date is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryDraft {
    /// The command.
    pub created_by: String,
    /// The operation that may make a layer.
    pub vertex: Option<VertexId>,
    /// MAINTAINER.
    pub author: Option<String>,
}

impl HistoryDraft {
    /// The finished line.
    pub fn finish(&self, created: &str, has_layer: bool) -> History {
        History {
            created: Some(created.to_owned()),
            created_by: Some(self.created_by.clone()),
            author: self.author.clone(),
            comment: Some(COMMENT.to_owned()),
            empty_layer: !has_layer,
        }
    }
}

/// A Go string slice with `%q`: `["a" "b"]`.
pub fn quoted_list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// A Go slice with `%v`: `[a b]`.
pub fn plain_list(values: &[String]) -> String {
    format!("[{}]", values.join(" "))
}

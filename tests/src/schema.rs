//! The schema of the Engine API (`conformance/engine-api.yaml`), and what of an answer does not fit it.
//!
//! A Go program writes an empty list or map as `null`, and so do Docker's engine and ferry: `null` passes for both, also
//! where the schema forgets to say `x-nullable`. Keys that the schema does not know are a breach in the answers of the
//! newest version; older ones have more, as [`Schema::breaches`] is told.

mod check;
mod yaml;

use std::sync::LazyLock;

use serde_json::Value;

use check::Check;

/// What the schema does not have, by the ends of its places.
const KNOWN: &[&str] = &[
    // Docker tells null of what has not ended, too.
    "GET /exec/{id}/json.ExitCode",
    // Nor has Docker a value for these where none was given.
    ".HostConfig.MemorySwappiness",
    ".HostConfig.OomKillDisable",
    // What the classic builder and a commit began with: gone from the schema, and still told.
    "GET /images/{name}/json.Parent",
    // Docker writes the id of a secret or configuration so, whatever the schema says.
    "POST /secrets/create.ID",
    "POST /secrets/create.Id",
    "POST /configs/create.ID",
    "POST /configs/create.Id",
    // Ferry's own: what is claimed of an image.
    ".AttestationData.PredicateTypes",
];

/// The schema, read.
pub struct Schema {
    document: Value,
}

/// A path of the schema that fits a request.
struct Route<'a> {
    template: &'a str,
    operation: &'a Value,
}

impl Schema {
    /// The one of this repository, read once.
    ///
    /// # Panics
    /// Where it is no YAML.
    #[must_use]
    pub fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
            let document = yaml::read(include_str!("../conformance/engine-api.yaml"));
            Schema { document: document.unwrap_or_else(|error| panic!("engine-api.yaml: {error}")) }
        });
        &SCHEMA
    }

    /// What does not fit in the answer to `METHOD /path` (without a version and a query).
    #[must_use]
    pub fn breaches(&self, method: &str, path: &str, status: u16, body: &Value, newest: bool) -> Vec<String> {
        let check = Check { document: &self.document, unknown_keys: newest, known: KNOWN };
        let Some(route) = self.route(method, path) else { return Vec::new() };
        if status >= 400 {
            return check.run(&serde_json::json!({"$ref": "#/definitions/ErrorResponse"}), body, "error");
        }
        let responses = &route.operation["responses"];
        let Some(response) = responses.get(status.to_string()) else {
            return vec![format!("{method} {}: status {status} is none of the schema's", route.template)];
        };
        match response.get("schema") {
            Some(schema) => check.run(schema, body, &format!("{method} {}", route.template)),
            None => Vec::new(),
        }
    }

    /// The path with the fewest placeholders, as an engine's router takes it.
    fn route(&self, method: &str, path: &str) -> Option<Route<'_>> {
        let asked: Vec<&str> = path.split('/').collect();
        let fitting = self.document["paths"].as_object()?.iter().filter_map(|(template, operations)| {
            let operation = operations.get(method.to_lowercase())?;
            let parts: Vec<&str> = template.split('/').collect();
            fits(&parts, &asked).then_some(Route { template, operation })
        });
        fitting.min_by_key(|route| route.template.matches('{').count())
    }
}

/// Whether a template fits; names of images have slashes.
fn fits(template: &[&str], asked: &[&str]) -> bool {
    match (template, asked) {
        ([], []) => true,
        ([first, rest @ ..], [_, ..]) if first.starts_with('{') => {
            (1..=asked.len()).any(|taken| fits(rest, &asked[taken..]))
        }
        ([first, rest @ ..], [part, others @ ..]) => first == part && fits(rest, others),
        _ => false,
    }
}

/// Panics with all that does not fit in an answer.
///
/// `request` is `METHOD /vX.Y/path?query`. Answers of versions before 1.50 have other shapes, and those without JSON none.
/// `plain`: the client is none that gets more keys than the version has.
///
/// # Panics
/// Where something does not fit.
#[track_caller]
pub fn must_fit(request: &str, status: u16, head: &str, body: &[u8], plain: bool) {
    let Some((method, target)) = request.split_once(' ') else { return };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (version, path) = version_of(path);
    let is_json = head.to_lowercase().contains("content-type: application/json");
    if !is_json || body.is_empty() || version.is_some_and(|minor| minor < 50) {
        return;
    }
    // A path without a version has what old clients read, too.
    let newest = plain && version.is_some_and(|minor| minor >= 55);
    // A stream of JSON is as many answers.
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let value =
            value.unwrap_or_else(|error| panic!("{request}: {error}: {}", String::from_utf8_lossy(body)));
        let breaches = Schema::get().breaches(method, path, status, &value, newest);
        assert!(breaches.is_empty(), "{request}: {status}\n{}\n{value:#}", breaches.join("\n"));
    }
}

/// The minor version that a path names, and the path without it.
fn version_of(path: &str) -> (Option<u32>, &str) {
    let named = path.strip_prefix("/v1.").and_then(|rest| {
        let end = rest.find('/')?;
        Some((rest[..end].parse().ok()?, &rest[end..]))
    });
    named.map_or((None, path), |(minor, rest)| (Some(minor), rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn breaches(request: &str, status: u16, body: &Value) -> Vec<String> {
        let (method, path) = request.split_once(' ').expect("a method");
        Schema::get().breaches(method, path, status, body, true)
    }

    #[test]
    fn answers_that_fit() {
        for (request, status, body) in [
            ("GET /containers/json", 200, json!([])),
            ("GET /containers/json", 200, json!([{"Names": ["/a"], "State": "running", "Labels": null}])),
            ("POST /containers/x/wait", 200, json!({"StatusCode": 0})),
            ("GET /images/a/b/json", 404, json!({"message": "No such image"})),
        ] {
            assert_eq!(breaches(request, status, &body), Vec::<String>::new(), "{request}");
        }
    }

    #[test]
    fn answers_that_do_not() {
        for (request, status, body, told) in [
            ("GET /containers/json", 200, json!({}), "is an object and no array"),
            ("GET /containers/json", 200, json!([{"State": "odd"}]), "[0].State: \"odd\" is none of"),
            ("GET /containers/json", 200, json!([{"Id": "abc"}]), "[0].Id: \"abc\""),
            (
                "GET /containers/json",
                200,
                json!([{"Created": "x"}]),
                "[0].Created: \"x\" is a string and no integer",
            ),
            (
                "GET /containers/json",
                200,
                json!([{"Labels": {"a": 5}}]),
                "Labels.a: 5 is a number and no string",
            ),
            (
                "GET /containers/json",
                200,
                json!([{"Naems": []}]),
                "[0].Naems: a key that the schema does not know",
            ),
            ("POST /containers/x/wait", 200, json!({}), "StatusCode: is missing"),
            ("POST /containers/x/wait", 202, json!({}), "status 202 is none of the schema's"),
            ("GET /images/a/b/json", 404, json!({"error": "x"}), "message: is missing"),
        ] {
            let found = breaches(request, status, &body).join("\n");
            assert!(found.contains(told), "{request} {body}: {found}");
        }
    }

    #[test]
    fn names_may_have_slashes_and_literal_parts_win() {
        let template = |request: &str| {
            let (method, path) = request.split_once(' ').expect("a method");
            Schema::get().route(method, path).map(|route| route.template.to_owned())
        };
        assert_eq!(template("GET /images/a/b:c/json").as_deref(), Some("/images/{name}/json"));
        assert_eq!(template("GET /images/get").as_deref(), Some("/images/get"));
        assert_eq!(template("GET /containers/json").as_deref(), Some("/containers/json"));
        assert_eq!(template("GET /nothing"), None);
    }
}

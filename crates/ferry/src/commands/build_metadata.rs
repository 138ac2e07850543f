//! `--metadata-file`: what came out of a build, for scripts, in buildx's words.

use ferry_api::Call;
use serde_json::{Map, Value, json};

use super::build_attest;
use super::build_platforms::Results;
use super::builder::BuildFlags;
use crate::failure::Failure;
use crate::session::Session;

/// The document. `pushed` is what a registry said of a push, whose digest counts for others.
pub async fn of(
    session: &Session,
    flags: &BuildFlags,
    results: &Results,
    pushed: Option<Value>,
) -> Result<Value, Failure> {
    let lead = results.lead();
    let mut told = Map::new();
    for made in &results.all {
        let key = match results.all.len() {
            1 => "buildx.build.provenance".to_owned(),
            _ => format!("buildx.build.provenance/{}", made.platform),
        };
        told.insert(key, build_attest::predicate(&made.flags, &made.built));
    }
    told.insert("containerimage.config.digest".to_owned(), json!(lead.built.id));
    let path = format!("/images/{}/json", Call::segment(&lead.built.id));
    let call = Call::get(path).query("manifests", "1");
    let image: Value = session.engine().await?.call(call).await?.json().await?;
    let mut descriptor = image["Descriptor"].clone();
    if let Some(pushed) = pushed.filter(|pushed| pushed["Digest"].is_string()) {
        descriptor["digest"] = pushed["Digest"].clone();
        descriptor["size"] = pushed["Size"].clone();
    }
    if descriptor.is_object() {
        told.insert("containerimage.digest".to_owned(), descriptor["digest"].clone());
        told.insert("containerimage.descriptor".to_owned(), descriptor);
    }
    let names: Vec<String> = flags.tag.iter().map(|name| in_full(name)).collect();
    if !names.is_empty() {
        told.insert("image.name".to_owned(), json!(names.join(",")));
    }
    Ok(Value::Object(told))
}

/// A name with its registry and tag.
fn in_full(name: &str) -> String {
    let (repository, tag) = super::image::split_tag(name);
    let tag = if tag.is_empty() { "latest" } else { tag };
    let domain = repository.split_once('/').map(|(first, _)| first);
    let has_domain = domain.is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
    match (has_domain, domain) {
        (true, _) => format!("{repository}:{tag}"),
        (false, Some(_)) => format!("docker.io/{repository}:{tag}"),
        (false, None) => format!("docker.io/library/{repository}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_in_full() {
        assert_eq!(in_full("app"), "docker.io/library/app:latest");
        assert_eq!(in_full("me/app:1"), "docker.io/me/app:1");
        assert_eq!(in_full("localhost:5000/app"), "localhost:5000/app:latest");
    }
}

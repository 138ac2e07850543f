//! Paths and queries, read into types.

use ferry_oci::{Digest, DigestError};

use crate::name::{Name, Reference, is_tag};
use crate::refusal::{Code, Refusal};

/// Most parameters of a query.
const PARAMETERS_MAX: usize = 64;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Beside the API: `/metrics`, the page.
    Open,
    /// `/ferry/v1/TASK`
    Manage(String),
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(Name),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Name, Digest),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Name, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(Name),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(Name, String),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Name, Reference),
}

impl Route {
    /// Reads a path.
    pub fn parse(path: &str) -> Result<Route, Refusal> {
        if let Some(task) = path.strip_prefix("/ferry/v1/") {
            return Ok(Route::Manage(task.to_owned()));
        }
        let Some(rest) = path.strip_prefix("/v2") else { return Ok(Route::Open) };
        if rest.is_empty() || rest == "/" {
            return Ok(Route::Base);
        }
        let Some(rest) = rest.strip_prefix('/') else { return Ok(Route::Open) };
        let rest = decode(rest)?;
        if rest == "_catalog" {
            return Ok(Route::Catalog);
        }
        let segments: Vec<&str> = rest.split('/').collect();
        let name_of = |trailing: usize| name(&segments[..segments.len() - trailing].join("/"));
        match segments.as_slice() {
            [_, .., "tags", "list"] => Ok(Route::Tags(name_of(2)?)),
            [_, .., "blobs", "uploads"] => Ok(Route::Uploads(name_of(2)?)),
            [_, .., "blobs", "uploads", ""] => Ok(Route::Uploads(name_of(3)?)),
            [_, .., "blobs", "uploads", id] => Ok(Route::Upload(name_of(3)?, (*id).to_owned())),
            [_, .., "blobs", text] => Ok(Route::Blob(name_of(2)?, digest(text)?)),
            [_, .., "manifests", text] => Ok(Route::Manifest(name_of(2)?, reference(text)?)),
            [_, .., "referrers", text] => Ok(Route::Referrers(name_of(2)?, digest(text)?)),
            _ => Err(Refusal::new(Code::NameUnknown, "there is nothing at this path")),
        }
    }

    /// With its repository called otherwise, where there is another name for it.
    pub fn renamed(self, rename: impl Fn(&Name) -> Option<Name>) -> Route {
        let new = |name: Name| rename(&name).unwrap_or(name);
        match self {
            Route::Tags(name) => Route::Tags(new(name)),
            Route::Referrers(name, digest) => Route::Referrers(new(name), digest),
            Route::Blob(name, digest) => Route::Blob(new(name), digest),
            Route::Manifest(name, reference) => Route::Manifest(new(name), reference),
            other => other,
        }
    }

    /// The methods that there are for it.
    pub fn methods(&self) -> &'static str {
        match self {
            Route::Open | Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
            Route::Blob(..) => "GET, HEAD, DELETE",
            Route::Manage(_) => "GET, HEAD, POST",
            Route::Uploads(_) => "POST",
            Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
            Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        }
    }
}

/// Reads a repository's name.
pub fn name(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).ok_or_else(|| {
        Refusal::new(Code::NameInvalid, "the repository's name is not valid")
            .detail(serde_json::json!({ "name": text.chars().take(300).collect::<String>() }))
    })
}

/// Reads a digest.
pub fn digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).map_err(|error: DigestError| Refusal::new(Code::DigestInvalid, error.to_string()))
}

/// Reads a tag or a digest.
pub fn reference(text: &str) -> Result<Reference, Refusal> {
    if text.contains(':') {
        return Ok(Reference::Digest(digest(text)?));
    }
    match is_tag(text) {
        true => Ok(Reference::Tag(text.to_owned())),
        false => Err(Refusal::new(Code::TagInvalid, "the tag is not valid")
            .detail(serde_json::json!({ "tag": text.chars().take(200).collect::<String>() }))),
    }
}

/// Decodes `%3A` and the like.
fn decode(text: &str) -> Result<String, Refusal> {
    let broken = || Refusal::new(Code::NameInvalid, "the path is not properly encoded");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
                _ => return Err(broken()),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

/// The parameters of a query, in order.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Result<Query, Refusal> {
        let mut parameters = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()).take(PARAMETERS_MAX) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            parameters.push((decode(key)?, decode(&value.replace('+', " "))?));
        }
        Ok(Query(parameters))
    }

    /// The first value of a parameter; an empty one is as good as none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let first = self.0.iter().find(|(name, value)| name == key && !value.is_empty());
        first.map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that are not empty.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str());
        values.filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn paths() {
        let name = |text| Name::parse(text).unwrap();
        let digest = Digest::parse(&format!("sha256:{HEX}")).unwrap();
        for (path, route) in [
            ("/", Route::Open),
            ("/v2x", Route::Open),
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/tags/list", Route::Tags(name("a"))),
            ("/v2/a/b/blobs/uploads/", Route::Uploads(name("a/b"))),
            ("/v2/a/blobs/uploads/x", Route::Upload(name("a"), "x".to_owned())),
            ("/v2/blobs/blobs/uploads", Route::Uploads(name("blobs"))),
            ("/v2/a/manifests/latest", Route::Manifest(name("a"), Reference::Tag("latest".to_owned()))),
            (&format!("/v2/a/blobs/sha256%3a{HEX}"), Route::Blob(name("a"), digest.clone())),
            (&format!("/v2/tags/list/referrers/sha256:{HEX}"), Route::Referrers(name("tags/list"), digest)),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
        }
        for path in [
            "/v2/tags/list",
            "/v2/a",
            "/v2/../../etc/manifests/x",
            "/v2/a/%2e%2e/manifests/x",
            "/v2/a%2f..%2fb/manifests/x",
            "/v2/A/tags/list",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%",
            "/v2/a/manifests/%ff",
            "/v2//tags/list",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}

//! The bucket that a registry keeps everything in, from what is said of it and the AWS_* variables.

use ferry_registry::{BucketSettings, Keys};

use crate::failure::Failure;

/// Blobs up to this size are sent as one; S3 takes five times as much.
const PART_SIZE: u64 = 1 << 30;
/// The region that S3-compatible services take when they have none.
const REGION: &str = "us-east-1";

/// What was said of a bucket.
#[derive(Debug, Default)]
pub struct Named {
    /// Its name.
    pub bucket: String,
    /// The service's URL.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// What stands in front of every key.
    pub prefix: String,
    /// The public half of the keys.
    pub access_key: Option<String>,
    /// The secret half.
    pub secret_key: Option<String>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The settings of a bucket, with the environment for what was not said.
pub fn settings(named: Named) -> Result<BucketSettings, Failure> {
    let region = named.region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| REGION.to_owned());
    let endpoint = named
        .endpoint
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        let text = format!("the bucket's endpoint {endpoint:?} is no http:// or https:// URL");
        return Err(Failure::new(text).hint("for example https://s3.eu-central-1.amazonaws.com"));
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    if !plain(&named.bucket) || named.bucket.contains('/') || !plain(&named.prefix) {
        return Err(Failure::new("a bucket's name and prefix are letters, digits, '-', '.', '_' (and '/')"));
    }
    let given = (named.access_key.or_else(|| variable("AWS_ACCESS_KEY_ID")), named.secret_key);
    let (Some(id), Some(secret)) = (given.0, given.1.or_else(|| variable("AWS_SECRET_ACCESS_KEY"))) else {
        return Err(Failure::new(format!("nothing says who asks for the bucket {:?}", named.bucket))
            .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    };
    let prefix = named.prefix.trim_matches('/');
    Ok(BucketSettings {
        name: named.bucket,
        endpoint,
        region,
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        keys: Keys { id, secret, session: variable("AWS_SESSION_TOKEN") },
        part_size: PART_SIZE,
    })
}

//! The results of one build: an image for each platform that was asked for. Several go by one name: that of this
//! machine's platform, else the first, has the tags and stands for all of them.

use ferry_api::Call;
use serde_json::json;

use super::build_attest::Wanted;
use super::build_reuse;
use super::build_screen::Built;
use super::builder::BuildFlags;
use crate::failure::Failure;
use crate::session::Session;

/// What was made for one platform.
pub struct Made {
    /// The platform as it was asked for; empty where none was.
    pub platform: String,
    /// The image.
    pub built: Built,
    /// The flags that it was built with.
    pub flags: BuildFlags,
}

impl Made {
    /// The folder of exported files, where there are several platforms.
    pub fn folder(&self) -> String {
        self.platform.replace('/', "_")
    }
}

/// All that was made.
pub struct Results {
    /// In the order in which they were asked for.
    pub all: Vec<Made>,
    /// What is told of each beside it.
    pub attest: Wanted,
}

impl Results {
    /// The one with the names.
    pub fn lead(&self) -> &Made {
        let own = own_platform();
        let fits = |made: &&Made| made.platform == own || made.platform.starts_with(&format!("{own}/"));
        self.all.iter().find(fits).unwrap_or(&self.all[0])
    }

    /// Whether files go into a folder for each platform.
    pub fn several(&self, wanted: Option<bool>) -> bool {
        wanted.unwrap_or(self.all.len() > 1)
    }

    /// Lets the lead stand for all, and gives it the names.
    pub async fn keep(&self, session: &Session, tags: &[String]) -> Result<(), Failure> {
        let lead = &self.lead().built.id;
        let ids: Vec<&str> = self.all.iter().map(|made| made.built.id.as_str()).collect();
        let call = Call::post(format!("/images/{}/platforms", Call::segment(lead))).json(&json!(ids));
        session.engine().await?.call(call).await?.discard().await?;
        for tag in tags {
            build_reuse::tag(session, lead, tag).await?;
        }
        Ok(())
    }
}

/// The platforms that `--platform` names; one without a name where it names none.
pub fn asked(text: &str) -> Result<Vec<String>, Failure> {
    let mut platforms: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() && text.contains(',') {
            return Err(Failure::new(format!("invalid --platform {text:?}: a name is empty"))
                .hint("like --platform linux/amd64,linux/arm64"));
        }
        let name = match name {
            "local" => own_platform(),
            other => other.to_owned(),
        };
        if !platforms.contains(&name) {
            platforms.push(name);
        }
    }
    Ok(platforms)
}

/// This machine's platform in Docker's words.
fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("linux/{architecture}")
}

/// A failed build for another platform than this machine's: what it needs where its programs do not start.
pub fn explain(failure: Failure, platform: &str) -> Failure {
    let foreign = !platform.is_empty() && !platform.starts_with(&own_platform());
    let cannot_run = failure.message.contains("exec format error");
    match foreign && cannot_run {
        false => failure,
        true => failure.hint(format!(
            "programs of {platform} do not run on this machine without an emulator (Debian: apt install \
             qemu-user-static binfmt-support); stages that begin with FROM --platform=$BUILDPLATFORM run without"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read() {
        assert_eq!(asked("").unwrap(), [""]);
        assert_eq!(asked("linux/arm64").unwrap(), ["linux/arm64"]);
        assert_eq!(asked("linux/arm64, linux/amd64,linux/arm64").unwrap(), ["linux/arm64", "linux/amd64"]);
        assert!(asked("linux/arm64,").is_err());
    }
}

//! Platforms as `os/architecture[/variant]`, with containerd's normalisation of names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words: `amd64`, `arm64`, `386`.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system (Windows images).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features the operating system must have (Windows images).
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Nothing was given.
    #[error("invalid platform \"\": expected os/architecture[/variant]")]
    Empty,
    /// More than three parts.
    #[error("invalid platform {0:?}: more than three parts (expected os/architecture[/variant])")]
    TooManyParts(String),
    /// A part is empty or has a character that no platform has.
    #[error("invalid platform {platform:?}: bad part {part:?}")]
    Part {
        /// The whole text.
        platform: String,
        /// The bad part.
        part: String,
    },
    /// One word that is neither an operating system nor an architecture.
    #[error("unknown platform {0:?}: neither an operating system nor an architecture")]
    Unknown(String),
}

const OPERATING_SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

impl Platform {
    /// The platform this program was compiled for.
    pub fn host() -> Platform {
        let (architecture, variant) = normalise_architecture(std::env::consts::ARCH, None);
        Platform { architecture, os: std::env::consts::OS.to_owned(), variant, ..Platform::default() }
    }

    /// Parses `linux/arm64/v8`, `linux/amd64`, and the one-word forms `arm64` and `linux`.
    pub fn parse(text: &str) -> Result<Platform, PlatformError> {
        if text.is_empty() {
            return Err(PlatformError::Empty);
        }
        let parts: Vec<&str> = text.split('/').collect();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(part) = parts.iter().find(|part| part.is_empty() || !part.chars().all(allowed)) {
            return Err(PlatformError::Part { platform: text.to_owned(), part: (*part).to_owned() });
        }
        match parts[..] {
            [word] => Platform::from_word(word),
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::TooManyParts(text.to_owned())),
        }
    }

    /// A platform with its names normalised (`x86_64` is `amd64`, `aarch64` is `arm64`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, variant) = normalise_architecture(architecture, variant);
        let os = match os.to_ascii_lowercase() {
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        Platform { architecture, os, variant, ..Platform::default() }
    }

    fn from_word(word: &str) -> Result<Platform, PlatformError> {
        let host = Platform::host();
        let os = word.to_ascii_lowercase();
        if OPERATING_SYSTEMS.contains(&os.as_str()) || os == "macos" {
            return Ok(Platform::new(&os, &host.architecture, host.variant.as_deref()));
        }
        let platform = Platform::new(&host.os, word, None);
        if ARCHITECTURES.contains(&platform.architecture.as_str()) {
            return Ok(platform);
        }
        Err(PlatformError::Unknown(word.to_owned()))
    }

    /// Whether an image of platform `self` satisfies the wish `wanted`. A wish without a variant is
    /// satisfied by every variant.
    pub fn satisfies(&self, wanted: &Platform) -> bool {
        let found = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        let wanted = Platform::new(&wanted.os, &wanted.architecture, wanted.variant.as_deref());
        found.os == wanted.os
            && found.architecture == wanted.architecture
            && (wanted.variant.is_none() || found.variant == wanted.variant)
    }
}

fn normalise_architecture(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
    match (architecture.as_str(), variant.as_deref()) {
        ("i386", _) => ("386".to_owned(), None),
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64".to_owned(), None),
        ("x86_64" | "x86-64", _) => ("amd64".to_owned(), variant),
        // v8 is the only variant that ordinary arm64 images have, so it is left out.
        ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".to_owned(), None),
        ("aarch64", _) => ("arm64".to_owned(), variant),
        ("armhf", _) => ("arm".to_owned(), Some("v7".to_owned())),
        ("armel", _) => ("arm".to_owned(), Some("v6".to_owned())),
        ("arm", None | Some("7")) => ("arm".to_owned(), Some("v7".to_owned())),
        ("arm", Some(short @ ("5" | "6" | "8"))) => ("arm".to_owned(), Some(format!("v{short}"))),
        _ => (architecture, variant),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        Platform::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/i386", "linux/386"),
            ("linux/amd64/v2", "linux/amd64/v2"),
        ];
        for (text, expected) in table {
            assert_eq!(Platform::parse(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(Platform::parse("arm64").unwrap().architecture, "arm64");
        assert_eq!(
            Platform::parse("linux").unwrap(),
            Platform::new("linux", &Platform::host().architecture, None)
        );
    }

    #[test]
    fn refuses_with_the_bad_part() {
        for (text, expected) in [
            ("", "expected os/architecture"),
            ("linux/", "bad part \"\""),
            ("linux/am d64", "bad part \"am d64\""),
            ("a/b/c/d", "more than three parts"),
            ("vax", "neither an operating system"),
        ] {
            let error = Platform::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn satisfies_ignores_an_unwished_variant() {
        let v7 = Platform::parse("linux/arm/v7").unwrap();
        assert!(Platform::parse("linux/arm64/v8").unwrap().satisfies(&Platform::new("linux", "arm64", None)));
        assert!(v7.satisfies(&Platform::parse("linux/arm").unwrap()));
        assert!(!v7.satisfies(&Platform::parse("linux/arm/v6").unwrap()));
    }
}

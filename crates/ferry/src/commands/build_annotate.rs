//! `--annotation`, and `annotation…` in `--output`: words for whoever looks at a registry or an archive. The engine
//! keeps them with the image and puts each into the document that it is for.

use ferry_api::Call;
use serde::Serialize;

use crate::failure::Failure;
use crate::session::Session;

/// The documents that annotations stand in.
const LEVELS: [&str; 4] = ["manifest", "manifest-descriptor", "index", "index-descriptor"];

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Annotation {
    level: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    key: String,
    value: String,
}

/// What is wanted of an image.
#[derive(Debug, Default)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Reads the flags.
    pub fn parse(annotations: &[String], outputs: &[String]) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for text in annotations.iter().filter(|text| !text.is_empty()) {
            all.extend(of_flag(text)?);
        }
        let fields = outputs.iter().flat_map(|output| output.split(','));
        for field in fields.filter(|field| field.starts_with("annotation")) {
            all.push(of_output(field)?);
        }
        Ok(Self(all))
    }

    /// Nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives them to the engine, to be kept with the image. Of several platforms, each gets those for it.
    pub async fn keep(&self, session: &Session, id: &str, platform: &str) -> Result<(), Failure> {
        let path = format!("/images/{}/annotations", Call::segment(id));
        let is_for =
            |one: &&Annotation| platform.is_empty() || one.platform.is_empty() || one.platform == platform;
        let all: Vec<&Annotation> = self.0.iter().filter(is_for).collect();
        Ok(session.engine().await?.call(Call::post(path).json(&all)).await?.discard().await?)
    }
}

/// `[LEVEL[PLATFORM],...:]KEY=VALUE`, as buildx has it.
fn of_flag(text: &str) -> Result<Vec<Annotation>, Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        Failure::new(format!("invalid annotation \"{text}\", expected key=value"))
            .hint("like org.opencontainers.image.title=App, or index:KEY=VALUE")
    })?;
    let (places, key) = name.split_once(':').unwrap_or(("manifest", name));
    if key.is_empty() {
        return Err(Failure::new(format!("invalid annotation \"{text}\": it has no key")));
    }
    places
        .split(',')
        .map(|place| {
            let (level, platform) = place_of(place)?;
            Ok(Annotation { level, platform, key: key.to_owned(), value: value.to_owned() })
        })
        .collect()
}

/// `annotation[-LEVEL][[PLATFORM]].KEY=VALUE`.
fn of_output(field: &str) -> Result<Annotation, Failure> {
    let wrong = || {
        Failure::new(format!("invalid annotation {field:?} in --output"))
            .hint("like annotation.KEY=VALUE, or annotation-index.KEY=VALUE")
    };
    let (name, value) = field.split_once('=').ok_or_else(wrong)?;
    let rest = name.strip_prefix("annotation").ok_or_else(wrong)?;
    let (place, key) = rest.split_once('.').ok_or_else(wrong)?;
    let place = match place.strip_prefix('-') {
        Some(place) => place.to_owned(),
        None => format!("manifest{place}"),
    };
    if key.is_empty() {
        return Err(wrong());
    }
    let (level, platform) = place_of(&place)?;
    Ok(Annotation { level, platform, key: key.to_owned(), value: value.to_owned() })
}

/// `LEVEL` or `LEVEL[PLATFORM]`.
fn place_of(place: &str) -> Result<(String, String), Failure> {
    let (level, platform) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
        Some((level, platform)) => (level, platform),
        None => (place, ""),
    };
    if !LEVELS.contains(&level) {
        return Err(Failure::new(format!("unknown annotation type {level:?}"))
            .hint(format!("there are {}", LEVELS.join(", "))));
    }
    Ok((level.to_owned(), platform.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[&str], outputs: &[&str]) -> Result<Vec<String>, String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = Annotations::parse(&owned(annotations), &owned(outputs));
        let told = |one: &Annotation| format!("{}|{}|{}|{}", one.level, one.platform, one.key, one.value);
        all.map(|all| all.0.iter().map(told).collect()).map_err(|failure| failure.message)
    }

    #[test]
    fn places() {
        let all = read(
            &["a=b=c", "index,manifest[linux/arm64]:k=v", "manifest-descriptor:k="],
            &["type=image,annotation.x=y,annotation-index-descriptor.z=1,annotation[linux/amd64].p=q"],
        );
        let wanted = [
            "manifest||a|b=c",
            "index||k|v",
            "manifest|linux/arm64|k|v",
            "manifest-descriptor||k|",
            "manifest||x|y",
            "index-descriptor||z|1",
            "manifest|linux/amd64|p|q",
        ];
        assert_eq!(all.unwrap(), wanted);
    }

    #[test]
    fn what_is_none() {
        for text in ["a", "=b", "moon:a=b", "index:=b", "manifest[:a=b"] {
            assert!(read(&[text], &[]).is_err(), "{text}");
        }
        assert!(read(&[], &["type=image,annotation=b"]).is_err());
        assert!(read(&[], &["type=image,annotation-moon.a=b"]).is_err());
    }
}

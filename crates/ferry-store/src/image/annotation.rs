//! Annotations of an image: words for whoever looks at a registry or an archive. They stand in documents beside the
//! configuration, so they change neither the image's id nor how it runs.

use std::collections::BTreeMap;

use ferry_oci::{Digest, Platform};
use serde::{Deserialize, Serialize};

use super::error::AnnotateError;
use super::index::{Images, POISONED};
use crate::database::Batch;

/// Key and value.
pub type Words = BTreeMap<String, String>;

/// What is noted, by the document that it stands in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Annotations {
    /// In the manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub manifest: Words,
    /// Where an index names the manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub manifest_descriptor: Words,
    /// In the index of the manifest and what is claimed of it; there is one where this is not empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub index: Words,
    /// Where an archive names that index.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub index_descriptor: Words,
}

/// The document that an annotation stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The manifest.
    Manifest,
    /// What names the manifest.
    ManifestDescriptor,
    /// The index.
    Index,
    /// What names the index.
    IndexDescriptor,
}

/// One annotation as it is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Annotation {
    /// Where it is to stand.
    pub level: Level,
    /// Only for the image of this platform.
    #[serde(default)]
    pub platform: Option<String>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Annotations {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sorts what is asked for an image of this platform.
    ///
    /// # Errors
    /// Where one names another platform.
    pub fn sorted(asked: Vec<Annotation>, platform: &Platform) -> Result<Self, AnnotateError> {
        let mut sorted = Self::default();
        for one in asked {
            if let Some(text) = one.platform.filter(|text| !text.is_empty()) {
                let wanted = Platform::parse(&text).ok();
                if !wanted.is_some_and(|wanted| platform.satisfies(&wanted)) {
                    return Err(AnnotateError::Platform { asked: text, built: platform.to_string() });
                }
            }
            let words = match one.level {
                Level::Manifest => &mut sorted.manifest,
                Level::ManifestDescriptor => &mut sorted.manifest_descriptor,
                Level::Index => &mut sorted.index,
                Level::IndexDescriptor => &mut sorted.index_descriptor,
            };
            words.insert(one.key, one.value);
        }
        Ok(sorted)
    }
}

impl Images {
    /// Notes annotations of an image, in the place of all that were noted before. Durable.
    ///
    /// # Errors
    /// Where there is no such image, or one is for another platform.
    pub fn annotate(&self, id: &Digest, asked: Vec<Annotation>) -> Result<(), AnnotateError> {
        let _changing = self.changing.lock().expect(POISONED);
        let image = self.get(id).ok_or_else(|| AnnotateError::NotFound(id.clone()))?;
        let annotations = Annotations::sorted(asked, &image.config.platform())?;
        let mut record = image.record();
        record.annotations = annotations.clone();
        let mut batch = Batch::new();
        self.images.put_in(&mut batch, &id.to_string(), &record)?;
        self.database.commit(batch)?;
        self.index.write().expect(POISONED).change(id, |image| image.annotations = annotations.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place() {
        let asked = serde_json::from_str::<Vec<Annotation>>(
            r#"[{"Level":"manifest","Key":"a","Value":"1"},
                {"Level":"manifest-descriptor","Platform":"linux/arm64","Key":"b","Value":"2"},
                {"Level":"index","Key":"c","Value":"3"},
                {"Level":"index-descriptor","Key":"d","Value":"4"}]"#,
        );
        let asked = asked.unwrap();
        let arm = Platform::parse("linux/arm64").unwrap();
        let sorted = Annotations::sorted(asked.clone(), &arm).unwrap();
        assert_eq!(sorted.manifest["a"], "1");
        assert_eq!(sorted.manifest_descriptor["b"], "2");
        assert_eq!(sorted.index["c"], "3");
        assert_eq!(sorted.index_descriptor["d"], "4");
        let other = Annotations::sorted(asked, &Platform::parse("linux/amd64").unwrap()).unwrap_err();
        assert_eq!(
            other.to_string(),
            "invalid annotation: no platform linux/arm64 found in source, which is for linux/amd64"
        );
    }
}

//! Retention: tags and untagged manifests that rules say may go, by pattern, number and age.
//!
//! A tag is ruled by the first rule whose patterns fit it, so that an early rule without limits protects what a
//! later one would take. What goes, goes into the trash where there is one.

use std::collections::HashSet;
use std::time::Duration;

use ferry_oci::Digest;

use crate::catalog::TagRecord;
use crate::name::Name;
use crate::pattern::Pattern;
use crate::refusal::Refusal;
use crate::registry::{Registry, now};

/// Repositories that are looked at in one go.
const PAGE: usize = 500;

/// What may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Repositories that it is about.
    pub repositories: Pattern,
    /// Tags that it is about.
    pub tags: Pattern,
    /// The newest of its tags that stay, however old.
    pub keep: Option<usize>,
    /// Tags younger than this stay.
    pub older_than: Option<Duration>,
    /// Manifests that no tag, index or subject holds go after this time.
    pub untagged: Option<Duration>,
}

/// What a run took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Expired {
    /// Tags.
    pub tags: usize,
    /// Manifests that had no tag.
    pub manifests: usize,
}

/// The tags that rules let go.
fn expired_tags<'a>(rules: &[&Rule], tags: &'a [(String, TagRecord)], now: u64) -> Vec<&'a str> {
    let ruled_by = |tag: &str| rules.iter().position(|rule| rule.tags.fits(tag));
    let mut expired = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        if rule.keep.is_none() && rule.older_than.is_none() {
            continue;
        }
        let mut own: Vec<_> = tags.iter().filter(|(tag, _)| ruled_by(tag) == Some(number)).collect();
        own.sort_by(|(a, x), (b, y)| y.set.cmp(&x.set).then_with(|| a.cmp(b)));
        let age = rule.older_than.unwrap_or_default().as_secs();
        let old = own.into_iter().skip(rule.keep.unwrap_or(0));
        let old = old.filter(|(_, record)| now.saturating_sub(record.set) >= age);
        expired.extend(old.map(|(tag, _)| tag.as_str()));
    }
    expired
}

impl Registry {
    /// Applies the rules to every repository.
    pub async fn retain(&self) -> Result<Expired, Refusal> {
        self.catalog.refresh().await?;
        let mut total = Expired::default();
        let mut last: Option<String> = None;
        loop {
            let page = self.catalog.repositories(last.as_deref(), PAGE)?;
            for name in page.names.iter().filter_map(|name| Name::parse(name)) {
                let rules: Vec<&Rule> = self.settings.retention.iter().collect();
                let rules: Vec<&Rule> =
                    rules.into_iter().filter(|rule| rule.repositories.fits(name.as_str())).collect();
                if rules.is_empty() {
                    continue;
                }
                let expired = self.retain_in(&name, &rules).await?;
                total.tags += expired.tags;
                total.manifests += expired.manifests;
            }
            match page.names.last() {
                Some(name) if page.more => last = Some(name.clone()),
                _ => return Ok(total),
            }
        }
    }

    async fn retain_in(&self, name: &Name, rules: &[&Rule]) -> Result<Expired, Refusal> {
        let mut expired = Expired::default();
        let time = now();
        let tags = self.catalog.tag_records(name.as_str())?;
        for tag in expired_tags(rules, &tags, time) {
            let record = tags.iter().find(|(own, _)| own == tag).map(|(_, record)| record.clone());
            // One that was pushed again in this moment is a new one.
            if let Some(record) = record
                && self.catalog.delete_tag_if(name, tag, &record.digest, record.set).await?
            {
                crate::log::note(&format!("retention: {name}:{tag} goes, which was {}", record.digest));
                expired.tags += 1;
            }
        }
        let Some(untagged) = rules.iter().filter_map(|rule| rule.untagged).min() else { return Ok(expired) };
        for digest in self.untagged(name, time.saturating_sub(untagged.as_secs()))? {
            let keep = !self.settings.trash.is_zero();
            if self.catalog.delete_untagged(name, &digest, keep, time).await? {
                crate::log::note(&format!("retention: {name}@{digest} goes, which has no tag"));
                expired.manifests += 1;
            }
        }
        Ok(expired)
    }

    /// Manifests pushed before a time that nothing holds.
    fn untagged(&self, name: &Name, before: u64) -> Result<Vec<Digest>, Refusal> {
        let tags = self.catalog.tag_records(name.as_str())?;
        let mut held: HashSet<Digest> = tags.into_iter().map(|(_, record)| record.digest).collect();
        let mut old = Vec::new();
        let mut present = HashSet::new();
        for text in self.catalog.manifests_of(name.as_str())? {
            let Ok(digest) = Digest::parse(&text) else { continue };
            let Some(record) = self.catalog.manifest_record(name.as_str(), &digest)? else { continue };
            held.extend(record.children.iter().cloned());
            present.insert(digest.clone());
            if record.pushed <= before {
                old.push((digest, record.subject));
            }
        }
        // What is about something that is there goes with it, not before.
        let about = |subject: &Option<Digest>| subject.as_ref().is_some_and(|one| present.contains(one));
        Ok(old
            .into_iter()
            .filter(|(digest, subject)| !held.contains(digest) && !about(subject))
            .map(|(digest, _)| digest)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tags: &str, keep: Option<usize>, older_than: Option<u64>) -> Rule {
        Rule {
            repositories: Pattern::new("*"),
            tags: Pattern::new(tags),
            keep,
            older_than: older_than.map(Duration::from_secs),
            untagged: None,
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let tag = |name: &str, set| {
            let digest = Digest::sha256_of(name.as_bytes());
            (name.to_owned(), TagRecord { digest, set })
        };
        let tags = [tag("v1", 1), tag("pr-1", 10), tag("pr-2", 20), tag("pr-3", 30), tag("x", 5)];
        for (rules, expired) in [
            (vec![rule("*", None, None)], vec![]),
            (vec![rule("pr-*", Some(1), None)], vec!["pr-2", "pr-1"]),
            (vec![rule("pr-*", Some(1), Some(85))], vec!["pr-1"]),
            (vec![rule("v*", None, None), rule("*", None, Some(90))], vec!["pr-1", "x"]),
            (vec![rule("*", Some(9), None)], vec![]),
        ] {
            let rules: Vec<&Rule> = rules.iter().collect();
            assert_eq!(expired_tags(&rules, &tags, 100), expired, "{rules:?}");
        }
    }
}

//! Reference counting, the trash and the sweep, without any file.

use super::*;

const NOW: u64 = 1000;

fn digest(text: &str) -> Digest {
    Digest::sha256_of(text.as_bytes())
}

fn new_manifest(name: &Name, text: &str, blobs: &[&str], tags: &[&str]) -> NewManifest {
    NewManifest {
        name: name.clone(),
        digest: digest(text),
        record: ManifestRecord {
            media_type: "m".to_owned(),
            size: text.len() as u64,
            listed_size: 0,
            pushed: NOW,
            blobs: blobs.iter().map(|blob| digest(blob)).collect(),
            children: Vec::new(),
            subject: None,
            artifact_type: None,
        },
        bytes: text.as_bytes().to_vec(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        descriptor: None,
        blobs_may_miss: false,
    }
}

async fn swept(catalog: &Catalog, before: u64) -> Vec<Digest> {
    catalog.sweep(before).await.unwrap().files.into_iter().map(|(digest, _)| digest).collect()
}

#[tokio::test]
async fn a_blob_goes_when_its_last_manifest_of_the_last_repository_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("db.redb"), None).unwrap();
    let (one, two) = (Name::parse("one").unwrap(), Name::parse("two").unwrap());
    assert_eq!(catalog.put_manifest(new_manifest(&one, "m1", &["a"], &[])).await.unwrap(), Err(digest("a")));
    catalog.add_blob(&one, &digest("a"), 1, NOW).await.unwrap();
    assert!(!catalog.mount(&two, &digest("a"), vec!["three".to_owned()], NOW).await.unwrap());
    assert!(catalog.mount(&two, &digest("a"), vec!["one".to_owned()], NOW).await.unwrap());
    for (name, text) in [(&one, "m1"), (&one, "m2"), (&two, "m1")] {
        catalog.put_manifest(new_manifest(name, text, &["a"], &["t"])).await.unwrap().unwrap();
    }
    assert!(swept(&catalog, NOW).await.is_empty());
    assert!(catalog.delete_manifest(&one, &digest("m1"), false, NOW).await.unwrap());
    assert!(catalog.delete_manifest(&one, &digest("m2"), false, NOW).await.unwrap());
    assert!(!catalog.delete_manifest(&one, &digest("m2"), false, NOW).await.unwrap());
    assert!(swept(&catalog, NOW - 1).await.is_empty(), "the grace has not gone");
    assert!(swept(&catalog, NOW).await.is_empty(), "the other repository uses it");
    assert!(!catalog.has_repository(&one).unwrap());
    assert!(catalog.manifest(&two, &Reference::Tag("t".to_owned())).unwrap().is_some());
    assert!(catalog.delete_manifest(&two, &digest("m1"), false, NOW).await.unwrap());
    assert_eq!(swept(&catalog, NOW).await, vec![digest("a")]);
    assert_eq!(catalog.blob_anywhere(&digest("a")).unwrap(), None);
}

#[tokio::test]
async fn trash_holds_blobs_until_it_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("db.redb"), None).unwrap();
    let name = Name::parse("one").unwrap();
    catalog.add_blob(&name, &digest("a"), 1, NOW).await.unwrap();
    catalog.put_manifest(new_manifest(&name, "m", &["a"], &["x", "y"])).await.unwrap().unwrap();
    assert!(catalog.delete_manifest(&name, &digest("m"), true, NOW).await.unwrap());
    assert!(catalog.manifest(&name, &Reference::Digest(digest("m"))).unwrap().is_none());
    assert!(swept(&catalog, NOW).await.is_empty());
    assert!(catalog.undelete(&name, &digest("m"), NOW).await.unwrap());
    assert_eq!(catalog.tags(&name, None, 10).unwrap().names, ["x", "y"]);
    assert!(catalog.delete_manifest(&name, &digest("m"), true, NOW).await.unwrap());
    catalog.purge(NOW, NOW).await.unwrap();
    assert_eq!(swept(&catalog, NOW).await, vec![digest("a")]);
    assert!(!catalog.undelete(&name, &digest("m"), NOW).await.unwrap());
}

#[tokio::test]
async fn pages() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("db.redb"), None).unwrap();
    for name in ["a", "a/b", "b"] {
        let name = Name::parse(name).unwrap();
        catalog.put_manifest(new_manifest(&name, "m", &[], &["1", "2", "3"])).await.unwrap().unwrap();
    }
    let page = catalog.repositories(None, 2).unwrap();
    assert_eq!((page.names, page.more), (vec!["a".to_owned(), "a/b".to_owned()], true));
    assert_eq!(catalog.repositories(Some("a/b"), 2).unwrap().names, ["b"]);
    let name = Name::parse("a").unwrap();
    let page = catalog.tags(&name, Some("1"), 1).unwrap();
    assert_eq!((page.names, page.more), (vec!["2".to_owned()], true));
    assert!(catalog.tags(&name, Some("\u{fffd}"), 9).unwrap().names.is_empty());
}

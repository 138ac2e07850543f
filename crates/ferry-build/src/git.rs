//! Addresses of git repositories as contexts and `ADD` name them. Only reads the text; never runs git.

/// A repository, what of it is wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitAddress {
    /// What git is given.
    pub repository: String,
    /// Branch, tag or commit; the repository's default when empty.
    pub reference: String,
    /// A folder of the tree, without slashes around it; all of it when empty.
    pub subdirectory: String,
    /// Keep the `.git` folder.
    pub keep_git_directory: bool,
}

/// Hosts whose addresses may leave out scheme and `.git`, as Docker's may.
const SHORT_HOSTS: [&str; 1] = ["github.com/"];

impl GitAddress {
    /// Reads an address; `None` for what is no repository: `URL.git#ref:folder`, `git@host:path`,
    /// `URL.git?ref=..&subdir=..`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let named = ["git://", "ssh://", "git@"].iter().any(|prefix| address.starts_with(prefix));
        let web = ["http://", "https://", "file://"].iter().any(|prefix| address.starts_with(prefix));
        let short = SHORT_HOSTS.iter().any(|host| address.starts_with(host));
        if !(named || short || web && address.ends_with(".git")) {
            return None;
        }
        let repository = if short { format!("https://{address}") } else { address.to_owned() };
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut found = Self {
            repository,
            reference: reference.to_owned(),
            subdirectory: subdirectory.to_owned(),
            keep_git_directory: false,
        };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "ref" | "branch" | "tag" | "commit" | "checksum" => value.clone_into(&mut found.reference),
                "subdir" => value.clone_into(&mut found.subdirectory),
                "keep-git-dir" => found.keep_git_directory = matches!(value, "1" | "true"),
                _ => {}
            }
        }
        found.subdirectory = crate::path::clean(&found.subdirectory).trim_matches('/').to_owned();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for (text, repository, reference, subdirectory) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git", "", ""),
            ("https://example.com/b.git#main", "https://example.com/b.git", "main", ""),
            ("https://example.com/b.git#v1:docker/app", "https://example.com/b.git", "v1", "docker/app"),
            ("https://example.com/b.git#:docker", "https://example.com/b.git", "", "docker"),
            ("https://example.com/b.git?ref=x&subdir=../y", "https://example.com/b.git", "x", "y"),
            ("git@example.com:a/b", "git@example.com:a/b", "", ""),
            ("git://example.com/b", "git://example.com/b", "", ""),
            ("file:///srv/b.git#a", "file:///srv/b.git", "a", ""),
            ("github.com/a/b#c", "https://github.com/a/b", "c", ""),
        ] {
            let found = GitAddress::parse(text).unwrap();
            let parts = (found.repository.as_str(), found.reference.as_str(), found.subdirectory.as_str());
            assert_eq!(parts, (repository, reference, subdirectory), "{text}");
        }
        for text in ["https://example.com/context.tar.gz", "folder.git", "-", "/srv/b.git", "ext::sh"] {
            assert_eq!(GitAddress::parse(text), None, "{text}");
        }
    }
}

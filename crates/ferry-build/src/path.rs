//! Paths as text, the way Dockerfiles mean them: always absolute, `..` never leaves the root.

/// Cleans a path: absolute, no `.`, no `..`, no doubled or trailing slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Resolves a path against a directory.
pub fn join(directory: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => clean(path),
        false => clean(&format!("{directory}/{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, wanted) in
            [("", "/"), (".", "/"), ("../../a", "/a"), ("/a//b/./c/..", "/a/b"), ("a/", "/a")]
        {
            assert_eq!(clean(path), wanted);
        }
        assert_eq!(join("/app", "b"), "/app/b");
        assert_eq!(join("/app", "/b"), "/b");
        assert_eq!(join("/app", "../.."), "/");
    }
}

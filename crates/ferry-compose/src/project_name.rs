//! Project names: what is valid, and what a folder's name becomes.

/// The name a text becomes: lower case, only letters, digits, `_` and `-`, beginning with a letter or digit.
pub fn normalize(text: &str) -> String {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Whether a text can be used as it is.
pub fn is_valid(text: &str) -> bool {
    !text.is_empty() && normalize(text) == text
}

/// The error text for a name that cannot.
pub fn invalid(text: &str) -> String {
    format!(
        "invalid project name \"{text}\": must consist only of lowercase alphanumeric characters, hyphens, and \
         underscores as well as start with a letter or number"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, expected) in [
            ("app", "app"),
            ("My App", "myapp"),
            ("_-app", "app"),
            ("a.b.c", "abc"),
            ("Ünïcode1", "ncode1"),
            ("a_b-c", "a_b-c"),
            ("123", "123"),
            ("...", ""),
        ] {
            assert_eq!(normalize(text), expected, "{text}");
        }
        assert!(is_valid("a-b_1") && !is_valid("A") && !is_valid("") && !is_valid("-a"));
    }
}

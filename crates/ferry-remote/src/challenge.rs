//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1): what a registry asks for.

use std::collections::BTreeMap;

/// Longest header that is read, and most parameters: more than any registry sends.
const LENGTH_MAX: usize = 8192;
const PARAMETERS_MAX: usize = 32;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Fetch a token from `realm` and show that.
    Bearer {
        /// Address of the token service.
        realm: String,
        /// Which service the token shall be for.
        service: Option<String>,
        /// What the token shall allow.
        scope: Option<String>,
    },
    /// Show user name and password.
    Basic,
}

/// The challenges of a header that are understood, strongest first; others are passed over.
#[must_use]
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = schemes(header)
        .into_iter()
        .filter_map(|(scheme, mut parameters)| match scheme.as_str() {
            "bearer" => Some(Challenge::Bearer {
                realm: parameters.remove("realm")?,
                service: parameters.remove("service"),
                scope: parameters.remove("scope"),
            }),
            "basic" => Some(Challenge::Basic),
            _ => None,
        })
        .collect();
    challenges.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    challenges
}

/// Splits a header into schemes with their parameters, names in lower case.
fn schemes(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.get(..LENGTH_MAX).unwrap_or(header);
    for _ in 0..PARAMETERS_MAX {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, left) = parameter_value(value);
                parameters.insert(word.to_ascii_lowercase(), value);
                rest = left;
            }
            (Some(value), None) => rest = parameter_value(value).1,
            (None, _) => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
    }
    found
}

/// A token or a quoted string, and what stands behind it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn headers() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.example/token",
                    Some("registry.example"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"Basic realm="x""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (r#"Basic realm="x", Bearer realm="y""#, vec![bearer("y", None, None), Challenge::Basic]),
            (r#"bearer  REALM=plain , error="insufficient_scope""#, vec![bearer("plain", None, None)]),
            (r#"Bearer realm="a\"b""#, vec![bearer("a\"b", None, None)]),
            (r#"Bearer service="no realm""#, vec![]),
            ("Negotiate", vec![]),
            ("", vec![]),
            ("===,,,", vec![]),
            (r#"Bearer realm="never closed"#, vec![bearer("never closed", None, None)]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn any_text_ends() {
        for text in ["é=\"\\", "a=b=c=d", "\"", "Bearer realm=\"é\\", &"a ".repeat(10_000)] {
            let _ = parse(text);
        }
    }

    /// Every header of the table cut, doubled and with characters exchanged: an answer, never a panic, and no realm that
    /// was not in the text.
    #[test]
    fn damaged_headers() {
        let header =
            r#"Bearer realm="https://a\"b/token",service="é",scope="repository:a:pull,push", Basic realm=x"#;
        let characters: Vec<char> = header.chars().collect();
        let odd = ['"', '=', ',', '\\', ' ', '\u{0}', 'é', '\u{1F600}'];
        for at in 0..characters.len() {
            let cut: String = characters[..at].iter().collect();
            let tail: String = characters[at..].iter().collect();
            let mut texts = vec![cut.clone(), tail.clone(), format!("{tail}{cut}"), format!("{header}{cut}")];
            for character in odd {
                texts.push(format!("{cut}{character}{tail}"));
                let rest: String = characters[at + 1..].iter().collect();
                texts.push(format!("{cut}{character}{rest}"));
            }
            for text in texts {
                for challenge in parse(&text) {
                    if let Challenge::Bearer { realm, .. } = challenge {
                        assert!(realm.chars().all(|character| text.contains(character)), "{text}");
                    }
                }
            }
        }
        assert!(parse(&"a=b,".repeat(100_000)).is_empty());
    }
}

//! `--chown` and `--chmod` values.

use crate::llb::ops::{ChownOpt, NamedUserOpt, User, UserOpt};

/// Parses `user[:group]`; names are resolved later by the files of input `passwd_input`.
pub fn parse_owner(text: &str, passwd_input: i64) -> Option<ChownOpt> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if user.is_empty() || group == Some("") {
        return None;
    }
    let part = |name: &str| UserOpt {
        user: Some(match name.parse::<u32>() {
            Ok(number) => User::ById(number),
            Err(_) => User::ByName(NamedUserOpt { name: name.to_owned(), input: passwd_input }),
        }),
    };
    Some(ChownOpt { user: Some(part(user)), group: group.map(part) })
}

/// Checks `--chmod`: up to four octal digits, or clauses like `u=rwX,go-w`.
pub fn is_mode(text: &str) -> bool {
    let octal = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    octal || (!text.is_empty() && text.split(',').all(is_clause))
}

fn is_clause(clause: &str) -> bool {
    let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let mut rest = rest;
    let mut operations = 0;
    while let Some(after) = rest.strip_prefix(['+', '-', '=']) {
        operations += 1;
        rest = after.trim_start_matches(['r', 'w', 'x', 'X', 's', 't', 'u', 'g', 'o']);
    }
    operations > 0 && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for good in ["755", "0644", "4755", "u=rwX,go=rX", "+x", "a-w", "u+x-w"] {
            assert!(is_mode(good), "{good}");
        }
        for bad in ["", "999", "u", "rwx", "u=rwx,", "888", "u~x"] {
            assert!(!is_mode(bad), "{bad}");
        }
    }

    #[test]
    fn owners() {
        assert_eq!(parse_owner("1000", 0).expect("valid").group, None);
        assert!(parse_owner("app:app", 0).expect("valid").group.is_some());
        assert!(parse_owner(":x", 0).is_none());
        assert!(parse_owner("x:", 0).is_none());
    }
}

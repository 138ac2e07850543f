//! Rules per repository: who may pull, push and delete where.

use super::{Action, User};
use crate::pattern::Pattern;

/// What a rule can grant.
pub const GRANTS: [&str; 3] = ["pull", "push", "delete"];
/// How a rule names those without a login.
pub const ANONYMOUS: &str = "anonymous";

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Repositories that it is about.
    pub repositories: Pattern,
    /// Users that it is for: names, `*` for every user, `anonymous` for everybody.
    pub users: Vec<String>,
    /// What they may: `pull`, `push`, `delete`.
    pub may: Vec<String>,
}

impl Rule {
    fn is_for(&self, user: Option<&str>) -> bool {
        self.users.iter().any(|own| match user {
            _ if own == ANONYMOUS => true,
            Some(user) => own == "*" || own == user,
            None => false,
        })
    }
}

/// What the rules say; None where no rule is about the repository.
pub(super) fn decide(rules: &[Rule], user: &User, repository: &str, action: Action) -> Option<bool> {
    let name = match user {
        User::Named(name) => Some(name.as_str()),
        User::Bearer(name, _) if name != "-" => Some(name.as_str()),
        _ => None,
    };
    let mut about = rules.iter().filter(|rule| rule.repositories.fits(repository)).peekable();
    about.peek()?;
    Some(about.any(|rule| rule.is_for(name) && rule.may.iter().any(|grant| grant == action.scope())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_say() {
        let rule = |repositories: &str, users: &[&str], may: &[&str]| Rule {
            repositories: Pattern::new(repositories),
            users: users.iter().map(|user| (*user).to_owned()).collect(),
            may: may.iter().map(|grant| (*grant).to_owned()).collect(),
        };
        let rules = [
            rule("team/*", &["ann"], &["pull", "push"]),
            rule("team/public", &["anonymous"], &["pull"]),
            rule("shared", &["*"], &["pull"]),
        ];
        let ann = User::Named("ann".to_owned());
        let bob = User::Named("bob".to_owned());
        for (user, repository, action, allowed) in [
            (&ann, "team/app", Action::Push, Some(true)),
            (&ann, "team/app", Action::Delete, Some(false)),
            (&bob, "team/app", Action::Pull, Some(false)),
            (&bob, "team/public", Action::Pull, Some(true)),
            (&User::Anonymous, "team/public", Action::Pull, Some(true)),
            (&User::Anonymous, "team/app", Action::Pull, Some(false)),
            (&bob, "shared", Action::Pull, Some(true)),
            (&bob, "shared", Action::Push, Some(false)),
            (&User::Anonymous, "shared", Action::Pull, Some(false)),
            (&bob, "elsewhere", Action::Push, None),
        ] {
            assert_eq!(decide(&rules, user, repository, action), allowed, "{user:?} {repository} {action:?}");
        }
    }
}

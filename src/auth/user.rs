//! The identity a request was made with.

use std::collections::BTreeMap;

const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const AUTHENTICATED: &str = "system:authenticated";
const MASTERS: &str = "system:masters";

/// Who makes a request, as Kubernetes names identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The user name, never empty after authentication.
    pub name: String,
    /// What tells two users of the same name in different times apart.
    pub uid: Option<String>,
    /// The groups, in the order in which they were vouched for.
    pub groups: Vec<String>,
    /// What else the authenticator knows, by lower-case key.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of a request that brings no credentials at all.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The same user, in `system:authenticated` (authenticated_group_adder.go:39-66).
    pub(super) fn authenticated(mut self) -> Self {
        let settled = self.is_anonymous()
            || self
                .groups
                .iter()
                .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if !settled {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether nobody is known to ask.
    pub(super) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Whether the user may do everything without being asked about.
    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_joins_the_authenticated_once_and_an_anonymous_one_never() {
        let user = |name: &str, groups: &[&str]| User {
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..User::default()
        };
        let groups = |user: User| user.authenticated().groups;
        assert_eq!(groups(user("a", &["g"])), ["g", AUTHENTICATED]);
        assert_eq!(
            groups(user("a", &[AUTHENTICATED, "g"])),
            [AUTHENTICATED, "g"]
        );
        assert_eq!(groups(User::anonymous()), [UNAUTHENTICATED]);
        assert_eq!(groups(user("a", &[UNAUTHENTICATED])), [UNAUTHENTICATED]);
        assert_eq!(groups(user(ANONYMOUS, &[])), [""; 0]);
    }
}

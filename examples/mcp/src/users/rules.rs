use super::user::User;

/// The rules that say who may log in. Without any rule, every user of the provider may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Ids, verified e-mail addresses, and names at GitHub and Discord.
    pub(crate) users: Vec<String>,
    /// Domains of verified e-mail addresses.
    pub(crate) email_domains: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// The contact for a user who may not log in.
    pub(crate) contact: Option<String>,
}

impl Rules {
    /// Returns whether every user of the provider may log in.
    pub(crate) fn are_empty(&self) -> bool {
        self.users.is_empty() && self.email_domains.is_empty() && self.groups.is_empty()
    }

    /// Returns whether a rule can apply to e-mail addresses.
    pub(crate) fn need_email(&self) -> bool {
        !self.email_domains.is_empty() || self.users.iter().any(|user| user.contains('@'))
    }

    pub(super) fn names_group(&self, group: &str) -> bool {
        self.groups.iter().any(|named| named == group)
    }

    /// Returns whether the user may log in: if any rule names the user.
    pub(crate) fn admit(&self, user: &User) -> bool {
        let is_named = |named: &String| {
            let kind = Named::of(named);
            let name = match kind {
                Named::Id => None,
                Named::Email => user.email.as_ref(),
                Named::Login => user.login.as_ref(),
            };
            // At some providers, users choose their ids, too.
            let is_id = !matches!(kind, Named::Email) && *named == user.id;
            // Names and addresses are compared as providers do, without regard to case. An id is
            // not.
            is_id || name.is_some_and(|name| name.eq_ignore_ascii_case(named))
        };
        let email = user.email.as_ref().filter(|_| !user.is_foreign);
        let domain = email.and_then(|email| email.rsplit_once('@'));
        let in_domain =
            |named: &String| domain.is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(named));
        self.are_empty()
            || self.users.iter().any(is_named)
            || self.email_domains.iter().any(in_domain)
            || user.groups.iter().any(|group| self.names_group(group))
    }
}

/// The property of a user that an entry of `--allow-user` names. Names and ids that are not numbers
/// cannot be distinguished. Users choose their names: a name must not match an entry that is meant
/// as the id or the address of another user.
enum Named {
    Id,
    Email,
    Login,
}

impl Named {
    fn of(entry: &str) -> Self {
        if entry.bytes().all(|byte| byte.is_ascii_digit()) {
            Self::Id
        } else if entry.contains('@') {
            Self::Email
        } else {
            Self::Login
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::users::user::ClaimNames;

    fn admits(rules: &Rules, claims: Value) -> bool {
        let Value::Object(claims) = claims else {
            unreachable!()
        };
        let names = ClaimNames {
            login: Some("login"),
            ..ClaimNames::STANDARD
        };
        User::read(&claims, &names, "groups", rules).is_some_and(|user| rules.admit(&user))
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn any_rule_admits_a_user() {
        let rules = Rules {
            users: list(&["42", "Ada@example.org", "octocat"]),
            email_domains: list(&["example.com"]),
            groups: list(&["staff"]),
            contact: None,
        };
        let verified = |email: &str| json!({ "sub": "1", "email": email, "email_verified": true });
        for (claims, right) in [
            (json!({ "sub": "42" }), true),
            (json!({ "sub": 42 }), true),
            (json!({ "sub": "43" }), false),
            (json!({ "sub": "1", "login": "OctoCat" }), true),
            (json!({ "sub": "1", "login": "42" }), false),
            (json!({ "sub": "1", "login": "ada@example.org" }), false),
            (json!({ "sub": "ada@example.org" }), false),
            (json!({ "sub": "Ada@example.org" }), false),
            (verified("42"), false),
            (verified("ada@EXAMPLE.org"), true),
            (verified("eve@example.com"), true),
            (verified("eve@example.com.evil.org"), false),
            (verified("eve@sub.example.com"), false),
            (verified("example.com"), false),
            (verified("\"@example.com\"@evil.org"), false),
            (json!({ "sub": "1", "email": "eve@example.com" }), false),
            (
                json!({ "sub": "1", "email": "eve@example.com", "email_verified": "true" }),
                true,
            ),
            (
                json!({ "sub": "1", "email": "eve@example.com", "email_verified": "false" }),
                false,
            ),
            (
                json!({ "sub": "1", "email": "eve@example.com", "email_verified": 1 }),
                false,
            ),
            (json!({ "sub": "1", "groups": ["a", "staff"] }), true),
            (json!({ "sub": "1", "groups": "staff" }), true),
            (json!({ "sub": "1", "groups": ["Staff", "staff,x"] }), false),
            (json!({ "groups": ["staff"] }), false),
            (json!({ "sub": "4\n2" }), false),
        ] {
            assert_eq!(admits(&rules, claims.clone()), right, "{claims}");
        }
        assert!(admits(&Rules::default(), json!({ "sub": "1" })));
    }

    #[test]
    fn a_group_that_matters_is_kept_among_many() {
        let rules = Rules {
            groups: list(&["staff"]),
            ..Rules::default()
        };
        let mut groups: Vec<_> = (0..10_000)
            .map(|number| format!("group-{number}"))
            .collect();
        groups.push("staff".into());
        let claims = Map::from_iter([
            ("sub".to_owned(), json!("1")),
            ("groups".to_owned(), json!(groups)),
        ]);
        let user = User::read(&claims, &ClaimNames::STANDARD, "groups", &rules).unwrap();
        assert!(rules.admit(&user));
        assert!(serde_json::to_string(&user).unwrap().len() < 2048);
    }
}

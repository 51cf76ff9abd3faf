use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::rules::Rules;

/// The longest id, in bytes. The layer has the same limit.
const LONGEST_ID: usize = 1024;

/// The longest e-mail address (RFC 5321 §4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// The domain whose addresses are accounts of Google.
const GMAIL: &str = "gmail.com";

/// The size of all groups of a user together, in bytes.
const LARGEST_GROUPS: usize = 1536;

/// The names of the claims that describe a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimNames {
    pub(crate) id: &'static str,
    /// A name that the user chose, and can change.
    pub(crate) login: Option<&'static str>,
    pub(crate) email_verified: &'static str,
    /// The domain whose administrator manages the account, if only that proves that the user
    /// belongs to the domain of the address.
    pub(crate) hosted_domain: Option<&'static str>,
    pub(crate) groups: &'static str,
}

impl ClaimNames {
    /// The names of OpenID Connect Core §5.1. `groups` is what most providers call it.
    pub(crate) const STANDARD: Self = Self {
        id: "sub",
        login: None,
        email_verified: "email_verified",
        hosted_domain: None,
        groups: "groups",
    };
}

/// A user, as the provider describes it. This is personal data: it is stored sealed, and `Debug`
/// omits it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<String>,
    /// A verified e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    /// Whether the domain of the address says nothing about the user, who only could read its mail
    /// at one time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_foreign: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
}

impl User {
    /// Reads a user from claims. `groups` is the name of the claim with the groups. If not all
    /// groups fit, the groups that `rules` name come first.
    pub(crate) fn read(
        claims: &Map<String, Value>,
        names: &ClaimNames,
        groups: &str,
        rules: &Rules,
    ) -> Option<Self> {
        let id = [names.id, "sub"].into_iter().find_map(|name| {
            let id = match claims.get(name)? {
                Value::String(id) => id.clone(),
                // GitHub's is a number.
                Value::Number(id) => id.to_string(),
                _ => return None,
            };
            let fits = (1..=LONGEST_ID).contains(&id.len()) && !id.chars().any(char::is_control);
            fits.then_some(id)
        })?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        // Cognito sends "true".
        let is_verified = claims
            .get(names.email_verified)
            .is_some_and(|verified| *verified == Value::Bool(true) || *verified == "true");
        let fits = |text: &String| {
            (1..=LONGEST_EMAIL).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        let email = text("email").filter(|email| is_verified && fits(email));
        let is_foreign = names.hosted_domain.is_some_and(|claim| {
            let hosted = text(claim).unwrap_or_default();
            let domain = email.as_ref().and_then(|email| email.rsplit_once('@'));
            domain.is_some_and(|(_, domain)| {
                !domain.eq_ignore_ascii_case(&hosted) && !domain.eq_ignore_ascii_case(GMAIL)
            })
        });
        Some(Self {
            id,
            login: names.login.and_then(text).filter(fits),
            email,
            is_foreign,
            groups: read_groups(claims.get(groups), rules),
        })
    }

    /// Returns the name by which the user knows the account.
    pub(crate) fn name(&self) -> &str {
        let name = self.email.as_ref().or(self.login.as_ref());
        name.unwrap_or(&self.id)
    }

    /// Adds the user to the claims of an ID token. `groups` is the name of the claim with the
    /// groups.
    pub(crate) fn write(&self, groups: &str, claims: &mut Map<String, Value>) {
        claims.insert("sub".into(), self.id.as_str().into());
        if let Some(email) = &self.email {
            claims.insert("email".into(), email.as_str().into());
            claims.insert("email_verified".into(), true.into());
        }
        if !self.groups.is_empty() {
            claims.insert(groups.to_owned(), json!(self.groups));
        }
    }
}

fn read_groups(claim: Option<&Value>, rules: &Rules) -> Vec<String> {
    let mut groups: Vec<&str> = match claim {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(group)) => vec![group],
        _ => Vec::new(),
    };
    groups.retain(|group| !group.is_empty() && !group.chars().any(char::is_control));
    groups.sort_by_key(|group| !rules.names_group(group));
    let mut left = LARGEST_GROUPS;
    let fitting = groups.into_iter().map_while(|group| {
        // The quotes and escapes of JSON, and a comma.
        left = left.checked_sub(Value::from(group).to_string().len() + 1)?;
        Some(group.to_owned())
    });
    fitting.collect()
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

//! The flags that say who may log in.

use crate::users::Rules;

/// The flags that say who may log in.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Users")]
pub(crate) struct UserFlags {
    /// User who may log in: the id at the provider, a verified e-mail address (every value with
    /// `@`), or the name at GitHub or Discord; may be repeated. Without any of the --allow-… flags,
    /// every user of the provider may log in
    ///
    /// A user needs to match only one of these flags. They are checked at the log-in and at every
    /// refresh. The risk of names: their owner can change them, and another user can take them.
    /// An entry of digits only is never compared with names.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    allow_user: Vec<String>,

    /// Domain whose users may log in, by their verified e-mail addresses, such as example.com; may
    /// be repeated
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', value_parser = domain)]
    allow_email_domain: Vec<String>,

    /// Group at the provider whose users may log in; may be repeated
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    allow_group: Vec<String>,

    /// Claim with the groups of a user [default: that of --provider, otherwise `groups`]
    #[arg(long, value_name = "NAME")]
    pub(super) groups_claim: Option<String>,

    /// Text for a user who may not log in: whom to ask, such as `it@example.com`
    #[arg(long, value_name = "TEXT")]
    pub(super) contact: Option<String>,
}

impl UserFlags {
    /// Returns whether only some users may log in.
    pub(super) const fn has_rules(&self) -> bool {
        !self.allow_user.is_empty() || !self.allow_email_domain.is_empty() || self.has_groups()
    }

    /// Returns whether groups decide who may log in.
    pub(super) const fn has_groups(&self) -> bool {
        !self.allow_group.is_empty()
    }

    pub(super) fn rules(&self) -> Result<Rules, String> {
        let lists = [
            ("--allow-user", &self.allow_user),
            ("--allow-email-domain", &self.allow_email_domain),
            ("--allow-group", &self.allow_group),
        ];
        for (flag, values) in lists {
            if values.iter().any(|value| value.trim().is_empty()) {
                return Err(format!("{flag} is empty"));
            }
        }
        Ok(Rules {
            users: self.allow_user.clone(),
            email_domains: self.allow_email_domain.clone(),
            groups: self.allow_group.clone(),
            contact: self.contact.clone(),
        })
    }

    /// Returns the first flag with a value that has a meaning at one issuer only. An e-mail address
    /// has the same meaning everywhere.
    pub(super) fn first_of_issuer(&self) -> Option<&'static str> {
        if self.allow_user.iter().any(|user| !user.contains('@')) {
            Some("--allow-user")
        } else if !self.allow_group.is_empty() {
            Some("--allow-group")
        } else {
            None
        }
    }
}

fn domain(text: &str) -> Result<String, String> {
    let domain = text.strip_prefix('@').unwrap_or(text);
    if domain.is_empty() || domain.contains(['@', '*', ' ', '/']) {
        return Err("not a domain such as example.com".into());
    }
    Ok(domain.to_owned())
}

//! The scopes of requests to the provider, and of its responses.

use super::ProviderConfig;
use crate::scopes::OFFLINE_ACCESS;

/// The scopes that this server needs itself, if they are configured: to know who the user is, and
/// to refresh.
const OWN: [&str; 4] = ["openid", "email", "groups", OFFLINE_ACCESS];

impl ProviderConfig {
    /// Returns whether the scope is one of those of `--scope`.
    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|known| known == scope)
    }

    /// Returns the scope of an authorization request: what the client asked for, and what this
    /// server needs itself.
    pub(crate) fn whole_scope<'a>(&self, asked: impl Iterator<Item = &'a str>) -> String {
        let mut scopes: Vec<&str> = asked.collect();
        let preset = self.preset();
        let needs_user = !self.rules.are_empty() || self.forwards_users;
        let needs_email = self.rules.need_email() || self.forwards_users;
        let is_openid = self.issuer.is_some() && self.has_scope("openid");
        let own = OWN.into_iter().filter(|scope| {
            let is_needed = match *scope {
                "openid" => self.issuer.is_some() || needs_user || self.max_age().is_some(),
                "email" => needs_email,
                "groups" => !self.rules.groups.is_empty() || self.forwards_users,
                _ => true,
            };
            is_needed && self.has_scope(scope)
        });
        let of_preset = |scopes: &'static [&str], is_needed: bool| {
            let is_needed = is_needed && (is_openid || self.issuer.is_none());
            scopes.iter().copied().filter(move |_| is_needed)
        };
        let ids = of_preset(preset.id_scopes, needs_user || is_openid);
        let emails = of_preset(preset.email_scopes, needs_email);
        for scope in own.chain(ids).chain(emails) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes.join(" ")
    }

    /// Returns the scope of a refresh that the client requests as `asked`, with the scopes that
    /// this server itself needs. It is empty if the client requests no scope.
    pub(crate) fn refreshed_scope(&self, asked: &str) -> String {
        // `whole_scope` adds `offline_access` if it is configured.
        let asked = asked
            .split_whitespace()
            .filter(|scope| *scope != OFFLINE_ACCESS);
        let mut asked = asked.peekable();
        if asked.peek().is_none() {
            return String::new();
        }
        self.whole_scope(asked)
    }

    /// Returns the granted scope by the names that the request used, because some providers answer
    /// with other names. Leaves out scopes that the provider grants without the user's consent
    /// here.
    pub(crate) fn granted_scope(&self, granted: &str, asked: &str) -> String {
        let asked: Vec<_> = asked.split(' ').collect();
        let granted = granted
            .split(' ')
            .map(|granted| self.renamed(granted, &asked));
        let granted: Vec<_> = granted.filter(|scope| asked.contains(scope)).collect();
        granted.join(" ")
    }

    /// Returns the name by which the request asked for a granted scope.
    fn renamed<'a>(&self, granted: &'a str, asked: &[&'a str]) -> &'a str {
        if asked.contains(&granted) {
            return granted;
        }
        let mut aliases = self.preset().scope_aliases.iter();
        if let Some((_, name)) = aliases.find(|(alias, _)| *alias == granted) {
            return name;
        }
        // Entra ID knows `api://x/read` and `https://graph.microsoft.com/User.Read` by their last
        // part, too.
        let is_same = |asked: &&&str| is_prefixed(asked, granted) || is_prefixed(granted, asked);
        let mut same = asked.iter().filter(is_same);
        match (same.next(), same.next()) {
            (Some(only), None) => only,
            _ => granted,
        }
    }
}

/// Returns whether `long` is the URI of a resource, a slash, and `short`.
fn is_prefixed(long: &str, short: &str) -> bool {
    let prefix = long.strip_suffix(short);
    let prefix = prefix.and_then(|prefix| prefix.strip_suffix('/'));
    prefix.is_some_and(|prefix| prefix.contains("://"))
}

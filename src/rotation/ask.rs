use http::HeaderValue;

use crate::client::{Client, Credential};
use crate::error::Error;
use crate::form::{Param, TokenForm};
use crate::grant::Binding;
use crate::scope::{scope_within, valid_resource, valid_scope};

/// Asks for a refresh token (OpenID Connect Core §11). Servers leave it out of the scope that they
/// say they granted.
const OFFLINE: &str = "offline_access";

/// What a token request asks for, and with which credential: a replay is given to the same ask
/// alone.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    form: &'a TokenForm,
    credential: &'a Credential<'a>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) resources: Vec<&'a str>,
}

impl<'a> Ask<'a> {
    /// Reads it; malformed scopes and resources are refused.
    pub(crate) fn read(form: &'a TokenForm, client: &'a Client<'a>) -> Result<Self, Error> {
        let scope = form.get(Param::Scope);
        if scope.is_some_and(|scope| !valid_scope(scope)) {
            return Err(Error::InvalidScope);
        }
        let resources: Vec<_> = form.resources().collect();
        if !resources.iter().all(|resource| valid_resource(resource)) {
            return Err(Error::InvalidTarget);
        }
        Ok(Self {
            form,
            credential: &client.credential,
            scope,
            resources,
        })
    }

    /// Refuses more than was granted (RFC 6749 §6, RFC 8707 §2.2), where it is known what was.
    pub(crate) fn within(&self, binding: &Binding) -> Result<(), Error> {
        if let (Some(requested), Some(granted)) = (self.scope, &binding.scope)
            && !requested
                .split(' ')
                .all(|token| token == OFFLINE || scope_within(token, granted.as_str()))
        {
            return Err(Error::InvalidScope);
        }
        let granted = &binding.resources;
        let known = |resource: &&str| granted.iter().any(|granted| granted.as_str() == *resource);
        if !granted.is_empty() && !self.resources.iter().all(known) {
            return Err(Error::InvalidTarget);
        }
        Ok(())
    }

    /// Whether the answer to this may be given again: an assertion differs each time, so nothing
    /// ties a replay to it.
    pub(crate) fn replayable(&self) -> bool {
        !matches!(self.credential, Credential::Assertion)
    }

    /// What is authenticated with a replay: the credential, the scope, and every parameter that the
    /// layer does not read, resources among them.
    pub(crate) fn terms(&self) -> Vec<&[u8]> {
        let (kind, secret): (&[u8], &[u8]) = match self.credential {
            Credential::None | Credential::Assertion => (b"none", &[]),
            Credential::Secret(secret) => (b"secret", secret.as_bytes()),
            Credential::Outside(header) => (
                b"outside",
                header.as_ref().map_or(&[], HeaderValue::as_bytes),
            ),
        };
        let scope = self.scope.unwrap_or_default().as_bytes();
        [kind, secret, scope]
            .into_iter()
            .chain(self.form.others())
            .collect()
    }
}

use crate::client::{Client, Credential};
use crate::error::Error;
use crate::form::{Param, TokenForm};
use crate::grant::Binding;
use crate::scope::{scope_within, valid_resource, valid_scope};

/// What a token request asks for, and with which credential: a replay is given to the same ask alone.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
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
        Ok(Self { credential: &client.credential, scope, resources })
    }

    /// Refuses more than was granted (RFC 6749 §6, RFC 8707 §2.2), where it is known what was.
    pub(crate) fn within(&self, binding: &Binding) -> Result<(), Error> {
        if let (Some(requested), Some(granted)) = (self.scope, &binding.scope)
            && !scope_within(requested, granted.as_str())
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

    /// Whether the answer to this may be given again: an assertion differs each time, so nothing ties a replay to it.
    pub(crate) fn replayable(&self) -> bool {
        !matches!(self.credential, Credential::Assertion)
    }

    /// What is authenticated with a replay.
    pub(crate) fn terms(&self) -> Vec<&[u8]> {
        let secret = match self.credential {
            Credential::Secret(secret) => secret.as_bytes(),
            Credential::None | Credential::Assertion => &[],
        };
        let scope = self.scope.unwrap_or_default().as_bytes();
        [secret, scope].into_iter().chain(self.resources.iter().map(|resource| resource.as_bytes())).collect()
    }
}

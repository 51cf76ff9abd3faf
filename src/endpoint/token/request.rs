use http::HeaderValue;

use crate::error::RefreshError;
use crate::grant::{Binding, Windows};
use crate::rotation_policy::ClientInfo;
use crate::wire::client::{Client, ClientId, Credential, Proofs};
use crate::wire::scope::{scope_within, valid_resource, valid_scope};
use crate::wire::token_request::{Param, TokenRequest};

/// The scope value that requests a refresh token (OpenID Connect Core §11). Servers omit it from
/// the scope that they return.
const OFFLINE: &str = "offline_access";

/// The scope, resources and credential of a token request. A stored answer is replayed only to a
/// request for which they are the same.
#[derive(Debug)]
pub(crate) struct ClientRequest<'a> {
    pub(crate) form: &'a TokenRequest,
    credential: &'a Credential<'a>,
    pub(crate) proofs: Proofs,
    pub(crate) scope: Option<&'a str>,
    pub(crate) resources: Vec<&'a str>,
}

impl<'a> ClientRequest<'a> {
    pub(crate) fn new(form: &'a TokenRequest, client: &'a Client<'a>, proofs: Proofs) -> Self {
        Self {
            form,
            credential: &client.credential,
            proofs,
            scope: form.get(Param::Scope),
            resources: form.resources().collect(),
        }
    }

    /// Rejects a malformed scope or resource.
    pub(crate) fn check(&self) -> Result<(), RefreshError> {
        if self.scope.is_some_and(|scope| !valid_scope(scope)) {
            return Err(RefreshError::InvalidScope);
        }
        if !self
            .resources
            .iter()
            .all(|resource| valid_resource(resource))
        {
            return Err(RefreshError::InvalidTarget);
        }
        Ok(())
    }

    /// Rejects a scope or resource beyond the grant's (RFC 6749 §6, RFC 8707 §2.2). A grant whose
    /// scope or resources are unknown does not limit them.
    pub(crate) fn within(&self, binding: &Binding) -> Result<(), RefreshError> {
        if let (Some(requested), Some(granted)) = (self.scope, &binding.scope)
            && !requested
                .split(' ')
                .all(|token| token == OFFLINE || scope_within(token, granted.as_str()))
        {
            return Err(RefreshError::InvalidScope);
        }
        let granted = &binding.resources;
        let known = |resource: &&str| granted.iter().any(|granted| granted.as_str() == *resource);
        if !granted.is_empty() && !self.resources.iter().all(known) {
            return Err(RefreshError::InvalidTarget);
        }
        Ok(())
    }

    /// Returns whether the answer to this request may be replayed. With a client assertion or a
    /// proof it may not: these differ from request to request, or the layer cannot see them, so a
    /// replay cannot be bound to one. Without a retry window, no answer is replayed.
    pub(crate) fn replayable(&self, windows: Windows) -> bool {
        !windows.retry.is_zero()
            && !matches!(self.credential, Credential::Assertion)
            && !self.proofs.any()
    }

    /// Returns the description of its client for the rotation policy.
    pub(crate) fn client_info(&self, client_id: &ClientId) -> ClientInfo {
        ClientInfo {
            client_id: client_id.clone(),
            authenticates: !matches!(self.credential, Credential::None) || self.proofs.attestation,
            sender_constrained: self.proofs.of_key,
        }
    }

    /// Returns whether the request has a client credential.
    pub(crate) const fn has_credential(&self) -> bool {
        self.credential.is_presented(self.proofs)
    }

    /// Returns the values that a stored answer is bound to: the credential, the scope, and every
    /// parameter that the layer does not read, including the resources.
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

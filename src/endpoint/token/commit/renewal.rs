//! Commits a renewal: a refresh by the layer itself, which changes no token of the layer.

use super::write::Commit;
use crate::access_token::record::AccessRecord;
use crate::access_token::renewable::Renewable;
use crate::codec::Utf8;
use crate::endpoint::sessions::NewSession;
use crate::endpoint::token::entropy::Entropy;
use crate::endpoint::token::held::OpenGrant;
use crate::endpoint::token::mint::{AccessWrite, upstream_lifetime};
use crate::endpoint::upstream::Granted;
use crate::seal::{Context, Purpose, SealError, Sealer};
use crate::store::{Key, Store, Version};
use crate::token::AccessToken;
use crate::wire::scope::common_scope;
use crate::wire::token_response::GrantedScope;

/// A renewal that the inner service has granted.
pub(crate) struct Renewal<'a, St> {
    /// The grant of the refresh token that the record of the access token holds.
    pub(crate) grant: OpenGrant<'a, St>,
    pub(crate) entropy: Entropy,
    pub(crate) token: &'a AccessToken,
    pub(crate) key: Key,
    /// The record of the access token as it is stored, and the version of its entry.
    pub(crate) access: AccessRecord,
    pub(crate) version: Version,
}

impl<St: Store> Renewal<'_, St> {
    /// Returns the write to be made, and the session if the index of its user must list it again.
    pub(crate) fn prepare(
        mut self,
        expected: Version,
        granted: &Granted,
    ) -> Result<(Commit, Option<NewSession>), SealError> {
        let prepared_at = self.grant.presented.context.shared.now();
        let now = self.grant.record.time(prepared_at);
        let (record, session) = self.grant.renew(now, granted, None, &self.entropy)?;
        let access = self.access_write(granted)?;
        let grant = self.grant;
        let commit = Commit {
            key: grant.presented.key,
            expected,
            claimed: grant.record.revision(grant.claimed),
            record,
            presented: None,
            tag: grant.claimed,
            version: self.entropy.version,
            sidecars: Vec::new(),
            access,
            stored: false,
            prepared_at,
        };
        Ok((commit, session))
    }

    /// Returns the write of the access token with the upstream access token of the response, or
    /// `None` if that has none.
    fn access_write(&self, granted: &Granted) -> Result<Option<AccessWrite>, SealError> {
        let response = &granted.response;
        let (Some(random), Some(upstream)) = (&self.entropy.access, response.access_token()) else {
            return Ok(None);
        };
        let shared = &self.grant.presented.context.shared;
        let client_id = self.access.client_id.as_str();
        let context = Context::new(Purpose::Access, &self.key, client_id);
        let sealer = Sealer::new(self.token.secret());
        let mut record = self.access.clone();
        record.sealed = sealer
            .seal(random.nonce, context, &[], upstream.as_bytes())?
            .into();
        if let Some(profile) = &self.grant.profile {
            record.profile = Some(profile.seal(&sealer, random.profile_nonce, context)?);
        }
        let refresh_token = &self.grant.current;
        let sealed = Renewable::seal(&sealer, random.refresh_nonce, context, refresh_token)?;
        let lifetime = upstream_lifetime(response);
        let idle_lifetime = shared.config().idle_lifetime;
        let renewable = Renewable::new(shared.now(), lifetime, idle_lifetime, sealed.into());
        if narrow(&mut record, granted) {
            record.renewable = Some(renewable);
        } else {
            record.renewable = None;
            record.expires_at = record.expires_at.min(renewable.life.ends_at);
        }
        Ok(Some(AccessWrite {
            key: self.key,
            record,
            expected: Some(self.version),
            version: random.version,
        }))
    }
}

/// Limits the token to what the response grants. Nothing is ever added: the client has not asked
/// for another token. Returns whether the next renewal can ask for what is left: no parameter says
/// "nothing".
fn narrow(record: &mut AccessRecord, granted: &Granted) -> bool {
    let had_resources = !record.resources.is_empty();
    if let GrantedScope::Named(scope) = granted.response.granted_scope()
        && let Some(before) = &record.scope
    {
        record.scope = Some(common_scope(before.as_str(), scope).as_str().into());
    }
    if let Some(resources) = granted.response.resources() {
        let named = |resource: &Utf8| resources.iter().any(|named| named == resource.as_str());
        record.resources.retain(named);
    }
    let has_scope = record
        .scope
        .as_ref()
        .is_none_or(|scope| !scope.as_str().is_empty());
    has_scope && (!had_resources || !record.resources.is_empty())
}

use bytes::Bytes;
use futures_util::future::{OptionFuture, join};
use tower::BoxError;

use super::entropy::Minted;
use super::mint::{MintedAccessToken, Terms, mint};
use super::replay;
use crate::codec::Utf8;
use crate::endpoint::sessions::NewSession;
use crate::endpoint::state::State;
use crate::endpoint::upstream::Granted;
use crate::grant::{Binding, Record};
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{Change, Entry, Key, Sidecar, Store, StoreError, Swap, Ttl};

/// The properties of a new grant.
pub(crate) struct NewGrant<'a> {
    /// The scope that the grant is limited to, if known.
    pub(crate) scope: Option<&'a str>,
    /// The resources that the grant is limited to. Empty if unknown.
    pub(crate) resources: Vec<&'a str>,
    pub(crate) upstream_token: &'a str,
    /// The properties of its first access token.
    pub(crate) access: Terms<'a>,
    /// Whether the response is stored, so that it can be replayed.
    pub(crate) replayable: bool,
}

impl NewGrant<'_> {
    /// Creates the grant, without storing it.
    pub(crate) fn begin<St>(
        self,
        shared: &State<St>,
        minted: Minted,
        granted: &Granted,
    ) -> Result<Begun, BoxError> {
        let config = shared.config();
        let now = shared.now();
        let first = &minted.token;
        let entropy = &minted.entropy;
        let key = first.key();
        let hash = first.hash();
        let client_id = self.access.client_id;
        let request = self.access.request;
        let profile = self.access.profile;
        let context = Context::new(Purpose::Current, &key, client_id);
        let upstream_token = self.upstream_token.as_bytes();
        let sealer = Sealer::new(first.secret());
        let sealed = sealer.seal(entropy.nonce, context, &[], upstream_token)?;
        let revocable =
            config.seal_for_revocation(entropy.nonce, context, &sealed, upstream_token)?;
        let binding = Binding {
            client_id: client_id.into(),
            scope: self.scope.map(Utf8::from),
            resources: self.resources.into_iter().map(Utf8::from).collect(),
            absolute_end: config
                .absolute_lifetime
                .map(|lifetime| now.saturating_add(lifetime)),
        };
        let mut record = Record::begin(
            binding,
            sealed.into(),
            now,
            config.idle_lifetime,
            granted.response.refresh_lifetime(),
            granted.response.authorization_lifetime(),
        )
        .granted_with(request.has_credential());
        record.revocable = revocable;
        if let Some(profile) = profile {
            record.profile = Some(profile.seal(&sealer, entropy.profile_nonce, context)?);
            record = record.listed(now, config.idle_lifetime);
        }
        let response = &granted.response;
        let access = mint(shared, now, Some(first), entropy, &self.access, response)?;
        let response = access.as_ref().map_or(response, |access| &access.response);
        let text = first.encode(&config.prefix);
        let lifetime = record.time_to_live(now);
        let body = response.with_refresh_token(&text, lifetime, record.authorization_left(now));
        let mut sidecars = Vec::new();
        if self.replayable {
            let context = context.with(Purpose::Replay);
            let nonce = entropy.replay_nonce;
            let sealed = replay::seal(&sealer, nonce, context, request, granted, &body, now)?;
            let ttl = config.windows.retry.min(lifetime);
            sidecars.push(Sidecar::new(replay::name(&hash), sealed.into(), ttl));
        }
        let entry = Entry::new(entropy.version, hash, record.encode(&key, &hash));
        let response = &granted.head.extensions;
        let session =
            profile.map(|profile| NewSession::new(profile.subject.clone(), key, &record, response));
        Ok(Begun {
            key,
            entry,
            sidecars,
            body,
            access,
            session,
            record,
        })
    }
}

/// A new grant that is not stored yet.
pub(crate) struct Begun {
    pub(crate) key: Key,
    record: Record,
    entry: Entry,
    sidecars: Vec<Sidecar>,
    /// The response to the client.
    pub(crate) body: Bytes,
    /// The access token, if the layer has minted one.
    pub(crate) access: Option<MintedAccessToken>,
    /// The session to list for the user, if the user is known.
    pub(crate) session: Option<NewSession>,
}

impl Begun {
    /// Stores the grant and its access token, at the same time. Safe to repeat. Returns one result
    /// for each.
    pub(crate) async fn insert<St: Store>(
        &self,
        shared: &State<St>,
    ) -> (Result<(), StoreError>, Result<(), StoreError>) {
        let grant = async {
            let change = Change::Put {
                entry: self.entry.clone(),
                ttl: Ttl::After(self.record.kept(shared.now())),
            };
            let swap = shared.store().swap(&self.key, None, change, &self.sidecars);
            match swap.await? {
                Swap::Swapped => Ok(()),
                // The id of a grant is 12 random bytes. If it exists already, the random number
                // generator is broken.
                Swap::Conflict(_) => Err(StoreError::unavailable(
                    "the key of a new grant exists already: check the random number generator",
                )),
            }
        };
        let access = self.access.as_ref();
        let access = OptionFuture::from(access.map(|access| access.write.write(shared)));
        let (grant, access) = join(grant, access).await;
        (grant, access.unwrap_or(Ok(())))
    }
}

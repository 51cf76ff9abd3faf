use bytes::Bytes;
use zeroize::Zeroizing;

use super::entropy::Minted;
use super::mint::{AccessWrite, MintError, MintedAccessToken, Owner, Terms, mint};
use super::replay;
use super::request::RefreshRequest;
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::endpoint::sessions::NewSession;
use crate::endpoint::state::State;
use crate::endpoint::upstream::Granted;
use crate::event::EventSubject;
use crate::grant::{Binding, Record};
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{Change, Entry, Key, Sidecar, Store, StoreError, Swap, Ttl};
use crate::wire::client::ClientId;

/// The properties of a new grant.
pub(crate) struct NewGrant<'a> {
    pub(crate) client_id: &'a ClientId,
    /// The scope that the grant is limited to, if known.
    pub(crate) scope: Option<&'a str>,
    /// The resources that the grant is limited to. Empty if unknown.
    pub(crate) resources: Vec<&'a str>,
    pub(crate) upstream_token: &'a str,
    /// Whether the request has a client credential.
    pub(crate) credential: bool,
    /// The properties of its first access token.
    pub(crate) access: Terms<'a>,
    /// The request for which the answer is stored, so that it can be replayed. `None` to store no
    /// answer.
    pub(crate) repeat: Option<&'a RefreshRequest<'a>>,
}

impl NewGrant<'_> {
    /// Creates the grant, without storing it.
    pub(crate) fn begin<St>(
        self,
        shared: &State<St>,
        minted: Minted,
        granted: &Granted,
    ) -> Result<Begun, MintError> {
        let config = shared.config();
        let now = shared.now();
        let Minted {
            token: first,
            nonces: [nonce, _, replay_nonce, _, profile_nonce],
            version,
            access,
        } = minted;
        let key = first.key();
        let hash = first.hash();
        let context = Context {
            purpose: Purpose::Current,
            key: &key,
            client_id: self.client_id.as_str(),
        };
        let upstream_token = self.upstream_token.as_bytes();
        let sealer = Sealer::new(first.secret());
        let sealed = sealer.seal(nonce, context, &[], upstream_token)?;
        let revocable = config.seal_for_revocation(nonce, context, &sealed, upstream_token)?;
        let profile = self.access.profile;
        let sealed_profile = profile
            .map(|profile| profile.seal(&sealer, profile_nonce, context))
            .transpose()?;
        let binding = Binding {
            client_id: self.client_id.as_str().into(),
            scope: self.scope.map(Utf8::from),
            resources: self.resources.into_iter().map(Utf8::from).collect(),
            absolute_end: config
                .absolute_lifetime
                .map(|lifetime| now.saturating_add(lifetime)),
        };
        let record = Record::begin(
            binding,
            sealed.into(),
            now,
            config.idle_lifetime,
            granted.answer.refresh_lifetime(),
            granted.answer.authorization_lifetime(),
        )
        .granted_with(self.credential)
        .with_profile(sealed_profile)
        .with_revocable(revocable);
        let record = match profile {
            Some(_) => record.listed(now, config.idle_lifetime),
            None => record,
        };
        let owner = Owner::Grant(&first);
        let access = mint(shared, now, owner, access, &self.access, &granted.answer)?;
        let answer = access
            .as_ref()
            .map_or(&granted.answer, |access| &access.answer);
        let text: Zeroizing<String> = first.encode(&config.prefix);
        let lifetime = record.time_to_live(now);
        let body = answer.with_refresh_token(&text, lifetime, record.authorization_left(now));
        let mut sidecars = Vec::new();
        if let Some(request) = self.repeat {
            let context = Context {
                purpose: Purpose::Replay,
                ..context
            };
            let sealed =
                replay::seal(&sealer, replay_nonce, context, request, granted, &body, now)?;
            let ttl = config.windows.retry.min(lifetime);
            sidecars.push(Sidecar::new(replay::name(&hash), sealed.into(), ttl));
        }
        let entry = Entry::new(version, hash, record.encode(&key, &hash));
        Ok(Begun {
            key,
            entry,
            sidecars,
            body,
            access,
            session: profile.map(|profile| {
                NewSession::new(
                    profile.subject.clone(),
                    key,
                    &record,
                    &granted.head.extensions,
                )
            }),
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
    /// The answer to the client.
    pub(crate) body: Bytes,
    /// The access token, if the layer has minted one.
    pub(crate) access: Option<MintedAccessToken>,
    /// The session to list for the user, if the user is known.
    pub(crate) session: Option<NewSession>,
}

impl Begun {
    /// Stores the grant. Safe to repeat.
    pub(crate) async fn insert<St: Store>(
        &self,
        store: &St,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ttl = Ttl::After(self.record.kept(now));
        let change = Change::Put {
            entry: self.entry.clone(),
            ttl,
        };
        match store.swap(&self.key, None, change, &self.sidecars).await? {
            Swap::Swapped => Ok(()),
            // The id of a grant is 12 random bytes. If it exists already, the random number
            // generator is broken.
            Swap::Conflict(_) => Err(StoreError::unavailable(
                "the key of a new grant exists already: check the random number generator",
            )),
        }
    }

    pub(crate) fn access_write(&self) -> Option<&AccessWrite> {
        self.access.as_ref().map(|access| &access.write)
    }

    pub(crate) fn subject<'a>(&'a self, client_id: &'a ClientId) -> EventSubject<'a> {
        EventSubject::grant(Some(client_id), &self.key, Some(0))
    }
}

use std::borrow::Cow;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::entropy::{Entropy, Minted};
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::endpoint::config::Config;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::token::mint::{
    self, AccessWrite, MintError, MintedAccessToken, Owner, Terms, granted_resources, mint,
};
use crate::endpoint::upstream::{self, Granted, Inner, Reading, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::event::Subject;
use crate::grant::{Binding, Record};
use crate::seal::{Context, Purpose, SealError, Sealer};
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl};
use crate::wire::client::{Client, ClientId};
use crate::wire::scope::valid_scope;
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::{GrantedScope, is_refresh_token_type};
use futures_util::future::join;

/// Handles a request with any other grant type: forwards it, and replaces the refresh token in the
/// answer.
pub(crate) async fn issue<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
    client: &Client<'_>,
) -> Outcome<I::ResBody, I::Error> {
    let client_id = client.id.as_ref();
    if exchange.shared.config().reference && client_id.is_none() {
        // The layer mints access tokens only for a known client. Refuse before the inner service
        // uses up the authorization code.
        return Err(RefreshError::InvalidClient { basic: false }.into());
    }
    let requests_refresh_token = form
        .requested_token_types()
        .any(|requested| is_refresh_token_type(&requested));
    let reading = Reading {
        requests_refresh_token,
        ..exchange.reading(None)
    };
    let subject = Subject {
        client_id,
        grant: None,
    };
    let call = upstream::token_request(upstream, body, reading);
    let limit = exchange.shared.config().issue_timeout;
    let granted = match exchange
        .within(limit, RefreshError::UpstreamTimeout, subject, call)
        .await?
    {
        Reply::Granted(granted) => granted,
        Reply::Rejected(response) | Reply::Refused(response) => return Ok(response),
    };
    let Some(token) = granted.answer.refresh_token() else {
        let body = match client_id {
            Some(client_id) => issue_alone(exchange, form, client_id, &granted).await?,
            None => granted.answer.body().clone(),
        };
        return Ok(granted.respond(body));
    };
    let Some(client_id) = client_id else {
        exchange.emit(EventKind::Unbound, subject);
        let body = granted.answer.without_refresh_token();
        return Ok(granted.respond(body));
    };
    let (scope, resources) = terms(form, &granted);
    let access = access_terms(exchange.shared.config(), form, client_id, &granted);
    let body = match begin(
        exchange, client_id, scope, resources, token, &granted, &access,
    ) {
        Ok(begun) => {
            let key = begun.key;
            match store(exchange, begun, client_id, &granted).await? {
                Stored::Grant(body) => return Ok(granted.respond_for(&key, body)),
                Stored::Nothing(body) => body,
            }
        }
        // In reference mode the client must not receive the upstream access token. With
        // `refuse_unstored_grants` it must get an error.
        Err(error)
            if exchange.shared.config().reference
                || exchange.shared.config().refuse_unstored_grants =>
        {
            return Err(failed(exchange, error, client_id).into());
        }
        Err(error) => {
            let _ = failed(exchange, error, client_id);
            granted.answer.without_refresh_token()
        }
    };
    Ok(granted.respond(body))
}

/// The answer to the client, with or without a stored grant.
enum Stored {
    Grant(Bytes),
    Nothing(Bytes),
}

/// Stores a new grant, and its access token if the layer has minted one. Returns the answer to the
/// client.
///
/// If the grant cannot be stored, the client gets no refresh token and stays logged in until its
/// access token expires. With `refuse_unstored_grants` it gets an error instead, and a reference
/// access token that was already stored is never sent.
async fn store<St: Store>(
    exchange: &RequestContext<St>,
    begun: Begun,
    client_id: &ClientId,
    granted: &Granted,
) -> Result<Stored, RefreshError> {
    let (shared, subject) = (
        &exchange.shared,
        Subject {
            client_id: Some(client_id),
            grant: None,
        },
    );
    let access = mint::insert(begun.access_write(), shared);
    let (grant, access) = join(begun.insert(shared.store(), shared.now()), access).await;
    access.map_err(|error| exchange.store_failed(error, subject))?;
    let Err(error) = grant else {
        exchange.emit(EventKind::Issued, begun.subject(client_id));
        return Ok(Stored::Grant(begun.body));
    };
    let error = exchange.store_failed(error, subject);
    if shared.config().refuse_unstored_grants {
        return Err(error);
    }
    let Some(MintedAccessToken { answer, write }) = begun.access else {
        return Ok(Stored::Nothing(granted.answer.without_refresh_token()));
    };
    write
        .detach_from_grant(shared)
        .await
        .map_err(|error| exchange.store_failed(error, subject))?;
    Ok(Stored::Nothing(answer.without_refresh_token()))
}

/// Returns the answer of a request that begins no grant. In reference mode, its access token is
/// replaced by one that belongs to no grant.
async fn issue_alone<St: Store>(
    exchange: &RequestContext<St>,
    form: &TokenRequest,
    client_id: &ClientId,
    granted: &Granted,
) -> Result<Bytes, RefreshError> {
    let shared = &exchange.shared;
    if !shared.config().reference {
        return Ok(granted.answer.body().clone());
    }
    let (id, draw) = Entropy::new(shared)?.alone();
    let access = mint(
        shared,
        shared.now(),
        Owner::Alone(id),
        draw,
        &access_terms(shared.config(), form, client_id, granted),
        &granted.answer,
    );
    let Some(MintedAccessToken { answer, write }) =
        access.map_err(|error| failed(exchange, error.into(), client_id))?
    else {
        return Ok(granted.answer.body().clone());
    };
    let stored = write.insert(shared.store(), shared.now()).await;
    stored.map_err(|error| {
        exchange.store_failed(
            error,
            Subject {
                client_id: Some(client_id),
                grant: None,
            },
        )
    })?;
    Ok(answer.body().clone())
}

fn failed<St: Store>(
    exchange: &RequestContext<St>,
    error: BeginError,
    client_id: &ClientId,
) -> RefreshError {
    exchange.store_failed(
        StoreError::unavailable(error),
        Subject {
            client_id: Some(client_id),
            grant: None,
        },
    )
}

/// Returns the scope and the resources of the access token in this answer.
fn access_terms<'a>(
    config: &Config,
    form: &'a TokenRequest,
    client_id: &'a ClientId,
    granted: &'a Granted,
) -> Terms<'a> {
    let resources = granted_resources(config, &granted.answer, form.resources());
    Terms {
        client_id: client_id.as_str(),
        scope: scope(form, granted).map(Cow::Borrowed),
        resources,
    }
}

/// Returns the scope of the access token: the one that the answer names, otherwise the requested
/// one (RFC 6749 §5.1).
///
/// If the grant type has no scope in its token request (RFC 6749 §4.1.3), the inner service ignores
/// a requested scope, and an answer without a scope does not confirm it.
fn scope<'a>(form: &'a TokenRequest, granted: &'a Granted) -> Option<&'a str> {
    match granted.answer.granted_scope() {
        GrantedScope::Named(scope) => Some(scope),
        GrantedScope::Omitted if asks_for_scope(form) => {
            form.get(Param::Scope).filter(|scope| valid_scope(scope))
        }
        GrantedScope::Omitted | GrantedScope::Unreadable => None,
    }
}

/// The grant types whose token request defines the granted scope: RFC 6749 §4.3.2 and §4.4.2, RFC
/// 7521 §4.1, RFC 8693 §2.1.
const ASKING: [&str; 5] = [
    "password",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];

/// Returns whether the scope and resources of the request are those of the grant.
///
/// The inner service may take any other value, including another spelling of these, for a grant
/// type whose scope was fixed before, such as an authorization code.
fn asks_for_scope(form: &TokenRequest) -> bool {
    form.get(Param::GrantType)
        .is_some_and(|grant_type| ASKING.contains(&grant_type))
}

/// Returns the scope and the resources that the grant is limited to, as far as they are known.
///
/// If the user has authorized the grant before, the token request may name only a part of the
/// resources (RFC 8707 §2.2). Scope and resources of the grant are then unknown.
fn terms<'a>(form: &'a TokenRequest, granted: &'a Granted) -> (Option<&'a str>, Vec<&'a str>) {
    let resources: Vec<_> = form.resources().collect();
    if !asks_for_scope(form) && !resources.is_empty() {
        return (None, Vec::new());
    }
    // An empty scope limits the access token but not the grant, because GitHub Apps send it
    // regardless of what was granted.
    (
        scope(form, granted).filter(|scope| !scope.is_empty()),
        resources,
    )
}

/// A new grant that is not stored yet.
pub(crate) struct Begun {
    pub(crate) key: Key,
    record: Record,
    entry: Entry,
    /// The answer to the client.
    pub(crate) body: Bytes,
    /// The access token, if the layer has minted one.
    access: Option<MintedAccessToken>,
}

/// The error if a new grant cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    Random(#[from] crate::random::RandomUnavailable),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// Creates a grant for the upstream token `token`, without storing it.
pub(crate) fn begin<St: Store>(
    exchange: &RequestContext<St>,
    client_id: &ClientId,
    scope: Option<&str>,
    resources: Vec<&str>,
    token: &str,
    granted: &Granted,
    terms: &Terms<'_>,
) -> Result<Begun, BeginError> {
    let (config, now) = (exchange.shared.config(), exchange.shared.now());
    let Minted {
        token: first,
        nonces: [nonce, ..],
        version,
        access,
    } = Entropy::new(&exchange.shared)?.first();
    let (key, hash) = (first.key(), first.hash());
    let context = Context {
        purpose: Purpose::Current,
        key: &key,
        client_id: client_id.as_str(),
    };
    let sealed = Sealer::new(first.secret()).seal(nonce, context, &[], token.as_bytes())?;
    let binding = Binding {
        client_id: client_id.as_str().into(),
        scope: scope.map(Utf8::from),
        resources: resources.into_iter().map(Utf8::from).collect(),
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
    );
    let access = mint(
        &exchange.shared,
        now,
        Owner::Grant(first.access_id(), 0),
        access,
        terms,
        &granted.answer,
    )?;
    let answer = access
        .as_ref()
        .map_or(&granted.answer, |access| &access.answer);
    let text: Zeroizing<String> = first.encode(&config.prefix);
    let body = answer.with_refresh_token(&text, record.time_to_live(now));
    let entry = Entry::new(version, hash, record.encode(&key, &hash));
    Ok(Begun {
        key,
        record,
        entry,
        body,
        access,
    })
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
        match store.swap(&self.key, None, change, None).await? {
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

    pub(crate) fn subject<'a>(&'a self, client_id: &'a ClientId) -> Subject<'a> {
        Subject {
            client_id: Some(client_id),
            grant: Some((&self.key, Some(0))),
        }
    }
}

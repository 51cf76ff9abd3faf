use std::borrow::Cow;

use bytes::Bytes;

use super::begin::{Begun, NewGrant};
use super::entropy::Entropy;
use crate::body::ResponseBody;
use crate::endpoint::config::Config;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::token::mint::{
    self, MintError, MintedAccessToken, Owner, Requested, Terms, granted_resources, mint,
};
use crate::endpoint::upstream::{self, Accept, Granted, Inner, Reading, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::event::EventSubject;
use crate::store::{Store, StoreError};
use crate::subject::Profile;
use crate::wire::client::{Client, ClientId, Proofs};
use crate::wire::scope::valid_scope;
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::{GrantedScope, is_refresh_token_type};
use futures_util::future::join3;

/// Handles a request with any other grant type: forwards it, and replaces the refresh token in the
/// answer.
pub(crate) async fn issue<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
    client: &Client<'_>,
    proofs: Proofs,
) -> Outcome<I::ResBody, I::Error> {
    let config = context.shared.config();
    let client_id = client.id.as_ref();
    let subject = EventSubject::client(client_id);
    if config.hand_back {
        let call = async {
            let response = upstream.send(body, Accept::Any).await?;
            Ok(Some(response.map(ResponseBody::inner)))
        };
        let limit = config.issue_timeout;
        return context
            .within(limit, RefreshError::UpstreamTimeout, subject, call)
            .await;
    }
    if config.reference && client_id.is_none() {
        // The layer mints access tokens only for a known client. Refuse before the inner service
        // uses up the authorization code.
        return Err(RefreshError::InvalidClient { basic: false }.into());
    }
    let requests_refresh_token = form
        .requested_token_types()
        .any(|requested| is_refresh_token_type(&requested));
    let reading = Reading {
        requests_refresh_token,
        ..context.reading(None)
    };
    // Drawn before the inner service uses up the authorization code, so that a random number
    // generator that fails costs nothing.
    let entropy = Entropy::new(&context.shared)?;
    let call = upstream::token_request(upstream, body, reading);
    let limit = config.issue_timeout;
    let granted = match context
        .within(limit, RefreshError::UpstreamTimeout, subject, call)
        .await?
    {
        Reply::Granted(granted) => granted,
        Reply::Rejected(response) | Reply::Refused(response) => return Ok(response),
    };
    // A response with which no token of the layer begins is passed on, whomever it names.
    let begins =
        client_id.is_some() && (granted.answer.refresh_token().is_some() || config.reference);
    let profile = match begins {
        true => granted.profile(config).map_err(|error| {
            context.emit(EventKind::UpstreamUnreadable, subject);
            tracing::debug!(%error, "the inner service named a subject that cannot be stored");
            RefreshError::UpstreamUnreadable
        })?,
        false => None,
    };
    let profile = profile.as_ref();
    let named: Vec<_> = form.resources().collect();
    let requested = Requested {
        form,
        scope: form.get(Param::Scope),
        resources: &named,
        authenticates: client.credential.is_presented(proofs),
        proofs,
    };
    let Some(token) = granted.answer.refresh_token() else {
        let body = match client_id {
            Some(client_id) => {
                let terms = access_terms(config, requested, client_id, &granted, profile);
                issue_alone(context, client_id, entropy, &granted, &terms).await?
            }
            None => granted.answer.body().clone(),
        };
        return Ok(granted.respond(body));
    };
    let Some(client_id) = client_id else {
        context.emit(EventKind::Unbound, subject);
        let body = granted.answer.without_refresh_token();
        return Ok(granted.respond(body));
    };
    let (scope, resources) = terms(form, &granted);
    let grant = NewGrant {
        client_id,
        repeat: None,
        scope,
        resources,
        upstream_token: token,
        credential: requested.authenticates,
        access: access_terms(config, requested, client_id, &granted, profile),
    };
    let body = match grant.begin(&context.shared, entropy.first(), &granted) {
        Ok(begun) => {
            let key = begun.key;
            match store(context, begun, client_id, &granted).await? {
                Stored::Grant(body) => return Ok(granted.respond_for(&key, body)),
                Stored::Nothing(body) => body,
            }
        }
        // In reference mode the client must not receive the upstream access token. With
        // `refuse_unstored_grants` it must get an error.
        Err(error) if config.reference || config.refuse_unstored_grants => {
            return Err(failed(context, error, client_id).into());
        }
        Err(error) => {
            let _ = failed(context, error, client_id);
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
    context: &RequestContext<St>,
    begun: Begun,
    client_id: &ClientId,
    granted: &Granted,
) -> Result<Stored, RefreshError> {
    let shared = &context.shared;
    let subject = EventSubject::client(Some(client_id));
    let mut begun = begun;
    let session = begun.session.take();
    let list = async {
        match session {
            Some(session) => Box::pin(session.list(shared)).await,
            None => None,
        }
    };
    let access = mint::insert(begun.access_write(), shared);
    let insert = begun.insert(shared.store(), shared.now());
    let (grant, access, unlisted) = join3(insert, access, list).await;
    if let Some(session) = unlisted
        && grant.is_ok()
    {
        session.list_in_background(shared);
    }
    access.map_err(|error| context.store_failed(error, subject))?;
    let Err(error) = grant else {
        context.emit(EventKind::Issued, begun.subject(client_id));
        return Ok(Stored::Grant(begun.body));
    };
    let error = context.store_failed(error, subject);
    if shared.config().refuse_unstored_grants {
        return Err(error);
    }
    let Some(MintedAccessToken { answer, write }) = begun.access else {
        return Ok(Stored::Nothing(granted.answer.without_refresh_token()));
    };
    write
        .detach_from_grant(shared)
        .await
        .map_err(|error| context.store_failed(error, subject))?;
    Ok(Stored::Nothing(answer.without_refresh_token()))
}

/// Returns the answer of a request that begins no grant. In reference mode, its access token is
/// replaced by one that belongs to no grant.
async fn issue_alone<St: Store>(
    context: &RequestContext<St>,
    client_id: &ClientId,
    entropy: Entropy,
    granted: &Granted,
    terms: &Terms<'_>,
) -> Result<Bytes, RefreshError> {
    let shared = &context.shared;
    if !shared.config().reference {
        return Ok(granted.answer.body().clone());
    }
    let (id, entropy) = entropy.alone();
    let access = mint(
        shared,
        shared.now(),
        Owner::Alone(id),
        entropy,
        terms,
        &granted.answer,
    );
    let Some(MintedAccessToken { answer, write }) =
        access.map_err(|error| failed(context, error, client_id))?
    else {
        return Ok(granted.answer.body().clone());
    };
    let stored = write.write(shared.store(), shared.now()).await;
    stored.map_err(|error| context.store_failed(error, EventSubject::client(Some(client_id))))?;
    Ok(answer.body().clone())
}

fn failed<St: Store>(
    context: &RequestContext<St>,
    error: MintError,
    client_id: &ClientId,
) -> RefreshError {
    context.store_failed(
        StoreError::unavailable(error),
        EventSubject::client(Some(client_id)),
    )
}

/// Returns the scope and the resources of the access token in this answer.
fn access_terms<'a>(
    config: &Config,
    requested: Requested<'a>,
    client_id: &'a ClientId,
    granted: &'a Granted,
    profile: Option<&'a Profile>,
) -> Terms<'a> {
    let named = requested.resources.iter().copied();
    Terms {
        client_id: client_id.as_str(),
        scope: scope(requested.form, granted).map(Cow::Borrowed),
        resources: granted_resources(config, &granted.answer, named),
        profile,
        requested,
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

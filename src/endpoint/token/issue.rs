use std::borrow::Cow;

use bytes::Bytes;
use futures_util::future::join;
use http::Response;

use super::begin::{Begun, NewGrant};
use super::entropy::Entropy;
use super::request::ClientRequest;
use crate::body::ResponseBody;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::sessions::NewSession;
use crate::endpoint::token::mint::{MintedAccessToken, Terms, granted_resources, mint};
use crate::endpoint::upstream::{self, Accept, Granted, Inner, Reading, Reply};
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::store::{Store, StoreError};
use crate::wire::client::{Client, ClientId, Proofs};
use crate::wire::scope::valid_scope;
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::{GrantedScope, is_refresh_token_type};

/// Handles a request with any other grant type: forwards it, and replaces the refresh token in the
/// response.
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
    let response = &granted.response;
    let Some(client_id) = client_id else {
        let body = match response.refresh_token() {
            Some(_) => {
                context.emit(EventKind::Unbound, subject);
                response.without_refresh_token()
            }
            None => response.body().clone(),
        };
        return Ok(granted.respond(body));
    };
    // A response with which no token of the layer begins is passed on, whomever it names.
    let profile = match response.refresh_token().is_some() || config.reference {
        true => granted.profile(config).map_err(|error| {
            context.emit(EventKind::UpstreamUnreadable, subject);
            tracing::debug!(%error, "the inner service named a subject that cannot be stored");
            RefreshError::UpstreamUnreadable
        })?,
        false => None,
    };
    let request = ClientRequest::new(form, client, proofs);
    let access = Terms {
        client_id: client_id.as_str(),
        scope: scope(form, &granted).map(Cow::Borrowed),
        resources: granted_resources(config, response, request.resources.iter().copied()),
        profile: profile.as_ref(),
        request: &request,
        authenticated: false,
    };
    let Some(token) = response.refresh_token() else {
        let body = issue_alone(context, subject, &entropy, &granted, &access).await?;
        return Ok(granted.respond(body));
    };
    let (scope, resources) = terms(form, &granted);
    let grant = NewGrant {
        scope,
        resources,
        upstream_token: token,
        access,
        replayable: false,
    };
    match grant.begin(&context.shared, entropy.first(), &granted) {
        Ok(begun) => Ok(store(context, begun, client_id, granted).await?),
        Err(error) => {
            let error = context.store_failed(StoreError::unavailable(error), subject);
            // In reference mode the client must not receive the upstream access token. With
            // `refuse_unstored_grants` it must get an error.
            if config.reference || config.refuse_unstored_grants {
                return Err(error.into());
            }
            let body = granted.response.without_refresh_token();
            Ok(granted.respond(body))
        }
    }
}

/// Stores a new grant, and its access token if the layer has minted one. Returns the response to
/// the client.
///
/// If the grant cannot be stored, the client gets no refresh token and stays logged in until its
/// access token expires. With `refuse_unstored_grants` it gets an error instead, and a reference
/// access token that was already stored is never sent.
async fn store<St: Store, ResBody>(
    context: &RequestContext<St>,
    mut begun: Begun,
    client_id: &ClientId,
    granted: Granted,
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let shared = &context.shared;
    let failed = |error| context.store_failed(error, EventSubject::client(Some(client_id)));
    let list = NewSession::list(begun.session.take(), shared);
    let ((grant, access), unlisted) = join(begun.insert(shared), list).await;
    if grant.is_ok() {
        NewSession::list_in_background(unlisted, shared);
    }
    access.map_err(failed)?;
    let Err(error) = grant else {
        let subject = EventSubject::grant(Some(client_id), &begun.key, Some(0));
        context.emit(EventKind::Issued, subject);
        return Ok(granted.respond_for(&begun.key, begun.body));
    };
    let error = failed(error);
    if shared.config().refuse_unstored_grants {
        return Err(error);
    }
    let body = match begun.access {
        Some(MintedAccessToken { response, write }) => {
            write.detach_from_grant(shared).await.map_err(failed)?;
            response.without_refresh_token()
        }
        None => granted.response.without_refresh_token(),
    };
    Ok(granted.respond(body))
}

/// Returns the response of a request that begins no grant. In reference mode, its access token is
/// replaced by one that belongs to no grant.
async fn issue_alone<St: Store>(
    context: &RequestContext<St>,
    subject: EventSubject<'_>,
    entropy: &Entropy,
    granted: &Granted,
    terms: &Terms<'_>,
) -> Result<Bytes, RefreshError> {
    let shared = &context.shared;
    let failed = |error| context.store_failed(error, subject);
    let minted = mint(
        shared,
        shared.now(),
        None,
        entropy,
        terms,
        &granted.response,
    );
    let Some(access) = minted.map_err(|error| failed(StoreError::unavailable(error)))? else {
        return Ok(granted.response.body().clone());
    };
    access.write.write(shared).await.map_err(failed)?;
    Ok(access.response.body().clone())
}

/// Returns the scope of the access token: the one that the response names, otherwise the requested
/// one (RFC 6749 §5.1).
///
/// If the grant type has no scope in its token request (RFC 6749 §4.1.3), the inner service ignores
/// a requested scope, and a response without a scope does not confirm it.
fn scope<'a>(form: &'a TokenRequest, granted: &'a Granted) -> Option<&'a str> {
    match granted.response.granted_scope() {
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

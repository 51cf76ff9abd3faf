//! The endpoints, except userinfo.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Shared;
use super::behaviour::method;
use super::behaviour::{Behaviour, Revocation};
use super::userinfo::is_within;
use crate::support::mcp::one;

pub(super) async fn discovery(State(inner): Shared, uri: Uri) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive(uri.path(), b"", &HeaderMap::new()) {
        return down;
    }
    let Behaviour {
        path,
        document,
        rfc8414,
        ..
    } = &inner.behaviour;
    let path = path.trim_end_matches('/');
    let place = if *rfc8414 {
        format!("/.well-known/oauth-authorization-server{path}")
    } else {
        format!("{path}/.well-known/openid-configuration")
    };
    let Some(Value::Object(more)) = document.as_ref().filter(|_| uri.path() == place) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let issuer = Url::parse(&inner.issuer).unwrap();
    let at = |path: &str| issuer.join(path).unwrap().to_string();
    let mut document = json!({
        "issuer": inner.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": format!("{}/jwks", inner.openid.issuer()),
        "token_endpoint_auth_methods_supported": inner.behaviour.methods,
    });
    if inner.behaviour.revocation != Revocation::None {
        document["revocation_endpoint"] = at("/revoke").into();
    }
    document.as_object_mut().unwrap().extend(more.clone());
    document.to_string().into_response()
}

pub(super) async fn authorize(
    State(inner): Shared,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive("/authorize", query.unwrap().as_bytes(), &headers) {
        return down;
    }
    let request = inner.received.last().unwrap().form.clone();
    let code = inner.mint("code");
    let mut url = Url::parse(one(&request, "redirect_uri").unwrap()).unwrap();
    url.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", one(&request, "state").unwrap());
    if inner.behaviour.iss {
        url.query_pairs_mut().append_pair("iss", &inner.issuer);
    }
    inner.codes.insert(code, request);
    Redirect::to(url.as_str()).into_response()
}

pub(super) async fn token(State(inner): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive("/token", &body, &headers) {
        return down;
    }
    let form = inner.received.last().unwrap().form.clone();
    let method = method(&headers, &form);
    if !method.is_some_and(|method| inner.behaviour.methods.contains(&method)) {
        return inner.answer(&headers, 401, &json!({ "error": "invalid_client" }));
    }
    let refused = json!({ "error": "invalid_grant" });
    match one(&form, "grant_type") {
        Some("authorization_code") => {
            let code = one(&form, "code").and_then(|code| inner.codes.remove(code));
            let verifier = one(&form, "code_verifier").unwrap_or_default();
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
            match code.filter(|request| one(request, "code_challenge") == Some(&challenge)) {
                Some(request) => {
                    let answer = inner.tokens(&request, None, None);
                    inner.answer(&headers, 200, &answer)
                }
                None => inner.answer(&headers, 400, &refused),
            }
        }
        _ => {
            if let Some((status, error)) = inner.refuse_refreshes.clone() {
                return inner.answer(&headers, status, &error);
            }
            let token = one(&form, "refresh_token").unwrap_or_default();
            match inner.refresh.get(token).cloned() {
                // RFC 6749 §6: not more than what was granted.
                Some(request) if !is_within(&form, &request) => {
                    inner.answer(&headers, 400, &json!({ "error": "invalid_scope" }))
                }
                Some(request) => {
                    let answer = inner.tokens(&request, one(&form, "scope"), Some(token));
                    inner.answer(&headers, 200, &answer)
                }
                None => inner.answer(&headers, 400, &refused),
            }
        }
    }
}

pub(super) async fn revoke(State(inner): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive("/revoke", &body, &headers) {
        return down;
    }
    let form = inner.received.last().unwrap().form.clone();
    if method(&headers, &form).is_none_or(|method| method == "none") {
        return inner.answer(&headers, 400, &json!({ "error": "invalid_client" }));
    }
    match inner.behaviour.revocation {
        Revocation::None => return StatusCode::NOT_FOUND.into_response(),
        Revocation::Token => {
            let token = one(&form, "token").unwrap_or_default();
            inner.refresh.remove(token);
            inner.access.remove(token);
        }
        Revocation::Authorization => {
            inner.refresh.clear();
            inner.access.clear();
        }
    }
    StatusCode::OK.into_response()
}

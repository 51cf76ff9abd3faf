use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use tower_oauth_refresh::ClientId;
use tower_oauth_refresh::fuzzing::{
    Client, ClientError, Credential, Param, TokenRequest, identify,
};

use crate::split_line;

/// Checks how a client is identified. The input is a line with the client that an outer layer has
/// named (an empty line is no client), a line with the value of `Authorization` (an empty line is
/// no header), and the form.
pub fn client(input: &[u8]) {
    let (extension, rest) = split_line(input);
    let (authorization, body) = split_line(rest);
    let extension = std::str::from_utf8(extension)
        .ok()
        .and_then(|id| ClientId::try_from(id).ok());
    let Ok(form) = TokenRequest::parse(Bytes::copy_from_slice(body)) else {
        return;
    };
    let Ok(authorization) = HeaderValue::from_bytes(authorization) else {
        return;
    };
    let mut headers = HeaderMap::new();
    if !authorization.is_empty() {
        headers.append(AUTHORIZATION, authorization);
    }
    match identify(extension.as_ref(), &headers, &form) {
        Ok(client) => {
            let is_ascii = |value: &HeaderValue| {
                value
                    .as_bytes()
                    .iter()
                    .all(|byte| matches!(byte, b' '..=b'~'))
            };
            assert!(headers.values().all(is_ascii), "the header is not ASCII");
            agreed(&client, extension.as_ref(), &form);
            named_in_header(&client, headers.get(AUTHORIZATION));
            shows_nothing(&client);
            if let Some(id) = &client.id {
                written_as_basic(id, &client.credential);
            }
            let doubled = headers.get(AUTHORIZATION).cloned();
            if let Some(again) = doubled {
                headers.append(AUTHORIZATION, again);
                let found = identify(extension.as_ref(), &headers, &form);
                assert_eq!(
                    found.err(),
                    Some(ClientError::Disagree),
                    "two Authorization headers were accepted"
                );
            }
        }
        Err(error) => {
            let sentence = error.description();
            assert_eq!(
                serde_json::to_string(sentence).ok(),
                Some(format!("\"{sentence}\""))
            );
        }
    }
}

/// Checks that all places that name a client name the same one.
fn agreed(client: &Client<'_>, extension: Option<&ClientId>, form: &TokenRequest) {
    let id = client.id.as_ref().map(ClientId::as_str);
    for named in [extension.map(ClientId::as_str), form.get(Param::ClientId)]
        .into_iter()
        .flatten()
    {
        assert_eq!(
            id,
            Some(named),
            "another client was identified than the request names"
        );
    }
    if let Some(id) = id {
        assert!(
            !id.is_empty() && id.len() <= 512 && !id.contains(char::is_control),
            "the identifier is not valid"
        );
    }
    if let (Some(id), Some(assertion)) = (id, form.get(Param::ClientAssertion)) {
        let parts: Vec<_> = assertion.split('.').collect();
        let [_, payload, _] = parts[..] else {
            panic!("the client was identified by an assertion that is not a JWT")
        };
        let payload = URL_SAFE_NO_PAD
            .decode(payload.trim_end_matches('='))
            .expect("the payload of an accepted assertion is base64url");
        let claims: Value =
            serde_json::from_slice(&payload).expect("the payload of an accepted assertion is JSON");
        assert_eq!(
            claims["sub"].as_str(),
            Some(id),
            "the subject is another client"
        );
        for (name, value) in claims.as_object().into_iter().flatten() {
            // As parsers that ignore case do.
            let folded = name.to_uppercase().to_lowercase();
            assert!(
                !["sub", "iss"].contains(&&*folded) || value.as_str() == Some(id),
                "some servers read another client from {name:?}"
            );
        }
    }
    match (&client.credential, form.get(Param::ClientSecret)) {
        (Credential::Assertion, _) => assert!(form.get(Param::ClientAssertion).is_some()),
        (Credential::Secret(secret), Some(posted)) => {
            assert_eq!(&**secret, posted, "two different secrets were accepted")
        }
        (Credential::Secret(secret), None) => {
            assert!(!secret.is_empty(), "an empty secret counts as a secret")
        }
        (Credential::None | Credential::Outside(_), posted) => {
            assert!(
                posted.is_none() && form.get(Param::ClientAssertion).is_none(),
                "a credential was ignored"
            );
        }
    }
}

/// Checks that the client is the user in the header: the decoded part before the first colon.
fn named_in_header(client: &Client<'_>, authorization: Option<&HeaderValue>) {
    // Some servers compare only the first letters of the scheme.
    let Some((scheme, rest)) =
        authorization.and_then(|value| value.to_str().ok()?.trim().split_at_checked("basic".len()))
    else {
        return;
    };
    let Ok(joined) = STANDARD_NO_PAD.decode(rest.trim().trim_end_matches('=')) else {
        return;
    };
    if !scheme.eq_ignore_ascii_case("basic") || client.id.is_none() {
        return;
    }
    let Some((user, _)) = std::str::from_utf8(&joined)
        .ok()
        .and_then(|joined| joined.split_once(':'))
    else {
        panic!("Basic credentials without a colon were accepted");
    };
    let spaced = user.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let id = client.id.as_ref().map(ClientId::as_str);
    assert!(
        decoded.is_ok_and(|user| id == Some(&*user)),
        "{id:?} is not the user in the header"
    );
}

/// Checks that `Debug` shows the client and the kind of its credential, but not the credential.
fn shows_nothing(client: &Client<'_>) {
    let credential = match &client.credential {
        Credential::None => "None",
        Credential::Secret(_) => "Secret([redacted])",
        Credential::Assertion => "Assertion",
        Credential::Outside(Some(_)) => "Outside(Some(Sensitive))",
        Credential::Outside(None) => "Outside(None)",
    };
    assert_eq!(
        format!("{client:?}"),
        format!("Client {{ id: {:?}, credential: {credential} }}", client.id)
    );
}

/// Checks that the client is found in an HTTP Basic header that is encoded by RFC 6749 §2.3.1.
fn written_as_basic(id: &ClientId, credential: &Credential<'_>) {
    let secret = match credential {
        Credential::Secret(secret) => &**secret,
        _ => "",
    };
    // An escaped NUL is not decoded, because a secret has no NUL (RFC 6749, appendix A.2).
    if secret.contains('\0') {
        return;
    }
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = STANDARD.encode(format!("{}:{}", encode(id.as_str()), encode(secret)));
    let value = HeaderValue::try_from(format!("Basic {joined}")).expect("base64 is ASCII");
    let Ok(form) = TokenRequest::parse(Bytes::new()) else {
        panic!("an empty form was rejected")
    };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let found = identify(None, &headers, &form).expect("the written header can be parsed");
    assert_eq!(found.id.as_ref(), Some(id), "another client was identified");
    match &found.credential {
        Credential::Secret(found) => assert_eq!(&**found, secret, "another secret was found"),
        _ => assert!(secret.is_empty(), "the secret was not found"),
    }
}

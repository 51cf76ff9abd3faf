//! The responses, and the secrets of clients.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::Seen;

/// Clients whose name begins with `confidential` have a secret: `secret of` their name.
pub(super) fn authenticate(seen: &Seen) -> Option<Response<Full<Bytes>>> {
    use base64::Engine as _;
    let basic = seen
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let basic = basic.map(|basic| {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(basic)
            .unwrap();
        let (user, password) = std::str::from_utf8(&decoded)
            .unwrap()
            .split_once(':')
            .unwrap();
        let decode = |text: &str| {
            form_urlencoded::parse(text.as_bytes())
                .next()
                .map(|(text, _)| text.into_owned())
        };
        (
            decode(user).unwrap_or_default(),
            decode(password).unwrap_or_default(),
        )
    });
    let (client, secret) = basic.unwrap_or_else(|| {
        let param = |name| seen.param(name).unwrap_or_default().to_owned();
        (param("client_id"), param("client_secret"))
    });
    let good = !client.starts_with("confidential") || secret == format!("secret of {client}");
    (!good).then(invalid_client)
}

pub(super) fn invalid_client() -> Response<Full<Bytes>> {
    json(401, r#"{"error":"invalid_client"}"#.into())
}

pub(super) fn read(token: &str) -> Option<(u32, u32)> {
    let (number, count) = token.strip_prefix("upstream-")?.split_once('-')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

pub(super) fn tokens(number: u32, count: u32) -> String {
    format!(
        r#"{{"access_token":"at-{number}-{count}","token_type":"Bearer","expires_in":3600,"refresh_token":"upstream-{number}-{count}","scope":"read write"}}"#
    )
}

pub(super) fn invalid_grant() -> Response<Full<Bytes>> {
    json(
        400,
        r#"{"error":"invalid_grant","error_description":"from upstream"}"#.into(),
    )
}

pub(super) fn json(status: u16, body: String) -> Response<Full<Bytes>> {
    answer(status, "application/json", body)
}

pub(super) fn answer(status: u16, content_type: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", content_type)
        .header("x-upstream", "yes")
        .body(Full::from(body))
        .unwrap()
}

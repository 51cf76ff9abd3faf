//! Requests of OAuth clients over HTTP.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// The HTTP client for the crate `oauth2`. It follows no redirects.
///
/// That crate revokes only over `https`. The servers of these tests have no certificates, so that
/// `https` is treated as `http` here.
pub async fn oauth_http(mut request: oauth2::HttpRequest) -> io::Result<oauth2::HttpResponse> {
    if let Some(address) = request.uri().to_string().strip_prefix("https://") {
        *request.uri_mut() = format!("http://{address}")
            .parse::<Uri>()
            .map_err(io::Error::other)?;
    }
    let response = send(request.map(Full::from), false).await?;
    Ok(response.map(Vec::from))
}

/// Posts a form. The body of the response is null if it is not JSON.
pub async fn post_form(
    url: &str,
    fields: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Value) {
    json(send(form(url, fields, headers), false).await.unwrap())
}

/// Posts a form over HTTP/2 with prior knowledge.
pub async fn post_form_http2(
    url: &str,
    fields: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Value) {
    json(send(form(url, fields, headers), true).await.unwrap())
}

/// Returns the `Authorization` value of a client with a secret (RFC 6749 §2.3.1).
pub fn basic(client_id: &str, secret: &str) -> String {
    let encode = |part: &str| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)))
    )
}

/// Returns the refresh token of a success.
#[track_caller]
pub fn refresh_token(answer: &(StatusCode, HeaderMap, Value)) -> String {
    assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    answer.2["refresh_token"]
        .as_str()
        .unwrap_or_else(|| panic!("no refresh token in {answer:?}"))
        .to_owned()
}

/// Returns the status and the `error` of a response.
pub fn error((status, _, body): &(StatusCode, HeaderMap, Value)) -> (u16, &str) {
    (status.as_u16(), body["error"].as_str().unwrap_or_default())
}

fn form(url: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let mut request =
        Request::post(url).header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body)).unwrap()
}

/// Sends a request on a new connection.
async fn send(request: Request<Full<Bytes>>, http2: bool) -> io::Result<Response<Bytes>> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http();
    let (head, body) = client
        .request(request)
        .await
        .map_err(io::Error::other)?
        .into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

fn json(response: Response<Bytes>) -> (StatusCode, HeaderMap, Value) {
    let (head, body) = response.into_parts();
    (
        head.status,
        head.headers,
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

//! OAuth clients that call the layer in this process.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use tower_oauth_refresh::{Refresh, Store};

use super::{Endpoint, Work};

/// A client id of 36 bytes, as long as a UUID.
pub const CLIENT: &str = "0123456789abcdef0123456789abcdef0123";

pub fn log_in() -> String {
    format!("grant_type=authorization_code&code=c&client_id={CLIENT}")
}

pub fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}&client_id={CLIENT}")
}

pub fn post(form: String) -> Request<Full<Bytes>> {
    Request::post("/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .expect("a request")
}

/// Sends a form, and returns the response, which must have a refresh token.
pub async fn send<St: Store>(service: &Refresh<Endpoint, St>, form: String) -> String {
    let Ok(response) = service.clone().oneshot(post(form)).await;
    let status = response.status();
    let Ok(body) = response.into_body().collect().await;
    let answer = String::from_utf8(body.to_bytes().into()).expect("text");
    assert!(
        answer.contains(r#""refresh_token":""#),
        "{status}: {answer}"
    );
    answer
}

/// Returns the value of this field of a response. It is found without parsing, which takes next to
/// no time.
pub fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let value = answer
        .split_once(&format!(r#""{name}":""#))
        .and_then(|(_, rest)| rest.split_once('"'));
    value.unwrap_or_else(|| panic!("no {name} in {answer}")).0
}

/// A client that is logged in and refreshes.
pub struct Session<St: Store> {
    service: Refresh<Endpoint, St>,
    pub token: String,
}

impl<St: Store> Session<St> {
    pub async fn begin(service: &Refresh<Endpoint, St>) -> Self {
        let token = field(&send(service, log_in()).await, "refresh_token").to_owned();
        Self {
            service: service.clone(),
            token,
        }
    }
}

impl<St: Store> Work for Session<St> {
    async fn once(&mut self) {
        let answer = send(&self.service, refresh(&self.token)).await;
        self.token
            .replace_range(.., field(&answer, "refresh_token"));
    }
}

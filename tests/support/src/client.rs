//! A client with or without a credential, over real HTTP.

use axum::Router;
use axum::body::Body;

use super::session::infallible;
use super::upstream::{ATTESTATION, ATTESTATION_POP, ATTESTED};
use super::{Answer, App, http, oauth, refresh_form, requests};

/// The credential of one request.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    Nothing,
    /// This secret, in the form.
    Post(&'static str),
    /// This secret, in the header.
    Basic(&'static str),
    /// An assertion with this id (`private_key_jwt`).
    Jwt(u32),
    /// An assertion that another key has signed.
    ForgedJwt,
    /// An attestation of the client, with a proof of possession of this id.
    Attested(u32),
    /// An attestation that another attester has signed.
    ForgedAttestation,
}

/// A client of an app that is served over HTTP.
pub struct Client {
    pub app: App,
    name: &'static str,
    url: String,
}

impl Client {
    /// Serves the app, and returns the client with this name.
    pub async fn of(app: App, name: &'static str) -> Self {
        let inner = infallible::<Body>(&app.upstream);
        let router = Router::new()
            .fallback_service(inner)
            .layer(app.layer.clone());
        Self::at(app, name, router).await
    }

    /// Serves the app by this router, and returns the client with this name.
    pub async fn at(app: App, name: &'static str, router: Router) -> Self {
        let url = format!("http://{}", http::serve(router).await);
        Self { app, name, url }
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)], sent: Sent) -> Answer {
        let (mut form, mut headers) = (form.to_vec(), Vec::new());
        let id = if let Sent::Jwt(id) = sent { id } else { 0 };
        let assertion = requests::assertion(&format!(r#"{{"sub":"{}","jti":"{id}"}}"#, self.name));
        let forged = assertion.replace(".c2lnbmF0dXJl", ".Zm9yZ2Vk");
        let basic;
        match sent {
            Sent::Nothing => {}
            Sent::Post(secret) => form.push(("client_secret", secret)),
            Sent::Basic(secret) => {
                basic = oauth::basic(self.name, secret);
                headers.push(("authorization", basic.as_str()));
            }
            Sent::Jwt(_) => form.push(("client_assertion", &assertion)),
            Sent::ForgedJwt => form.push(("client_assertion", &forged)),
            Sent::Attested(_) => headers.push((ATTESTATION, ATTESTED)),
            Sent::ForgedAttestation => headers.push((ATTESTATION, "e30.e30.Zm9yZ2Vk")),
        }
        if matches!(sent, Sent::Jwt(_) | Sent::ForgedJwt) {
            form.push((
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ));
        }
        let pop;
        if let Sent::Attested(id) = sent {
            pop = format!("e30.e30.{id}");
            headers.push((ATTESTATION_POP, pop.as_str()));
        }
        let url = format!("{}{path}", self.url);
        let (status, headers, body) = oauth::post_form(&url, &form, &headers).await;
        let body = if body.is_null() {
            Default::default()
        } else {
            body.to_string().into()
        };
        Answer {
            status,
            headers,
            body,
        }
    }

    pub async fn refresh(&self, token: &str, sent: Sent) -> Answer {
        self.post("/token", &refresh_form(self.name, token), sent)
            .await
    }

    pub async fn revoke(&self, token: &str, sent: Sent) -> Answer {
        let form = [("token", token), ("client_id", self.name)];
        self.post("/revoke", &form, sent).await
    }

    pub async fn log_in(&self, sent: Sent) -> String {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", self.name),
        ];
        self.post("/token", &form, sent).await.token()
    }
}

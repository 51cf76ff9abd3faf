//! Requests with a proof that differs each time, or that the layer cannot see: they are never
//! answered with a stored answer.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use test_support::session::send;
use test_support::{App, Upstream, post, refresh_form};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_oauth_refresh::{EventKind, RequestBody, SenderConstrained};

/// Adds a proof to a request.
type Proof = fn(&mut Request<Full<Bytes>>, u32);

const PROOFS: [(&str, Proof); 3] = [
    ("DPoP", |request, number| {
        let proof = format!("e30.e30.{number}").parse().unwrap();
        request.headers_mut().insert("dpop", proof);
    }),
    ("attestation", |request, number| {
        let proof = format!("e30.e30.{number}").parse().unwrap();
        request
            .headers_mut()
            .insert("oauth-client-attestation", proof);
    }),
    ("mutual TLS", |request, _| {
        request.extensions_mut().insert(SenderConstrained);
    }),
];

#[tokio::test]
async fn a_request_with_a_proof_converges() {
    for (name, prove) in PROOFS {
        let app = App::new();
        let refresh = async |token: &str, number: u32| {
            let mut request = post("/token", &refresh_form("app", token));
            prove(&mut request, number);
            app.send(request).await.unwrap()
        };
        let token = app.log_in("app").await;
        let lost = refresh(&token, 1).await.token();
        app.clock.advance(Duration::from_secs(30));
        assert_eq!(refresh(&token, 2).await.token(), lost, "{name}");
        assert_eq!(
            app.upstream.refreshes(),
            2,
            "{name}: the inner service checks the proof"
        );
        // Without a proof, there is no stored answer either.
        assert_eq!(app.refresh(&token).await.token(), lost, "{name}");
        assert_eq!(app.upstream.refreshes(), 3, "{name}");
        assert_eq!(app.upstream.reuses(), 0, "{name}");
        assert_eq!(
            app.events(),
            [
                EventKind::Issued,
                EventKind::Rotated,
                EventKind::Converged,
                EventKind::Converged
            ],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_request_with_a_proof_does_not_get_the_answer_to_one_without() {
    for (name, prove) in PROOFS {
        let app = App::new();
        let token = app.log_in("app").await;
        app.refresh(&token).await.token();
        let mut request = post("/token", &refresh_form("app", &token));
        prove(&mut request, 1);
        app.send(request).await.unwrap().token();
        assert_eq!(app.upstream.refreshes(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_nonce_of_the_inner_service_reaches_the_client() {
    let upstream = Upstream::new();
    let inner = service_fn({
        let upstream = upstream.clone();
        move |request: Request<RequestBody<Full<Bytes>>>| {
            let upstream = upstream.clone();
            async move {
                let (mut response, nonce) = match demanded(request.headers()) {
                    Some(status) => {
                        let error = r#"{"error":"use_dpop_nonce"}"#;
                        let response = Response::builder()
                            .status(status)
                            .header("content-type", "application/json")
                            .body(Full::from(error));
                        (response.unwrap(), "first")
                    }
                    None => (upstream.oneshot(request).await.unwrap(), "second"),
                };
                let headers = response.headers_mut();
                headers.insert("dpop-nonce", nonce.parse().unwrap());
                Ok::<_, Infallible>(response)
            }
        }
    });
    let app = App::new();
    let service = app.layer.layer(inner);
    let refresh = async |token: &str, proof: &'static str| {
        let mut request = post("/token", &refresh_form("app", token));
        request.headers_mut().insert("dpop", proof.parse().unwrap());
        send(&service, request).await
    };
    let log_in = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    let log_in = send(&service, post("/token", &log_in)).await;
    assert_eq!(log_in.headers["dpop-nonce"], "second");
    let token = log_in.token();
    for (proof, status) in [("without-400", 400), ("without-401", 401)] {
        let demanded = refresh(&token, proof).await;
        assert_eq!(demanded.error(), (status, "use_dpop_nonce".into()));
        assert_eq!(demanded.headers["dpop-nonce"], "first");
    }
    let granted = refresh(&token, "with-nonce").await;
    assert_eq!(granted.headers["dpop-nonce"], "second");
    assert_ne!(granted.token(), token);
    assert_eq!(upstream.refreshes(), 1);
}

/// Returns the status with which the inner service demands a nonce in the proof.
fn demanded(headers: &HeaderMap) -> Option<u16> {
    let proof = headers.get("dpop")?.to_str().unwrap();
    proof
        .strip_prefix("without-")
        .map(|status| status.parse().unwrap())
}

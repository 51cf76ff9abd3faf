//! The place of the layer in an axum app decides which requests it sees, and `check` tests that.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post as on_post};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use test_support::session::infallible;
use test_support::{App, Upstream, post, refresh_form};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_oauth_refresh::{CheckError, MemoryStore, ProbeOutcome, RefreshLayer};

type Layer = RefreshLayer<MemoryStore>;

fn layer() -> Layer {
    let builder = RefreshLayer::builder(MemoryStore::new()).token_path("/oauth/token");
    builder
        .revocation_path("/oauth/revoke")
        .introspection_path("/oauth/introspect")
        .build()
        .unwrap()
}

/// Returns the OAuth endpoints of an app without revocation and introspection, with or without
/// routes for them.
fn oauth(upstream: &Upstream, with_routes: bool) -> Router {
    let at_its_root = ServiceBuilder::new().map_request(|mut request: Request<Body>| {
        *request.uri_mut() = "/token".parse().unwrap();
        request
    });
    let router = Router::new().route_service(
        "/oauth/token",
        at_its_root.service(infallible::<Body>(upstream)),
    );
    if !with_routes {
        return router;
    }
    router
        .route("/oauth/revoke", on_post(|| async { StatusCode::NOT_FOUND }))
        .route(
            "/oauth/introspect",
            on_post(|| async { StatusCode::NOT_FOUND }),
        )
}

fn pages() -> Router {
    Router::new().route("/", get(|| async { "the start page" }))
}

async fn spa() -> &'static str {
    "<html>"
}

type Compose = fn(Router, Layer) -> Router;

/// Ways to compose an app, with the prefix of its OAuth endpoints.
const COMPOSITIONS: [(&str, &str, Compose); 12] = [
    ("alone", "", |oauth, layer| oauth.layer(layer)),
    ("with a fallback before", "", |oauth, layer| {
        oauth.fallback(spa).layer(layer)
    }),
    ("with a fallback after", "", |oauth, layer| {
        oauth.layer(layer).fallback(spa)
    }),
    ("as a layer of routes", "", |oauth, layer| {
        oauth.route_layer(layer)
    }),
    (
        "as a layer of routes, with a fallback",
        "",
        |oauth, layer| oauth.fallback(spa).route_layer(layer),
    ),
    ("around merged routers", "", |oauth, layer| {
        pages().merge(oauth).layer(layer)
    }),
    ("around a nested router", "", |oauth, layer| {
        let endpoints = Router::new().nest("/x", pages());
        endpoints.merge(oauth).layer(layer)
    }),
    ("merged into others", "", |oauth, layer| {
        pages().merge(oauth.layer(layer))
    }),
    ("merged into others with a fallback", "", |oauth, layer| {
        pages().fallback(spa).merge(oauth.layer(layer))
    }),
    ("others are merged", "", |oauth, layer| {
        oauth.layer(layer).merge(pages())
    }),
    ("nested", "/auth", |oauth, layer| {
        pages().nest("/auth", oauth.layer(layer))
    }),
    ("nested, as a layer of routes", "/auth", |oauth, layer| {
        pages()
            .fallback(spa)
            .nest("/auth", oauth.route_layer(layer))
    }),
];

/// Logs in and revokes the token. Returns the status of the revocation, and whether the token is
/// still accepted.
async fn revoke(app: &Router, prefix: &str) -> (u16, bool) {
    let send = async |path: &str, form: &[(&str, &str)]| {
        let request = post(&format!("{prefix}/oauth/{path}"), form).map(Body::new);
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default(),
        )
    };
    let (_, tokens) = send(
        "token",
        &[
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ],
    )
    .await;
    let token = tokens["refresh_token"].as_str().unwrap();
    let (status, _) = send("revoke", &[("token", token), ("client_id", "app")]).await;
    (
        status,
        send("token", &refresh_form("app", token)).await.0 == 200,
    )
}

async fn check(layer: &Layer, app: &Router, prefix: &str) -> Vec<&'static str> {
    match layer.check_nested(prefix, app.clone(), Body::empty).await {
        Ok(()) => Vec::new(),
        Err(CheckError { unguarded, .. }) => unguarded
            .iter()
            .map(|unguarded| unguarded.setting)
            .collect(),
    }
}

#[tokio::test]
async fn with_a_route_at_each_path_the_layer_sees_every_request() {
    for (name, prefix, compose) in COMPOSITIONS {
        let layer = layer();
        let app = compose(oauth(&Upstream::new(), true), layer.clone());
        assert_eq!(check(&layer, &app, prefix).await, [""; 0], "{name}");
        assert_eq!(
            revoke(&app, prefix).await,
            (200, false),
            "{name}: a revocation ends the grant"
        );
    }
}

#[tokio::test]
async fn without_a_route_a_revocation_may_miss_the_layer_and_check_reports_it() {
    let mut outcomes = Vec::new();
    for (name, prefix, compose) in COMPOSITIONS {
        let layer = layer();
        let app = compose(oauth(&Upstream::new(), false), layer.clone());
        let (status, good) = revoke(&app, prefix).await;
        let expected: &[&str] = if good {
            &["revocation_path", "introspection_path"]
        } else {
            &[]
        };
        assert_eq!(
            check(&layer, &app, prefix).await,
            expected,
            "{name}: the revocation got {status}"
        );
        outcomes.push((name, status, good));
    }
    // In these compositions the revocation request misses the layer but gets 200, so the client
    // believes that it has logged out.
    for name in [
        "with a fallback after",
        "as a layer of routes, with a fallback",
        "merged into others with a fallback",
    ] {
        assert!(
            outcomes.contains(&(name, 200, true)),
            "{name}: {outcomes:?}"
        );
    }
    assert!(outcomes.contains(&("alone", 200, false)), "{outcomes:?}");
}

#[tokio::test]
async fn check_reports_a_misplaced_layer() {
    let upstream = Upstream::new();
    let typo = RefreshLayer::builder(MemoryStore::new())
        .token_path("/oauth/tokens")
        .revocation_path("/oauth/revoke");
    let typo = typo.build().unwrap();
    let elsewhere = layer();
    let rewriting = ServiceBuilder::new().map_request(|mut request: Request<Body>| {
        *request.uri_mut() = "/oauth/token".parse().unwrap();
        request
    });
    let unauthorized = axum::middleware::from_fn(
        async |_: axum::extract::Request, _: axum::middleware::Next| StatusCode::UNAUTHORIZED,
    );
    let all = ["token_path", "revocation_path", "introspection_path"];
    let status = |status: u16| ProbeOutcome::Status(StatusCode::from_u16(status).unwrap());
    let own = layer();
    let rows: [(&str, &Layer, Router, &[&str], ProbeOutcome); 6] = [
        // The strict upstream refuses a form without a grant type.
        (
            "no layer",
            &own,
            oauth(&upstream, false),
            &all[..1],
            status(400),
        ),
        (
            "another instance of the layer",
            &own,
            oauth(&upstream, true).layer(elsewhere),
            &all[..1],
            status(400),
        ),
        (
            "a misspelled path",
            &typo,
            oauth(&upstream, true).route_layer(typo.clone()),
            &all[..1],
            status(404),
        ),
        (
            "nested with the outer path",
            &own,
            Router::new().nest("/oauth", oauth(&upstream, true).layer(own.clone())),
            { &all },
            status(404),
        ),
        (
            "authentication outside",
            &own,
            oauth(&upstream, true)
                .layer(own.clone())
                .layer(unauthorized),
            { &all },
            status(401),
        ),
        (
            "a rewritten path",
            &own,
            Router::new()
                .fallback_service(rewriting.service(oauth(&upstream, true).layer(own.clone()))),
            { &all[1..2] },
            ProbeOutcome::Endpoint("token_path"),
        ),
    ];
    for (name, layer, app, settings, found) in rows {
        let error = layer.check(app, Body::empty).await.expect_err(name);
        let first = &error.unguarded[0];
        assert_eq!(first.outcome, found, "{name}: {error}");
        let reported: Vec<_> = error
            .unguarded
            .iter()
            .map(|unguarded| unguarded.setting)
            .collect();
        assert!(reported.starts_with(settings), "{name}: {error}");
        assert!(error.to_string().contains(&first.path), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_probe_ends_at_the_layer() {
    let app = App::new();
    app.layer
        .check(app.service.clone(), Full::<Bytes>::default)
        .await
        .unwrap();
    app.layer
        .clone()
        .check(&mut app.service.clone(), Full::<Bytes>::default)
        .await
        .expect("a clone checks the same layer");
    assert!(app.upstream.seen().is_empty());
    assert!(app.store.calls().is_empty());
    assert_eq!(app.events(), []);
    // A request that is not a probe still reaches the inner service.
    let empty = post("/token", &[]);
    assert_eq!(
        app.send(empty).await.unwrap().error(),
        (400, "unsupported_grant_type".into())
    );
}

#[tokio::test]
async fn a_probe_that_misses_the_layer_is_an_empty_form() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let app = service_fn(move |request: Request<Full<Bytes>>| {
        let sink = Arc::clone(&sink);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap();
            sink.lock()
                .unwrap()
                .push((head.method, head.uri.to_string(), head.headers, body));
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let error = layer().check(app, Full::default).await.unwrap_err();
    assert_eq!(error.unguarded.len(), 3);
    for (method, path, headers, body) in seen.lock().unwrap().drain(..) {
        assert!(
            method == "POST" && path.starts_with("/oauth/"),
            "{method} {path}"
        );
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
        assert!(body.to_bytes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_fails_or_hangs_is_reported() {
    let failing = service_fn(async |_: Request<Body>| {
        Err::<Response<Body>, BoxError>("the database is unavailable".into())
    });
    let error = layer().check(failing, Body::empty).await.unwrap_err();
    assert_eq!(
        error.unguarded[2].outcome,
        ProbeOutcome::Failed("the database is unavailable".into())
    );
    let hanging = service_fn(
        async |_: Request<Body>| -> Result<Response<Body>, Infallible> {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            unreachable!()
        },
    );
    let error = layer().check(hanging, Body::empty).await.unwrap_err();
    assert_eq!(error.unguarded[0].outcome, ProbeOutcome::TimedOut);
}

#[tokio::test]
async fn a_layer_around_any_service_is_checked() {
    let layer = layer();
    let inner = service_fn(async |_: Request<_>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    layer
        .check(layer.layer(inner), Full::<Bytes>::default)
        .await
        .unwrap();
}

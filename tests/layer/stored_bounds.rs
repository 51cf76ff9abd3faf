//! The data that one request of a client can make the store hold is bounded.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::requests::{basic, form, full, send};
use test_support::{Act, App, Call, post};
use tower_oauth_refresh::store::Change;
use tower_oauth_refresh::{ClientId, EventKind};

const GRANTS: [&str; 3] = [
    "authorization_code",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];

/// Returns this many different resources, with this many bytes in total.
fn resources(count: usize, bytes: usize) -> Vec<String> {
    let mut left = bytes;
    (0..count)
        .map(|n| {
            let length = left / (count - n);
            left -= length;
            let head = format!("urn:x:{n}:");
            format!("{head}{}", "r".repeat(length - head.len()))
        })
        .collect()
}

/// Returns a request with these parameters in addition to those of the client.
fn request<'a>(
    grant_type: &'a str,
    token: &'a str,
    more: &[(&'a str, &'a str)],
) -> Request<Full<Bytes>> {
    let mut form = vec![("grant_type", grant_type), ("client_id", "app")];
    form.push(if grant_type == "refresh_token" {
        ("refresh_token", token)
    } else {
        ("code", "c")
    });
    post("/token", &[&form[..], more].concat())
}

#[tokio::test]
async fn requests_too_large_to_store_are_rejected_and_consume_nothing() {
    let long_scope = format!("a {}", "s".repeat(4095));
    let rows: Vec<(&str, &str, Vec<(&str, String)>)> = vec![
        ("17 resources", "invalid_target", named(resources(17, 400))),
        (
            "resources of 4097 bytes",
            "invalid_target",
            named(resources(16, 4097)),
        ),
        (
            "one resource of 4097 bytes",
            "invalid_target",
            named(resources(1, 4097)),
        ),
        (
            "64 KB of resources",
            "invalid_target",
            named(resources(200, 60_000)),
        ),
        (
            "17 resources among repetitions",
            "invalid_target",
            named([resources(17, 400), resources(17, 400)].concat()),
        ),
        (
            "a scope of 4097 bytes",
            "invalid_scope",
            vec![("scope", long_scope)],
        ),
        (
            "a scope of 60 KB",
            "invalid_scope",
            vec![("scope", "s ".repeat(30_000) + "s")],
        ),
    ];
    for (name, error, more) in rows {
        let more: Vec<_> = more
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        for grant_type in GRANTS.into_iter().chain(["refresh_token"]) {
            let app = App::new();
            let token = app.log_in("app").await;
            drop(app.store.calls());
            let answer = send(&app, request(grant_type, &token, &more)).await;
            answer.assert_refused(&format!("{name}, {grant_type}"), 400, error, false);
            assert!(
                app.store.calls().is_empty() && app.upstream.seen().len() == 1,
                "{name}, {grant_type}"
            );
            app.refresh(&token).await.token();
        }
    }
}

fn named(resources: Vec<String>) -> Vec<(&'static str, String)> {
    resources
        .into_iter()
        .map(|resource| ("resource", resource))
        .collect()
}

#[tokio::test]
async fn a_client_id_of_513_bytes_is_rejected_everywhere() {
    for (length, status) in [(512, 200), (513, 401)] {
        let id = "a".repeat(length);
        assert_eq!(ClientId::try_from(id.as_str()).is_ok(), status == 200);
        let subject = test_support::requests::assertion(&format!(r#"{{"sub":"{id}"}}"#));
        let escaped = id.replace('a', "%61");
        let requests = [
            (
                "form",
                form("/token").body(full(format!(
                    "grant_type=authorization_code&code=c&client_id={id}"
                ))),
                false,
            ),
            (
                "escaped",
                form("/token").body(full(format!(
                    "grant_type=authorization_code&client_id={escaped}"
                ))),
                false,
            ),
            (
                "assertion",
                form("/token").body(full(format!(
                    "grant_type=client_credentials&client_assertion={subject}"
                ))),
                false,
            ),
            (
                "Basic",
                form("/token")
                    .header("authorization", basic(format!("{id}:secret of {id}")))
                    .body(full("grant_type=authorization_code&code=c")),
                true,
            ),
        ];
        for (name, request, challenge) in requests {
            let app = App::new();
            app.upstream.then(Act::Answer(
                200,
                "application/json",
                r#"{"access_token":"a","refresh_token":"up"}"#,
            ));
            let answer = send(&app, request.unwrap()).await;
            if status == 200 {
                answer.assert_ok(name);
            } else {
                answer.assert_refused(name, 401, "invalid_client", challenge);
                assert!(
                    app.upstream.seen().is_empty() && app.store.calls().is_empty(),
                    "{name}"
                );
            }
        }
    }
}

/// Returns the bytes that were written since the last call, for each entry with its sidecars.
fn written(app: &App) -> Vec<usize> {
    let written = app.store.calls().into_iter().filter_map(|call| match call {
        Call::Swap {
            change: Change::Put { entry, .. },
            sidecars,
            ..
        } => {
            let sidecars = sidecars.iter().map(|sidecar| sidecar.value.len());
            Some(entry.value.len() + sidecars.sum::<usize>())
        }
        _ => None,
    });
    written.collect()
}

#[tokio::test]
async fn the_size_of_stored_entries_is_bounded() {
    let (resources, scope) = (resources(16, 4096), "s".repeat(4096));
    let client = "c".repeat(512);
    let mut largest = (0, 0);
    for grant_type in ["password", "client_credentials"] {
        let app = App::with(|builder| {
            builder
                .reference_access_tokens(true)
                .allowed_resources(resources.clone())
        });
        let mut form = vec![
            ("grant_type", grant_type),
            ("client_id", client.as_str()),
            ("scope", scope.as_str()),
        ];
        // Duplicates are not stored.
        for resource in resources.iter().chain(&resources).chain(&resources) {
            form.push(("resource", resource));
        }
        app.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"an upstream token","token_type":"Bearer","expires_in":3600,"refresh_token":"up"}"#,
        ));
        let answer = app.post("/token", &form).await;
        let mut token = answer.token();
        largest.0 = largest.0.max(written(&app).into_iter().max().unwrap());
        for _ in 0..20 {
            let mut refresh = form.clone();
            refresh[0] = ("grant_type", "refresh_token");
            refresh.push(("refresh_token", &token));
            app.upstream.then(Act::Answer(
                200,
                "application/json",
                r#"{"access_token":"an upstream token","token_type":"Bearer","expires_in":3600,"refresh_token":"up"}"#,
            ));
            let answer = app.post("/token", &refresh).await;
            token = answer.token();
            let written = written(&app);
            assert_eq!(
                written.len(),
                2,
                "the grant with its replay, and the access token"
            );
            largest.1 = largest.1.max(written.iter().sum());
        }
    }
    println!(
        "{} bytes for the grant, {} bytes for each refresh",
        largest.0, largest.1
    );
    assert!(largest.0 <= 9 << 10, "{} bytes for a grant", largest.0);
    assert!(largest.1 <= 18 << 10, "{} bytes for a refresh", largest.1);
}

#[tokio::test]
async fn a_too_long_scope_in_a_response_counts_as_unknown() {
    let long: &'static str =
        Box::leak(format!(r#"{{"scope":"a {}"}}"#, "s".repeat(5000)).into_boxed_str());
    for foreign in [false, true] {
        let (app, before) = test_support::foreign::adopting().await;
        let settings = |builder: tower_oauth_refresh::RefreshLayerBuilder<_>| {
            let until = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
            builder
                .reference_access_tokens(true)
                .introspection_path("/introspect")
                .adopt_until(until)
        };
        let app = App::over(
            app.clock.clone(),
            app.store.clone(),
            app.upstream.clone(),
            settings,
        );
        app.upstream.then(Act::With(long));
        let answer = if foreign {
            app.refresh(&before).await
        } else {
            // The requested scope does not apply either, because the response named another one.
            app.post(
                "/token",
                &[
                    ("grant_type", "password"),
                    ("client_id", "app"),
                    ("scope", "admin"),
                ],
            )
            .await
        };
        assert!(
            written(&app).iter().all(|bytes| *bytes < 9 << 10),
            "adoption: {foreign}"
        );
        for token in [answer.token(), answer.get("access_token").unwrap()] {
            let introspection = app.post("/introspect", &[("token", &token)]).await.json();
            assert_eq!(
                (&introspection["active"], introspection.get("scope")),
                (&true.into(), None),
                "adoption: {foreign}: {introspection}"
            );
        }
        app.upstream.then(Act::With(long));
        let answer = app.refresh(&answer.token()).await;
        let introspection = app
            .post(
                "/introspect",
                &[("token", &answer.get("access_token").unwrap())],
            )
            .await
            .json();
        assert_eq!(
            (&introspection["active"], introspection.get("scope")),
            (&true.into(), None),
            "adoption: {foreign}: {introspection}"
        );
        assert!(!app.events().contains(&EventKind::UpstreamUnreadable));
    }
}

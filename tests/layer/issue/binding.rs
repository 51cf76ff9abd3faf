//! What a grant is bound to: its client, its scope and its resources.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_grant_is_bound_to_its_client_for_every_authentication_method() {
    let jwt = assertion(r#"{"sub":"app"}"#);
    let body = |rest: &str| Full::<Bytes>::from(format!("grant_type=password{rest}"));
    let mut extended = form("/token").body(body("")).unwrap();
    extended
        .extensions_mut()
        .insert(ClientId::try_from("app").unwrap());
    let rows = [
        ("form", form("/token").body(body("&client_id=app")).unwrap()),
        (
            "Basic",
            form("/token")
                .header("authorization", basic("app:"))
                .body(body(""))
                .unwrap(),
        ),
        (
            "assertion",
            form("/token")
                .body(body(&format!("&client_assertion={jwt}")))
                .unwrap(),
        ),
        ("extension", extended),
    ];
    for (name, request) in rows {
        let app = App::new();
        let token = send(&app, request).await.token(name);
        assert_eq!(
            app.refresh_as("other", &token).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        app.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_without_a_client_is_withheld() {
    let rows = [
        (
            "no client",
            form("/token")
                .body("grant_type=password&username=u&password=p".into())
                .unwrap(),
        ),
        (
            "an empty client",
            form("/token")
                .body("grant_type=password&client_id=".into())
                .unwrap(),
        ),
        (
            "an unreadable one",
            form("/token")
                .header("authorization", "Basic ?")
                .body("grant_type=password".into())
                .unwrap(),
        ),
        (
            "another scheme",
            form("/token")
                .header("authorization", "Bearer x")
                .body("grant_type=password".into())
                .unwrap(),
        ),
    ];
    for (name, request) in rows {
        let app = App::new();
        app.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"a", "refresh_expires_in":9, "refresh_token":"up", "expires_in":60}"#,
        ));
        let request: Request<Full<Bytes>> = request;
        let answer = send(&app, request).await;
        assert_eq!(
            answer.body, r#"{"access_token":"a", "expires_in":60}"#,
            "{name}"
        );
        assert_eq!(
            answer.headers()["content-length"],
            answer.body.len().to_string(),
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Unbound], "{name}");
        assert!(app.store.calls().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_has_the_granted_scope() {
    const CODE: &str = "authorization_code";
    const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
    let rows = [
        (
            "that of the response",
            CODE,
            Some("read"),
            r#"{"scope":"read write"}"#,
            "read write",
            true,
        ),
        (
            "not more than in the response",
            CODE,
            Some("read write admin"),
            r#"{"scope":"read write"}"#,
            "admin",
            false,
        ),
        (
            "the requested scope if the response has none",
            "password",
            Some("read"),
            r#"{"scope":null}"#,
            "read",
            true,
        ),
        (
            "not more than was requested",
            "password",
            Some("read"),
            r#"{"scope":null}"#,
            "write",
            false,
        ),
        (
            "an empty one limits nothing",
            "password",
            Some("read"),
            r#"{"scope":""}"#,
            "write",
            true,
        ),
        (
            "nor does it after a code",
            CODE,
            None,
            r#"{"scope":""}"#,
            "whatever",
            true,
        ),
        (
            "unknown if it is in neither",
            "password",
            None,
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
        (
            "unknown if it is no string",
            "password",
            None,
            r#"{"scope":["read"]}"#,
            "whatever",
            true,
        ),
        (
            "unknown if a code is exchanged with one",
            CODE,
            Some("read"),
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
        (
            "unknown if a device asks for one",
            DEVICE,
            Some("read"),
            r#"{"scope":null}"#,
            "whatever",
            true,
        ),
    ];
    for (name, grant_type, requested, members, asked, served) in rows {
        let app = App::new();
        app.upstream.then(Act::With(members));
        let mut form = vec![("grant_type", grant_type), ("client_id", "app")];
        form.extend(requested.map(|scope| ("scope", scope)));
        let token = send(&app, post("/token", &form)).await.token(name);
        let answer = app
            .post(
                "/token",
                &[&refresh_form("app", &token)[..], &[("scope", asked)]].concat(),
            )
            .await;
        let expected = if served {
            (200, String::new())
        } else {
            (400, "invalid_scope".into())
        };
        assert_eq!(answer.error(), expected, "{name}");
        if served {
            // An access token with a narrower scope does not limit the next one.
            app.refresh(&answer.token()).await.token();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_has_the_resources_of_its_log_in() {
    const A: &str = "https://a.example/";
    const B: &str = "urn:b";
    let rows: [(&str, &[&str], &[&str], bool); 6] = [
        ("one of one", &[A], &[A], true),
        ("one of two", &[A, B], &[B], true),
        ("both in another order", &[A, B], &[B, A], true),
        ("none", &[A], &[], true),
        ("another one", &[A], &[B], false),
        ("any if none was named", &[], &[A, B], true),
    ];
    for (name, granted, asked, served) in rows {
        let app = App::new();
        let resources = |names: &'static [&'static str]| {
            names
                .iter()
                .map(|name| ("resource", *name))
                .collect::<Vec<_>>()
        };
        let form = [
            ("grant_type", "password"),
            ("username", "u"),
            ("password", "p"),
            ("client_id", "app"),
        ];
        let token = send(
            &app,
            post("/token", &[&form[..], &resources(granted)].concat()),
        )
        .await
        .token(name);
        let answer = app
            .post(
                "/token",
                &[&refresh_form("app", &token)[..], &resources(asked)].concat(),
            )
            .await;
        let expected = if served {
            (200, String::new())
        } else {
            (400, "invalid_target".into())
        };
        assert_eq!(answer.error(), expected, "{name}");
    }
}

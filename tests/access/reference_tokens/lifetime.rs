//! How long a reference access token is valid.

use super::*;

#[tokio::test]
async fn an_access_token_and_its_record_live_as_long_as_expires_in() {
    let rows: [(&str, &'static str, Duration); 5] = [
        ("as always", r#"{"expires_in":3600}"#, HOUR),
        ("a minute", r#"{"expires_in":60}"#, HOUR / 60),
        ("as text", r#"{"expires_in":"60"}"#, HOUR / 60),
        ("omitted", r#"{"expires_in":null}"#, HOUR),
        ("nonsense is said", r#"{"expires_in":"soon"}"#, HOUR),
    ];
    for (name, members, lifetime) in rows {
        let app = referencing();
        let guarded = Guarded::new(&app);
        app.upstream.then(Act::With(members));
        app.store.writes();
        let token = access_token(&granted(name, &app, post("/token", &LOG_IN)).await);
        let ttls = app
            .store
            .writes()
            .into_iter()
            .filter_map(|(_, call)| match call {
                Call::Swap {
                    change:
                        Change::Put {
                            ttl: Ttl::After(ttl),
                            ..
                        },
                    ..
                } => Some(ttl),
                _ => None,
            });
        let ttls = ttls.collect::<Vec<_>>();
        assert!(
            ttls.len() == 2 && ttls.contains(&lifetime),
            "{name}: {ttls:?}"
        );
        app.clock.advance(lifetime - Duration::from_millis(1));
        assert_eq!(guarded.status(&token).await, 200, "{name}");
        app.clock.advance(Duration::from_millis(1));
        assert_eq!(
            guarded.status(&token).await,
            401,
            "{name}: it is stored, and has expired"
        );
        assert_eq!(
            Guarded::new(&app).status(&token).await,
            401,
            "{name}: it is not stored"
        );
    }
}

#[tokio::test]
async fn a_configured_lifetime_is_bounded_by_that_of_the_upstream_token() {
    const MINUTE: Duration = Duration::from_secs(60);
    let rows: [(&str, &'static str, serde_json::Value, Duration); 5] = [
        ("longer", r#"{"expires_in":3600}"#, 60.into(), MINUTE),
        (
            "longer, as text",
            r#"{"expires_in":"3600"}"#,
            "60".into(),
            MINUTE,
        ),
        ("shorter", r#"{"expires_in":30}"#, 30.into(), MINUTE / 2),
        ("omitted", r#"{"expires_in":null}"#, 60.into(), MINUTE),
        ("unreadable", r#"{"expires_in":[]}"#, 60.into(), MINUTE),
    ];
    for (name, members, stated, lifetime) in rows {
        let app = App::with(|builder| {
            builder
                .reference_access_tokens(true)
                .access_token_lifetime(MINUTE)
                .introspection_path("/introspect")
        });
        let guarded = Guarded::new(&app);
        let check = async |answer: &Answer| {
            assert_eq!(answer.json()["expires_in"], stated, "{name}");
            let token = access_token(answer);
            app.upstream
                .then(Act::Answer(200, "application/json", r#"{"active":true}"#));
            let form = [("token", &*token), ("client_id", "app")];
            let introspected = app.post("/introspect", &form).await.json();
            let time = |member: &str| introspected[member].as_u64().unwrap();
            assert_eq!(time("exp") - time("iat"), lifetime.as_secs(), "{name}");
            app.clock.advance(lifetime - Duration::from_millis(1));
            assert_eq!(guarded.status(&token).await, 200, "{name}");
            app.clock.advance(Duration::from_millis(1));
            assert_eq!(guarded.status(&token).await, 401, "{name}");
        };
        app.upstream.then(Act::With(members));
        let first = granted(name, &app, post("/token", &LOG_IN)).await;
        check(&first).await;
        app.upstream.then(Act::With(members));
        check(&granted(name, &app, refresh(&first.token())).await).await;
    }
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .access_token_lifetime(MINUTE)
    });
    let own = [("grant_type", "client_credentials"), ("client_id", "m")];
    let answer = granted("client credentials", &app, post("/token", &own)).await;
    assert_eq!(answer.json()["expires_in"], 60);
    let until = app.log_in("app").await;
    let first = app.refresh(&until).await;
    app.clock.advance(Duration::from_secs(20));
    let again = app.refresh(&until).await;
    assert_eq!(
        (&first.json()["expires_in"], &again.json()["expires_in"]),
        (&60.into(), &40.into()),
        "a replay states the rest"
    );
}

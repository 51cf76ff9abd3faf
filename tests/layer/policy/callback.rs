//! The callback that returns the policy of a client.

use super::*;

#[tokio::test]
async fn each_client_has_its_own_policy() {
    let app = App::with(|builder| {
        builder.rotation_policy(|client| match client.client_id.as_str() {
            "confidential alexa" if client.authenticates => RotationPolicy::account_linking(),
            _ => EveryUse,
        })
    });
    let browser = app.log_in("app").await;
    assert_ne!(app.refresh(&browser).await.token(), browser);
    let alexa = app.log_in("confidential alexa").await;
    let mut form = refresh_form("confidential alexa", &alexa).to_vec();
    form.push(("client_secret", "secret of confidential alexa"));
    for _ in 0..3 {
        app.clock.advance(HOUR);
        assert_eq!(app.post("/token", &form).await.token(), alexa);
    }
}

#[tokio::test]
async fn the_policy_is_asked_with_what_the_request_carries() {
    let seen: Arc<Mutex<Vec<ClientInfo>>> = Arc::default();
    let app = App::with({
        let seen = Arc::clone(&seen);
        move |builder| {
            builder.rotation_policy(move |client| {
                seen.lock().unwrap().push(client.clone());
                Never
            })
        }
    });
    let token = app.log_in("app").await;
    assert!(seen.lock().unwrap().is_empty(), "a log-in has no policy");
    let assertion = assertion(r#"{"sub":"app"}"#);
    let with = |members: &[(&str, &str)]| {
        let mut form = refresh_form("app", &token).to_vec();
        form.extend_from_slice(members);
        post("/token", &form)
    };
    let headed = |name: &'static str, value: &str| {
        let mut request = with(&[]);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let mut named = with(&[]);
    let id = ClientId::try_from("app").unwrap();
    named.extensions_mut().insert(id);
    let mut marked = with(&[]);
    marked.extensions_mut().insert(SenderConstrained);
    let requests: [(&str, Request<Full<_>>, bool, bool); 8] = [
        ("public", with(&[]), false, false),
        ("secret", with(&[("client_secret", "s")]), true, false),
        (
            "basic",
            headed("authorization", &basic("app:s")),
            true,
            false,
        ),
        (
            "assertion",
            with(&[("client_assertion", &assertion)]),
            true,
            false,
        ),
        (
            "attestation",
            headed("oauth-client-attestation", "e30.e30.x"),
            true,
            false,
        ),
        ("named by an outer layer", named, true, false),
        ("DPoP", headed("dpop", "e30.e30.x"), false, true),
        ("marked by an outer layer", marked, false, true),
    ];
    for (name, request, authenticates, sender_constrained) in requests {
        assert_eq!(app.send(request).await.unwrap().token(), token, "{name}");
        let info = seen.lock().unwrap().pop().unwrap();
        assert_eq!(info.client_id.as_str(), "app", "{name}");
        assert_eq!(
            (info.authenticates, info.sender_constrained),
            (authenticates, sender_constrained),
            "{name}"
        );
        assert!(seen.lock().unwrap().is_empty(), "{name}: asked once");
    }
}

#[tokio::test]
async fn a_change_of_the_policy_applies_from_the_next_refresh() {
    let rotating = app(EveryUse);
    let keeping = another(&rotating, Never);
    let first = rotating.log_in("app").await;
    assert_eq!(keeping.refresh(&first).await.token(), first);
    rotating.clock.advance(5 * MINUTE);
    let second = rotating.refresh(&first).await.token();
    assert_ne!(second, first);
    // A client that cannot save its new token goes on with the old one, which is recovered.
    rotating.clock.advance(HOUR);
    let recovered = keeping.refresh(&first).await.token();
    assert_ne!(recovered, second);
    rotating.clock.advance(HOUR);
    assert_eq!(keeping.refresh(&recovered).await.token(), recovered);
    rotating.clock.advance(HOUR);
    let last = rotating.refresh(&recovered).await.token();
    assert_ne!(last, recovered);
    assert_eq!(rotating.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_panic_of_the_callback_fails_one_request_only() {
    let app = App::with(|builder| {
        let mut calls = 0;
        let calls = Mutex::new(move || {
            calls += 1;
            calls
        });
        builder.rotation_policy(move |_| {
            let call = calls.lock().unwrap()();
            // The lock is released before the panic.
            assert_ne!(call, 1, "the callback panics");
            Never
        })
    });
    let token = app.log_in("app").await;
    app.store.calls();
    let panicking = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(app.store.calls().len(), 0, "nothing was claimed");
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.refreshes(), 1);
}

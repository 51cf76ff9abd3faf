//! Required scopes: any of several, and scopes that cover others.

use test_support::access::{Guarded, LOG_IN, access_token, referencing};
use test_support::{Act, App, post};
use tower_oauth_refresh::ConfigError;

async fn issued(app: &App, members: &'static str) -> String {
    app.upstream.then(Act::With(members));
    access_token(&app.send(post("/token", &LOG_IN)).await.unwrap())
}

fn hierarchy(required: &str, granted: &str) -> bool {
    required
        .strip_prefix(granted)
        .is_some_and(|rest| rest.starts_with(':'))
}

/// Returns the scope in the challenge for a request without a token.
async fn requested(guarded: &Guarded) -> String {
    let (answer, _) = guarded.send(&[]).await;
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    let (_, scope) = challenge.split_once(r#"scope=""#).unwrap();
    scope.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn one_of_several_scopes_is_enough() {
    let app = referencing();
    let read = issued(&app, r#"{"scope":"read"}"#).await;
    let admin = issued(&app, r#"{"scope":"x admin"}"#).await;
    let both = issued(&app, r#"{"scope":"admin mail"}"#).await;
    let other = issued(&app, r#"{"scope":"reads READ rea"}"#).await;
    let unknown = issued(&app, r#"{"scope":null}"#).await;
    let any = Guarded::with(&app, |builder| builder.require_any_scope(["read", "admin"]));
    let and_mail = Guarded::of(any.layer.and_scope("mail").unwrap());
    let two_sets = Guarded::of(any.layer.and_any_scope(["write", "mail"]).unwrap());
    for (name, token, expected) in [
        ("read", &read, [200, 403, 403]),
        ("admin", &admin, [200, 403, 403]),
        ("admin and mail", &both, [200, 200, 200]),
        ("similar scopes", &other, [403, 403, 403]),
        ("no known scope", &unknown, [403, 403, 403]),
    ] {
        for (guarded, expected) in [&any, &and_mail, &two_sets].into_iter().zip(expected) {
            assert_eq!(guarded.status(token).await, expected, "{name}");
        }
    }
    assert_eq!(requested(&any).await, "read");
    assert_eq!(requested(&and_mail).await, "read mail");
    assert_eq!(requested(&two_sets).await, "read write");
    let answer = any.get(&other).await;
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains(r#"error="insufficient_scope""#)
            && challenge.ends_with(r#"scope="reads READ rea read""#),
        "{challenge}"
    );
    assert_eq!(
        any.layer.and_any_scope([""; 0]).unwrap_err(),
        ConfigError::NoScope
    );
}

#[tokio::test]
async fn a_scope_policy_decides_what_a_granted_scope_covers() {
    let app = referencing();
    let repo = issued(&app, r#"{"scope":"user repo"}"#).await;
    let reading = issued(&app, r#"{"scope":"repo:read"}"#).await;
    let writing = issued(&app, r#"{"scope":"repo:write repository"}"#).await;
    let with = |scopes: &[&str]| {
        Guarded::with(&app, |builder| {
            let builder = builder.scope_policy(hierarchy);
            scopes
                .iter()
                .fold(builder, |builder, scope| builder.require_scope(*scope))
        })
    };
    for (scopes, expected, asked) in [
        (&["repo:read"][..], [200, 200, 403], "repo:read"),
        (&["repo"], [200, 403, 403], "repo"),
        (
            &["repo:read", "repo:write"],
            [200, 403, 403],
            "repo:read repo:write",
        ),
        (&["repo:read", "repo"], [200, 403, 403], "repo"),
        (&["repo:read:one"], [200, 200, 403], "repo:read:one"),
    ] {
        let guarded = with(scopes);
        for (token, expected) in [&repo, &reading, &writing].into_iter().zip(expected) {
            assert_eq!(guarded.status(token).await, expected, "{scopes:?}");
        }
        assert_eq!(requested(&guarded).await, asked, "{scopes:?}");
        // The policy applies to the scopes that are required later, too.
        let more = Guarded::of(guarded.layer.and_scope("user:name").unwrap());
        assert_eq!(more.status(&repo).await, 200, "{scopes:?}");
        assert_eq!(more.status(&reading).await, 403, "{scopes:?}");
    }
}

#[tokio::test]
async fn a_challenge_names_what_the_token_has_and_what_is_missing() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| {
        let builder = builder.scope_policy(hierarchy);
        let builder = builder
            .require_scope("repo:read")
            .require_scope("repo:write");
        builder.require_any_scope(["mail", "admin"])
    });
    for (granted, asked) in [
        (r#"{"scope":""}"#, "repo:read repo:write mail"),
        (r#"{"scope":"user"}"#, "user repo:read repo:write mail"),
        (r#"{"scope":"repo"}"#, "repo mail"),
        (
            r#"{"scope":"repo:write admin"}"#,
            "repo:write admin repo:read",
        ),
        (r#"{"scope":"mail"}"#, "mail repo:read repo:write"),
    ] {
        let token = issued(&app, granted).await;
        // The second response comes from the cache of the layer.
        for _ in 0..2 {
            let answer = guarded.get(&token).await;
            assert_eq!(answer.status, 403, "{granted}");
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            let scope = format!(r#"scope="{asked}""#);
            assert!(challenge.ends_with(&scope), "{granted}: {challenge}");
        }
    }
}

/// A policy that is not reflexive cannot lock out the scope that is required.
#[tokio::test]
async fn a_scope_always_covers_itself() {
    let app = referencing();
    let read = issued(&app, r#"{"scope":"read"}"#).await;
    let guarded = Guarded::with(&app, |builder| {
        builder.require_scope("read").scope_policy(|_, _| false)
    });
    assert_eq!(guarded.status(&read).await, 200);
}

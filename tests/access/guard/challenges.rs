//! The response to a request that is rejected.

use super::*;

#[tokio::test]
async fn every_error_has_its_own_challenge() {
    let app = allowing();
    let good = issued(&app, r#"{"scope":"read"}"#, &[ONE]).await;
    let other = issued(&app, r#"{"scope":"read write"}"#, &[TWO]).await;
    let anywhere = issued(&app, r#"{"scope":"read write"}"#, &[]).await;
    let unknown = issued(&app, r#"{"scope":null}"#, &[ONE]).await;
    let full = Guarded::with(&app, |builder| {
        let builder = builder
            .require_scope("read")
            .require_scope("write")
            .resource(ONE);
        builder.realm(r#"a "realm" \"#).resource_metadata(METADATA)
    });
    let plain = Guarded::new(&app);
    let bearer = |token: &str| format!("Bearer {token}");
    let made_up = bearer(&made_up("at_"));
    let realm = r#"Bearer realm="a \"realm\" \\""#;
    let metadata = format!(r#", resource_metadata="{METADATA}""#);
    let invalid = r#", error="invalid_token", error_description="the access token is invalid, expired or revoked""#;
    let malformed = r#", error="invalid_request", error_description="the Authorization header is repeated or malformed""#;
    let scope = r#", error="insufficient_scope", error_description="the access token does not have the required scope", scope="read write""#;
    type Row<'a> = (&'a str, Vec<String>, u16, &'a str, String, String);
    let all = |middle: &str| format!("{realm}{middle}{metadata}");
    let short = |middle: &str| format!(r#"Bearer realm="oauth"{middle}"#);
    let rows: [Row<'_>; 11] = [
        (
            "nothing",
            vec![],
            401,
            "unauthorized",
            all(r#", scope="read write""#),
            short(""),
        ),
        (
            "another scheme",
            vec!["Basic YTpi".into()],
            401,
            "unauthorized",
            all(r#", scope="read write""#),
            short(""),
        ),
        (
            "not in the token format",
            vec![bearer("abc")],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "an upstream token",
            vec![bearer("at-0-0")],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "never issued",
            vec![made_up],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "no token",
            vec!["Bearer".into()],
            400,
            "invalid_request",
            all(malformed),
            short(malformed),
        ),
        (
            "twice",
            vec![bearer(&good), bearer(&good)],
            400,
            "invalid_request",
            all(malformed),
            short(malformed),
        ),
        (
            "for another resource",
            vec![bearer(&other)],
            401,
            "invalid_token",
            all(invalid),
            String::new(),
        ),
        (
            "for unknown resources",
            vec![bearer(&anywhere)],
            401,
            "invalid_token",
            all(invalid),
            String::new(),
        ),
        (
            "a scope is missing",
            vec![bearer(&good)],
            403,
            "insufficient_scope",
            all(scope),
            String::new(),
        ),
        (
            "no scope is known",
            vec![bearer(&unknown)],
            403,
            "insufficient_scope",
            all(scope),
            String::new(),
        ),
    ];
    for (name, values, status, error, of_full, of_plain) in rows {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        for time in 1..=2 {
            for (guarded, challenge) in [(&full, &of_full), (&plain, &of_plain)] {
                let (answer, cause) = guarded.send(&values).await;
                if challenge.is_empty() {
                    assert_eq!(answer.status, 200, "{name}: no scope is required");
                    continue;
                }
                assert_eq!(
                    answer.error(),
                    (status, error.into()),
                    "{name}, time {time}"
                );
                assert_eq!(
                    header(&answer, "www-authenticate"),
                    [challenge.as_str()],
                    "{name}, time {time}"
                );
                assert_eq!(
                    header(&answer, "content-type"),
                    ["application/json"],
                    "{name}"
                );
                assert_eq!(header(&answer, "cache-control"), ["no-store"], "{name}");
                assert_eq!(
                    header(&answer, "content-length"),
                    [answer.body.len().to_string()],
                    "{name}"
                );
                let cause = cause.unwrap();
                assert_eq!(
                    (cause.status().as_u16(), cause.code()),
                    (status, error),
                    "{name}"
                );
                assert_eq!(
                    answer.get("error_description"),
                    Some(cause.to_string()),
                    "{name}"
                );
                assert!(
                    cause.source().is_none() && !matches!(cause, AccessError::Store(_)),
                    "{name}"
                );
            }
        }
    }
    assert!(full.resource.seen().is_empty(), "no request got through");
}

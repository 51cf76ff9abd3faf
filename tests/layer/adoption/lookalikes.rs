//! Tokens that resemble one of the layer.

use super::*;

/// Returns refresh tokens of another server that look like the layer's own.
fn lookalikes() -> [(&'static str, String); 6] {
    let ours = made_up("rt_");
    let body = |len| {
        "AbCdEf0123456789-_"
            .chars()
            .cycle()
            .take(len)
            .collect::<String>()
    };
    [
        ("the length of a payload", format!("rt_{}", body(64))),
        ("the length of a token", format!("rt_{}", body(72))),
        (
            "one of the layer with a wrong checksum",
            format!("{}AAAAAAAA", &ours[..67]),
        ),
        (
            "one of the layer without its checksum",
            ours[..67].to_owned(),
        ),
        (
            "the checksum of another prefix",
            made_up("at_").replacen("at_", "rt_", 1),
        ),
        ("only the prefix", "rt_".to_owned()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_foreign_token_that_resembles_one_of_the_layer_is_adopted() {
    for (name, foreign) in lookalikes() {
        let (app, _) = adopting().await;
        let answer = r#"{"access_token":"a","token_type":"Bearer","expires_in":60,"refresh_token":"upstream-0-0"}"#;
        app.upstream
            .then(Act::Answer(200, "application/json", answer));
        let token = app.refresh(&foreign).await.token();
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("refresh_token"),
            Some(&*foreign),
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Adopted], "{name}");
        app.refresh(&token).await.token();
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("refresh_token"),
            Some("upstream-0-0"),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_layer_is_never_adopted() {
    let (app, _) = adopting().await;
    let answer = app.refresh(&made_up("rt_")).await;
    assert_eq!(
        answer.error(),
        (400, "invalid_grant".into()),
        "it has the checksum of one"
    );
    assert_eq!(
        (app.upstream.refreshes(), app.events()),
        (0, vec![EventKind::Unknown])
    );
}

#[tokio::test(start_paused = true)]
async fn without_adoption_a_lookalike_is_rejected_without_a_store_call() {
    let app = App::new();
    for (name, foreign) in lookalikes() {
        assert_eq!(
            app.refresh(&foreign).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        assert_eq!(
            (app.upstream.refreshes(), app.events()),
            (0, vec![EventKind::Unknown]),
            "{name}"
        );
    }
    assert!(app.store.calls().is_empty());
}

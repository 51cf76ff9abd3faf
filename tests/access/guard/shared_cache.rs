//! Layers that share a cache, with requirements of their own.

use super::*;

#[tokio::test]
async fn layers_with_additional_scopes_share_a_cache() {
    let app = referencing();
    let token = issued(&app, r#"{"scope":"read write"}"#, &[]).await;
    let read = Guarded::with(&app, |builder| builder.require_scope("read"));
    let write = Guarded::of(read.layer.and_scope("write").unwrap());
    let admin = Guarded::of(write.layer.and_scope("admin").unwrap());
    assert_eq!(read.status(&token).await, 200);
    app.store.calls();
    assert_eq!(
        (write.status(&token).await, admin.status(&token).await),
        (200, 403)
    );
    assert_eq!(app.store.calls(), []);
    let challenge = header(&admin.get(&token).await, "www-authenticate").remove(0);
    assert!(
        challenge.contains(r#"scope="read write admin""#),
        "{challenge}"
    );
    assert_eq!(
        read.layer.and_scope("a b").unwrap_err(),
        ConfigError::Scope("a b".into())
    );
}

#[tokio::test]
async fn layers_of_several_resources_share_a_cache() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources(["https://one"])
    });
    let token = issued(&app, r#"{"scope":"read"}"#, &["https://one"]).await;
    let one = Guarded::with(&app, |builder| {
        builder.resource("https://one").require_scope("read")
    });
    let two = Guarded::of(one.layer.with_resource("https://two").unwrap());
    let described = Guarded::of(
        two.layer
            .with_resource_metadata("https://two/meta")
            .unwrap(),
    );
    assert_eq!(one.status(&token).await, 200);
    app.store.calls();
    assert_eq!(
        (two.status(&token).await, described.status(&token).await),
        (401, 401)
    );
    assert_eq!(app.store.calls(), []);
    let challenges =
        [&one, &two, &described].map(async |guarded: &Guarded| guarded.send(&[]).await.0);
    let [one_says, two_says, described_says] = challenges;
    assert_eq!(
        header(&one_says.await, "www-authenticate"),
        header(&two_says.await, "www-authenticate")
    );
    let challenge = header(&described_says.await, "www-authenticate").remove(0);
    assert_eq!(
        challenge,
        r#"Bearer realm="oauth", scope="read", resource_metadata="https://two/meta""#
    );
    let uri = |setting: &'static str| ConfigError::Uri {
        setting,
        uri: "two".into(),
    };
    assert_eq!(one.layer.with_resource("two").unwrap_err(), uri("resource"));
    assert_eq!(
        one.layer.with_resource_metadata("two").unwrap_err(),
        uri("resource_metadata")
    );
}

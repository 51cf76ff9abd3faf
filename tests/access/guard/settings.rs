//! Invalid settings.

use super::*;

#[test]
fn invalid_settings_are_rejected() {
    type Builder = AccessLayerBuilder<MemoryStore>;
    let scope = |scope: &str| ConfigError::Scope(scope.into());
    let realm = |realm: &str| ConfigError::Realm(realm.into());
    let uri = |setting: &'static str, uri: &str| ConfigError::Uri {
        setting,
        uri: uri.into(),
    };
    let prefix = |prefix: &str| ConfigError::Prefix {
        setting: "access_token_prefix",
        prefix: prefix.into(),
    };
    let rows: [(&str, fn(Builder) -> Builder, ConfigError); 10] = [
        ("no scope", |b| b.require_scope(""), scope("")),
        (
            "two scopes in one",
            |b| b.require_scope("a b"),
            scope("a b"),
        ),
        (
            "a scope with a quote",
            |b| b.require_scope("a\""),
            scope("a\""),
        ),
        ("no realm", |b| b.realm(""), realm("")),
        (
            "a realm with a line end",
            |b| b.realm("a\r\nb"),
            realm("a\r\nb"),
        ),
        (
            "a realm that is not ASCII",
            |b| b.realm("r\u{e4}"),
            realm("r\u{e4}"),
        ),
        (
            "a resource without a scheme",
            |b| b.resource("/api"),
            uri("resource", "/api"),
        ),
        (
            "metadata with a fragment",
            |b| b.resource_metadata("https://a/#b"),
            uri("resource_metadata", "https://a/#b"),
        ),
        (
            "a prefix with a space",
            |b| b.access_token_prefix("a t"),
            prefix("a t"),
        ),
        (
            "a cache for weeks",
            |b| b.cache_ttl(Duration::from_secs(24 * 3600 + 1)),
            ConfigError::CacheTtl,
        ),
    ];
    for (name, set, error) in rows {
        assert_eq!(
            set(AccessLayer::builder(MemoryStore::new()))
                .build()
                .unwrap_err(),
            error,
            "{name}"
        );
    }
    assert!(
        AccessLayer::builder(MemoryStore::new())
            .cache_ttl(Duration::ZERO)
            .cache_size(0)
            .build()
            .is_ok()
    );
}

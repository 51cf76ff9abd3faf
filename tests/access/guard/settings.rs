//! Invalid settings.

use bytes::Bytes;
use http_body_util::Full;
use tower_oauth_refresh::{ClientCredentials, RefreshLayer};

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

#[test]
fn a_service_for_renewals_needs_one_refresh_layer_with_a_lifetime() {
    let renewing = |builder: AccessLayerBuilder<MemoryStore>| {
        let upstream = test_support::Upstream::new();
        builder.upstream_refresh::<_, Full<Bytes>, _>(upstream, ClientCredentials::public())
    };
    let alone = renewing(AccessLayer::builder(MemoryStore::new())).build();
    assert_eq!(alone.unwrap_err(), ConfigError::UpstreamRefreshWithoutLayer);

    let references = || RefreshLayer::builder(MemoryStore::new()).reference_access_tokens(true);
    let refresh = references().build().unwrap();
    let unlimited = renewing(refresh.access()).build();
    assert_eq!(
        unlimited.unwrap_err(),
        ConfigError::UpstreamRefreshWithoutLifetime
    );

    let lifetime = Duration::from_secs(3600);
    let refresh = references().access_token_lifetime(lifetime).build();
    let refresh = refresh.unwrap();
    // A layer that cannot be built changes nothing.
    let invalid = renewing(refresh.access().realm("")).build();
    assert_eq!(invalid.unwrap_err(), ConfigError::Realm(String::new()));
    assert!(renewing(refresh.access()).build().is_ok());
    assert!(refresh.access().build().is_ok());
    let second = renewing(refresh.access()).build();
    assert_eq!(second.unwrap_err(), ConfigError::UpstreamRefreshTwice);
}

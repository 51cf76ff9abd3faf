//! Settings that are rejected.

use bytes::Bytes;
use http_body_util::Full;
use test_support::Upstream;
use tower_oauth_refresh::ClientCredentials;

use super::*;

#[test]
fn an_invalid_path_is_rejected() {
    for path in [
        "",
        "token",
        "token/",
        "*",
        "/token?",
        "/token?a=b",
        "/token#a",
        "/to ken",
        "/token\n",
        "https://as.example/token",
    ] {
        let builder = || RefreshLayer::builder(MemoryStore::new());
        let error = |setting| ConfigError::Path {
            setting,
            path: path.to_owned(),
        };
        assert_eq!(
            builder().token_path(path).build().unwrap_err(),
            error("token_path"),
            "{path:?}"
        );
        assert_eq!(
            builder().revocation_path(path).build().unwrap_err(),
            error("revocation_path"),
            "{path:?}"
        );
        assert_eq!(
            builder().introspection_path(path).build().unwrap_err(),
            error("introspection_path"),
            "{path:?}"
        );
    }
}

#[test]
fn a_route_pattern_is_rejected() {
    for path in [
        "/{tenant}/token",
        "/t/{id",
        "/t}",
        "/*",
        "/{*rest}",
        "/oauth/*/token",
        "/:tenant/token",
    ] {
        for normalized in [false, true] {
            let builder = || {
                let builder = RefreshLayer::builder(MemoryStore::new());
                builder.match_normalized_paths(normalized)
            };
            let error = |setting| ConfigError::PathPattern {
                setting,
                path: path.to_owned(),
            };
            assert_eq!(
                builder().token_path(path).build().unwrap_err(),
                error("token_path"),
                "{path:?}"
            );
            assert_eq!(
                builder().revocation_path(path).build().unwrap_err(),
                error("revocation_path"),
                "{path:?}"
            );
            assert_eq!(
                builder().introspection_path(path).build().unwrap_err(),
                error("introspection_path"),
                "{path:?}"
            );
        }
    }
}

#[test]
fn invalid_settings_are_rejected() {
    let same_path = |settings, path: &str| ConfigError::SamePath {
        settings,
        path: path.to_owned(),
    };
    let same = |path| same_path(["token_path", "revocation_path"], path);
    let ambiguous = |setting, path: &str| ConfigError::AmbiguousPath {
        setting,
        path: path.to_owned(),
    };
    let prefix = |prefix: &str| ConfigError::Prefix {
        setting: "token_prefix",
        prefix: prefix.to_owned(),
    };
    let rows: [(&str, fn(Builder) -> Builder, ConfigError); 52] = [
        (
            "a prefix of access tokens with a space",
            |b| b.access_token_prefix("a t"),
            {
                ConfigError::Prefix {
                    setting: "access_token_prefix",
                    prefix: "a t".into(),
                }
            },
        ),
        (
            "one prefix for both",
            |b| b.token_prefix("x_").access_token_prefix("x_"),
            { ConfigError::SamePrefix("x_".into()) },
        ),
        (
            "the default of the other prefix",
            |b| b.token_prefix("at_"),
            ConfigError::SamePrefix("at_".into()),
        ),
        (
            "an id token that would be kept anyway",
            |b| b.keep_id_token(true),
            ConfigError::IdTokenWithoutReference,
        ),
        (
            "a revocation key without a service",
            |b| b.revocation_key([7; 32]),
            ConfigError::UpstreamRevocation,
        ),
        (
            "a service without a revocation key",
            |b| {
                let service = Upstream::new();
                b.upstream_revocation::<_, Full<Bytes>, _>(service, ClientCredentials::public())
            },
            ConfigError::UpstreamRevocation,
        ),
        (
            "introspection and revocation at one path",
            |b| b.introspection_path("/revoke"),
            same_path(["revocation_path", "introspection_path"], "/revoke"),
        ),
        (
            "one path for both",
            |b| b.token_path("/a").revocation_path("/a"),
            same("/a"),
        ),
        (
            "the default of the other one",
            |b| b.token_path("/revoke"),
            same("/revoke"),
        ),
        (
            "paths that a proxy considers equal",
            |b| b.revocation_path("//%74oken/").match_normalized_paths(true),
            same("/token"),
        ),
        (
            "paths that a proxy considers equal, with a format suffix",
            |b| b.revocation_path("/Token.x").match_normalized_paths(true),
            same("/token"),
        ),
        (
            "an ambiguous path",
            |b| b.token_path("/x/../t").match_normalized_paths(true),
            ambiguous("token_path", "/x/../t"),
        ),
        (
            "an exception without match_normalized_paths",
            |b| b.allow_ambiguous_paths("/api"),
            ConfigError::AllowedWithoutNormalized,
        ),
        (
            "an ambiguous exception",
            |b| {
                b.allow_ambiguous_paths("/a%2fb")
                    .match_normalized_paths(true)
            },
            ambiguous("allow_ambiguous_paths", "/a%2fb"),
        ),
        (
            "an exception that is not a path",
            |b| b.allow_ambiguous_paths("api").match_normalized_paths(true),
            {
                ConfigError::Path {
                    setting: "allow_ambiguous_paths",
                    path: "api".into(),
                }
            },
        ),
        (
            "an exception for an intercepted path",
            |b| {
                b.allow_ambiguous_paths("/Revoke/x")
                    .match_normalized_paths(true)
            },
            same_path(["revocation_path", "allow_ambiguous_paths"], "/revoke"),
        ),
        (
            "a prefix with a space",
            |b| b.token_prefix("rt "),
            prefix("rt "),
        ),
        (
            "a prefix with a plus",
            |b| b.token_prefix("rt+"),
            prefix("rt+"),
        ),
        (
            "a prefix with a percent sign",
            |b| b.token_prefix("rt%"),
            prefix("rt%"),
        ),
        (
            "a prefix with a slash",
            |b| b.token_prefix("rt/"),
            prefix("rt/"),
        ),
        (
            "a prefix that is not ASCII",
            |b| b.token_prefix("r\u{e4}_"),
            prefix("r\u{e4}_"),
        ),
        (
            "a prefix that is too long",
            |b| b.token_prefix("r".repeat(33)),
            prefix(&"r".repeat(33)),
        ),
        (
            "a zero idle lifetime",
            |b| b.idle_lifetime(Duration::ZERO),
            ConfigError::Duration("idle_lifetime"),
        ),
        (
            "an idle lifetime that rounds to zero",
            |b| b.idle_lifetime(MICROSECOND),
            { ConfigError::Duration("idle_lifetime") },
        ),
        (
            "an endless idle lifetime",
            |b| b.idle_lifetime(Duration::MAX),
            ConfigError::Duration("idle_lifetime"),
        ),
        (
            "an idle lifetime over a century",
            |b| b.idle_lifetime(CENTURY + MILLISECOND),
            { ConfigError::Duration("idle_lifetime") },
        ),
        (
            "a zero absolute lifetime",
            |b| b.absolute_lifetime(Duration::ZERO),
            ConfigError::Duration("absolute_lifetime"),
        ),
        (
            "an endless absolute lifetime",
            |b| b.absolute_lifetime(Duration::MAX),
            { ConfigError::Duration("absolute_lifetime") },
        ),
        (
            "a zero lifetime of access tokens",
            |b| {
                b.reference_access_tokens(true)
                    .access_token_lifetime(Duration::ZERO)
            },
            ConfigError::Duration("access_token_lifetime"),
        ),
        (
            "a lifetime of access tokens over a century",
            |b| {
                b.reference_access_tokens(true)
                    .access_token_lifetime(CENTURY + MILLISECOND)
            },
            ConfigError::Duration("access_token_lifetime"),
        ),
        (
            "a lifetime of the inner service's access tokens",
            |b| b.access_token_lifetime(HOUR),
            ConfigError::AccessTokenLifetimeWithoutReference,
        ),
        (
            "a zero time-out",
            |b| b.rotation_timeout(Duration::ZERO),
            ConfigError::Duration("rotation_timeout"),
        ),
        (
            "an endless time-out",
            |b| b.rotation_timeout(Duration::MAX),
            ConfigError::Duration("rotation_timeout"),
        ),
        (
            "a zero time-out of log-ins",
            |b| b.issue_timeout(Duration::ZERO),
            ConfigError::Duration("issue_timeout"),
        ),
        (
            "a log-in time-out of hours",
            |b| b.issue_timeout(HOUR + MILLISECOND),
            ConfigError::Timeout("issue_timeout"),
        ),
        (
            "a zero time-out of bodies",
            |b| b.request_body_timeout(Duration::ZERO),
            ConfigError::Duration("request_body_timeout"),
        ),
        (
            "a body time-out of hours",
            |b| b.request_body_timeout(HOUR * 2),
            ConfigError::Timeout("request_body_timeout"),
        ),
        (
            "a time-out over an hour",
            |b| b.rotation_timeout(HOUR + MILLISECOND),
            ConfigError::RotationTimeout,
        ),
        (
            "an endless retry window",
            |b| b.retry_window(Duration::MAX),
            ConfigError::Duration("retry_window"),
        ),
        (
            "a retry window that rounds to zero",
            |b| b.retry_window(MICROSECOND),
            { ConfigError::Duration("retry_window") },
        ),
        (
            "an endless recovery window",
            |b| b.recovery_window(Duration::MAX),
            ConfigError::Duration("recovery_window"),
        ),
        (
            "a recovery window that rounds to zero",
            |b| b.retry_window(Duration::ZERO).recovery_window(MICROSECOND),
            { ConfigError::Duration("recovery_window") },
        ),
        (
            "a recovery that ends with the retry window",
            |b| b.retry_window(HOUR).recovery_window(HOUR),
            { ConfigError::RecoveryWithinRetry },
        ),
        (
            "a recovery shorter than the default retry window",
            |b| b.recovery_window(Duration::from_secs(60)),
            { ConfigError::RecoveryWithinRetry },
        ),
        (
            "strict with a retry window",
            |b| b.strict(true).retry_window(HOUR),
            ConfigError::StrictWithWindow,
        ),
        (
            "a retry window and then strict",
            |b| b.retry_window(HOUR).strict(true),
            ConfigError::StrictWithWindow,
        ),
        (
            "strict with a recovery",
            |b| b.strict(true).recovery_window(HOUR),
            ConfigError::StrictWithWindow,
        ),
        (
            "a zero request body limit",
            |b| b.max_request_body(0),
            ConfigError::Limit("max_request_body"),
        ),
        (
            "a request body limit of gigabytes",
            |b| b.max_request_body((16 << 20) + 1),
            ConfigError::Limit("max_request_body"),
        ),
        (
            "no request at all",
            |b| b.max_in_flight(0),
            ConfigError::Limit("max_in_flight"),
        ),
        (
            "a zero response limit",
            |b| b.max_response_body(0),
            ConfigError::Limit("max_response_body"),
        ),
        (
            "a response limit of gigabytes",
            |b| b.max_response_body(usize::MAX),
            ConfigError::Limit("max_response_body"),
        ),
    ];
    for (name, set, expected) in rows {
        let error = build(set).unwrap_err();
        assert_eq!(error, expected, "{name}");
        let said = error.to_string();
        assert!(
            !said.is_empty() && !said.ends_with('.') && !said.contains('\n'),
            "{name}: {said:?}"
        );
        assert!(error.source().is_none(), "{name}");
    }
}

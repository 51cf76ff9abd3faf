//! Invalid tables of resources.

use tower_oauth_refresh::access::Requirements;
use tower_oauth_refresh::{AccessLayer, AccessLayerBuilder, ConfigError, MemoryStore};

use super::{API, ONE, TWO};

#[test]
fn invalid_tables_are_rejected() {
    let required = || Requirements::new().require_scope("a");
    let path = |path: &str| ConfigError::Path {
        setting: "resource_for",
        path: path.into(),
    };
    let same = |other: &'static str, path: &str| ConfigError::SamePath {
        settings: ["resource_for", other],
        path: path.into(),
    };
    let nested = |inner: &str, outer: &str| ConfigError::NestedResource {
        inner: inner.into(),
        outer: outer.into(),
    };
    type Builder = AccessLayerBuilder<MemoryStore>;
    type Row = (&'static str, Box<dyn Fn(Builder) -> Builder>, ConfigError);
    fn row(
        name: &'static str,
        set: impl Fn(Builder) -> Builder + 'static,
        error: ConfigError,
    ) -> Row {
        (name, Box::new(set), error)
    }
    let rows = [
        row(
            "no path",
            |b| b.resource_for("api", Requirements::new()),
            path("api"),
        ),
        row(
            "a query",
            |b| b.resource_for("/api?x", Requirements::new()),
            path("/api?x"),
        ),
        row(
            "a pattern",
            |b| b.resource_for("/{tenant}", Requirements::new()),
            ConfigError::PathPattern {
                setting: "resource_for",
                path: "/{tenant}".into(),
            },
        ),
        row(
            "an ambiguous path",
            |b| b.resource_for("/a/../b", Requirements::new()),
            ConfigError::AmbiguousPath {
                setting: "resource_for",
                path: "/a/../b".into(),
            },
        ),
        row(
            "the same path",
            move |b| {
                b.resource_for("/api", required())
                    .resource_for("/x", required())
                    .resource_for("/API/", Requirements::new())
            },
            same("resource_for", "/api"),
        ),
        row(
            "an allowed path below a resource",
            |b| {
                b.resource_for("/api", Requirements::new())
                    .allow_ambiguous_paths("/Api/x")
            },
            same("allow_ambiguous_paths", "/api"),
        ),
        row(
            "a resource below another one",
            |b| {
                b.resource_for("/api", Requirements::new().resource(ONE))
                    .resource_for("/api/x/y", Requirements::new().resource(TWO))
            },
            nested("/api/x/y", "/api"),
        ),
        row(
            "a format of another resource",
            |b| {
                b.resource_for("/api", Requirements::new().resource(ONE))
                    .resource_for("/api.v2", Requirements::new().resource(TWO))
            },
            nested("/api.v2", "/api"),
        ),
        row(
            "an invalid scope",
            |b| b.resource_for("/api", Requirements::new().require_scope("a b")),
            ConfigError::Scope("a b".into()),
        ),
        row(
            "none of no scopes",
            |b| b.resource_for("/api", Requirements::new().require_any_scope([""; 0])),
            ConfigError::NoScope,
        ),
        row(
            "an invalid resource",
            |b| b.resource_for("/api", Requirements::new().resource("/api")),
            ConfigError::Uri {
                setting: "resource",
                uri: "/api".into(),
            },
        ),
    ];
    for (name, set, error) in rows {
        let built = set(AccessLayer::builder(MemoryStore::new())).build();
        assert_eq!(built.unwrap_err(), error, "{name}");
    }
    let built = AccessLayer::builder(MemoryStore::new())
        .resource(API)
        .resource_for("/", Requirements::new())
        .resource_for("/api", Requirements::new().resource(API))
        .resource_for("/api/x", Requirements::new().resource(API))
        .build();
    assert!(built.is_ok(), "{built:?}");
}

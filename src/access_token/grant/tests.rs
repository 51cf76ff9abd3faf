use bytes::Bytes;

use super::*;
use crate::store::Key;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn record(scope: Option<&str>, resources: &[&str]) -> AccessRecord {
    AccessRecord {
        client_id: "app".into(),
        scope: scope.map(Into::into),
        resources: resources.iter().map(|&resource| resource.into()).collect(),
        issued_at: Timestamp::default(),
        expires_at: NOW,
        has_grant: false,
        sealed: Bytes::from_static(b"sealed"),
        profile: None,
        renewable: None,
        revocation_pending: false,
        unknown: Vec::new(),
    }
}

#[test]
fn a_built_grant_equals_the_grant_of_a_token() {
    let client = || AccessGrant::builder("app".parse().unwrap()).expires_at(NOW);
    let key = GrantKey::from(Key::new([7; 32]));
    let (one, two) = ("https://one.example/api", "https://two.example/");
    for (row, record, key, built) in [
        ("bare", record(None, &[]), None, client()),
        (
            "a scope",
            record(Some("read write"), &[]),
            None,
            client().scope("read write"),
        ),
        (
            "a resource",
            record(None, &[one]),
            None,
            client().resource(one),
        ),
        ("a grant", record(None, &[]), Some(key), client().grant(key)),
        (
            "everything",
            record(Some("read"), &[one, two]),
            Some(key),
            client()
                .scope("read")
                .resource(one)
                .resource(two)
                .grant(key),
        ),
    ] {
        let (real, built) = (AccessGrant::new(&record, key, None), built.build());
        assert_eq!(format!("{built:?}"), format!("{real:?}"), "{row}");
        assert_eq!(built.client_id(), "app", "{row}");
        assert!(built.scopes().eq(real.scopes()), "{row}");
        assert!(
            built
                .resources()
                .eq(record.resources.iter().map(Utf8::as_str)),
            "{row}"
        );
        assert_eq!((built.grant(), built.expires_at()), (key, NOW), "{row}");
        assert!(
            built.sealed().is_empty(),
            "{row}: a built grant has no token"
        );
    }
    let endless = AccessGrant::builder("app".parse().unwrap()).build();
    assert_eq!(endless.expires_at().as_millis(), u64::MAX);
}

//! The search finds a secret that is planted.

use bytes::Bytes;
use test_support::secrets::{Log, latin};
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Key, Sidecar, SidecarName, Store as _, Ttl, Version,
};

use super::{CLIENT, HOUR, SECRET, Watched, log_in};

#[tokio::test(start_paused = true)]
async fn a_planted_secret_is_found() {
    let (log, _guard) = Log::capture();
    let mut watched = Watched::new();
    let token = watched.token(log_in(CLIENT)).await;
    let needles = watched.needles.clone();
    assert!(needles.iter().count() > 30);
    assert_eq!(needles.find(&log.text()), None);
    for (name, needle) in needles.iter() {
        assert!(
            needles.find(&format!("before{needle}after")).is_some(),
            "{name}"
        );
    }
    tracing::trace!(%token, "planted");
    assert!(
        needles
            .find(&log.text())
            .is_some_and(|found| found.contains(&token)),
        "in the log"
    );

    let secret = SECRET.as_bytes();
    assert!(
        needles
            .find(&format!("{:?}", Bytes::from_static(secret)))
            .is_some(),
        "a literal"
    );
    assert!(needles.find(&format!("{secret:?}")).is_some(), "a list");
    assert!(
        needles.find_in_bytes(secret).is_some() && needles.find(&latin(secret)).is_some(),
        "bytes"
    );

    let entry = |value: &'static [u8]| {
        Entry::new(
            Version::new([1; 8]),
            ClaimTag::new([0; 32]),
            Bytes::from_static(value),
        )
    };
    let put = |value| Change::Put {
        entry: entry(value),
        ttl: Ttl::After(HOUR),
    };
    let sidecar = Sidecar::new(SidecarName::new([0; 16]), Bytes::from_static(secret), HOUR);
    for (place, change, sidecars) in [
        ("an entry", put(secret), &[][..]),
        ("sidecar one", put(b""), &[sidecar]),
    ] {
        watched.stored.lock().unwrap().clear();
        let key = Key::new([place.len() as u8; 32]);
        let _ = watched
            .app
            .store
            .swap(&key, None, change, sidecars)
            .await
            .unwrap();
        assert!(
            needles
                .find_in_bytes(&watched.stored.lock().unwrap())
                .is_some(),
            "{place}"
        );
    }
}

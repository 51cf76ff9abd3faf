//! An attacker who can write to the store can end sessions and roll them back, but cannot take one
//! over.

use std::time::Duration;

use test_support::App;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Entry, Key, Store as _, Swap, Ttl};

/// Returns the key of the grant that was written last.
fn key(app: &App) -> Key {
    app.store.writes().last().unwrap().0
}

async fn read(app: &App, key: &Key) -> Entry {
    app.store.get(key).await.unwrap().unwrap()
}

/// Replaces the entry under `key` with `entry`.
async fn put(app: &App, key: &Key, entry: &Entry) {
    let found = read(app, key).await.version;
    let change = Change::Put {
        entry: entry.clone(),
        ttl: Ttl::After(Duration::from_secs(3600)),
    };
    assert_eq!(
        app.store.swap(key, Some(found), change, &[]).await.unwrap(),
        Swap::Swapped
    );
}

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

#[tokio::test]
async fn restoring_a_record_revives_only_its_own_token() {
    // The inner service decides: one accepts its token a second time, the other ends the session.
    for forgiving in [true, false] {
        let app = App::new();
        if forgiving {
            app.upstream.forgive();
        }
        let first = app.log_in("app").await;
        let grant = key(&app);
        let old = read(&app, &grant).await;
        let second = app.refresh(&first).await.token();
        put(&app, &grant, &old).await;
        app.events();

        assert_eq!(
            app.refresh(&second).await.error(),
            refused(),
            "forgiving: {forgiving}"
        );
        assert_eq!(
            app.refresh_as("other", &first).await.error(),
            refused(),
            "forgiving: {forgiving}"
        );
        let again = app.refresh(&first).await;
        let seen = app.events();
        assert_eq!(
            seen[..2],
            [EventKind::Ahead, EventKind::ClientMismatch],
            "forgiving: {forgiving}"
        );
        if forgiving {
            assert_ne!(again.token(), second);
            assert_eq!(seen[2..], [EventKind::Rotated]);
        } else {
            assert_eq!(again.error(), refused());
            assert_eq!(seen[2..], [EventKind::UpstreamRejected]);
        }
    }
}

#[tokio::test]
async fn a_record_copied_to_another_key_is_not_a_grant() {
    let app = App::new();
    let victims = app.log_in("app").await;
    let victim = key(&app);
    let mine = app.log_in("app").await;
    let attacker = key(&app);
    let (theirs, own) = (read(&app, &victim).await, read(&app, &attacker).await);
    let before = app.upstream.seen().len();

    put(&app, &attacker, &theirs).await;
    put(&app, &victim, &own).await;
    for token in [&mine, &victims] {
        assert_eq!(
            app.refresh(token).await.error(),
            (500, "server_error".into())
        );
        assert_eq!(
            app.revoke(token).await.error(),
            (500, "server_error".into())
        );
    }
    assert_eq!(
        app.upstream.seen().len(),
        before,
        "the inner service was called"
    );
    assert_eq!(app.events()[2..], [EventKind::StoreCorrupt; 4]);

    put(&app, &attacker, &own).await;
    put(&app, &victim, &theirs).await;
    assert_ne!(
        app.refresh(&mine).await.token(),
        app.refresh(&victims).await.token()
    );
}

//! A stored entry that cannot be read.

use super::*;

#[tokio::test]
async fn a_corrupt_entry_is_an_error_and_never_absent() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.hook(|_, _| Plan::Corrupt);
    assert_eq!(
        app.refresh(&token).await.error(),
        (500, "server_error".into())
    );
    assert_eq!(
        app.revoke(&token).await.error(),
        (500, "server_error".into())
    );
    app.store.unhook();
    app.refresh(&token).await.token();
    app.store.once(|call| *call == Call::Sidecar, Plan::Corrupt);
    assert_eq!(
        app.refresh(&token).await.error(),
        (500, "server_error".into())
    );
    assert!(app.events().contains(&EventKind::StoreCorrupt));
}

#[tokio::test]
async fn a_corrupt_record_is_a_server_error() {
    let app = App::new();
    let token = app.log_in("app").await;
    let (key, entry) = written(&app);
    let mut damaged = entry.value.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let put = Entry::new(Version::new([9; 8]), entry.tag, damaged.into());
    overwrite(&app, &key, &entry, put).await;
    for _ in 0..2 {
        assert_eq!(
            app.refresh(&token).await.error(),
            (500, "server_error".into())
        );
    }
    assert_eq!(
        app.revoke(&token).await.error(),
        (500, "server_error".into())
    );
    assert_eq!(app.events()[1..], [EventKind::StoreCorrupt; 3]);
}

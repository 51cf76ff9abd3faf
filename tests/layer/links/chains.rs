//! How far links lead, and forged ones.

use test_support::{Hooked, Upstream};
use tower_oauth_refresh::{ManualClock, MemoryStore};

use super::*;

#[tokio::test]
async fn a_link_moves_to_a_sidecar_only_while_its_window_runs() {
    let app = App::new();
    let mut token = app.log_in("app").await;
    let mut sidecars = Vec::new();
    for pause in [0, 100, 30] {
        app.clock.advance(Duration::from_secs(pause));
        token = app.refresh(&token).await.token();
        let (
            _,
            Call::Swap {
                sidecars: written, ..
            },
        ) = app.store.writes().pop().unwrap()
        else {
            panic!("the last write is not the commit");
        };
        sidecars.push(written.len());
    }
    assert_eq!(
        sidecars,
        [1, 1, 2],
        "the stored answer, and a link after 30 s"
    );
}

#[tokio::test]
async fn a_chain_is_followed_for_at_most_64_links() {
    for (links, followed) in [(64, true), (65, false)] {
        let app = shared();
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, links).await;
        app.clock.advance(Duration::from_secs(100));
        let answer = app.refresh(&tokens[0]).await;
        if followed {
            answer.token();
            assert_eq!(app.events(), [EventKind::Converged]);
        } else {
            assert_eq!(answer.error(), refused());
            assert_eq!(app.events(), [EventKind::TooFarBehind]);
            app.refresh(tokens.last().unwrap()).await.token();
        }
    }
}

/// The clock of the store is behind, so the link of the first token is still in its sidecar when
/// the window of the second token, whose link is in the record, has ended.
#[tokio::test]
async fn a_link_in_the_record_is_followed_only_in_its_window() {
    let last = HOUR - Duration::from_millis(1);
    for (passed, status, event) in [
        (last, 200, EventKind::Replayed),
        (HOUR, 400, EventKind::ReuseDetected),
    ] {
        let store = Hooked::new(MemoryStore::with_clock(ManualClock::new()));
        let clock = ManualClock::new();
        let app = App::over(clock, store, Upstream::new(), |builder| {
            builder.shared_token_window(HOUR)
        });
        let first = app.log_in("app").await;
        rotate(&app, &first, 2).await;
        app.clock.advance(passed);
        assert_eq!(app.refresh(&first).await.status, status, "{passed:?}");
        assert_eq!(app.events(), [event], "{passed:?}");
    }
}

/// Writes this sidecar beside the entry of the grant.
async fn plant(app: &App, key: &Key, sidecar: Sidecar) {
    let mut entry = app.store.get(key).await.unwrap().unwrap();
    let expected = entry.version;
    entry.version = Version::new([7; 8]);
    let change = Change::Put {
        entry,
        ttl: Ttl::Keep,
    };
    let swap = app
        .store
        .swap(key, Some(expected), change, &[sidecar])
        .await;
    assert_eq!(swap.unwrap(), Swap::Swapped);
}

#[tokio::test]
async fn a_forged_link_ends_nothing() {
    let other = shared();
    let foreign = {
        let first = other.log_in("app").await;
        rotate(&other, &first, 3).await;
        links(&other).1.remove(0).value
    };
    for (name, forge) in [
        (
            "a damaged link",
            &(|value: &[u8]| {
                let mut value = value.to_vec();
                value[20] ^= 1;
                value.into()
            }) as &dyn Fn(&[u8]) -> bytes::Bytes,
        ),
        ("a link of another grant", &|_: &[u8]| foreign.clone()),
        ("an empty link", &|_: &[u8]| bytes::Bytes::new()),
    ] {
        let app = shared();
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, 3).await;
        let (grant, mut links) = links(&app);
        let link = links.remove(0);
        let forged = Sidecar::new(link.name, forge(&link.value), HOUR);
        plant(&app, &grant, forged).await;
        let refreshes = app.upstream.refreshes();
        assert_eq!(app.refresh(&tokens[0]).await.error(), refused(), "{name}");
        assert_eq!(app.events(), [EventKind::LinkInvalid], "{name}");
        assert_eq!(app.upstream.refreshes(), refreshes, "{name}");
        app.refresh(&tokens[3]).await.token();
    }
}

#[tokio::test]
async fn a_cycle_of_links_is_refused() {
    let app = shared();
    let first = app.log_in("app").await;
    let tokens = rotate(&app, &first, 4).await;
    let (grant, links) = links(&app);
    assert_eq!(links.len(), 3);
    // The link of the second token stands where that of the third is looked up, and so on: no link
    // opens for another token, so no cycle can be built from what the store holds.
    for (at, link) in links.iter().enumerate() {
        let value = links[(at + 1) % links.len()].value.clone();
        plant(&app, &grant, Sidecar::new(link.name, value, HOUR)).await;
    }
    assert_eq!(app.refresh(&tokens[0]).await.error(), refused());
    assert_eq!(app.events(), [EventKind::LinkInvalid]);
    app.refresh(&tokens[4]).await.token();
}

#[tokio::test]
async fn an_old_token_of_another_client_leads_nowhere() {
    let app = shared();
    let first = app.log_in("app").await;
    let tokens = rotate(&app, &first, 2).await;
    for token in &tokens {
        assert_eq!(app.refresh_as("other", token).await.error(), refused());
    }
    assert_eq!(app.events(), [EventKind::ClientMismatch; 3]);
    // A forged token of an older generation has no link.
    let forged = patched(&tokens[0], |bytes| bytes[20] ^= 1);
    assert_eq!(app.refresh(&forged).await.error(), refused());
}

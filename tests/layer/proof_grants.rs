//! The grants that end only by a proof of their client: those for which the inner service has once
//! accepted a credential.

use test_support::client::{Client, Sent};
use test_support::{Act, App, foreign};
use tower_oauth_refresh::{ClientProof, EventKind};

use crate::proof::{CONFIDENTIAL, HOUR, RIGHT, WRONG, invalid_grant, reuse, stale};

/// Credentials that the inner service does not need of a public client, and therefore accepts.
const CREDENTIALS: [Sent; 2] = [WRONG, Sent::ForgedAttestation];

/// The inner service ignores the credential of a public client.
#[tokio::test]
async fn a_made_up_credential_does_not_protect_a_thief_of_a_public_clients_token() {
    let client = Client::of(App::new(), "app").await;
    let [first, stolen] = stale(&client, [Sent::Nothing, Sent::Nothing, WRONG]).await;
    let answer = client.refresh(&first, Sent::Nothing).await;
    assert_eq!(answer.error(), invalid_grant());
    let (kind, reuse) = reuse(&client.app);
    assert_eq!(kind, EventKind::ReuseDetected);
    assert_eq!(reuse.client_proof, ClientProof::Proved);
    let answer = client.refresh(&stolen, WRONG).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test]
async fn one_accepted_credential_protects_the_grant_for_good() {
    // A log-in, or a later rotation; the retry is replayed.
    for sent in CREDENTIALS.into_iter().flat_map(|credential| {
        [
            [credential, Sent::Nothing, Sent::Nothing],
            [Sent::Nothing, credential, Sent::Nothing],
        ]
    }) {
        let client = Client::of(App::new(), "app").await;
        let [first, newest] = stale(&client, sent).await;
        let newest = {
            let answer = client.refresh(&newest, Sent::Nothing).await;
            let replayed = client.refresh(&newest, Sent::Nothing).await;
            assert_eq!(answer.body, replayed.body);
            answer.token()
        };
        client.app.clock.advance(2 * HOUR);
        let down = Act::Answer(503, "text/plain", "down");
        client.app.upstream.then(down);
        let answer = client.refresh(&first, Sent::Nothing).await;
        assert_eq!(answer.error(), invalid_grant(), "{sent:?}");
        client.refresh(&newest, Sent::Nothing).await.token();
    }
}

#[tokio::test]
async fn an_adopted_grant_is_protected_too() {
    for adopted in [false, true] {
        let app = foreign::another(&App::new(), 24 * 3600);
        let old = foreign::log_in_before(&app, CONFIDENTIAL).await;
        let client = Client::of(app, CONFIDENTIAL).await;
        let first = client.refresh(&old, RIGHT).await.token();
        let second = client.refresh(&first, RIGHT).await.token();
        let newest = client.refresh(&second, RIGHT).await.token();
        client.app.clock.advance(2 * HOUR);
        client.app.take_events();
        // The adopted token itself is protected, too: it counts as the first token of the grant.
        let reused = if adopted { old } else { first };
        for sent in [Sent::Nothing, WRONG] {
            let answer = client.refresh(&reused, sent).await;
            assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
            let (kind, reuse) = reuse(&client.app);
            assert_eq!(kind, EventKind::ReuseUnproven, "{sent:?}");
            assert_eq!(reuse.generations_behind, 2, "{sent:?}");
            assert_eq!(client.app.upstream.alive(), 1, "{sent:?}");
        }
        let newest = client.refresh(&newest, RIGHT).await.token();
        client.app.clock.advance(2 * HOUR);
        client.app.take_events();
        let answer = client.refresh(&reused, RIGHT).await;
        assert_eq!(answer.error(), invalid_grant());
        assert_eq!(reuse(&client.app).0, EventKind::ReuseDetected);
        let answer = client.refresh(&newest, RIGHT).await;
        assert_eq!(answer.error(), invalid_grant());
    }
}

#[tokio::test]
async fn an_adoption_with_a_credential_protects_the_grant() {
    for credential in CREDENTIALS {
        let app = foreign::another(&App::new(), 24 * 3600);
        let old = foreign::log_in_before(&app, "app").await;
        let client = Client::of(app, "app").await;
        let first = client.refresh(&old, credential).await.token();
        let second = client.refresh(&first, Sent::Nothing).await.token();
        let newest = client.refresh(&second, Sent::Nothing).await.token();
        client.app.clock.advance(2 * HOUR);
        client.app.take_events();
        let down = Act::Answer(503, "text/plain", "down");
        client.app.upstream.then(down);
        let answer = client.refresh(&first, Sent::Nothing).await;
        assert_eq!(answer.error(), invalid_grant(), "{credential:?}");
        let (kind, _) = reuse(&client.app);
        assert_eq!(kind, EventKind::ReuseUnproven, "{credential:?}");
        client.refresh(&newest, Sent::Nothing).await.token();
    }
}

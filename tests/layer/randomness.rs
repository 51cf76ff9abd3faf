//! All randomness is drawn before the inner service is called: a random number generator that fails
//! costs no authorization code and no upstream token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::foreign::log_in_before;
use test_support::requests::send;
use test_support::{Act, App, TestStore, post, refresh_form, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::{
    Clock as _, EventKind, OsRandom, RandomUnavailable, RefreshLayerBuilder, SecureRandom,
};

/// The generator of the system, which can be made to fail.
#[derive(Clone, Default)]
struct Fallible(Arc<AtomicBool>);

impl Fallible {
    fn fail(&self, fails: bool) {
        self.0.store(fails, Ordering::SeqCst);
    }
}

impl SecureRandom for Fallible {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
        if self.0.load(Ordering::SeqCst) {
            return Err(RandomUnavailable::new("it fails"));
        }
        OsRandom.fill(bytes)
    }
}

/// A request that uses an authorization code or an upstream token.
#[derive(Clone, Copy, Debug)]
enum Use {
    LogIn,
    AccessTokenOnly,
    Adoption,
    Rotation,
}

/// Returns an instance with this generator, and a request to it.
async fn prepared(used: Use, reference: bool) -> (App, Fallible, Request<Full<Bytes>>) {
    let random = Fallible::default();
    let before = App::new();
    let until = Duration::from_millis(before.clock.now().as_millis()) + Duration::from_secs(3600);
    let settings = |builder: RefreshLayerBuilder<TestStore>| {
        builder
            .random(random.clone())
            .reference_access_tokens(reference)
            .adopt_until(SystemTime::UNIX_EPOCH + until)
    };
    let app = App::over(
        before.clock.clone(),
        before.store.clone(),
        before.upstream.clone(),
        settings,
    );
    let request = match used {
        Use::LogIn => post(
            "/token",
            &[
                ("grant_type", "authorization_code"),
                ("code", "c"),
                ("client_id", "app"),
            ],
        ),
        Use::AccessTokenOnly => post(
            "/token",
            &[("grant_type", "client_credentials"), ("client_id", "app")],
        ),
        Use::Adoption => {
            let foreign = log_in_before(&app, "app").await;
            post("/token", &refresh_form("app", &foreign))
        }
        Use::Rotation => {
            let token = app.log_in("app").await;
            post("/token", &refresh_form("app", &token))
        }
    };
    app.events();
    (app, random, request)
}

const USES: [Use; 4] = [
    Use::LogIn,
    Use::AccessTokenOnly,
    Use::Adoption,
    Use::Rotation,
];

#[tokio::test(start_paused = true)]
async fn a_generator_that_fails_is_noticed_before_the_inner_service_is_called() {
    for used in USES {
        for reference in [false, true] {
            let name = format!("{used:?}, reference: {reference}");
            let (app, random, request) = prepared(used, reference).await;
            let requests = app.upstream.seen().len();
            random.fail(true);
            let answer = send(&app, request.clone()).await;
            answer.assert_refused(&name, 503, "temporarily_unavailable", false);
            assert_eq!(app.upstream.seen().len(), requests, "{name}");
            random.fail(false);
            send(&app, request).await.assert_ok(&name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_randomness_is_needed_after_the_inner_service_was_called() {
    for used in USES {
        for reference in [false, true] {
            let name = format!("{used:?}, reference: {reference}");
            let (app, random, request) = prepared(used, reference).await;
            let gate = Arc::new(Notify::new());
            app.upstream.then(Act::Wait(Arc::clone(&gate)));
            let client = {
                let app = app.clone();
                tokio::spawn(async move { send(&app, request).await })
            };
            settle().await;
            random.fail(true);
            gate.notify_one();
            client.await.unwrap().assert_ok(&name);
            let lost = [EventKind::CommitLost, EventKind::StoreUnavailable];
            assert!(
                !app.events().iter().any(|kind| lost.contains(kind)),
                "{name}"
            );
        }
    }
}

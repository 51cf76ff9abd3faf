//! No token and no client secret appears in the log, in `Debug` output or in a dump of the store.

mod planted;
mod traffic;

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use test_support::requests::{Whole, basic};
use test_support::secrets::{Log, Needles, written};
use test_support::{Act, App, Hooked, ManualClock, Plan, Upstream, post, refresh_form};
use tower::{BoxError, Layer as _, Service as _, service_fn, util::BoxCloneService};
use tower_oauth_refresh::{
    ClientCredentials, EventKind, MemoryStore, Refresh, RefreshError, RequestBody,
};

use self::traffic::{the_faults, the_good_paths, the_refusals};

const CLIENT: &str = "confidential";
const SECRET: &str = "secret of confidential";
const HOUR: Duration = Duration::from_secs(3600);

/// The server at which the layer itself revokes upstream tokens.
static REVOKING: LazyLock<Upstream> = LazyLock::new(Upstream::new);

type Inner = BoxCloneService<Request<RequestBody<Full<Bytes>>>, Response<Full<Bytes>>, BoxError>;

/// An instance that records everything observable about it.
struct Watched {
    app: App,
    service: Refresh<Inner, test_support::TestStore>,
    needles: Needles,
    shown: Arc<Mutex<String>>,
    stored: Arc<Mutex<Vec<u8>>>,
    plan: Arc<Mutex<Option<fn(&test_support::Call) -> Plan>>>,
    kinds: HashSet<EventKind>,
}

type Builder = tower_oauth_refresh::RefreshLayerBuilder<test_support::TestStore>;

impl Watched {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(settings: fn(Builder) -> Builder) -> Self {
        let (shown, stored) = (
            Arc::<Mutex<String>>::default(),
            Arc::<Mutex<Vec<u8>>>::default(),
        );
        let plan = Arc::<Mutex<Option<fn(&test_support::Call) -> Plan>>>::default();
        // Two clocks: expired entries stay in the store and are reported as expired.
        let store = Hooked::new(MemoryStore::with_clock(ManualClock::new()));
        let (dump, faults) = (Arc::clone(&stored), Arc::clone(&plan));
        store.hook(move |key, call| {
            dump.lock().unwrap().extend(written(key, call));
            faults.lock().unwrap().map_or(Plan::Pass, |plan| plan(call))
        });
        let app = App::over(ManualClock::new(), store, Upstream::new(), |builder| {
            let builder = builder
                .adopt_until(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32));
            let builder = settings(builder);
            show(&shown, &builder);
            builder
        });
        let (inside, upstream) = (Arc::clone(&shown), app.upstream.clone());
        let inner = BoxCloneService::new(service_fn(
            move |request: Request<RequestBody<Full<Bytes>>>| {
                show(&inside, request.body());
                upstream.clone().call(request)
            },
        ));
        let service = app.layer.layer(inner);
        show(&shown, &app.layer);
        show(&shown, &service);
        let mut needles = Needles::default();
        for secret in [
            SECRET,
            "wrong secret",
            &basic(format!("{CLIENT}:{SECRET}"))[6..],
        ] {
            needles.text(secret);
        }
        Self {
            app,
            service,
            needles,
            shown,
            stored,
            plan,
            kinds: HashSet::new(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Whole {
        let future = self.service.call(request);
        show(&self.shown, &future);
        let (head, body) = match future.await {
            Ok(response) => response.into_parts(),
            Err(error) => {
                show(&self.shown, &error);
                Response::new(Default::default()).into_parts()
            }
        };
        show(&self.shown, &body);
        if let Some(error) = head.extensions.get::<RefreshError>() {
            show(&self.shown, error);
            let mut cause: Option<&dyn std::error::Error> = error.source();
            self.shown.lock().unwrap().push_str(&error.to_string());
            while let Some(error) = cause {
                show(&self.shown, &error);
                self.shown.lock().unwrap().push_str(&error.to_string());
                cause = error.source();
            }
        }
        let whole = Whole {
            head,
            body: body.collect().await.unwrap().to_bytes(),
        };
        for name in ["refresh_token", "access_token"] {
            if let Some(token) = whole.json()[name].as_str() {
                self.needles.token(token);
            }
        }
        for event in self.app.take_events() {
            self.kinds.insert(event.kind);
            show(&self.shown, &event);
        }
        whole
    }

    async fn token(&mut self, request: Request<Full<Bytes>>) -> String {
        self.send(request).await.token("a success")
    }

    fn fault(&self, plan: fn(&test_support::Call) -> Plan) {
        *self.plan.lock().unwrap() = Some(plan);
    }

    fn no_fault(&self) {
        *self.plan.lock().unwrap() = None;
    }
}

fn show(shown: &Mutex<String>, what: &impl std::fmt::Debug) {
    let mut shown = shown.lock().unwrap();
    shown.push_str(&format!("{what:?}\n{what:#?}\n"));
}

fn log_in(client: &str) -> Request<Full<Bytes>> {
    let secret = ("client_secret", SECRET);
    let form = [
        ("grant_type", "password"),
        ("password", "of a user"),
        ("client_id", client),
    ];
    if client == CLIENT {
        post("/token", &[&form[..], &[secret]].concat())
    } else {
        post("/token", &form)
    }
}

fn refresh(client: &str, token: &str) -> Request<Full<Bytes>> {
    let form = refresh_form(client, token);
    if client == CLIENT {
        post(
            "/token",
            &[&form[..], &[("client_secret", SECRET)]].concat(),
        )
    } else {
        post("/token", &form)
    }
}

fn revoke(token: &str) -> Request<Full<Bytes>> {
    post(
        "/revoke",
        &[
            ("token", token),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
        ],
    )
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_logged_stored_or_shown_by_debug() {
    let (log, _guard) = Log::capture();
    REVOKING.then(Act::Answer(400, "text/plain", "upstream-0-0"));
    let mut watched = Watched::with(|builder| {
        let credentials = ClientCredentials::post(CLIENT.parse().unwrap(), SECRET);
        builder
            .revocation_key([7; 32])
            .upstream_revocation::<_, Full<Bytes>, _>(REVOKING.clone(), credentials)
    });
    the_good_paths(&mut watched).await;
    the_refusals(&mut watched).await;
    the_faults(&mut watched).await;

    let revoking = REVOKING.seen();
    for seen in watched.app.upstream.seen().into_iter().chain(revoking) {
        for name in ["refresh_token", "token"] {
            if let Some(token) = seen
                .param(name)
                .filter(|token| token.starts_with("upstream-"))
            {
                watched.needles.text(token);
            }
        }
    }
    use EventKind::*;
    let all = [
        Issued,
        Rotated,
        Replayed,
        Converged,
        Recovered,
        Late,
        ReuseDetected,
        ReuseUnproven,
        ClientMismatch,
        Expired,
        Unknown,
        Revoked,
        Adopted,
        UpstreamRejected,
        UpstreamUnreadable,
        UpstreamRevoked,
        UpstreamRevocationFailed,
        StoreUnavailable,
        StoreCorrupt,
        CommitLost,
        Ahead,
        Forged,
        Unbound,
    ];
    let missing: Vec<_> = all
        .into_iter()
        .filter(|kind| !watched.kinds.contains(kind))
        .collect();
    assert_eq!(missing, [], "a path was not covered");

    let (log, shown, stored) = (
        log.text(),
        watched.shown.lock().unwrap(),
        watched.stored.lock().unwrap(),
    );
    assert!(
        log.contains("TRACE") && log.contains("recovered") && log.len() > 10_000,
        "the log was not captured"
    );
    assert!(
        shown.contains("RefreshLayerBuilder") && shown.contains("UpstreamUnreadable"),
        "no `Debug` output was recorded"
    );
    assert!(stored.len() > 10_000, "nothing was written to the store");
    assert_eq!(watched.needles.find(&log), None, "in the log");
    assert_eq!(
        watched.needles.find(&shown),
        None,
        "shown by Debug or Display"
    );
    assert_eq!(watched.needles.find_in_bytes(&stored), None, "in the store");
}

#[tokio::test(start_paused = true)]
async fn no_access_token_is_logged_stored_or_shown_by_debug() {
    use test_support::access::Guarded;
    let (log, _guard) = Log::capture();
    let mut watched = Watched::with(|builder| {
        builder
            .reference_access_tokens(true)
            .introspection_path("/introspect")
    });
    let guarded = Guarded::with(&watched.app, |builder| {
        show(&watched.shown, &builder);
        builder.require_scope("read")
    });
    let access = |whole: &Whole| whole.json()["access_token"].as_str().unwrap().to_owned();
    let first = watched.send(log_in(CLIENT)).await;
    let second = watched.send(refresh(CLIENT, &first.token("first"))).await;
    watched
        .send(refresh(CLIENT, &first.token("first")))
        .await
        .assert_ok("a replay");
    for number in 0..2 {
        for kind in ["at-0", "upstream-0"] {
            watched.needles.text(&format!("{kind}-{number}"));
        }
    }
    for whole in [&first, &second] {
        for _ in 0..2 {
            let (answer, _) = guarded.send(&[&format!("Bearer {}", access(whole))]).await;
            assert_eq!(answer.status, 200);
        }
        for token in [access(whole), whole.token("a success")] {
            let form = [
                ("token", token.as_str()),
                ("client_id", CLIENT),
                ("client_secret", SECRET),
            ];
            let answer = watched.send(post("/introspect", &form)).await;
            assert_eq!(answer.json()["active"], true);
        }
    }
    show(&watched.shown, &guarded.layer);
    show(&watched.shown, &guarded.service);
    let request = Request::get("/")
        .header("authorization", format!("Bearer {}", access(&first)))
        .body(())
        .unwrap();
    show(&watched.shown, &guarded.service.clone().call(request));

    watched.app.upstream.then(Act::Break);
    watched.send(revoke(&access(&first))).await.assert_refused(
        "down",
        503,
        "temporarily_unavailable",
        false,
    );
    watched
        .send(revoke(&access(&first)))
        .await
        .assert_ok("revoked");
    test_support::settle().await;
    let (plans, forms): ([fn(&test_support::Call) -> Plan; 2], _) =
        ([|_| Plan::Lose, |_| Plan::Corrupt], access(&second));
    for plan in plans {
        watched.fault(plan);
        let fresh = Guarded::new(&watched.app);
        let (_, cause) = fresh.send(&[&format!("Bearer {forms}")]).await;
        show(&watched.shown, &cause.unwrap());
        for request in [revoke(&forms), log_in(CLIENT)] {
            watched.send(request).await;
        }
        watched.no_fault();
    }
    let (_, cause) = guarded.send(&[&format!("Bearer {}", access(&first))]).await;
    show(&watched.shown, &cause.unwrap());
    watched
        .send(revoke(&second.token("second")))
        .await
        .assert_ok("revoked");

    assert!(
        watched.kinds.contains(&EventKind::AccessRevoked)
            && watched.kinds.contains(&EventKind::AccessRefused)
    );
    let (log, shown, stored) = (
        log.text(),
        watched.shown.lock().unwrap(),
        watched.stored.lock().unwrap(),
    );
    assert!(
        log.contains("access_refused") && shown.contains("AccessLayer") && stored.len() > 1_000
    );
    assert_eq!(watched.needles.find(&log), None, "in the log");
    assert_eq!(
        watched.needles.find(&shown),
        None,
        "shown by Debug or Display"
    );
    assert_eq!(watched.needles.find_in_bytes(&stored), None, "in the store");
}

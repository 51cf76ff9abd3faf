//! The layer responds with a cache as it does without one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use test_support::tiered::{Tier, tiered_with};
use test_support::{Act, Answer, App, Call, Plan, TestStore, refresh_form};
use tower_oauth_refresh::store::{Key, Store as _};
use tower_oauth_refresh::{EventKind, RefreshLayerBuilder};

use super::{HOUR, config, poll};

/// A token: this one, or the newest, which conforming clients send.
type Which = Option<Index>;

/// A request, or something that happens between requests.
#[derive(Clone, Debug)]
enum Scene {
    LogIn {
        instance: Index,
    },
    Refresh {
        instance: Index,
        token: Which,
        client: &'static str,
        scope: Option<&'static str>,
    },
    Revoke {
        instance: Index,
        token: Which,
        client: &'static str,
    },
    Pass(u64),
    /// The inner service applies this act to the next request that reaches it.
    Upstream(usize),
    /// A read of the grant of a token begins in the background.
    Read {
        instance: Index,
        token: Which,
    },
    /// The read proceeds: it takes effect, or its reply arrives, however old it is by then.
    GoOn(Index),
}

fn scene() -> impl Strategy<Value = Scene> {
    let client = || prop_oneof![6 => Just("app"), 1 => Just("thief")];
    let scope = prop_oneof![5 => Just(None), 1 => Just(Some("read")), 1 => Just(Some("admin"))];
    let seconds = prop_oneof![
        Just(1),
        Just(59),
        Just(61),
        Just(3601),
        Just(12 * 24 * 3600),
        Just(25 * 24 * 3600)
    ];
    let token = || prop_oneof![any::<Index>().prop_map(Some), Just(None)];
    let refresh = (any::<Index>(), token(), client(), scope);
    let revoke = (any::<Index>(), token(), client());
    prop_oneof![
        2 => any::<Index>().prop_map(|instance| Scene::LogIn { instance }),
        12 => refresh.prop_map(|(instance, token, client, scope)| Scene::Refresh { instance, token, client, scope }),
        2 => revoke.prop_map(|(instance, token, client)| Scene::Revoke { instance, token, client }),
        3 => seconds.prop_map(Scene::Pass),
        1 => (0..ACTS.len()).prop_map(Scene::Upstream),
        3 => (any::<Index>(), token()).prop_map(|(instance, token)| Scene::Read { instance, token }),
        4 => any::<Index>().prop_map(Scene::GoOn),
    ]
}

const ACTS: [Act; 2] = [
    Act::Answer(500, "text/plain", "down"),
    Act::Answer(400, "application/json", r#"{"error":"invalid_grant"}"#),
];

/// Applies the same scenes to two instances with a cache each and to one without.
struct Stage {
    cached: Vec<App<Tier>>,
    plain: App,
    base: App,
    /// Whether the next call of the cached store is slow.
    slow: Arc<AtomicBool>,
    /// The token with the cache, the token without it, and the key with the cache.
    tokens: Vec<(String, String, Key)>,
    reads: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

fn settings<S: tower_oauth_refresh::Store>(
    builder: RefreshLayerBuilder<S>,
) -> RefreshLayerBuilder<S> {
    builder.absolute_lifetime(60 * 24 * HOUR)
}

impl Stage {
    fn new() -> Self {
        let (base, plain) = (App::new(), App::with(settings));
        let slow = Arc::new(AtomicBool::new(false));
        let next = Arc::clone(&slow);
        base.store.hook(move |_, call| {
            if *call == Call::Get && next.swap(false, Ordering::SeqCst) {
                Plan::Slow
            } else {
                Plan::Pass
            }
        });
        let cached = (0..2).map(|_| tiered_with(&base, settings)).collect();
        Self {
            cached,
            plain,
            base,
            slow,
            tokens: Vec::new(),
            reads: Vec::new(),
        }
    }

    async fn play(&mut self, scene: &Scene) -> Result<(), TestCaseError> {
        let instance = |index: &Index| self.cached[index.index(2)].clone();
        let token = |which: &Which| {
            let tokens = self.tokens.len();
            self.tokens[which.map_or(tokens - 1, |which| which.index(tokens))].clone()
        };
        match scene {
            Scene::LogIn { instance: index } => {
                let form = [
                    ("grant_type", "authorization_code"),
                    ("code", "c"),
                    ("client_id", "app"),
                ];
                self.base.store.writes();
                let cached = instance(index).post("/token", &form).await;
                let plain = self.plain.post("/token", &form).await;
                let key = self
                    .base
                    .store
                    .writes()
                    .first()
                    .map_or(Key::new([0; 32]), |(key, _)| *key);
                self.compare(scene, cached, plain, key)?;
            }
            Scene::Pass(seconds) => {
                self.base.clock.advance(Duration::from_secs(*seconds));
                self.plain.clock.advance(Duration::from_secs(*seconds));
            }
            Scene::Upstream(act) => {
                self.base.upstream.then(ACTS[*act].clone());
                self.plain.upstream.then(ACTS[*act].clone());
            }
            Scene::GoOn(read) if !self.reads.is_empty() => {
                let read = read.index(self.reads.len());
                if poll(&mut self.reads[read]).is_ready() {
                    drop(self.reads.swap_remove(read));
                }
            }
            _ if self.tokens.is_empty() => {}
            Scene::GoOn(_) => {}
            Scene::Read {
                instance: index,
                token: of,
            } => {
                let (tier, key) = (instance(index).store, token(of).2);
                let mut read: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                    tier.get(&key).await.unwrap();
                });
                self.slow.store(true, Ordering::SeqCst);
                assert!(poll(&mut read).is_pending());
                self.reads.push(read);
            }
            Scene::Refresh {
                instance: index,
                token: of,
                client,
                scope,
            } => {
                let (cached, plain, key) = token(of);
                let scope: Vec<_> = scope.iter().map(|scope| ("scope", *scope)).collect();
                let form = |token| [&refresh_form(client, token)[..], &scope].concat();
                let cached = instance(index).post("/token", &form(&cached)).await;
                let plain = self.plain.post("/token", &form(&plain)).await;
                self.compare(scene, cached, plain, key)?;
            }
            Scene::Revoke {
                instance: index,
                token: of,
                client,
            } => {
                let (cached, plain, key) = token(of);
                let cached = instance(index)
                    .post("/revoke", &[("token", &cached), ("client_id", client)])
                    .await;
                let plain = self
                    .plain
                    .post("/revoke", &[("token", &plain), ("client_id", client)])
                    .await;
                self.compare(scene, cached, plain, key)?;
            }
        }
        self.compare_events(scene)
    }

    /// Compares the responses, which must be equal except for the randomness in their tokens.
    fn compare(
        &mut self,
        scene: &Scene,
        cached: Answer,
        plain: Answer,
        key: Key,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(cached.error(), plain.error(), "{:?}", scene);
        let (Some(cached), Some(plain)) = (cached.get("refresh_token"), plain.get("refresh_token"))
        else {
            prop_assert_eq!(cached.get("refresh_token"), plain.get("refresh_token"));
            return Ok(());
        };
        let known = self.tokens.iter().position(|(known, ..)| *known == cached);
        prop_assert_eq!(
            known,
            self.tokens.iter().position(|(_, known, _)| *known == plain),
            "{:?}",
            scene
        );
        if known.is_none() {
            self.tokens.push((cached, plain, key));
        }
        Ok(())
    }

    /// Compares the events, which must be equal, except that a cache may still know the client and
    /// the end of a grant.
    fn compare_events(&self, scene: &Scene) -> Result<(), TestCaseError> {
        let cached: Vec<_> = self.cached.iter().flat_map(App::events).collect();
        let plain = self.plain.events();
        let alike = |(cached, plain): (&EventKind, &EventKind)| {
            let remembered = matches!(cached, EventKind::ClientMismatch | EventKind::Expired);
            cached == plain || (*plain == EventKind::Unknown && remembered)
        };
        let same = cached.len() == plain.len() && cached.iter().zip(&plain).all(alike);
        prop_assert!(
            same,
            "{scene:?}: {cached:?} with a cache, {plain:?} without"
        );
        Ok(())
    }

    async fn run(mut self, scenes: &[Scene]) -> Result<(), TestCaseError> {
        for scene in scenes {
            self.play(scene).await?;
        }
        let state = |app: &App<TestStore>| {
            (
                app.upstream.seen().len(),
                app.upstream.alive(),
                app.upstream.reuses(),
            )
        };
        prop_assert_eq!(
            state(&self.base),
            state(&self.plain),
            "the requests that reached the inner service"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_cache_changes_no_response(scenes in prop::collection::vec(scene(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(Stage::new().run(&scenes))?;
    }
}

//! In whatever order the calls and replies of two instances interleave, no hint rejects a request
//! that the store would grant, and the layer responds with a cache as it does without one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use test_support::tiered::{Tier, tiered_with};
use test_support::{Act, Answer, App, Call, Hooked, ManualClock, Plan, TestStore, refresh_form};
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Hint, Key, MemoryStore, Store as _, StoreError, Swap, TieredStore,
    Ttl, Version,
};
use tower_oauth_refresh::{EventKind, RefreshLayerBuilder};

const HOUR: Duration = Duration::from_secs(3600);
const KEYS: usize = 3;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send>>) -> Poll<T> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

/// An operation on an entry, with a right or a wrong expectation.
#[derive(Clone, Copy, Debug)]
enum Op {
    Get,
    Claim(bool),
    Put(bool),
    Remove(bool),
}

/// A step of the store model. A call takes three: it begins, takes effect, and returns.
#[derive(Clone, Debug)]
enum Step {
    Begin { tier: Index, key: Index, op: Op },
    GoOn(Index),
    Pass(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        Just(Op::Get),
        any::<bool>().prop_map(Op::Claim),
        any::<bool>().prop_map(Op::Put),
        any::<bool>().prop_map(Op::Remove),
    ];
    let begin = (any::<Index>(), any::<Index>(), op).prop_map(|(tier, key, op)| Step::Begin {
        tier,
        key,
        op,
    });
    let time = prop_oneof![Just(Duration::from_secs(2)), Just(HOUR)];
    prop_oneof![4 => begin, 8 => any::<Index>().prop_map(Step::GoOn), 1 => time.prop_map(Step::Pass)]
}

/// A call in progress, and the entry that it will return.
struct Flight {
    key: usize,
    insert: bool,
    call: Pin<Box<dyn Future<Output = Result<Option<Entry>, StoreError>> + Send>>,
}

/// Some tiers over one store.
struct Model {
    clock: ManualClock,
    truth: MemoryStore,
    tiers: Vec<TieredStore<Hooked<MemoryStore>>>,
    flights: Vec<Flight>,
    /// The entry that was returned last.
    last: [Option<Entry>; KEYS],
    /// Every value that may have been stored.
    written: [Vec<(ClaimTag, Bytes)>; KEYS],
    /// Whether a removed key may be inserted again.
    reused: bool,
    /// Whether an insert has returned.
    known: [bool; KEYS],
    versions: u64,
}

impl Model {
    fn new(tiers: usize, reused: bool) -> Self {
        let clock = ManualClock::new();
        let truth = MemoryStore::with_clock(clock.clone());
        let store = Hooked::new(truth.clone());
        store.hook(|_, _| Plan::Slow);
        let tiers = (0..tiers)
            .map(|_| TieredStore::builder(store.clone()).ttl(24 * HOUR).build())
            .collect();
        Self {
            clock,
            truth,
            tiers,
            flights: Vec::new(),
            last: [const { None }; KEYS],
            written: [const { Vec::new() }; KEYS],
            reused,
            known: [false; KEYS],
            versions: 0,
        }
    }

    fn key(number: usize) -> Key {
        Key::new([u8::try_from(number).unwrap(); 32])
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pass(time) => self.clock.advance(*time),
            Step::GoOn(flight) => {
                if !self.flights.is_empty() {
                    self.go_on(flight.index(self.flights.len()));
                }
            }
            Step::Begin { tier, key, op } => {
                let key = key.index(KEYS);
                let tier = self.tiers[tier.index(self.tiers.len())].clone();
                if self.known[key]
                    && !(self.reused && self.last[key].is_none() && matches!(op, Op::Put(true)))
                {
                    self.begin(tier, key, *op);
                } else if self.reused || self.flights.iter().all(|flight| flight.key != key) {
                    self.insert(tier, key);
                }
            }
        }
    }

    fn entry(&mut self, key: usize, tag: ClaimTag) -> Entry {
        self.versions += 1;
        let value = Bytes::from(format!("{key} {}", self.versions));
        self.written[key].push((tag, value.clone()));
        Entry::new(Version::new(self.versions.to_be_bytes()), tag, value)
    }

    fn put(
        &mut self,
        tier: TieredStore<Hooked<MemoryStore>>,
        key: usize,
        expected: Option<Version>,
        ttl: Ttl,
    ) {
        let entry = self.entry(
            key,
            ClaimTag::new([u8::from(self.versions.is_multiple_of(2)); 32]),
        );
        let call = Box::pin(async move {
            let change = Change::Put {
                entry: entry.clone(),
                ttl,
            };
            Ok(
                match tier.swap(&Self::key(key), expected, change, &[]).await? {
                    Swap::Swapped => Some(entry),
                    Swap::Conflict(found) => found,
                },
            )
        });
        self.flights.push(Flight {
            key,
            insert: expected.is_none(),
            call,
        });
    }

    fn insert(&mut self, tier: TieredStore<Hooked<MemoryStore>>, key: usize) {
        let ttl = if self.versions.is_multiple_of(3) {
            Duration::from_secs(1)
        } else {
            HOUR
        };
        self.put(tier, key, None, Ttl::After(ttl));
    }

    fn begin(&mut self, tier: TieredStore<Hooked<MemoryStore>>, key: usize, op: Op) {
        self.versions += 1;
        let (last, version) = (
            self.last[key].clone(),
            Version::new(self.versions.to_be_bytes()),
        );
        let stale = Version::new([0xff; 8]);
        let expected = |fits: bool| {
            last.as_ref()
                .filter(|_| fits)
                .map_or(stale, |entry| entry.version)
        };
        let store_key = Self::key(key);
        let call: Pin<Box<dyn Future<Output = _> + Send>> = match op {
            Op::Put(fits) => return self.put(tier, key, Some(expected(fits)), Ttl::Keep),
            Op::Get => Box::pin(async move { tier.get(&store_key).await }),
            Op::Claim(fits) => {
                let tag = last
                    .filter(|_| fits)
                    .map_or(ClaimTag::new([9; 32]), |entry| entry.tag);
                Box::pin(async move {
                    let claim = tier
                        .claim(&store_key, &tag, version, Duration::from_secs(1))
                        .await?;
                    Ok(claim.map(|claim| claim.entry))
                })
            }
            Op::Remove(fits) => {
                let expected = Some(expected(fits));
                Box::pin(async move {
                    match tier.swap(&store_key, expected, Change::Remove, &[]).await? {
                        Swap::Swapped => Ok(None),
                        Swap::Conflict(found) => Ok(found),
                    }
                })
            }
        };
        self.flights.push(Flight {
            key,
            insert: false,
            call,
        });
    }

    fn go_on(&mut self, flight: usize) {
        if let Poll::Ready(shown) = poll(&mut self.flights[flight].call) {
            let Flight { key, insert, .. } = self.flights.swap_remove(flight);
            self.last[key] = shown.unwrap();
            self.known[key] |= insert;
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for key in 0..KEYS {
            let truth = poll(&mut {
                let (truth, key) = (self.truth.clone(), Self::key(key));
                Box::pin(async move { truth.get(&key).await.unwrap() })
            });
            let Poll::Ready(truth) = truth else {
                panic!("the store itself does not wait")
            };
            // No request concerns a key whose insert has not returned. For a key that is
            // reinserted, nothing is known while calls are in progress.
            let asked = self.known[key]
                && !(self.reused && self.flights.iter().any(|flight| flight.key == key));
            for (number, tier) in self.tiers.iter().enumerate() {
                match tier.peek(&Self::key(key)) {
                    Some(Hint::Gone) if asked => {
                        prop_assert_eq!(
                            &truth,
                            &None,
                            "tier {} considers key {} ended",
                            number,
                            key
                        );
                    }
                    Some(Hint::Value { tag, value }) => {
                        prop_assert!(
                            self.written[key].contains(&(tag, value.clone())),
                            "{key}: {value:?}"
                        );
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn run(mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            self.step(step);
            self.check()?;
        }
        while !self.flights.is_empty() {
            self.go_on(0);
            self.check()?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn no_hint_rejects_an_existing_grant(steps in prop::collection::vec(step(), 1..80)) {
        Model::new(2, false).run(&steps)?;
    }

    #[test]
    fn with_one_tier_a_key_may_be_reinserted(steps in prop::collection::vec(step(), 1..80)) {
        Model::new(1, true).run(&steps)?;
    }
}

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

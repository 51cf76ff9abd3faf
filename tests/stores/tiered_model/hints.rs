//! No hint rejects a request that the store would grant.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use test_support::{Hooked, ManualClock, Plan};
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Hint, Key, MemoryStore, Store as _, StoreError, Swap, TieredStore,
    Ttl, Version,
};

use super::{HOUR, config, poll};

const KEYS: usize = 3;

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

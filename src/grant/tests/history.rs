//! A model of a grant and of all tokens that were ever minted for it. It takes random steps and
//! asks [`decide`] after each of them which tokens are usable.

use proptest::prelude::*;

use super::*;

/// One step in the history of a grant. A token is identified by its position in the order of
/// minting.
#[derive(Clone, Debug)]
enum Step {
    /// A request presents a token, and its rotation ends with this result.
    Present(prop::sample::Index, End),
    Pass(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Committed,
    GivenBack,
    Crashed,
}

fn step() -> impl Strategy<Value = Step> {
    let end =
        prop_oneof![4 => Just(End::Committed), 1 => Just(End::GivenBack), 1 => Just(End::Crashed)];
    let seconds = prop_oneof![
        Just(1),
        Just(59),
        Just(61),
        Just(3601),
        Just(40 * 24 * 3600)
    ];
    prop_oneof![
        5 => (any::<prop::sample::Index>(), end).prop_map(|(token, end)| Step::Present(token, end)),
        1 => seconds.prop_map(Step::Pass),
    ]
}

/// A token of the model.
#[derive(Debug)]
struct Token {
    generation: u32,
    parent: Option<usize>,
    /// A client has presented it to rotate it.
    presented: bool,
    /// A request with an older token has replaced it.
    dropped: bool,
}

/// A grant, with all tokens that were ever minted for it.
struct History {
    record: Option<Record>,
    current: usize,
    tokens: Vec<Token>,
    /// A crashed rotation has left a lease behind that has expired.
    ran_out: bool,
    now: Timestamp,
}

impl History {
    fn hash(token: usize) -> ClaimTag {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(token as u64).to_be_bytes());
        ClaimTag::new(bytes)
    }

    fn verdict(&self, token: usize) -> Verdict {
        let hash = Self::hash(token);
        let current = Self::hash(self.current);
        let presented = Presented {
            client_id: "app",
            generation: self.tokens[token].generation,
            hash: &hash,
        };
        let standing = if self.ran_out {
            Standing::RanOut
        } else {
            Standing::Free
        };
        let Some(record) = &self.record else {
            return Verdict::Refuse(Refusal::Unknown);
        };
        decide(
            StoredGrant {
                record,
                current: &current,
            },
            presented,
            standing,
            false,
            self.now,
        )
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => {
                self.now = self.now.saturating_add(Duration::from_secs(*seconds))
            }
            Step::Present(token, end) => self.present(token.index(self.tokens.len()), *end),
        }
    }

    fn present(&mut self, token: usize, end: End) {
        let verdict = self.verdict(token);
        match verdict {
            Verdict::Refuse(Refusal::Reuse) => self.record = None,
            Verdict::Proceed(Proceed::Rotate) => self.rotate(token, true, end),
            Verdict::Proceed(Proceed::Converge) => self.converge(end),
            Verdict::Proceed(Proceed::Recover) => self.rotate(token, false, end),
            _ => {}
        }
    }

    fn converge(&mut self, end: End) {
        if end == End::Committed {
            self.ran_out = false;
            let mut record = renewed(self.record.as_ref().unwrap(), self.now);
            if let Some(previous) = &mut record.previous {
                previous.begin(self.now, WINDOWS);
            }
            self.record = Some(record);
        }
    }

    fn rotate(&mut self, token: usize, current: bool, end: End) {
        let Some(record) = self.record.take() else {
            return;
        };
        if current {
            self.tokens[token].presented = true;
        }
        self.record = Some(match end {
            End::Committed => {
                let generation = record.next_generation(!current);
                if !current {
                    self.tokens[self.current].dropped = true;
                }
                let next = Token {
                    generation,
                    parent: Some(token),
                    presented: false,
                    dropped: false,
                };
                self.tokens.push(next);
                self.current = self.tokens.len() - 1;
                self.ran_out = false;
                rotated(&record, self.now, generation, Self::hash(token))
            }
            End::GivenBack if !current => {
                self.ran_out = false;
                record
            }
            End::GivenBack => {
                self.ran_out = false;
                record.presented()
            }
            End::Crashed => {
                self.ran_out |= current;
                record
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_unrelated_tokens_are_never_usable_at_once(steps in prop::collection::vec(step(), 1..60)) {
        let first = Token { generation: 0, parent: None, presented: false, dropped: false };
        let mut history =
            History { record: Some(begun()), current: 0, tokens: vec![first], ran_out: false, now: at(0) };
        for step in &steps {
            history.step(step);
            let usable = |token: &usize| matches!(
                history.verdict(*token),
                Verdict::Proceed(Proceed::Rotate | Proceed::Replay | Proceed::Converge | Proceed::Recover)
            );
            let usable: Vec<usize> = (0..history.tokens.len()).filter(usable).collect();
            let parent = history.tokens[history.current].parent;
            for token in usable {
                let state = &history.tokens[token];
                prop_assert!(!state.dropped, "{token} was dropped");
                prop_assert!(token == history.current || Some(token) == parent, "{token} is unrelated");
                let previous = history.record.as_ref().and_then(|record| record.previous.as_ref());
                let windowed = previous.is_some_and(|previous| history.now < previous.shared_until);
                if token != history.current && !windowed {
                    prop_assert!(!history.tokens[history.current].presented, "the successor of {token} was presented");
                }
            }
            if let Some(record) = &history.record {
                prop_assert_eq!(record.generation, history.tokens[history.current].generation);
                let tag = History::hash(history.current);
                let value = record.encode(&KEY, &tag);
                prop_assert_eq!(&Record::decode(&KEY, &tag, &value).unwrap(), record);
            }
        }
    }
}

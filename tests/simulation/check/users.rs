//! The promises about users: their sessions, and the ends of many grants at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tower_oauth_refresh::store::Key;
use tower_oauth_refresh::{Event, EventKind, GrantKey};

use super::{Excuse, Ledger, Line};
use crate::cluster::Life;
use crate::plan::Plan;

/// The time after which a failed write of an index has been repeated, or has been reported as
/// given up.
const REPEATED: Duration = Duration::from_secs(90);

/// The time for which an instance may use the epochs that it has read.
const EPOCHS_AGE: Duration = Duration::from_secs(1);

/// Clocks of instances show whole milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// The owner of a session of the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) person: usize,
    pub(crate) client: String,
    /// Whether the upstream names the person with the first refresh, instead of with the log-in.
    pub(crate) late: bool,
}

/// The beginning of a grant, by the clock of its instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Born {
    earliest: Duration,
    latest: Duration,
}

/// The events about the entry of a grant in the index of its user.
#[derive(Debug, Default)]
struct Listing {
    /// The time at which the log-in or the adoption was complete.
    issued: Option<Duration>,
    /// The time at which the first rotation that named the user was complete.
    named: Option<Duration>,
    /// The instance that failed to list it, and when.
    failed: Option<(Life, Duration)>,
    /// Whether it was given up, or lost by a crash or by the store.
    lost: bool,
}

/// A call of `end_client` or `end_all`.
#[derive(Debug)]
struct Epoch {
    client: Option<String>,
    /// The time of the call, by the clock of its instance.
    at: Duration,
    /// The time from which every instance must know it. `None` if it did not succeed.
    since: Option<Duration>,
    lost: bool,
}

impl Epoch {
    fn is_of(&self, client: Option<&str>) -> bool {
        self.client.is_none() || self.client.as_deref() == client
    }
}

/// A call of the program that ends many grants.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Person(usize),
    Client(String),
    All,
}

/// A call of the program in progress.
#[derive(Debug)]
pub(crate) struct Ending {
    at: Duration,
    end: End,
    /// The number of the epoch, if it is one.
    epoch: usize,
}

#[derive(Debug, Default)]
pub(super) struct Users {
    /// The time by which the clock of each instance is ahead.
    skews: Vec<Duration>,
    owners: BTreeMap<usize, Owner>,
    listings: BTreeMap<GrantKey, Listing>,
    epochs: Vec<Epoch>,
    /// The keys of the indexes, and the persons whose sessions are being ended.
    indexes: BTreeSet<Key>,
    ending: Vec<usize>,
}

impl Users {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            skews: plan.skews.clone(),
            ..Self::default()
        }
    }

    /// Returns when a grant began that this instance has stored now.
    pub(super) fn born(&self, life: Life, now: Duration) -> Born {
        let ahead = self.skews[life.instance];
        Born {
            earliest: (now + ahead).saturating_sub(Duration::from_secs(100)),
            latest: now + ahead,
        }
    }

    fn client(&self, line: &Line) -> Option<&str> {
        let owner = self.owners.get(&line.session?)?;
        Some(owner.client.as_str())
    }

    /// Returns whether the grant must have been in the index of its user at this time.
    fn is_listed(&self, key: &Key, owner: &Owner, at: Duration) -> bool {
        let Some(listing) = self.listings.get(&GrantKey::from(*key)) else {
            return false;
        };
        let complete = if owner.late {
            listing.named
        } else {
            listing.issued
        };
        complete.is_some_and(|complete| complete <= at)
            && !listing.lost
            && listing
                .failed
                .is_none_or(|(_, failed)| failed + REPEATED <= at)
    }
}

/// Reports of the upstream, the store and the instances.
impl Ledger {
    /// Records the owner of a session.
    pub(crate) fn began(&mut self, session: usize, owner: Owner) {
        if self.users.ending.contains(&owner.person) {
            self.excuse(session, Excuse::Ended);
        }
        self.users.owners.insert(session, owner);
    }

    pub(super) fn indexed(&mut self, key: Key) {
        self.users.indexes.insert(key);
    }

    /// Records that the store has lost a write of an entry that is not a grant.
    pub(super) fn users_rolled_back(&mut self, key: &Key) {
        if self.users.indexes.contains(key) {
            for listing in self.users.listings.values_mut() {
                listing.lost = true;
            }
        }
        if *key == crate::token::epochs_key() {
            for epoch in &mut self.users.epochs {
                epoch.lost = true;
            }
        }
    }

    pub(super) fn listing_crashed(&mut self, life: Life, now: Duration) {
        for listing in self.users.listings.values_mut() {
            listing.lost |= listing
                .failed
                .is_some_and(|(failed, at)| failed == life && now < at + REPEATED);
        }
    }

    /// Records what an event says about the beginning of a grant and about its listing.
    pub(super) fn record_user_event(&mut self, event: &Event, life: Life, now: Duration) {
        let Some(grant) = event.grant.filter(|_| !self.users.owners.is_empty()) else {
            return;
        };
        let lines = self.lines.iter_mut();
        let line = lines
            .map(|(key, line)| (GrantKey::from(*key), line))
            .find_map(|(key, line)| (key == grant).then_some(line));
        let owner = line.as_ref().and_then(|line| line.session);
        let late = owner
            .and_then(|session| self.users.owners.get(&session))
            .is_some_and(|owner| owner.late);
        let ahead = self.users.skews[life.instance];
        let listing = self.users.listings.entry(grant).or_default();
        match (event.kind, line) {
            (EventKind::Issued | EventKind::Adopted, line) => {
                listing.issued.get_or_insert(now);
                if let Some(born) = line.and_then(|line| line.born.as_mut()) {
                    let begun = now.saturating_sub(event.elapsed) + ahead;
                    born.earliest = born.earliest.max(begun);
                }
            }
            (
                EventKind::Rotated
                | EventKind::Kept
                | EventKind::Recovered
                | EventKind::Converged
                | EventKind::Renewed,
                Some(line),
            ) if line.named_by == Some(life) => {
                listing.named.get_or_insert(now);
            }
            (EventKind::SessionUnlisted, _) => listing.lost = true,
            (EventKind::StoreUnavailable, _)
                if event.generation.is_none()
                    && (listing.issued.is_none() || (late && listing.named.is_none())) =>
            {
                listing.failed = Some((life, now));
            }
            _ => {}
        }
    }
}

/// Reports of the program.
impl Ledger {
    /// Records that the program is about to end grants at an instance.
    pub(crate) fn ending(&mut self, end: &End, instance: usize, now: Duration) -> Ending {
        let epoch = self.users.epochs.len();
        let client = match end {
            End::Person(person) => {
                self.users.ending.push(*person);
                let owned = self.users.owners.iter();
                let sessions = owned.filter(|(_, owner)| owner.person == *person);
                for session in sessions.map(|(session, _)| *session).collect::<Vec<_>>() {
                    self.excuse(session, Excuse::Ended);
                }
                None
            }
            End::Client(client) => Some(Some(client.clone())),
            End::All => Some(None),
        };
        if let Some(client) = client {
            self.users.epochs.push(Epoch {
                client,
                at: now + self.users.skews[instance],
                since: None,
                lost: false,
            });
        }
        Ending {
            at: now,
            end: end.clone(),
            epoch,
        }
    }

    /// Records that such a call has returned, or that its instance has crashed.
    pub(crate) fn ended(&mut self, ending: Ending, succeeded: bool, now: Duration) {
        let Ending { at, end, epoch } = ending;
        let End::Person(person) = end else {
            if succeeded {
                self.users.epochs[epoch].since = Some(now + EPOCHS_AGE);
            }
            return;
        };
        let ending = &mut self.users.ending;
        if let Some(place) = ending.iter().position(|other| *other == person) {
            ending.swap_remove(place);
        }
        if !succeeded {
            return;
        }
        let mut over = Vec::new();
        for (key, session, owner) in self.owned(person) {
            if self.users.is_listed(key, owner, at) && !self.has(session, Excuse::RolledBack) {
                over.push(*key);
            }
        }
        for key in over {
            let line = self.lines.entry(key).or_default();
            line.dead
                .get_or_insert((now, "the sessions of its user were ended"));
        }
    }

    /// Checks a list of the sessions of a person, which was asked for at this time.
    pub(crate) fn listed(&mut self, person: usize, found: &[(GrantKey, String)], at: Duration) {
        let mut wrong = Vec::new();
        for (key, line) in &self.lines {
            let grant = GrantKey::from(*key);
            let Some(client) = found
                .iter()
                .find_map(|(found, client)| (*found == grant).then_some(client))
            else {
                continue;
            };
            let Some(owner) = line
                .session
                .and_then(|session| self.users.owners.get(&session))
            else {
                continue;
            };
            if owner.person != person || owner.client != *client {
                wrong.push(format!("a session of another user: {:?}", line.session));
            }
            // The store may have lost the end before the instance reported it.
            let rolled_back = line
                .session
                .is_some_and(|session| self.has(session, Excuse::RolledBack));
            if let Some((_, why)) = self.end_of(key).filter(|(since, _)| *since < at)
                && !rolled_back
            {
                wrong.push(format!("the ended session {:?} ({why})", line.session));
            }
        }
        for (key, session, owner) in self.owned(person) {
            let line = &self.lines[key];
            let ended = line.dead.is_some() || line.removed || line.retirement.has_begun();
            let alive = !ended && !self.has_excuse(session);
            let is_found = found
                .iter()
                .any(|(found, _)| *found == GrantKey::from(*key));
            if alive && !is_found && self.users.is_listed(key, owner, at) {
                wrong.push(format!("no session {session}, which is alive"));
            }
        }
        self.violations.extend(
            wrong
                .into_iter()
                .map(|wrong| format!("the list of the sessions of a user had {wrong}")),
        );
    }

    /// Returns the grants of a person, whose clients have received a token.
    fn owned(&self, person: usize) -> impl Iterator<Item = (&Key, usize, &Owner)> {
        self.lines.iter().filter_map(move |(key, line)| {
            let session = line.session?;
            let owner = self.users.owners.get(&session)?;
            (owner.person == person).then_some((key, session, owner))
        })
    }

    fn has(&self, session: usize, excuse: Excuse) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|session| session.excuses.contains(&excuse))
    }

    /// Returns when and why a grant became invalid.
    pub(crate) fn end_of(&self, key: &Key) -> Option<(Duration, &'static str)> {
        let line = self.lines.get(key)?;
        let client = self.users.client(line);
        let epochs = self.users.epochs.iter().filter(|epoch| {
            !epoch.lost
                && epoch.is_of(client)
                && line.born.is_some_and(|born| born.latest + TICK <= epoch.at)
        });
        let epoch = epochs
            .filter_map(|epoch| epoch.since)
            .map(|since| (since, "all grants of its client were ended"));
        epoch.chain(line.dead).min_by_key(|(since, _)| *since)
    }

    /// Returns whether the program may have ended this session by an epoch.
    pub(super) fn has_epoch(&self, session: usize) -> bool {
        !self.users.epochs.is_empty()
            && self.lines.values().any(|line| {
                line.session == Some(session)
                    && self.users.epochs.iter().any(|epoch| {
                        epoch.is_of(self.users.client(line))
                            && line
                                .born
                                .is_some_and(|born| born.earliest <= epoch.at + TICK)
                    })
            })
    }
}

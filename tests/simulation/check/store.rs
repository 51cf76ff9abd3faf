//! Reports of the store and the instances.

use std::time::Duration;

use tower_oauth_refresh::store::{ClaimTag, Key};
use tower_oauth_refresh::{Event, EventKind, GrantKey};

use super::hand_back::Retirement;
use super::{Excuse, Ledger, access};
use crate::cluster::Life;
use crate::shelf::Effect;

impl Ledger {
    pub(crate) fn stored(&mut self, effect: Effect, life: Life, now: Duration) {
        match effect {
            Effect::Committed(key, tag, names) => {
                let born = self.users.born(life, now);
                let line = self.lines.entry(key).or_default();
                match line.born {
                    None => line.born = Some(born),
                    Some(_) => drop(line.named_by.get_or_insert(life)),
                }
                let is_new = line.order.is_empty();
                if !is_new {
                    line.retirement.stored(life, now);
                }
                line.order.push(tag);
                line.trail.committed(tag, &names, now);
                line.undone.retain(|(undone, _)| *undone != tag);
                line.touched = now;
                self.settled(&key, life);
                if !is_new && life.hands_back {
                    self.violation("an instance that hands back has rotated a grant");
                }
            }
            Effect::Converged(key, names) => {
                let line = self.lines.entry(key).or_default();
                line.named_by.get_or_insert(life);
                line.converged = true;
                line.retirement.stored(life, now);
                line.trail.converged(&names, self.renews, now);
                line.touched = now;
                self.settled(&key, life);
            }
            Effect::Adopted(key) => {
                let born = self.users.born(life, now);
                let line = self.lines.entry(key).or_default();
                line.adopted = Some(now);
                // The grant that it leads to has begun earlier.
                line.born.get_or_insert(born);
                self.settled(&key, life);
            }
            Effect::Minted(key) => {
                self.minted.insert(key);
            }
            Effect::Indexed(key) => self.indexed(key),
            Effect::Epoch => {}
            Effect::Removed(key) => self.lines.entry(key).or_default().removed = true,
            Effect::TakenOver(key) => {
                let Some(number) = self.lines.get(&key).and_then(|line| line.session) else {
                    return;
                };
                let session = self.sessions.entry(number).or_default();
                session
                    .pending
                    .iter_mut()
                    .for_each(|(_, failed)| *failed = Some(0));
            }
        }
    }

    /// Records that this life has stored the newest upstream token of a grant.
    fn settled(&mut self, key: &Key, life: Life) {
        let session = self.lines.get(key).and_then(|line| line.session);
        if let Some(session) = session.and_then(|number| self.sessions.get_mut(&number)) {
            session.pending.retain(|(pending, _)| *pending != life);
        }
    }

    /// Records that the store did not confirm a write of this life. The session of a new grant is
    /// not known yet.
    pub(crate) fn commit_failed(&mut self, key: &Key, life: Life) {
        let known = self.lines.get(key).and_then(|line| line.session);
        for (number, session) in &mut self.sessions {
            if known.is_some_and(|known| known != *number) {
                continue;
            }
            for (_, failed) in session
                .pending
                .iter_mut()
                .filter(|(pending, _)| *pending == life)
            {
                *failed = failed.map(|failed| failed + 1);
                // One attempt may have been in progress before; a third could come too late.
                if failed.is_some_and(|failed| failed >= 2)
                    && !session.excuses.contains(&Excuse::LeaseRanOut)
                {
                    session.excuses.push(Excuse::LeaseRanOut);
                }
            }
        }
    }

    /// Records that the store has lost writes of a grant, whose tag is now this one.
    pub(crate) fn rolled_back(&mut self, key: &Key, tag: Option<ClaimTag>, now: Duration) {
        self.excuse_line(key, Excuse::RolledBack);
        self.lost.insert(*key);
        self.users_rolled_back(key);
        if !self.lines.contains_key(key) {
            return;
        }
        let line = self.lines.entry(*key).or_default();
        let kept = tag
            .and_then(|tag| line.place(&tag))
            .map_or(0, |place| place + 1);
        let undone: Vec<_> = line.order.drain(kept..).collect();
        line.trail.rolled_back(&line.order, &undone);
        line.undone.extend(undone.into_iter().map(|tag| (tag, now)));
        line.uses.clear();
        line.dead = None;
        line.retirement = Retirement::default();
    }

    pub(crate) fn crashed(&mut self, life: Life, now: Duration) {
        self.listing_crashed(life, now);
        for session in self.sessions.values_mut() {
            if session.pending.iter().any(|(pending, _)| *pending == life) {
                session.pending.retain(|(pending, _)| *pending != life);
                session.excuses.push(Excuse::Crashed);
            }
        }
    }

    pub(crate) fn record_event(&mut self, event: &Event, life: Life, now: Duration) {
        self.record_user_event(event, life, now);
        self.complete.extend(access::minted(event));
        let why = match event.kind {
            EventKind::ReuseDetected => "a token was reused",
            EventKind::Revoked => "it was revoked",
            EventKind::UpstreamRejected => "the upstream rejected it",
            EventKind::CommitLost | EventKind::ReuseUnproven => "",
            _ => return,
        };
        let Some(grant) = event.grant else { return };
        let line = self
            .lines
            .iter_mut()
            .find(|(key, _)| GrantKey::from(**key) == grant);
        let Some((key, line)) = line else { return };
        let key = *key;
        if event.kind == EventKind::CommitLost {
            line.commit_lost = true;
            if self.long_outage {
                self.excuse_line(&key, Excuse::StoreAway);
            }
        } else if event.kind == EventKind::ReuseUnproven {
            line.unproven = Some(now);
            if event
                .client_id
                .as_ref()
                .is_some_and(|client| self.public.contains(client.as_str()))
            {
                self.violation("reuse of the grant of a public client asked for a proof");
            }
        } else {
            line.dead.get_or_insert((now, why));
        }
    }
}

//! The layer with injected bugs, each of which the simulation must find.

mod breakage;
mod lifetime;
mod network;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::store::{
    Announcements, Announcer, Change, Claim, ClaimTag, Entry, Hint, Key, Lease, Sidecar,
    SidecarName, Store, StoreError, Swap, Ttl, Version,
};

pub(crate) use breakage::Breakage;
pub(crate) use network::{Secret, hang_up, outside, probe};

use lifetime::prolonged;

use super::check::link_name;
use super::shelf::{ACCESS, DONE, EPOCHS, INDEX, UNDER_WAY};
use super::token::epochs_key;

/// A store with or without an injected bug.
pub(crate) struct Broken<S> {
    breakage: Option<Breakage>,
    store: S,
    memory: Arc<Mutex<Memory>>,
    silence: Announcer,
}

/// State that an instance should not keep.
#[derive(Default)]
struct Memory {
    seen: HashMap<Key, Entry>,
    sidecars: HashMap<(Key, SidecarName), Bytes>,
    given_up: Vec<Version>,
    ended: HashSet<Key>,
    read: HashMap<Key, Entry>,
    /// The token that each lease was claimed with.
    claimed: HashMap<Version, ClaimTag>,
    links: HashMap<SidecarName, Bytes>,
    epochs: HashMap<Key, Option<Entry>>,
}

/// The length of a link. Stored responses are longer.
const LINK: usize = 64;

impl<S> Broken<S> {
    pub(crate) fn new(breakage: Option<Breakage>, store: S) -> Self {
        Self {
            breakage,
            store,
            memory: Arc::default(),
            silence: Announcer::new(),
        }
    }

    fn is(&self, breakage: Breakage) -> bool {
        self.breakage == Some(breakage)
    }
}

impl<S: Store> Broken<S> {
    /// Returns whether the lease with this version was claimed with this tag.
    fn was_claimed_with(&self, version: Option<Version>, tag: &ClaimTag) -> bool {
        let memory = self.memory.lock().unwrap();
        version.is_some_and(|version| memory.claimed.get(&version) == Some(tag))
    }

    /// Applies the bugs of links to the sidecars of a write.
    fn bent(&self, expected: Option<Version>, sidecars: &[Sidecar]) -> Vec<Sidecar> {
        let mut memory = self.memory.lock().unwrap();
        let claimed = expected.and_then(|version| memory.claimed.get(&version));
        let dropped = claimed.map(link_name);
        let mut bent = sidecars.to_vec();
        let is_link = |sidecar: &Sidecar| sidecar.value.len() == LINK;
        match self.breakage {
            Some(Breakage::HandBackNotStored) => bent.clear(),
            Some(Breakage::NoLinks) => bent.retain(|sidecar| !is_link(sidecar)),
            Some(Breakage::NoLinkOfDropped) => bent.retain(|sidecar| Some(sidecar.name) != dropped),
            Some(Breakage::EternalLink) => bent
                .iter_mut()
                .filter(|sidecar| is_link(sidecar))
                .for_each(|link| link.ttl *= 100),
            Some(Breakage::OldLink) => {
                for link in bent.iter_mut().filter(|sidecar| is_link(sidecar)) {
                    let old = memory.links.entry(link.name);
                    link.value = old.or_insert(link.value.clone()).clone();
                }
            }
            _ => {}
        }
        bent
    }

    async fn claim_anyway(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> ClaimResult {
        loop {
            let Some(entry) = self.store.get(key).await? else {
                return Ok(None);
            };
            if entry.tag != *tag {
                return Ok(Some(Claim::new(Lease::OtherTag(None), entry)));
            }
            let end = self.store.now().saturating_add(lease);
            let claimed = Entry::new(version, entry.tag, entry.value.clone()).with_lease(Some(end));
            let change = Change::Put {
                entry: claimed.clone(),
                ttl: Ttl::Keep,
            };
            if self
                .store
                .swap(key, Some(entry.version), change, &[])
                .await?
                == Swap::Swapped
            {
                return Ok(Some(Claim::new(Lease::Taken, claimed)));
            }
        }
    }

    async fn swap_anyway(
        &self,
        key: &Key,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        loop {
            let found = self.store.get(key).await?.map(|entry| entry.version);
            if let Swap::Swapped = self
                .store
                .swap(key, found, change.clone(), sidecars)
                .await?
            {
                return Ok(Swap::Swapped);
            }
        }
    }

    /// A commit that fails once is abandoned: its lease is free for the next request.
    async fn swap_once(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let version = match &change {
            Change::Put { entry, .. } if !sidecars.is_empty() => entry.version,
            Change::Put { .. } | Change::Remove => {
                return self.store.swap(key, expected, change, sidecars).await;
            }
        };
        if self.memory.lock().unwrap().given_up.contains(&version) {
            return Err(StoreError::corrupt("given up"));
        }
        let swapped = self.store.swap(key, expected, change, sidecars).await;
        if swapped.is_err() {
            self.memory.lock().unwrap().given_up.push(version);
            if let Ok(Some(entry)) = self.store.get(key).await
                && Some(entry.version) == expected
            {
                let mut other = *version.as_bytes();
                other[0] ^= 0xff;
                let freed = Entry::new(Version::new(other), entry.tag, entry.value);
                let change = Change::Put {
                    entry: freed,
                    ttl: Ttl::Keep,
                };
                let _ = self.store.swap(key, expected, change, &[]).await;
            }
        }
        swapped
    }
}

/// Returns whether this write stores a new state of a grant.
fn is_commit(entry: &Entry, ttl: &Ttl) -> bool {
    matches!(ttl, Ttl::After(_)) && ![UNDER_WAY, DONE, ACCESS, EPOCHS, INDEX].contains(&entry.tag)
}

type ClaimResult = Result<Option<Claim>, StoreError>;

impl<S: Store> Store for Broken<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if self.is(Breakage::AdoptedForwarded) {
            let found = self.store.get(key).await?;
            return Ok(found.filter(|entry| ![UNDER_WAY, DONE].contains(&entry.tag)));
        }
        if self.is(Breakage::EpochsReadOnce) && *key == epochs_key() {
            let read = self.memory.lock().unwrap().epochs.get(key).cloned();
            if let Some(read) = read {
                return Ok(read);
            }
            let found = self.store.get(key).await?;
            let mut memory = self.memory.lock().unwrap();
            memory.epochs.insert(*key, found.clone());
            return Ok(found);
        }
        if !self.is(Breakage::StaleTier) {
            return self.store.get(key).await;
        }
        let read = self.memory.lock().unwrap().read.get(key).cloned();
        if read.is_some() {
            return Ok(read);
        }
        let found = self.store.get(key).await?;
        self.memory
            .lock()
            .unwrap()
            .read
            .extend(found.iter().map(|entry| (*key, entry.clone())));
        Ok(found)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let sidecars = &self.bent(expected, sidecars);
        match (self.breakage, &change) {
            (Some(Breakage::NoVersionCheck), _) => self.swap_anyway(key, change, sidecars).await,
            (Some(Breakage::GiveBackAfterFailure), _) => {
                self.swap_once(key, expected, change, sidecars).await
            }
            (Some(Breakage::NoReplay), _) => self.store.swap(key, expected, change, &[]).await,
            (Some(Breakage::NoEnd), Change::Remove) => Ok(Swap::Swapped),
            (Some(Breakage::EpochNotWritten), Change::Put { entry, .. }) if entry.tag == EPOCHS => {
                Ok(Swap::Swapped)
            }
            (Some(Breakage::RenewalNotWritten), Change::Put { entry, ttl })
                if sidecars.is_empty()
                    && matches!(ttl, Ttl::After(_))
                    && self.was_claimed_with(expected, &entry.tag) =>
            {
                Ok(Swap::Swapped)
            }
            (Some(Breakage::RenewedTokenNotWritten), Change::Put { entry, .. })
                if entry.tag == ACCESS && expected.is_some() =>
            {
                Ok(Swap::Swapped)
            }
            (Some(Breakage::HandBackNotWritten), Change::Put { entry, ttl })
                if is_commit(entry, ttl) =>
            {
                Ok(Swap::Swapped)
            }
            (Some(Breakage::NotRetired), Change::Put { entry, ttl }) if is_commit(entry, ttl) => {
                let change = Change::Put {
                    entry: prolonged(key, entry.clone()),
                    ttl: Ttl::After(Duration::from_secs(30 * 24 * 3600)),
                };
                self.store.swap(key, expected, change, sidecars).await
            }
            (Some(Breakage::IndexOverwritten), Change::Put { entry, .. }) if entry.tag == INDEX => {
                self.swap_anyway(key, change, sidecars).await
            }
            (Some(Breakage::IndexNotRetried), Change::Put { entry, .. }) if entry.tag == INDEX => {
                let written = self.store.swap(key, expected, change, sidecars).await;
                Ok(written.unwrap_or(Swap::Swapped))
            }
            (Some(Breakage::StaleTier), _) => {
                let swap = self
                    .store
                    .swap(key, expected, change.clone(), sidecars)
                    .await?;
                match change {
                    Change::Put { entry, .. } => {
                        self.memory.lock().unwrap().read.insert(*key, entry)
                    }
                    Change::Remove => self.memory.lock().unwrap().read.remove(key),
                };
                Ok(swap)
            }
            _ => self.store.swap(key, expected, change, sidecars).await,
        }
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        if !self.is(Breakage::ReplayFromHint) {
            return self.store.sidecar(key, name).await;
        }
        if let Some(value) = self.memory.lock().unwrap().sidecars.get(&(*key, *name)) {
            return Ok(Some(value.clone()));
        }
        let found = self.store.sidecar(key, name).await?;
        if let Some(value) = &found {
            self.memory
                .lock()
                .unwrap()
                .sidecars
                .insert((*key, *name), value.clone());
        }
        Ok(found)
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> ClaimResult {
        let converges = self.is(Breakage::ConvergeWithoutLease) && version.as_bytes()[7] & 1 == 1;
        if self.is(Breakage::NoLease)
            || converges
            || (self.is(Breakage::NoWaitToAdopt) && *tag == UNDER_WAY)
        {
            return self.claim_anyway(key, tag, version, lease).await;
        }
        if self.is(Breakage::ReplayFromHint) {
            let seen = self.memory.lock().unwrap().seen.get(key).cloned();
            if let Some(seen) = seen.filter(|seen| seen.tag != *tag) {
                return Ok(Some(Claim::new(Lease::OtherTag(None), seen)));
            }
        }
        let claim = self.store.claim(key, tag, version, lease).await;
        if claim.is_err() && self.is(Breakage::EndFromFailure) {
            self.memory.lock().unwrap().ended.insert(*key);
        }
        let mut claim = claim?;
        if self.is(Breakage::SilentTakeover) {
            return Ok(claim.map(|claim| claim.taking_over(false)));
        }
        if let Some(claim) = &mut claim {
            match &mut claim.lease {
                Lease::Taken => {
                    self.memory.lock().unwrap().claimed.insert(version, *tag);
                }
                Lease::OtherTag(held) if self.is(Breakage::ConvergeWithoutLease) => *held = None,
                Lease::OtherTag(_) | Lease::Held(_) => {}
            }
        }
        if let Some(Claim {
            lease: Lease::OtherTag(_),
            entry,
            ..
        }) = &claim
        {
            self.memory.lock().unwrap().seen.insert(*key, entry.clone());
        }
        Ok(claim)
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        if self.memory.lock().unwrap().ended.contains(key) {
            return Some(Hint::Gone);
        }
        self.store.peek(key)
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        self.store.announce(ended).await
    }

    fn announcements(&self) -> Option<Announcements> {
        if self.is(Breakage::Deaf) {
            return Some(self.silence.subscribe());
        }
        self.store.announcements()
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }
}

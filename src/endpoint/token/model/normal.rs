//! The normal form of a state: states that differ in nothing that matters are one.

use super::grant::Token;
use super::state::State;
use super::store::Call;
use super::task::Task;

impl State {
    /// Removes links, answers and late calls that can have no effect any more, and orders the rest.
    pub(super) fn normalise(&mut self) {
        let mut held: Vec<_> = self
            .clients
            .iter()
            .filter_map(|client| client.token)
            .chain(self.tasks.iter().flat_map(Task::tokens))
            .collect();
        let mut seen = 0;
        while seen < held.len() {
            let next = self.links.iter().filter(|link| link.of == held[seen]);
            let next: Vec<_> = next.map(|link| link.next).collect();
            held.extend(next);
            seen += 1;
            if held.len() > 64 {
                break;
            }
        }
        self.links.retain(|link| held.contains(&link.of));
        self.history.old.retain(|(token, _)| held.contains(token));
        let current = self.entry.map(|stored| stored.current);
        let pending = |token: &Token| {
            self.tasks
                .iter()
                .any(|task| task.tokens().any(|of| of == *token))
        };
        self.answers
            .retain(|(token, _)| Some(*token) == current || pending(token));
        if self.history.last.is_some_and(|last| !held.contains(&last)) {
            self.history.last = None;
        }
        self.drop_late_calls();
        self.links.sort_unstable();
        self.answers.sort_unstable();
        self.history.old.sort_unstable();
        self.late.sort_unstable();
        self.tasks.sort_unstable();
        // The instances are alike: the first request is at the first one.
        if self.tasks.first().is_some_and(|task| task.instance == 1) {
            for task in &mut self.tasks {
                task.instance = 1 - task.instance;
            }
            self.tasks.sort_unstable();
        }
    }

    /// Removes the late calls that can have no effect any more: neither a version nor a tag of the
    /// entry returns, unless a call that is still to come brings it.
    fn drop_late_calls(&mut self) {
        let puts = self.late.iter().filter_map(Call::put);
        let tags: Vec<_> = self
            .entry
            .iter()
            .map(|stored| stored.current)
            .chain(puts.map(|put| put.stored.current))
            .chain(self.commits().flat_map(Task::tokens))
            .collect();
        let versions = self.entry.iter().map(|stored| stored.version);
        let claims = self.late.iter().filter_map(Call::claims);
        let tasks = self.tasks.iter().map(|task| task.id);
        let versions: Vec<_> = versions.chain(claims).chain(tasks).collect();
        self.late.retain(|call| match call {
            Call::Claim { tag, .. } => tags.contains(tag),
            Call::Put { expected, .. } | Call::Remove { expected } => versions.contains(expected),
        });
    }

    /// Returns the same state with the two honest copies swapped.
    pub(super) fn with_copies_swapped(&self) -> Self {
        let mut state = self.clone();
        state.clients.swap(0, 1);
        state.history.apart.swap(0, 1);
        state.history.went_on.swap(0, 1);
        for task in &mut state.tasks {
            task.client = task.client.map(|client| match client {
                0 => 1,
                1 => 0,
                thief => thief,
            });
        }
        state.normalise();
        state
    }
}

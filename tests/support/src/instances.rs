//! Several instances over one store, many sessions, and checks of the outcome.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tower_oauth_refresh::{EventKind, Store};

use crate::requests::generation;
use crate::{Answer, App, PATIENCE, Upstream, refresh_form};

/// The time after which a client retries. It is shorter than `Retry-After`, which only makes the
/// test harder.
const PAUSE: Duration = Duration::from_millis(150);

/// Logs this many clients in, at one instance after the other.
pub async fn log_in_many<S: Store + Clone>(instances: &[App<S>], count: usize) -> Vec<String> {
    let mut tokens = Vec::with_capacity(count);
    for (instance, _) in instances.iter().cycle().zip(0..count) {
        tokens.push(instance.log_in("app").await);
    }
    tokens
}

/// Begins a refresh with each of the tokens, at one instance after the other. Each has sent its
/// claim when this returns.
pub fn refresh_each<S: Store + Clone>(instances: &[App<S>], tokens: &[String]) -> JoinSet<Answer> {
    let mut requests = JoinSet::new();
    for (instance, token) in instances.iter().cycle().zip(tokens) {
        let (instance, token) = (instance.clone(), token.clone());
        // It is polled here, because an aborted task that was only spawned might never have run.
        let mut request = Box::pin(tokio::task::unconstrained(async move {
            instance.refresh(&token).await
        }));
        match request
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answer) => requests.spawn(std::future::ready(answer)),
            Poll::Pending => requests.spawn(request),
        };
    }
    requests
}

/// Panics unless the response tells the client to retry.
#[track_caller]
pub fn assert_away(answer: &Answer) {
    assert_eq!(
        answer.error(),
        (503, "temporarily_unavailable".into()),
        "{answer:?}"
    );
    assert_eq!(answer.headers["retry-after"], "1", "{answer:?}");
}

/// Returns the response that a conforming client gets in the end: it retries when told to, each
/// time at another instance.
pub async fn refresh_patiently<S: Store + Clone>(
    instances: &[App<S>],
    first: usize,
    token: &str,
) -> Answer {
    post_patiently(instances, first, &refresh_form("app", token)).await
}

/// Like [`refresh_patiently`], with this form.
pub async fn post_patiently<S: Store + Clone>(
    instances: &[App<S>],
    first: usize,
    form: &[(&str, &str)],
) -> Answer {
    let end = Instant::now() + PATIENCE;
    for instance in instances.iter().cycle().skip(first) {
        let answer = instance.post("/token", form).await;
        if answer.status != 503 {
            return answer;
        }
        assert_away(&answer);
        assert!(Instant::now() < end, "not in time: {answer:?}");
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("there are instances")
}

/// Refreshes every token twice, as its client would. Returns how many clients get `invalid_grant`
/// instead, and the tokens of the others.
pub async fn go_on<S: Store + Clone>(
    instances: &[App<S>],
    tokens: &[String],
) -> (usize, Vec<String>) {
    let mut clients = JoinSet::new();
    for (number, token) in tokens.iter().enumerate() {
        let (instances, token) = (instances.to_vec(), token.clone());
        clients.spawn(async move {
            let mut token = token;
            for round in 0..2 {
                // First at the instance at which it was not before.
                let answer = refresh_patiently(&instances, number + 1 + round, &token).await;
                if answer.error() == (400, "invalid_grant".into()) {
                    return None;
                }
                token = answer.token();
            }
            Some(token)
        });
    }
    let left: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    (tokens.len() - left.len(), left)
}

/// Panics if the upstream has done more than one refresh for each token that a client has now and
/// for each convergence, or if a commit was lost.
#[track_caller]
pub fn assert_nothing_lost(
    case: &str,
    upstream: &Upstream,
    tokens: &[String],
    events: &[EventKind],
) {
    assert_eq!(
        (upstream.reuses(), upstream.alive()),
        (0, tokens.len()),
        "{case}: (reuses, sessions alive)"
    );
    let minted: usize = tokens
        .iter()
        .map(|token| usize::try_from(generation(token)).unwrap())
        .sum();
    let rotations = minted + count(events, EventKind::Converged);
    assert_eq!(
        (upstream.rotations(), upstream.refreshes()),
        (rotations, rotations),
        "{case}: what the upstream saw"
    );
    assert!(
        !events.contains(&EventKind::CommitLost),
        "{case}: {events:?}"
    );
}

/// Returns the events of all instances since the last call.
pub fn events<S: Store + Clone>(instances: &[App<S>]) -> Vec<EventKind> {
    instances.iter().flat_map(App::events).collect()
}

pub fn count(events: &[EventKind], kind: EventKind) -> usize {
    events.iter().filter(|event| **event == kind).count()
}

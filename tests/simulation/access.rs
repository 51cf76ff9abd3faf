//! The routes that accept access tokens of the layer, and the clients that present them.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{BoxError, Service, ServiceExt as _};
use tower_oauth_refresh::store::{Announcer, ClaimTag, Key};

use super::upstream::PASS;
use super::world::World;

/// The time for which an instance caches an access token.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(10);

/// The announcements that an instance receives, and the time when its cache was last emptied.
///
/// The cache of an instance uses real time, of which a run takes a few milliseconds. Instead, the
/// channel reports every ten seconds that announcements may have been lost.
#[derive(Clone, Default)]
pub(crate) struct Ear {
    announcer: Announcer,
    forgot: Arc<Mutex<Duration>>,
}

impl Ear {
    pub(crate) const fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn forget(&self, now: Duration) {
        let mut forgot = self.forgot.lock().unwrap();
        if *forgot + REMEMBERED <= now {
            *forgot = now;
            self.announcer.lost();
        }
    }
}

/// An access token that a client received.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) text: String,
    /// The key of its own entry, and that of the grant with which it ends.
    pub(crate) key: Key,
    pub(crate) grant: Key,
    pub(crate) generation: u32,
    pub(crate) session: usize,
    /// The refresh token in the same response.
    pub(crate) with: ClaimTag,
    /// The expiry of its first upstream access token.
    pub(crate) upstream_until: Duration,
    /// The time of its expiry, by a clock that is right within [`Pass::MARGIN`].
    pub(crate) until: Duration,
}

impl Pass {
    /// The largest difference between the clocks that mint and check a token, in total.
    pub(crate) const MARGIN: Duration = Duration::from_secs(30);
}

/// The service behind the guard. It responds with the session to which the upstream token belongs.
#[derive(Clone)]
pub(crate) struct Resource(Arc<World>);

impl Resource {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self(Arc::clone(world))
    }
}

impl Service<Request<Full<Bytes>>> for Resource {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let bearer = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let token = bearer
            .strip_prefix("Bearer ")
            .and_then(|token| token.strip_prefix(PASS))
            .unwrap_or_default();
        let mut numbers = token.split('-').skip(1);
        let session = numbers.next().unwrap_or_default().to_owned();
        let numbers = session
            .parse()
            .ok()
            .zip(numbers.next().and_then(|count| count.parse().ok()));
        if let Some(token) = numbers
            && self.0.sessions().has_expired(&self.0, token, Pass::MARGIN)
        {
            let mut ledger = self.0.ledger();
            ledger.violation("a request was sent on with an expired upstream access token");
        }
        ready(Ok(Response::new(Full::from(session))))
    }
}

/// Presents an access token to a random instance, and again if that cannot be answered now.
pub(crate) async fn present(world: &World, name: &str, pass: &Pass) {
    for _ in 0..20 {
        if present_once(world, name, pass).await {
            return;
        }
        world.pause(1000, 3000).await;
    }
    let text = format!(
        "an access token of session {} is not answered",
        pass.session
    );
    world.ledger().violation(text);
}

/// Returns `false` if the answer was 503 although nothing goes wrong any more: the renewal of the
/// upstream access token may wait for a lease that was taken over.
async fn present_once(world: &World, name: &str, pass: &Pass) -> bool {
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        return true;
    };
    let Some(guarded) = instance.guarded.clone() else {
        return true;
    };
    instance.ear.forget(world.elapsed());
    world.pause(1, 15).await;
    let crashed = instance.crashed.notified();
    if !world.cluster.is_alive(instance.life) {
        return true;
    }
    let (at, calm) = (world.elapsed(), world.is_calm());
    world.note(|| {
        format!(
            "{name} shows i{} the access token {:?} of {}",
            instance.life.instance, pass.key, pass.session
        )
    });
    let request = Request::get("/orders").header("authorization", format!("Bearer {}", pass.text));
    let request = guarded.oneshot(request.body(Full::default()).unwrap());
    let answer = tokio::select! {
        biased;
        answer = request => answer,
        () = crashed => return true,
    };
    if !world.cluster.is_alive(instance.life) {
        return true;
    }
    let (head, body) = answer.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    world.note(|| {
        format!(
            "{name} of i{} sees {} {body:?}",
            instance.life.instance, head.status
        )
    });
    let mut ledger = world.ledger();
    match head.status {
        StatusCode::OK if body == pass.session.to_string() => ledger.let_in(pass, at),
        StatusCode::UNAUTHORIZED => ledger.kept_out(pass, world.elapsed()),
        StatusCode::SERVICE_UNAVAILABLE if !calm => {}
        StatusCode::SERVICE_UNAVAILABLE if world.plan.renewed_after.is_some() => return false,
        status => {
            let who = instance.life.instance;
            ledger.violation(format!(
                "an access token of session {} got {status} {body:?} from i{who}",
                pass.session
            ));
        }
    }
    true
}

/// Presents access tokens that were issued at any time.
pub(crate) async fn present_old(world: &World, name: &str, most: usize) {
    for _ in 0..most {
        let passes = world.ledger().passes().to_vec();
        let Some(pass) = world.pick(&passes) else {
            return;
        };
        present(world, name, pass).await;
    }
}

//! The routes that accept access tokens of the layer, and the clients that present them.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{BoxError, Service, ServiceExt as _};
use tower_oauth_refresh::store::{Announcer, Key};

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
    /// The time of its expiry, by a clock that is right within [`Pass::MARGIN`].
    pub(crate) until: Duration,
}

impl Pass {
    /// The largest difference between the clocks that mint and check a token, in total.
    pub(crate) const MARGIN: Duration = Duration::from_secs(30);
}

/// The service behind the guard. It responds with the session to which the upstream token belongs.
#[derive(Clone, Debug)]
pub(crate) struct Resource;

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
        let session = token.split('-').nth(1).unwrap_or_default().to_owned();
        ready(Ok(Response::new(Full::from(session))))
    }
}

/// Presents an access token to a random instance.
pub(crate) async fn present(world: &World, name: &str, pass: &Pass) {
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        return;
    };
    let Some(guarded) = instance.guarded.clone() else {
        return;
    };
    instance.ear.forget(world.elapsed());
    world.pause(1, 15).await;
    let crashed = instance.crashed.notified();
    if !world.cluster.is_alive(instance.life) {
        return;
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
        () = crashed => return,
    };
    if !world.cluster.is_alive(instance.life) {
        return;
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
        status => {
            let who = instance.life.instance;
            ledger.violation(format!(
                "an access token of session {} got {status} {body:?} from i{who}",
                pass.session
            ));
        }
    }
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

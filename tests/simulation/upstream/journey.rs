//! The way of a request to the authorization server and back.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower::BoxError;

use super::form::Form;
use super::sessions::{Refreshed, Served, refused, serve};
use crate::cluster::{self, Life};
use crate::world::World;

/// The fate of a request on its way to the server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The server is unavailable and has done nothing.
    Unavailable,
    /// The connection breaks before the request arrives.
    Broken,
    /// The response is lost, late or unreadable, after the request had its effect.
    Lost,
    Late,
    Garbled,
}

/// A request that an instance has sent.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) life: Life,
    pub(super) path: String,
    pub(super) form: Form,
    /// Whether it is the request of the client itself.
    pub(super) forwarded: bool,
}

#[derive(Debug)]
pub(super) struct Journey {
    out: Duration,
    back: Duration,
    fault: Option<Fault>,
    /// Whether the instance dies before or after the server has received the request.
    crash: Option<bool>,
}

impl Journey {
    pub(super) fn random(world: &World) -> Self {
        let mut journey = Self {
            out: world.millis(0, 20),
            back: world.millis(0, 20),
            fault: None,
            crash: None,
        };
        // Less than the time-out of the layer, together with the delay above.
        let long = u32::try_from(world.plan.rotation_timeout.as_millis()).unwrap() * 2 - 500;
        if world.strikes(world.plan.upstream_faults) {
            match world.below(4) {
                0 => journey.fault = Some(Fault::Unavailable),
                1 => journey.fault = Some(Fault::Broken),
                2 => journey.out = world.millis(100, long),
                _ => journey.back = world.millis(100, long),
            }
        }
        if world.strikes(world.plan.lost_answers) {
            journey.fault = world
                .pick(&[Fault::Lost, Fault::Late, Fault::Garbled])
                .copied();
        }
        if world.strikes(world.plan.crashes) {
            journey.crash = Some(world.one_in(2, 1));
        }
        journey
    }

    /// Runs independently of the caller: the server serves every request that has reached it.
    pub(super) async fn run(
        self,
        world: Arc<World>,
        request: Arrival,
        answer: oneshot::Sender<Result<Served, BoxError>>,
    ) {
        let Arrival {
            life,
            path,
            form,
            forwarded,
        } = request;
        if self.crash == Some(true) {
            cluster::crash(&world, life);
        }
        sleep(self.out).await;
        let broken = || Err(BoxError::from("the connection broke"));
        let nothing_done = match self.fault {
            Some(Fault::Broken) => Some(broken()),
            Some(Fault::Unavailable) => Some(Ok(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
            ))),
            _ => None,
        };
        if let Some(nothing_done) = nothing_done {
            world.note(|| format!("i{} {path} fails at the server", life.instance));
            let _ = answer.send(nothing_done);
            return;
        }
        let (served, refreshed) = serve(&world, life, &path, &form, forwarded);
        world.note(|| {
            format!(
                "i{} {path} {form:?} -> {served:?}, then {:?}",
                life.instance, self.fault
            )
        });
        if self.crash == Some(false) {
            cluster::crash(&world, life);
        }
        let lost = matches!(self.fault, Some(Fault::Lost | Fault::Late | Fault::Garbled));
        if let Some(Refreshed {
            session,
            replaced: true,
        }) = refreshed.filter(|_| lost)
        {
            world.ledger().answer_lost(session);
        }
        sleep(self.back).await;
        if let Some(Refreshed { session, .. }) = refreshed {
            world.sessions().answered(session, life);
        }
        let _ = answer.send(match self.fault {
            Some(Fault::Lost) => broken(),
            Some(Fault::Late) => {
                sleep(world.plan.rotation_timeout * 3).await;
                Ok(served)
            }
            Some(Fault::Garbled) => Ok((StatusCode::OK, format!("<p>{}</p>", served.1))),
            _ => Ok(served),
        });
    }
}

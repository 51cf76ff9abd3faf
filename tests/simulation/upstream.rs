//! An authorization server as strict as real ones: presenting a refresh token that it has replaced
//! ends the session.

mod form;
mod journey;
mod person;
mod sessions;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tower::{BoxError, Service};

use super::broken;
use super::cluster::Life;
use super::world::World;
use form::Form;
use journey::{Arrival, Journey};
use person::name_in;
use sessions::refused;

pub(crate) use person::subject;
pub(crate) use sessions::Sessions;

/// A part of every refresh token of this server, which no client may see unless grants are handed
/// back.
pub(crate) const MARK: &str = "UPSTREAM";

/// A part of every access token of this server.
pub(crate) const PASS: &str = "PASS";

/// The refresh token in the request of a client, if it is one of this server.
#[derive(Clone)]
pub(crate) struct Shown(pub(crate) String);

/// The server as seen by one life of an instance: the inner service of its layer.
#[derive(Clone)]
pub(crate) struct Upstream {
    world: Arc<World>,
    life: Life,
    /// Whether it adds the secret of the client, for requests of the layer itself.
    adds_secret: bool,
}

impl Upstream {
    pub(crate) fn new(world: &Arc<World>, life: Life) -> Self {
        Self {
            world: Arc::clone(world),
            life,
            adds_secret: false,
        }
    }

    /// Returns the service with which the layer itself refreshes.
    pub(crate) fn for_renewals(world: &Arc<World>, life: Life) -> Self {
        Self {
            adds_secret: true,
            ..Self::new(world, life)
        }
    }

    async fn answer<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: Body<Data = Bytes>,
    {
        let Self {
            world,
            life,
            adds_secret,
        } = self;
        if !world.cluster.is_alive(life) {
            return pending().await;
        }
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| "the body of the layer broke off")?
            .to_bytes();
        let mut form = Form(form_urlencoded::parse(&body).into_owned().collect());
        form.0.extend(
            head.extensions
                .get::<broken::Secret>()
                .map(|secret| ("client_secret".into(), secret.0.clone())),
        );
        if adds_secret {
            let client = form.get("client_id");
            let users = world.plan.users.iter();
            let user = users.clone().find(|user| Some(&*user.client) == client);
            let secret = user.and_then(|user| user.secret.clone());
            form.0
                .extend(secret.map(|secret| ("client_secret".into(), secret)));
        }
        let path = head.uri.path().to_owned();
        let is_probe = form
            .get("refresh_token")
            .is_some_and(|token| !token.starts_with(MARK));
        if let Some((status, error)) = broken::probe(world.breakage).filter(|_| is_probe) {
            let (status, body) = refused(status, error);
            return Ok(Response::builder().status(status).body(Full::from(body))?);
        }
        let shown = head.extensions.get::<Shown>().map(|Shown(token)| &**token);
        let arrival = Arrival {
            life,
            forwarded: life.hands_back && shown.is_some() && shown == form.get("refresh_token"),
            path,
            form,
        };
        let (answer, arrives) = oneshot::channel();
        tokio::spawn(Journey::random(&world).run(Arc::clone(&world), arrival, answer));
        let served = arrives.await;
        if !world.cluster.is_alive(life) {
            return pending().await;
        }
        let (status, body) = served??;
        let mut response = Response::builder()
            .status(status)
            .header("content-type", "application/json");
        if let Some(person) = name_in(&body) {
            response = response.extension(subject(person));
        }
        Ok(response.body(Full::from(body))?)
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

//! The server, put together.

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tower_oauth_refresh::RefreshLayer;

use crate::cli::Cli;
use crate::clients::Clients;
use crate::issuer::Issuer;
use crate::provider::Provider;
use crate::records::Records;
use crate::shutdown::Signals;
use crate::store::AnyStore;
use crate::{Failure, authorize, discovery, register, token};

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct App(Arc<State>);

pub(crate) struct State {
    pub(crate) issuer: Issuer,
    /// What clients may ask for, and get if they ask for nothing.
    pub(crate) scopes: Vec<String>,
    pub(crate) records: Records,
    pub(crate) clients: Clients,
    pub(crate) provider: Provider,
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

/// Serves until a signal ends it.
pub(crate) async fn serve(cli: &Cli, store: AnyStore) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(cli.listen).await?;
    let listen = listener.local_addr()?;
    let issuer = match &cli.public_url {
        Some(url) => url.clone(),
        None => format!("http://{listen}").parse()?,
    };
    let provider = Provider::new(cli.provider()?)?;
    let records = Records::new(store.clone());
    let clients = Clients::new(&records, &cli.clients, cli.scopes())?;
    let app = App(Arc::new(State { issuer, scopes: cli.scopes(), records, clients, provider }));
    let layer = RefreshLayer::builder(store).reference_access_tokens().match_normalized_paths().build()?;
    let routes = Router::new().merge(authorize::routes()).merge(register::routes()).merge(token::routes());
    let router = Router::new().merge(discovery::routes(&app)).merge(routes).layer(layer).with_state(app);
    tracing::info!("listening on http://{listen}");
    axum::serve(listener, router).with_graceful_shutdown(async move { signals.next().await }).await?;
    Ok(())
}

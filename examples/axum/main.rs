//! An axum app that issues its own tokens, without and with the two layers of this crate.
//!
//! The modules `app`, `client` and `provider` are the app itself: log-in with PKCE, one-time
//! refresh tokens, revocation, and a route that needs a token. They do not use this crate. Without
//! the layers, the app logs a user out when a refresh is sent twice, for example by two tabs or
//! after a lost response. With the `RefreshLayer`, the second request gets the same response again.
//! Also, the app's access tokens no longer reach clients: clients receive access tokens of the
//! layer, and the `AccessLayer` in front of the routes that need a token replaces them with the
//! app's.
//!
//! ```text
//! cargo run --features axum --example axum                        # with the layers
//! cargo run --features axum --example axum -- --without-layer     # without them
//! ```
//!
//! To try it, log in as the client `app` (`demo` / `demo`), with the challenge of RFC 7636,
//! appendix B:
//!
//! ```text
//! curl -si http://127.0.0.1:3000/authorize -d response_type=code -d client_id=app \
//!   -d redirect_uri=http://127.0.0.1:7777/callback -d state=xyz -d code_challenge_method=S256 \
//!   -d code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM \
//!   -d username=demo -d password=demo
//! curl -s http://127.0.0.1:3000/token -d grant_type=authorization_code -d client_id=app \
//!   -d redirect_uri=http://127.0.0.1:7777/callback \
//!   -d code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk -d code=CODE_FROM_THE_REDIRECT
//! curl -s http://127.0.0.1:3000/me -H 'Authorization: Bearer ACCESS_TOKEN'
//! curl -s http://127.0.0.1:3000/grant -H 'Authorization: Bearer ACCESS_TOKEN'
//! ```
//!
//! Then send this request twice. Without the layers, the second request ends the session:
//!
//! ```text
//! curl -s http://127.0.0.1:3000/token -d grant_type=refresh_token -d client_id=app \
//!   -d refresh_token=REFRESH_TOKEN
//! ```

mod app;
mod client;
mod guarded;
mod provider;

use std::error::Error;
use std::net::SocketAddr;

use axum::routing::get;
use tokio::net::TcpListener;
use tower_oauth_refresh::{MemoryStore, RefreshLayer};
use tracing::Level;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{filter::Targets, fmt};

use crate::provider::Provider;

/// `[ADDRESS] [--without-layer]`
struct Args {
    /// Address to listen on.
    listen: SocketAddr,
    /// Whether to run the app without the layers.
    without_layer: bool,
}

impl Args {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut args = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            without_layer: false,
        };
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "--without-layer" => args.without_layer = true,
                address => args.listen = address.parse()?,
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse()?;
    let targets = Targets::new()
        .with_default(Level::INFO)
        .with_target("tower_oauth_refresh", Level::DEBUG);
    tracing_subscriber::registry()
        .with(targets)
        .with(fmt::layer().with_writer(std::io::stderr))
        .init();

    let provider = Provider::new();
    let (oauth, api) = (app::oauth(provider.clone()), app::api(provider)); // before

    // In an app that already has users, set `adopt_until`, so that they stay logged in.
    let refresh = RefreshLayer::builder(MemoryStore::new())
        .token_path("/token")
        .revocation_path("/revoke");
    let refresh = refresh.reference_access_tokens(true).build()?;
    let access = refresh.access().require_scope("profile").build()?;
    let app = if args.without_layer {
        oauth.merge(api)
    } else {
        let api = api.route("/grant", get(guarded::grant)).layer(access); // after
        oauth.merge(api).layer(refresh.clone()) // after
    };

    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(interrupted())
        .await?;
    // Waits for rotations whose clients have disconnected: the graceful shutdown of axum does not.
    refresh.drain().await;
    Ok(())
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "cannot listen for Ctrl-C: the server runs until it is killed");
        std::future::pending::<()>().await;
    }
}

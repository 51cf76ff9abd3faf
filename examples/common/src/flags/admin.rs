use std::net::SocketAddr;

use tower_oauth_refresh::store::BoxStore;
use tower_oauth_refresh::{RefreshLayer, Store};

use crate::admin::{Console, serve};
use crate::bearer::BearerToken;
use crate::jose::Issuer;
use crate::metrics::{Exporter, Metrics, Scrape, upkeep};
use crate::program::{Failure, bind};
use crate::receivers::{LOGOUT_PATH, Logout, REVOCATION_PATH, Receivers};
use crate::sessions::Sessions;

/// The flags for operators, and for other servers that end sessions.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Operation")]
pub struct AdminFlags {
    /// Address to listen on for GET /healthz and GET /metrics (Prometheus), without authentication
    /// [default: none]
    ///
    /// With --admin-token, it also serves a page and an API. It is plain HTTP: keep the address in
    /// a private network.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,

    /// Token for the page and the API at --admin, which show and end the sessions of users; at
    /// least 32 characters, such as the output of `openssl rand -hex 32`; set it in the environment
    /// to keep it out of process lists; needs --admin [default: neither page nor API]
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<BearerToken>,

    /// Bearer token with which another server, such as the identity provider, ends all sessions of
    /// a user at POST /global-token-revocation (draft-parecki-oauth-global-token-revocation); at
    /// least 32 characters [default: the endpoint does not exist]
    ///
    /// The endpoint is at the address for clients. The token permits nothing else.
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    global_revocation_token: Option<BearerToken>,

    /// Issuer identifier of the OpenID provider that ends the sessions of a user at POST
    /// /backchannel-logout (OpenID Connect Back-Channel Logout 1.0), spelled as in its tokens; its
    /// keys are fetched from its discovery document [default: the endpoint does not exist]
    #[arg(long, value_name = "URL")]
    pub backchannel_logout_issuer: Option<Issuer>,

    /// Client ID at the provider that logout tokens may name as their audience; may be repeated;
    /// needs --backchannel-logout-issuer [default: none]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub backchannel_logout_audience: Vec<String>,
}

impl AdminFlags {
    /// Sets the issuer of logout tokens and the client ID that they may name, unless the flags do.
    pub fn set_default_issuer(&mut self, issuer: Option<Issuer>, client_id: Option<String>) {
        if self.backchannel_logout_issuer.is_none() {
            self.backchannel_logout_issuer = issuer;
        }
        if self.backchannel_logout_issuer.is_some() && self.backchannel_logout_audience.is_empty() {
            self.backchannel_logout_audience.extend(client_id);
        }
    }

    /// Checks the rules that concern more than one flag.
    pub fn check(&self, listen: SocketAddr) -> Result<(), String> {
        if self.admin == Some(listen) && listen.port() != 0 {
            return Err(format!("--admin and --listen are both {listen}"));
        }
        if let Some(token) = &self.admin_token {
            token.check("--admin-token")?;
            if self.admin.is_none() {
                return Err("--admin-token needs --admin".into());
            }
        }
        if let Some(token) = &self.global_revocation_token {
            token.check("--global-revocation-token")?;
        }
        match (
            &self.backchannel_logout_issuer,
            self.backchannel_logout_audience.is_empty(),
        ) {
            (None, false) => {
                Err("--backchannel-logout-audience needs --backchannel-logout-issuer".into())
            }
            (Some(_), true) => {
                Err("--backchannel-logout-issuer needs --backchannel-logout-audience".into())
            }
            _ => Ok(()),
        }
    }

    /// Returns the paths of the endpoints that other servers call, with the flags that create them.
    pub fn receiver_paths(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let logout = self.backchannel_logout_issuer.as_ref();
        let logout = logout.map(|_| ("--backchannel-logout-issuer", LOGOUT_PATH));
        let revocation = self.global_revocation_token;
        let revocation = revocation.map(|_| ("--global-revocation-token", REVOCATION_PATH));
        logout.into_iter().chain(revocation)
    }

    /// Starts recording metrics if `--admin` is set. `in_flight` is the name of the metric for
    /// requests in flight, if the server counts them.
    pub fn record(
        &self,
        in_flight: Option<&'static str>,
    ) -> Result<(Metrics, Option<Exporter>), Failure> {
        if self.admin.is_none() {
            return Ok((Metrics::default(), None));
        }
        let (metrics, exporter) = Metrics::prometheus(in_flight)?;
        Ok((metrics, Some(exporter)))
    }

    /// Starts the admin server, if there is one.
    pub async fn serve<St: Store>(
        &self,
        scrape: Option<Scrape>,
        metrics: Metrics,
        layer: &RefreshLayer<St>,
        about: About,
    ) -> Result<(), Failure> {
        let (Some(address), Some(scrape)) = (self.admin, scrape) else {
            return Ok(());
        };
        let listener = bind("--admin", address).await?;
        tracing::info!("admin listening on http://{}", listener.local_addr()?);
        let console = self.admin_token.map(|token| Console {
            token,
            sessions: self.sessions(layer),
            metrics,
            server: about.server,
            store: about.store,
        });
        tokio::spawn(upkeep(scrape.clone()));
        tokio::spawn(serve(listener, scrape, console));
        Ok(())
    }

    /// Returns the endpoints at which other servers end sessions.
    pub fn receivers<St: Store>(
        &self,
        layer: &RefreshLayer<St>,
        store: BoxStore,
    ) -> Result<Receivers, Failure> {
        let logout = match &self.backchannel_logout_issuer {
            Some(issuer) => {
                let failed = |error| format!("--backchannel-logout-issuer {issuer}: {error}");
                let audience = self.backchannel_logout_audience.clone();
                let logout = Logout::new(issuer.clone(), audience, store);
                Some(logout.map_err(failed)?)
            }
            None => None,
        };
        Ok(Receivers::new(
            self.sessions(layer),
            logout,
            self.global_revocation_token,
        ))
    }

    fn sessions<St: Store>(&self, layer: &RefreshLayer<St>) -> Sessions {
        let issuer = self.backchannel_logout_issuer.as_ref();
        Sessions::of(layer.clone(), issuer.map(ToString::to_string))
    }
}

/// The description of a server on its admin page.
#[derive(Clone, Debug)]
pub struct About {
    pub server: &'static str,
    /// The kind of store, without its address.
    pub store: String,
}

//! The codes, sessions and access tokens of the demo, limited in number and lifetime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;

use super::client::OauthError;

const CODE_LIFETIME: Duration = Duration::from_secs(60);
const SESSION_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const MOST: u64 = 10_000;

/// Settings of the tokens that the demo issues.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub access_lifetime: Duration,
    /// Whether token responses contain `expires_in`.
    pub expires_in: bool,
    /// The value of `refresh_expires_in` in token responses, if they contain it.
    pub refresh_lifetime: Option<Duration>,
    /// Whether a refresh token can be used only once.
    pub rotates: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_lifetime: Duration::from_secs(300),
            expires_in: true,
            refresh_lifetime: None,
            rotates: true,
        }
    }
}

/// Codes, sessions and access tokens.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    codes: Cache<String, Code>,
    sessions: Cache<String, Arc<Session>>,
    access: Cache<String, Access>,
}

/// The authorization behind a code.
#[derive(Clone, Debug)]
pub struct Code {
    pub client: &'static str,
    pub user: String,
    pub redirect_uri: String,
    pub challenge: String,
    pub scope: String,
    /// The nonce of the authorization request.
    pub nonce: Option<String>,
}

#[derive(Debug)]
struct Session {
    client: &'static str,
    user: String,
    scope: String,
    /// The second part of the only valid refresh token.
    current: Mutex<String>,
}

/// The authorization behind an access token.
#[derive(Clone, Debug)]
pub struct Access {
    pub client: &'static str,
    pub user: String,
    pub scope: String,
    session: String,
}

/// The contents of a token response.
#[derive(Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    pub scope: String,
}

const GONE: OauthError = OauthError("invalid_grant", "the grant is invalid, expired or revoked");

fn cache<V: Clone + Send + Sync + 'static>(lifetime: Duration) -> Cache<String, V> {
    Cache::builder()
        .max_capacity(MOST)
        .time_to_live(lifetime)
        .build()
}

impl Sessions {
    pub fn new(settings: Settings) -> Self {
        let access = cache(settings.access_lifetime);
        Self {
            settings,
            codes: cache(CODE_LIFETIME),
            sessions: cache(SESSION_LIFETIME),
            access,
        }
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn add_code(&self, code: Code) -> Result<String, OauthError> {
        let name = random()?;
        self.codes.insert(name.clone(), code);
        Ok(name)
    }

    /// Removes and returns a code, so that it can be used only once.
    pub fn take_code(&self, code: &str) -> Result<Code, OauthError> {
        self.codes.remove(code).ok_or(GONE)
    }

    pub fn begin(
        &self,
        client: &'static str,
        user: String,
        scope: String,
    ) -> Result<Tokens, OauthError> {
        let (id, current) = (random()?, random()?);
        let session = Arc::new(Session {
            client,
            user,
            scope: scope.clone(),
            current: Mutex::new(current.clone()),
        });
        self.sessions.insert(id.clone(), Arc::clone(&session));
        self.tokens(&id, &current, &session, scope)
    }

    /// Exchanges a refresh token. A token that was used before ends its session.
    pub fn refresh(
        &self,
        token: &str,
        client: &'static str,
        scope: Option<&str>,
    ) -> Result<Tokens, OauthError> {
        let (id, presented) = token.split_once('.').ok_or(GONE)?;
        let session = self
            .sessions
            .get(id)
            .filter(|session| session.client == client)
            .ok_or(GONE)?;
        let scope = scope.unwrap_or(&session.scope);
        if !scope
            .split(' ')
            .all(|wanted| session.scope.split(' ').any(|granted| granted == wanted))
        {
            return Err(OauthError(
                "invalid_scope",
                "the scope exceeds the scope granted",
            ));
        }
        let mut current = session
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *current != presented {
            self.sessions.invalidate(id);
            return Err(GONE);
        }
        if self.settings.rotates {
            *current = random()?;
        }
        self.tokens(id, &current, &session, scope.to_owned())
    }

    fn tokens(
        &self,
        id: &str,
        current: &str,
        session: &Session,
        scope: String,
    ) -> Result<Tokens, OauthError> {
        let access = random()?;
        let (client, user) = (session.client, session.user.clone());
        self.access.insert(
            access.clone(),
            Access {
                client,
                user,
                scope: scope.clone(),
                session: id.to_owned(),
            },
        );
        Ok(Tokens {
            access,
            refresh: format!("{id}.{current}"),
            scope,
        })
    }

    /// Ends all sessions of a user.
    pub fn end_all(&self, user: &str) {
        for (id, session) in &self.sessions {
            if session.user == user {
                self.sessions.invalidate(&*id);
            }
        }
    }

    pub fn access(&self, token: &str) -> Option<Access> {
        self.access
            .get(token)
            .filter(|access| self.sessions.contains_key(&access.session))
    }

    /// Ends the session of a refresh token, or invalidates an access token, if it belongs to this
    /// client.
    pub fn revoke(&self, token: &str, client: &'static str) {
        let session = token
            .split_once('.')
            .and_then(|(id, _)| Some((id, self.sessions.get(id)?)));
        if let Some((id, session)) = session {
            if session.client == client {
                self.sessions.invalidate(id);
            }
        } else if self
            .access
            .get(token)
            .is_some_and(|access| access.client == client)
        {
            self.access.invalidate(token);
        }
    }
}

fn random() -> Result<String, OauthError> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)
        .map_err(|_| OauthError("server_error", "the system random number generator failed"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

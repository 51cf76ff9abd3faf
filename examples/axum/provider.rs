//! The codes and tokens of the app, and the rules for their exchange.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

const CODE_LIFETIME: Duration = Duration::from_secs(60);
const ACCESS_LIFETIME: Duration = Duration::from_secs(300);
const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// An error of RFC 6749 §5.2.
pub(crate) struct OAuthError {
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
}

pub(crate) const fn oauth_error(error: &'static str, description: &'static str) -> OAuthError {
    OAuthError { error, description }
}

const INVALID_GRANT: OAuthError = oauth_error(
    "invalid_grant",
    "the code or token is invalid, expired or was used before",
);

/// One log-in of one user at one client.
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) client_id: &'static str,
    pub(crate) scope: String,
}

/// The authorization that a code is bound to.
pub(crate) struct Authorization {
    pub(crate) session: Session,
    pub(crate) redirect_uri: String,
    /// PKCE, method S256 (RFC 7636 §4.2).
    pub(crate) code_challenge: String,
}

/// The token response of RFC 6749 §5.1.
#[derive(Serialize)]
pub(crate) struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
    scope: String,
}

#[derive(Clone, Default)]
pub(crate) struct Provider(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    codes: HashMap<String, Code>,
    tokens: HashMap<String, Token>,
}

struct Code {
    authorization: Authorization,
    expires: Instant,
    /// The session for which the code was exchanged, if it was.
    used: Option<Arc<Session>>,
}

struct Token {
    session: Arc<Session>,
    kind: Kind,
    expires: Instant,
}

#[derive(PartialEq)]
enum Kind {
    Access,
    Refresh { used: bool },
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Issues a code for a user who has just logged in.
    pub(crate) fn issue_code(&self, authorization: Authorization) -> Result<String, OAuthError> {
        let code = random()?;
        let expires = Instant::now() + CODE_LIFETIME;
        self.memory().codes.insert(
            code.clone(),
            Code {
                authorization,
                expires,
                used: None,
            },
        );
        Ok(code)
    }

    pub(crate) fn exchange_code(
        &self,
        client_id: &str,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Tokens, OAuthError> {
        let mut memory = self.memory();
        let code = memory.codes.get_mut(code).ok_or(INVALID_GRANT)?;
        let Authorization {
            session,
            redirect_uri: bound_uri,
            code_challenge,
        } = &code.authorization;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        if session.client_id != client_id
            || *bound_uri != redirect_uri
            || *code_challenge != challenge
        {
            return Err(INVALID_GRANT);
        }
        if let Some(session) = code.used.clone() {
            memory.end(&session);
            return Err(INVALID_GRANT);
        }
        let session = Session {
            user: session.user.clone(),
            client_id: session.client_id,
            scope: session.scope.clone(),
        };
        let session = Arc::new(session);
        code.used = Some(Arc::clone(&session));
        let scope = session.scope.clone();
        memory.issue(session, scope)
    }

    /// Exchanges a refresh token. Each can be used once; a second use ends the session, because one
    /// of the two requests may come from an attacker.
    pub(crate) fn refresh(
        &self,
        client_id: &str,
        token: &str,
        scope: Option<&str>,
    ) -> Result<Tokens, OAuthError> {
        let mut memory = self.memory();
        let Some(Token {
            session,
            kind: Kind::Refresh { used },
            ..
        }) = memory.tokens.get_mut(token)
        else {
            return Err(INVALID_GRANT);
        };
        if session.client_id != client_id {
            return Err(INVALID_GRANT);
        }
        let session = Arc::clone(session);
        if *used {
            memory.end(&session);
            return Err(INVALID_GRANT);
        }
        let scope = scope.unwrap_or(&session.scope).to_owned();
        if !scope
            .split(' ')
            .all(|wanted| session.scope.split(' ').any(|granted| granted == wanted))
        {
            return Err(oauth_error("invalid_scope", "more than was granted"));
        }
        *used = true;
        memory.issue(session, scope)
    }

    /// Ends the session that the token belongs to (RFC 7009 §2.1).
    pub(crate) fn revoke(&self, client_id: &str, token: &str) {
        let mut memory = self.memory();
        let session = memory
            .tokens
            .get(token)
            .map(|token| Arc::clone(&token.session));
        if let Some(session) = session.filter(|session| session.client_id == client_id) {
            memory.end(&session);
        }
    }

    /// Returns the session of an access token.
    pub(crate) fn session(&self, access_token: &str) -> Option<Arc<Session>> {
        let memory = self.memory();
        let token = memory
            .tokens
            .get(access_token)
            .filter(|token| token.kind == Kind::Access)?;
        Some(Arc::clone(&token.session))
    }

    /// Locks the memory and removes expired codes and tokens.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        memory.codes.retain(|_, code| code.expires > now);
        memory.tokens.retain(|_, token| token.expires > now);
        memory
    }
}

impl Memory {
    fn issue(&mut self, session: Arc<Session>, scope: String) -> Result<Tokens, OAuthError> {
        let (access_token, refresh_token) = (random()?, random()?);
        for (token, kind, lifetime) in [
            (&access_token, Kind::Access, ACCESS_LIFETIME),
            (
                &refresh_token,
                Kind::Refresh { used: false },
                REFRESH_LIFETIME,
            ),
        ] {
            let expires = Instant::now() + lifetime;
            self.tokens.insert(
                token.clone(),
                Token {
                    session: Arc::clone(&session),
                    kind,
                    expires,
                },
            );
        }
        let expires_in = ACCESS_LIFETIME.as_secs();
        Ok(Tokens {
            access_token,
            token_type: "Bearer",
            expires_in,
            refresh_token,
            scope,
        })
    }

    fn end(&mut self, session: &Arc<Session>) {
        self.tokens
            .retain(|_, token| !Arc::ptr_eq(&token.session, session));
    }
}

fn random() -> Result<String, OAuthError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| oauth_error("server_error", "the system random number generator failed"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

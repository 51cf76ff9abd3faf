//! Lists and ends the sessions of users, whatever the store of the layer is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tower_oauth_refresh::store::StoreError;
use tower_oauth_refresh::{
    ClientId, GrantKey, InvalidSubject, RefreshLayer, Session, Store, Subject,
};

type Called<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The calls of [`RefreshLayer`] that concern sessions, without the type of its store.
trait Layer: Send + Sync {
    fn sessions<'a>(&'a self, subject: &'a Subject) -> Called<'a, Vec<Session>>;
    fn end_sessions<'a>(&'a self, subject: &'a Subject) -> Called<'a, usize>;
    fn end_sessions_of<'a>(&'a self, subject: &'a Subject, sid: &'a str) -> Called<'a, usize>;
    fn end_provider_session<'a>(&'a self, issuer: &'a str, sid: &'a str) -> Called<'a, usize>;
    fn end_grant<'a>(&'a self, grant: &'a GrantKey) -> Called<'a, bool>;
    fn end_client<'a>(&'a self, client_id: &'a ClientId) -> Called<'a, ()>;
}

impl<St: Store> Layer for RefreshLayer<St> {
    fn sessions<'a>(&'a self, subject: &'a Subject) -> Called<'a, Vec<Session>> {
        Box::pin(self.sessions(subject))
    }

    fn end_sessions<'a>(&'a self, subject: &'a Subject) -> Called<'a, usize> {
        Box::pin(self.end_sessions(subject))
    }

    fn end_sessions_of<'a>(&'a self, subject: &'a Subject, sid: &'a str) -> Called<'a, usize> {
        Box::pin(self.end_sessions_of(subject, sid))
    }

    fn end_provider_session<'a>(&'a self, issuer: &'a str, sid: &'a str) -> Called<'a, usize> {
        Box::pin(self.end_provider_session(issuer, sid))
    }

    fn end_grant<'a>(&'a self, grant: &'a GrantKey) -> Called<'a, bool> {
        Box::pin(self.end_grant(grant))
    }

    fn end_client<'a>(&'a self, client_id: &'a ClientId) -> Called<'a, ()> {
        Box::pin(self.end_client(client_id))
    }
}

/// The sessions of a layer. Clones are the same sessions.
#[derive(Clone)]
pub struct Sessions {
    layer: Arc<dyn Layer>,
    issuer: Option<String>,
}

impl Sessions {
    /// Creates a view of the sessions of `layer`. `issuer` is the identity provider of the users,
    /// if the server knows it.
    pub fn of<St: Store>(layer: RefreshLayer<St>, issuer: Option<String>) -> Self {
        Self {
            layer: Arc::new(layer),
            issuer,
        }
    }

    /// Returns the subjects that a request means by an ID.
    ///
    /// Without an issuer these are the ID alone, as an application may set it, and the ID at the
    /// provider of this server, as in an `id_token`.
    pub fn subjects(&self, id: &str, issuer: Option<&str>) -> Result<Vec<Subject>, InvalidSubject> {
        if let Some(issuer) = issuer {
            return Ok(vec![Subject::with_issuer(issuer, id)?]);
        }
        let mut subjects = vec![Subject::new(id)?];
        if let Some(issuer) = &self.issuer {
            subjects.push(Subject::with_issuer(issuer, id)?);
        }
        Ok(subjects)
    }

    pub async fn list(&self, subjects: &[Subject]) -> Result<Vec<Session>, StoreError> {
        let mut all = Vec::new();
        for subject in subjects {
            all.extend(self.layer.sessions(subject).await?);
        }
        Ok(all)
    }

    /// Ends all sessions of the subjects. Returns how many there were, or the first error. An error
    /// does not stop it: all sessions without an error have ended.
    pub async fn end(&self, subjects: &[Subject]) -> Result<usize, StoreError> {
        let mut ended = Ok(0);
        for subject in subjects {
            let more = self.layer.end_sessions(subject).await;
            ended = ended.and_then(|ended| Ok(ended + more?));
        }
        ended
    }

    /// Ends the sessions that began in the session `sid` at the provider `issuer`, and those of the
    /// user `subject` of which this is unknown. Returns how many there were, or the first error.
    pub async fn end_provider_session(
        &self,
        issuer: &str,
        sid: &str,
        subject: Option<&Subject>,
    ) -> Result<usize, StoreError> {
        let of_user = match subject {
            Some(subject) => self.layer.end_sessions_of(subject, sid).await,
            None => Ok(0),
        };
        // The user may be known here by another claim than `sub`.
        let ended = self.layer.end_provider_session(issuer, sid).await?;
        Ok(ended + of_user?)
    }

    /// Ends a session. Returns whether it was alive.
    pub async fn end_grant(&self, grant: &GrantKey) -> Result<bool, StoreError> {
        self.layer.end_grant(grant).await
    }

    /// Ends all sessions of a client.
    pub async fn end_client(&self, client_id: &ClientId) -> Result<(), StoreError> {
        self.layer.end_client(client_id).await
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

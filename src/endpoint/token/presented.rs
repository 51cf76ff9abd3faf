use crate::event::Subject;
use crate::grant::Presented;
use crate::seal::{Context, Purpose};
use crate::store::{Key, Tag};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// A token in the layer's format, and the client that presents it.
#[derive(Debug)]
pub(crate) struct PresentedToken<'a> {
    pub(crate) client_id: &'a ClientId,
    pub(crate) token: RefreshToken,
    pub(crate) key: Key,
    pub(crate) hash: Tag,
}

impl<'a> PresentedToken<'a> {
    pub(crate) fn new(token: RefreshToken, client_id: &'a ClientId) -> Self {
        let (key, hash) = (token.key(), token.hash());
        Self {
            client_id,
            token,
            key,
            hash,
        }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            client_id: Some(self.client_id),
            grant: Some((&self.key, Some(self.token.generation()))),
        }
    }

    pub(crate) fn presented(&self) -> Presented<'_> {
        Presented {
            client_id: self.client_id.as_str(),
            generation: self.token.generation(),
            hash: &self.hash,
        }
    }

    pub(crate) fn context(&self, purpose: Purpose) -> Context<'_> {
        Context {
            purpose,
            key: &self.key,
            client_id: self.client_id.as_str(),
        }
    }
}

use std::fmt;
use std::time::Duration;

/// The details of a reused token, by which an operator can distinguish a stolen token from a stale
/// copy.
///
/// A stale copy is usually sent by the client itself, so it comes with a valid credential and often
/// from far behind: a backup, a second installation, a process that was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reuse {
    /// The number of generations by which the token is older than the current token of its grant. A
    /// rotation counts as one, a recovery as two, a convergence as none. An adopted token counts as
    /// the first token of its grant.
    pub generations_behind: u32,
    /// The time since the current token was issued, which is how long ago the previous token was
    /// rotated away. A token that is more than one generation behind was rotated away even earlier.
    pub rotated_away_for: Duration,
    /// The proof that the request came from the client of the grant.
    pub client_proof: ClientProof,
}

/// The proof that a request with a reused token came from the client of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientProof {
    /// No request of the grant had a client credential, as for a public client. The grant ends
    /// without a proof.
    NotRequired,
    /// The inner service accepted the client of the request.
    Proved,
    /// The inner service rejected the client of the request. The grant continues.
    Disproved,
    /// The inner service did not answer in time, or its answer says nothing about the client. The
    /// grant continues.
    Missing,
}

impl ClientProof {
    /// Returns the value in lower case with underscores, as in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRequired => "not_required",
            Self::Proved => "proved",
            Self::Disproved => "disproved",
            Self::Missing => "missing",
        }
    }

    /// Returns whether the grant of a reused token ends.
    pub(crate) const fn ends_grant(self) -> bool {
        matches!(self, Self::NotRequired | Self::Proved)
    }
}

impl fmt::Display for ClientProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

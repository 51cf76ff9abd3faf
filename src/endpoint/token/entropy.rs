use zeroize::Zeroizing;

use crate::endpoint::state::State;
use crate::error::RefreshError;
use crate::random::RandomUnavailable;
use crate::seal::SealNonce;
use crate::store::Version;
use crate::token::{RefreshToken, TokenId};

const SECRET: usize = 32;
const NONCE: usize = 12;
const VERSION: usize = 8;
const ID: usize = 12;

/// The number of random bytes for everything but an access token.
const REFRESH: usize = SECRET + 5 * NONCE + 2 * VERSION + ID;
const ACCESS: usize = SECRET + 3 * NONCE + VERSION;

/// All the randomness that one rotation or one new grant needs.
///
/// It is drawn at once because one system call is cheaper than several, and before the inner
/// service is called, so that the random number generator cannot fail when the upstream token or
/// the authorization code has already been used.
pub(crate) struct Entropy {
    secret: Zeroizing<[u8; SECRET]>,
    /// For the upstream token.
    pub(crate) nonce: SealNonce,
    pub(crate) link_nonce: SealNonce,
    pub(crate) replay_nonce: SealNonce,
    /// For the link of the token that a recovery drops.
    pub(crate) dropped_nonce: SealNonce,
    /// For the profile of the user.
    pub(crate) profile_nonce: SealNonce,
    pub(crate) version: Version,
    /// For the version of the claim.
    pub(crate) claim: [u8; VERSION],
    /// For a new grant, or for an access token that belongs to no grant.
    pub(crate) id: TokenId,
    /// `None` if the layer does not issue reference access tokens.
    pub(crate) access: Option<AccessEntropy>,
}

/// The randomness of one access token.
pub(crate) struct AccessEntropy {
    pub(crate) secret: Zeroizing<[u8; SECRET]>,
    pub(crate) nonce: SealNonce,
    /// For the profile of the user.
    pub(crate) profile_nonce: SealNonce,
    /// For the refresh token with which the upstream access token is renewed.
    pub(crate) refresh_nonce: SealNonce,
    pub(crate) version: Version,
}

impl Entropy {
    pub(crate) fn new<St>(shared: &State<St>) -> Result<Self, RefreshError> {
        let mut random = Zeroizing::new([0; REFRESH + ACCESS]);
        let mints_access = shared.config().reference;
        let random = match mints_access {
            true => &mut random[..],
            false => &mut random[..REFRESH],
        };
        shared.fill(random)?;
        let mut rest = &*random;
        Ok(Self {
            secret: Zeroizing::new(take(&mut rest)?),
            nonce: take(&mut rest)?,
            link_nonce: take(&mut rest)?,
            replay_nonce: take(&mut rest)?,
            dropped_nonce: take(&mut rest)?,
            profile_nonce: take(&mut rest)?,
            version: Version::new(take(&mut rest)?),
            claim: take(&mut rest)?,
            id: take(&mut rest)?,
            access: match mints_access {
                true => Some(AccessEntropy {
                    secret: Zeroizing::new(take(&mut rest)?),
                    nonce: take(&mut rest)?,
                    profile_nonce: take(&mut rest)?,
                    refresh_nonce: take(&mut rest)?,
                    version: Version::new(take(&mut rest)?),
                }),
                false => None,
            },
        })
    }

    /// Mints the first token of a new grant.
    pub(crate) fn first(self) -> Minted {
        let id = self.id;
        self.mint(id, 0)
    }

    /// Mints the token of `generation` in the grant whose tokens have this id.
    pub(crate) fn mint(self, id: TokenId, generation: u32) -> Minted {
        let token = RefreshToken::new(id, generation, &self.secret);
        self.keep(token)
    }

    /// Mints no refresh token: the grant keeps `token`.
    pub(crate) fn keep(self, token: RefreshToken) -> Minted {
        Minted {
            token,
            entropy: self,
        }
    }
}

/// Takes the next `N` bytes. Returns an error if too few are left, so that no secret ever consists
/// of zeros.
fn take<const N: usize>(random: &mut &[u8]) -> Result<[u8; N], RandomUnavailable> {
    let (part, rest) = random
        .split_first_chunk()
        .ok_or_else(|| RandomUnavailable::new("fewer random bytes were drawn than needed"))?;
    *random = rest;
    Ok(*part)
}

/// The next token of a grant, with the randomness that storing it needs.
pub(crate) struct Minted {
    pub(crate) token: RefreshToken,
    pub(crate) entropy: Entropy,
}

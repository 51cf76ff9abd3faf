use zeroize::Zeroizing;

use crate::endpoint::state::State;
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
    nonces: [SealNonce; 5],
    version: Version,
    claim: [u8; VERSION],
    id: TokenId,
    /// `None` if the layer does not issue reference access tokens.
    access: Option<AccessEntropy>,
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
    pub(crate) fn new<St>(shared: &State<St>) -> Result<Self, RandomUnavailable> {
        let mut random = Zeroizing::new([0; REFRESH + ACCESS]);
        let mints_access = shared.config().reference;
        let random = match mints_access {
            true => &mut random[..],
            false => &mut random[..REFRESH],
        };
        shared.fill(random)?;
        let mut rest = &*random;
        let secret = Zeroizing::new(take(&mut rest)?);
        let nonces = [
            take(&mut rest)?,
            take(&mut rest)?,
            take(&mut rest)?,
            take(&mut rest)?,
            take(&mut rest)?,
        ];
        let version = Version::new(take(&mut rest)?);
        let claim = take(&mut rest)?;
        let id = take(&mut rest)?;
        let access = match mints_access {
            true => Some(AccessEntropy {
                secret: Zeroizing::new(take(&mut rest)?),
                nonce: take(&mut rest)?,
                profile_nonce: take(&mut rest)?,
                refresh_nonce: take(&mut rest)?,
                version: Version::new(take(&mut rest)?),
            }),
            false => None,
        };
        Ok(Self {
            secret,
            nonces,
            version,
            claim,
            id,
            access,
        })
    }

    /// Returns the random bytes for the version of the claim.
    pub(crate) const fn claim(&self) -> [u8; VERSION] {
        self.claim
    }

    /// Mints the token of `generation` in the grant of `token`.
    pub(crate) fn next(self, token: &RefreshToken, generation: u32) -> Minted {
        self.mint(token.id(), generation)
    }

    /// Mints the first token of a new grant.
    pub(crate) fn first(self) -> Minted {
        let id = self.id;
        self.mint(id, 0)
    }

    /// Returns the id and the randomness of an access token that belongs to no grant.
    pub(crate) fn alone(self) -> (TokenId, Option<AccessEntropy>) {
        (self.id, self.access)
    }

    /// Mints no refresh token: the grant keeps `token`.
    pub(crate) fn keep(self, token: RefreshToken) -> Minted {
        Minted {
            token,
            nonces: self.nonces,
            version: self.version,
            access: self.access,
        }
    }

    fn mint(self, id: TokenId, generation: u32) -> Minted {
        let token = RefreshToken::new(id, generation, &self.secret);
        self.keep(token)
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

/// The next token of a grant, with the nonces and the version that storing it needs.
pub(crate) struct Minted {
    pub(crate) token: RefreshToken,
    pub(crate) nonces: [SealNonce; 5],
    pub(crate) version: Version,
    /// The randomness of the access token that is issued with it, if the layer mints one.
    pub(crate) access: Option<AccessEntropy>,
}

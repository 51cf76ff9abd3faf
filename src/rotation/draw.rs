use zeroize::Zeroizing;

use crate::random::RandomUnavailable;
use crate::seal::SealNonce;
use crate::shared::Shared;
use crate::store::Version;
use crate::token::{RefreshToken, TokenId};

const SECRET: usize = 32;
const NONCE: usize = 12;
const VERSION: usize = 8;
const ID: usize = 12;

/// The randomness of one rotation or one new grant, all of it: asking the operating system once is
/// cheaper than twice, and nothing can be missing after the upstream was asked.
pub(crate) struct Draw {
    secret: Zeroizing<[u8; SECRET]>,
    nonces: [SealNonce; 3],
    version: Version,
    claim: [u8; VERSION],
    id: TokenId,
    access: AccessDraw,
}

/// The randomness of one access token.
pub(crate) struct AccessDraw {
    pub(crate) secret: Zeroizing<[u8; SECRET]>,
    pub(crate) nonce: SealNonce,
    pub(crate) version: Version,
}

impl Draw {
    pub(crate) fn new<St>(shared: &Shared<St>) -> Result<Self, RandomUnavailable> {
        let mut random = Zeroizing::new([0; 2 * SECRET + 4 * NONCE + 3 * VERSION + ID]);
        shared.fill(&mut *random)?;
        let mut rest = &random[..];
        let secret = Zeroizing::new(take(&mut rest)?);
        let nonces = [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?];
        let (version, claim, id) = (
            Version::new(take(&mut rest)?),
            take(&mut rest)?,
            take(&mut rest)?,
        );
        let access = AccessDraw {
            secret: Zeroizing::new(take(&mut rest)?),
            nonce: take(&mut rest)?,
            version: Version::new(take(&mut rest)?),
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

    /// For the version of the claim.
    pub(crate) const fn claim(&self) -> [u8; VERSION] {
        self.claim
    }

    /// The token of `generation` that follows on `token`.
    pub(crate) fn next(self, token: &RefreshToken, generation: u32) -> Minted {
        self.mint(token.id(), generation)
    }

    /// The first token of a new grant.
    pub(crate) fn first(self) -> Minted {
        let id = self.id;
        self.mint(id, 0)
    }

    /// For an access token without a grant.
    pub(crate) fn alone(self) -> (TokenId, AccessDraw) {
        (self.id, self.access)
    }

    fn mint(self, id: TokenId, generation: u32) -> Minted {
        let Self {
            secret,
            nonces,
            version,
            access,
            ..
        } = self;
        Minted {
            token: RefreshToken::new(id, generation, &secret),
            nonces,
            version,
            access,
        }
    }
}

/// The next bytes of what was drawn. If it were too short, an error and no secret of zeros.
fn take<const N: usize>(random: &mut &[u8]) -> Result<[u8; N], RandomUnavailable> {
    let (part, rest) = random
        .split_first_chunk()
        .ok_or_else(|| RandomUnavailable::new("too little was drawn"))?;
    *random = rest;
    Ok(*part)
}

/// The next token, and what storing it takes.
pub(crate) struct Minted {
    pub(crate) token: RefreshToken,
    pub(crate) nonces: [SealNonce; 3],
    pub(crate) version: Version,
    /// For the access token beside it, if it is to have one of the layer's.
    pub(crate) access: AccessDraw,
}

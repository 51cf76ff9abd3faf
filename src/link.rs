//! Links: how an old refresh token leads to the token that replaced it.
//!
//! A link holds the generation and the secret of the newer token, sealed under the secret of the
//! older one, with the key of the grant and the client as authenticated data. Only the holder of
//! the old token can open it: the store cannot, and a link of another grant or client does not
//! open.
//!
//! The link of the previous token is a part of the record. When the grant is rotated again while
//! the window of that token still runs, the link moves to a sidecar named [`sidecar_name`].

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::seal::{Context, SealError, SealNonce, Sealer};
use crate::store::{ClaimTag, SidecarName};
use crate::token::RefreshToken;

const GENERATION: usize = 4;
const SECRET: usize = 32;

/// The length of a sealed link.
#[cfg(test)]
pub(crate) const LEN: usize = GENERATION + SECRET + crate::seal::OVERHEAD;

/// The first input of the hash that names the sidecar of a link, so that it never has the name of a
/// stored answer.
const NAME: &str = "tower-oauth-refresh link";

/// Returns the name of the sidecar that holds the link of the token with this hash.
pub(crate) fn sidecar_name(hash: &ClaimTag) -> SidecarName {
    let digest = Sha256::new()
        .chain_update(NAME)
        .chain_update(hash.as_bytes())
        .finalize();
    let name = digest.first_chunk();
    SidecarName::new(*name.expect("a hash is longer than a name"))
}

/// Seals a link from the token of `sealer` to `next`.
pub(crate) fn seal(
    sealer: &Sealer,
    nonce: SealNonce,
    context: Context<'_>,
    next: &RefreshToken,
) -> Result<Vec<u8>, SealError> {
    let mut message = Zeroizing::new([0; GENERATION + SECRET]);
    message[..GENERATION].copy_from_slice(&next.generation().to_be_bytes());
    message[GENERATION..].copy_from_slice(next.secret().as_bytes());
    sealer.seal(nonce, context, &[], &*message)
}

/// Opens a link of `token`. Returns the token to which it leads.
///
/// # Errors
///
/// The link is of another token, grant or client, is damaged, or leads to a token that is not
/// newer. The last rule makes a cycle of links impossible.
pub(crate) fn open(
    token: &RefreshToken,
    context: Context<'_>,
    link: &[u8],
) -> Result<RefreshToken, SealError> {
    let message = Sealer::new(token.secret()).open(context, &[], link)?;
    let (generation, secret) = message.split_first_chunk().ok_or(SealError)?;
    let secret = <&[u8; SECRET]>::try_from(secret).map_err(|_| SealError)?;
    let generation = u32::from_be_bytes(*generation);
    if generation <= token.generation() {
        return Err(SealError);
    }
    Ok(RefreshToken::new(token.id(), generation, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Purpose;
    use crate::store::Key;

    const NONCE: SealNonce = [7; 12];

    fn token(generation: u32, secret: u8) -> RefreshToken {
        RefreshToken::new([1; 12], generation, &[secret; 32])
    }

    fn context<'a>(key: &'a Key, client_id: &'a str) -> Context<'a> {
        Context {
            purpose: Purpose::Link,
            key,
            client_id,
        }
    }

    #[test]
    fn a_link_leads_to_the_newer_token() {
        let (old, new) = (token(3, 30), token(5, 50));
        let key = old.key();
        let context = context(&key, "app");
        let link = seal(&Sealer::new(old.secret()), NONCE, context, &new).unwrap();
        assert_eq!(link.len(), LEN);
        assert!(open(&old, context, &link).unwrap() == new);
    }

    #[test]
    fn only_the_right_token_grant_and_client_open_a_link() {
        let (old, new) = (token(3, 30), token(5, 50));
        let key = old.key();
        let good = context(&key, "app");
        let link = seal(&Sealer::new(old.secret()), NONCE, good, &new).unwrap();
        assert!(open(&token(3, 31), good, &link).is_err(), "another token");
        let other_key = Key::new([8; 32]);
        assert!(
            open(&old, context(&other_key, "app"), &link).is_err(),
            "another grant"
        );
        assert!(
            open(&old, context(&key, "other"), &link).is_err(),
            "another client"
        );
        let as_answer = Context {
            purpose: Purpose::Replay,
            ..good
        };
        assert!(open(&old, as_answer, &link).is_err(), "another purpose");
        for at in 0..link.len() {
            let mut damaged = link.clone();
            damaged[at] ^= 1;
            assert!(open(&old, good, &damaged).is_err(), "byte {at} flipped");
            assert!(open(&old, good, &link[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_link_to_a_token_that_is_not_newer_is_refused() {
        let old = token(3, 30);
        let key = old.key();
        let context = context(&key, "app");
        for generation in [0, 2, 3] {
            let back = token(generation, 20);
            let link = seal(&Sealer::new(old.secret()), NONCE, context, &back).unwrap();
            assert!(
                open(&old, context, &link).is_err(),
                "to generation {generation}"
            );
        }
    }

    #[test]
    fn a_link_never_has_the_name_of_a_stored_answer() {
        let hash = token(1, 1).hash();
        assert_ne!(sidecar_name(&hash).as_bytes(), &hash.as_bytes()[16..]);
        assert_ne!(sidecar_name(&hash), sidecar_name(&token(1, 2).hash()));
    }
}

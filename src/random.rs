//! The one source of randomness of the crate.

use std::error::Error;
use std::sync::Arc;

/// Randomness for tokens, nonces and versions.
///
/// Set another than [`OsRandom`] with
/// [`RefreshLayerBuilder::random`](crate::RefreshLayerBuilder::random) to make a test repeatable.
/// Outside tests whatever implements it **must** be fit for cryptographic keys.
pub trait SecureRandom: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    ///
    /// # Errors
    ///
    /// [`RandomUnavailable`] if there is no randomness to be had; the request is then refused with
    /// 503.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable>;
}

/// The random number generator of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl SecureRandom for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
        getrandom::fill(bytes).map_err(RandomUnavailable::new)
    }
}

impl<R: SecureRandom + ?Sized> SecureRandom for Arc<R> {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
        (**self).fill(bytes)
    }
}

/// The source of randomness gave none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no randomness to be had")]
pub struct RandomUnavailable(#[source] Arc<dyn Error + Send + Sync>);

impl RandomUnavailable {
    /// Wraps what the source of randomness said.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;

    impl SecureRandom for Sevens {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
            if bytes.is_empty() {
                return Err(RandomUnavailable::new("nothing to fill"));
            }
            bytes.fill(7);
            Ok(())
        }
    }

    #[test]
    fn a_shared_source_is_a_source() {
        fn fill<R: SecureRandom>(random: &R, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
            random.fill(bytes)
        }
        let shared: Arc<dyn SecureRandom> = Arc::new(Sevens);
        let mut bytes = [0; 4];
        fill(&shared, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 4]);
        assert!(fill(&Arc::new(Sevens), &mut []).is_err());
    }
}

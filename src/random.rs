//! The random number generator of the crate.

use std::error::Error;
use std::sync::Arc;

/// A random number generator for tokens, nonces and versions.
///
/// The default is [`OsRandom`]. A test can set another one with
/// [`RefreshLayerBuilder::random`](crate::RefreshLayerBuilder::random) to be repeatable. Outside of
/// tests, an implementation **must** be suitable for cryptographic keys.
pub trait SecureRandom: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    ///
    /// # Errors
    ///
    /// [`RandomUnavailable`] if the generator fails. The request is then rejected with status 503.
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

/// The error of a random number generator that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the random number generator failed")]
pub struct RandomUnavailable(#[source] Arc<dyn Error + Send + Sync>);

impl RandomUnavailable {
    /// Wraps the error of the generator.
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
                return Err(RandomUnavailable::new("empty buffer"));
            }
            bytes.fill(7);
            Ok(())
        }
    }

    #[test]
    fn an_arc_of_a_generator_is_a_generator() {
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

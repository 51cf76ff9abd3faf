use tower_oauth_refresh::store::StoreError;

/// Returns random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|_| StoreError::unavailable("the system's random number generator failed"))?;
    Ok(bytes)
}

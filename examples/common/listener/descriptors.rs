//! The descriptor limit of the process.

/// Descriptors for everything but client connections and requests in flight: the store, the
/// runtime, the log, the admin listener, name resolution, and work that goes on after its client
/// has gone.
pub(crate) const RESERVED: usize = 64;

/// Raises the soft limit to the hard one. Returns the limit that is then in force, `None` if it is
/// unknown.
pub(crate) fn raise() -> Option<usize> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
        Err(error) => {
            tracing::warn!(%error, "the descriptor limit cannot be raised: see that ulimit -n is high enough");
            None
        }
    }
}

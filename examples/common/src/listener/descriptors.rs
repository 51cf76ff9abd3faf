//! The limit of the process on open file descriptors.

/// Descriptors reserved for everything except client connections and requests: the store, the
/// runtime, the log, the admin listener and name resolution.
pub(crate) const RESERVED: usize = 64;

/// Raises the soft limit to the hard limit. Returns the new soft limit. If that fails, logs a
/// warning and returns `None`.
pub(crate) fn raise() -> Option<usize> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => Some(usize::try_from(limit).unwrap_or(usize::MAX)),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the descriptor limit: make sure that ulimit -n is high enough");
            None
        }
    }
}

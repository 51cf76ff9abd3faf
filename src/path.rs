//! Placeholder until merged.
pub(crate) fn same_path_normalized(request_path: &str, path: &str) -> bool {
    request_path == path
}

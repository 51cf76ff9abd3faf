//! Takes a JWT apart. Its signature is not checked here.

/// Returns the encoded payload of a signed JWT in its compact form (RFC 7515 §7.1).
pub(crate) fn payload(jwt: &str) -> Option<&str> {
    let (_, rest) = jwt.split_once('.')?;
    let (payload, signature) = rest.split_once('.')?;
    (!signature.contains('.')).then_some(payload)
}

use http::{Extensions, HeaderMap};

/// A mark in the extensions of a request: its sender has proved that it holds a key, or has
/// presented another credential that the layer cannot compare with that of an earlier request.
///
/// An outer layer inserts it for mutual TLS (RFC 8705), HTTP message signatures (RFC 9421) and the
/// like. The layer recognizes a `client_assertion` (RFC 7521 §4.2), a `DPoP` header (RFC 9449) and
/// an `OAuth-Client-Attestation` header (draft-ietf-oauth-attestation-based-client-auth) by itself.
///
/// No such request gets a stored answer, because the layer cannot check that its sender is the
/// client that the answer is for. It converges instead
/// ([`shared_token_window`](crate::RefreshLayerBuilder::shared_token_window)), so that the inner
/// service authenticates it. A [rotation policy](crate::RefreshLayerBuilder::rotation_policy) sees
/// the mark as [`ClientInfo::sender_constrained`](crate::ClientInfo::sender_constrained).
///
/// ```
/// use http::Request;
/// use tower::ServiceBuilder;
/// use tower_oauth_refresh::{MemoryStore, RefreshLayer, SenderConstrained};
///
/// /// The certificate of the client, inserted by the listener.
/// #[derive(Clone)]
/// struct PeerCertificate;
///
/// let layers = ServiceBuilder::new()
///     .map_request(|mut request: Request<String>| {
///         if request.extensions().get::<PeerCertificate>().is_some() {
///             request.extensions_mut().insert(SenderConstrained);
///         }
///         request
///     })
///     .layer(RefreshLayer::new(MemoryStore::new()));
/// # drop(layers);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "other crates create it")]
pub struct SenderConstrained;

/// The proofs that a request carries in addition to the credential of its client. They differ from
/// request to request, or the layer cannot see them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Proofs {
    /// A proof of possession of the key that the tokens are bound to.
    pub(crate) of_key: bool,
    /// An attestation of the client, with which it authenticates.
    pub(crate) attestation: bool,
}

impl Proofs {
    pub(crate) fn read(extensions: &Extensions, headers: &HeaderMap) -> Self {
        let marked = extensions.get::<SenderConstrained>().is_some();
        Self {
            of_key: marked || headers.contains_key("dpop"),
            attestation: headers.contains_key("oauth-client-attestation"),
        }
    }

    /// Returns whether there is one.
    pub(crate) const fn any(self) -> bool {
        self.of_key || self.attestation
    }
}

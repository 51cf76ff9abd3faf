//! A request of a client.

/// The parameters of a client's request, as far as they matter here.
#[derive(Debug)]
pub(super) struct Form(pub(super) Vec<(String, String)>);

impl Form {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the secret that the client has sent, or with which it has signed.
    pub(super) fn secret(&self) -> Option<&str> {
        let signed = self.get("client_assertion");
        let secret = signed.and_then(|signed| signed.rsplit_once('.'));
        secret
            .map(|(_, secret)| secret)
            .or(self.get("client_secret"))
    }
}

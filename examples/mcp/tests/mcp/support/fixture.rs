use test_support::process::Example;

use super::identity::{Identity, Manners};
use super::mcp;
use super::mcp_client::McpClient;

/// A server in front of an identity provider, and a registered client.
pub(crate) struct Fixture {
    pub(crate) identity: Identity,
    pub(crate) server: Example,
    pub(crate) client: McpClient,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(Manners::default()).await
    }

    pub(crate) async fn with(manners: Manners) -> Self {
        Self::with_flags(manners, &[]).await
    }

    pub(crate) async fn with_flags(manners: Manners, more: &[&str]) -> Self {
        let identity = Identity::with(manners).await;
        let mut flags = identity.flags();
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        Self {
            identity,
            server,
            client,
        }
    }

    /// Returns an unused code.
    pub(crate) async fn code(&self) -> String {
        self.client.code(&self.server).await
    }
}

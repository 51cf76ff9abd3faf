//! The text that the server prints at start: how to connect a client.

use url::Url;

use crate::brand::Brand;
use crate::issuer::Issuer;
use crate::landing::claude_code;

/// Returns the text. `demo` is the address of the demo provider, if
/// that one is used.
pub(crate) fn next_steps(issuer: &Issuer, brand: &Brand, demo: Option<&Url>) -> String {
    let mcp = issuer.resource();
    let command = claude_code(&brand.server_name(), &mcp);
    let page = issuer.join("/");
    let mut text = format!(
        "\
Connect an MCP client to this URL:

    {mcp}

For example, run this command, and then type /mcp in Claude Code to log in:

    {command}

This page shows how to connect other clients: {page}
"
    );
    if let Some(demo) = demo {
        let demo = demo.origin().ascii_serialization();
        text += &format!(
            "
The client opens a page in your browser that asks for your consent. After you approve, log in at the demo
provider, {demo}: choose any name, it asks for no password. Log-ins there are lost when this process ends.
"
        );
    }
    text
}

//! The text that the server prints at start: how to connect a client.

use url::Url;

/// Returns the text for an MCP endpoint at `mcp`. `demo` is the address of the demo provider, if
/// that one is used.
pub(crate) fn next_steps(mcp: &str, demo: Option<&Url>) -> String {
    let mut text = format!(
        "\
Connect an MCP client to this URL:

    {mcp}

For example, run this command, and then type /mcp in Claude Code to log in:

    claude mcp add --transport http example {mcp}
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

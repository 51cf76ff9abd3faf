//! Instructions to connect the well-known MCP clients.

use serde_json::json;

/// The steps for one client.
pub(crate) struct Instructions {
    pub(crate) client: &'static str,
    pub(crate) steps: &'static str,
    /// A command or a file.
    pub(crate) snippet: Option<String>,
}

/// Returns the command for Claude Code.
pub(crate) fn claude_code(server: &str, url: &str) -> String {
    format!("claude mcp add --transport http {server} {url}")
}

/// Returns the steps for each client. `server` is the name of the server in the client.
pub(crate) fn instructions(server: &str, url: &str) -> [Instructions; 6] {
    let vs_code = json!({ "servers": { server: { "type": "http", "url": url } } });
    let cursor = json!({ "mcpServers": { server: { "url": url } } });
    [
        Instructions {
            client: "Claude Code",
            steps: "Run this command, and then type /mcp in Claude Code to log in.",
            snippet: Some(claude_code(server, url)),
        },
        Instructions {
            client: "Claude, web and desktop",
            steps: "In the settings, under Connectors, add a custom connector with the URL above. The URL must be reachable from \
                    the internet over https.",
            snippet: None,
        },
        Instructions {
            client: "ChatGPT",
            steps: "In the settings, under Apps and Connectors, turn on the developer mode. Then create a connector with the URL \
                    above and the authentication OAuth. The URL must be reachable from the internet over https.",
            snippet: None,
        },
        Instructions {
            client: "VS Code",
            steps: "Put this into the file .vscode/mcp.json of your workspace.",
            snippet: Some(format!("{vs_code:#}")),
        },
        Instructions {
            client: "Cursor",
            steps: "Put this into the file .cursor/mcp.json of your project, or of your home directory.",
            snippet: Some(format!("{cursor:#}")),
        },
        Instructions {
            client: "MCP Inspector",
            steps: "Run this command. In the page that it opens, choose the transport Streamable HTTP and enter the URL above.",
            snippet: Some("npx @modelcontextprotocol/inspector".to_owned()),
        },
    ]
}

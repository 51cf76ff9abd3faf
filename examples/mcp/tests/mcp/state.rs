//! The default store: a file in the state directory if a provider is configured.

#![cfg(feature = "redb")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use test_support::process::Example;
use tokio::task::spawn_blocking;

use crate::PROGRAM;
use crate::support::identity::Identity;
use crate::support::mcp_client::{McpClient, call};

/// Starts the server without `--store`.
async fn start(identity: &Identity, listen: &str, state: &Path) -> Example {
    let mut flags = identity.flags();
    flags.extend(["--listen", listen].map(str::to_owned));
    let state = state.to_owned();
    spawn_blocking(move || Example::start(PROGRAM, &flags, &[("XDG_STATE_HOME", state)]))
        .await
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_restart_logs_no_client_out() {
    let state = tempfile::tempdir().unwrap();
    let home = state.path().join("new");
    let identity = Identity::start().await;
    let mut server = start(&identity, "127.0.0.1:0", &home).await;
    let client = McpClient::register(&server).await;
    let tokens = client.log_in(&server).await;
    let listen = server.addr().to_string();
    server.terminate();
    server.ended(Duration::from_secs(30)).await;

    let server = start(&identity, &listen, &home).await;
    let answer = call(&server, &tokens.string("access_token"), "whoami").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = client
        .refresh(&server, &tokens.string("refresh_token"), &[])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    client.log_in(&server).await;

    let directory = home.join("mcp-oauth-proxy");
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("sessions.redb")), 0o600);
}

#[tokio::test]
async fn a_state_directory_that_others_can_open_gets_a_warning() {
    let identity = Identity::start().await;
    for (mode, warns) in [(0o700, false), (0o755, true), (0o710, true)] {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("mcp-oauth-proxy");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        let server = start(&identity, "127.0.0.1:0", home.path()).await;
        let log = server.stderr();
        let warning = "other users can open the state directory";
        assert_eq!(log.contains(warning), warns, "{mode:o}: {log}");
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_created_is_an_error_that_names_the_flag() {
    let flags = Identity::start().await.flags();
    let run = move || Example::run(PROGRAM, &flags, &[("XDG_STATE_HOME", "/dev/null")]);
    let output = spawn_blocking(run).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let message = "--store is not set, and /dev/null/mcp-oauth-proxy cannot be created";
    assert!(stderr.contains(message), "{stderr}");
}

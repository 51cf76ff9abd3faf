//! Attackers that hold as many resources of the server as they can, while an honest client is
//! served.

use test_support::limits;
use test_support::process::Example;
use tokio::task::spawn_blocking;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-oauth-proxy");

const FEW_BODIES: &[&str] = &["--body-memory", "100000"];

async fn start(descriptors: u32, flags: &'static [&'static str]) -> Example {
    let start = move || {
        let args = ["--listen", "127.0.0.1:0"];
        Example::start_within(descriptors, PROGRAM, &[&args, flags].concat())
    };
    spawn_blocking(start).await.unwrap()
}

#[tokio::test]
async fn silent_connections_do_not_lock_out_honest_clients() {
    // Long, so that the idle time-out does not close the silent connections.
    let server = start(256, &["--idle-timeout", "3600"]).await;
    limits::silent_connections_do_not_lock_out_honest_clients(
        &server,
        "/.well-known/oauth-authorization-server",
    )
    .await;
}

#[tokio::test]
async fn half_sent_forms_share_the_memory_limit() {
    let server = start(1024, FEW_BODIES).await;
    limits::half_sent_forms_share_the_memory_limit(&server).await;
}

#[tokio::test]
async fn stalled_uploads_get_408() {
    let server = start(1024, &["--stall-timeout", "1"]).await;
    limits::stalled_uploads_get_408(&server, "/register").await;
}

#[tokio::test]
async fn lower_case_methods_are_refused() {
    let server = start(1024, &[]).await;
    limits::lower_case_methods_are_refused(&server).await;
}

#[tokio::test]
async fn the_soft_descriptor_limit_is_raised_at_start() {
    let start = move || {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--max-connections",
            "1000",
            "--max-in-flight",
            "1000",
        ];
        Example::start_between([256, 4096], PROGRAM, &flags)
    };
    let server = spawn_blocking(start).await.unwrap();
    limits::the_soft_descriptor_limit_is_raised(&server, 4096);
}

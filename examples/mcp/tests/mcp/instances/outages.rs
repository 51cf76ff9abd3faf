//! Store failures and clients that disconnect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use test_support::PATIENCE;
use test_support::redis::{Fault, Wire};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{Site, code, patiently, until_late};
use crate::support::mcp;
use crate::support::mcp_client::{McpClient, assert_error, call, structured};

#[tokio::test]
async fn a_log_in_survives_a_store_failure_during_the_exchange() {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let site = Site::start().await;
    let wire = Wire::in_front_of(site.redis.port()).await;
    let server = site.instance_over(&wire.url(), &[]).await;
    let client = McpClient::register(&server).await;
    let mut failed = 0;
    let mut used = Vec::new();
    for fault in [Fault::Drop, Fault::LoseAnswer] {
        // The writes are: the code in use, the grant, its access token, the response, and the used
        // code with its grant.
        for victim in 0..5 {
            let code = code(&server, &client).await;
            WRITES.store(0, Ordering::SeqCst);
            let hooked = fault.clone();
            wire.hook(move |words| {
                let write = words[0].eq_ignore_ascii_case(b"EVALSHA");
                let number = if write {
                    WRITES.fetch_add(1, Ordering::SeqCst)
                } else {
                    WRITES.load(Ordering::SeqCst)
                };
                if number >= victim && (write || number > victim) {
                    hooked.clone()
                } else {
                    Fault::Pass
                }
            });
            let name = format!("{fault:?} from write {victim} on");
            let first = client.exchange(&server, &code, &[]).await;
            wire.unhook();
            failed += usize::from(first.status == 503);
            let tokens = if first.status == 200 {
                first
            } else {
                assert_error(&first, 503, "temporarily_unavailable", &name);
                patiently(async || client.exchange(&server, &code, &[]).await).await
            };
            assert_eq!(tokens.status, 200, "{name}: {}", tokens.text());
            let access = tokens.string("access_token");
            structured(&patiently(async || call(&server, &access, "whoami").await).await);
            used.push((name, code, tokens.string("refresh_token")));
        }
    }
    for (name, code, refresh) in used {
        let again = until_late(async || client.exchange(&server, &code, &[]).await).await;
        assert_error(&again, 400, "invalid_grant", &name);
        let refused = patiently(async || client.refresh(&server, &refresh, &[]).await).await;
        assert_error(
            &refused,
            400,
            "invalid_grant",
            &format!("{name}: the reuse of the code ended the grant"),
        );
    }
    assert!(failed > 0, "no fault was injected");
}

#[tokio::test]
async fn a_client_that_disconnects_during_an_exchange_can_use_its_code_again() {
    let site = Site::start().await;
    let wire = Wire::in_front_of(site.redis.port()).await;
    let server = site.instance_over(&wire.url(), &[]).await;
    let client = McpClient::register(&server).await;
    // The last write records the grant of the code. From then on, the server assumes that the
    // client has its tokens.
    for victim in 0..3 {
        let code = code(&server, &client).await;
        let (gate, held) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let mut writes = 0;
        let (hold, met) = (Arc::clone(&gate), Arc::clone(&held));
        wire.hook(move |words| {
            writes += usize::from(words[0].eq_ignore_ascii_case(b"EVALSHA"));
            if writes == victim + 1 && met.fetch_add(1, Ordering::SeqCst) == 0 {
                return Fault::HoldAnswer(Arc::clone(&hold));
            }
            Fault::Pass
        });
        let body = format!(
            "grant_type=authorization_code&client_id={}&code={code}&code_verifier={}",
            client.id,
            mcp::VERIFIER
        );
        let head = format!(
            "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .unwrap();
        let end = Instant::now() + PATIENCE;
        while held.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < end, "write {victim} did not happen");
            sleep(Duration::from_millis(5)).await;
        }
        wire.commands();
        drop(stream);
        // When the server notices the disconnect, it reads the code.
        while !wire
            .commands()
            .iter()
            .any(|words| words[0].eq_ignore_ascii_case(b"GET"))
        {
            assert!(
                Instant::now() < end,
                "write {victim}: the server did not notice the disconnect"
            );
            sleep(Duration::from_millis(5)).await;
        }
        wire.unhook();
        gate.notify_one();
        let tokens = patiently(async || client.exchange(&server, &code, &[]).await).await;
        assert_eq!(tokens.status, 200, "write {victim}: {}", tokens.text());
        structured(
            &patiently(async || call(&server, &tokens.string("access_token"), "whoami").await)
                .await,
        );
    }
}

#[tokio::test]
async fn sessions_survive_a_store_outage() {
    let site = Site::start().await;
    let server = site.instance().await;
    let client = McpClient::register(&server).await;
    let (fresh, session) = (code(&server, &client).await, code(&server, &client).await);
    let tokens = client.exchange(&server, &session, &[]).await;
    let token = tokens.string("refresh_token");

    site.redis.freeze();
    let answer = client.exchange(&server, &fresh, &[]).await;
    assert_error(&answer, 503, "temporarily_unavailable", "a code");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_error(
        &client.refresh(&server, &token, &[]).await,
        503,
        "temporarily_unavailable",
        "a refresh",
    );
    assert_error(
        &client.revoke(&server, &token).await,
        503,
        "temporarily_unavailable",
        "a revocation",
    );
    site.redis.thaw();

    let answer = patiently(async || client.exchange(&server, &fresh, &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = patiently(async || client.refresh(&server, &token, &[]).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(site.identity.counts().reused, 0);
}

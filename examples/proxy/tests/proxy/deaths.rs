//! Several proxies over one Redis, some of which are killed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use test_support::PATIENCE;
use test_support::http::serve_upstream;
use test_support::limits::until;
use test_support::oauth::oauth_http;
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::{Upstream, refresh_form};
use tokio::task::JoinSet;

use crate::proxy;

const SESSIONS: usize = 30;

/// Returns the response of a proxy, or an error if there is none.
async fn call(proxy: SocketAddr, form: &[(&str, &str)]) -> io::Result<(u16, serde_json::Value)> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = http::Request::post(format!("http://{proxy}/token"));
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into_bytes());
    let response = oauth_http(request.map_err(io::Error::other)?).await?;
    Ok((
        response.status().as_u16(),
        serde_json::from_slice(response.body()).unwrap_or_default(),
    ))
}

/// Refreshes until `over`, at one proxy after the other. Returns `None` if the session is lost.
async fn client(
    proxies: Vec<SocketAddr>,
    mut round: usize,
    over: Arc<AtomicBool>,
) -> Option<String> {
    let form = [("grant_type", "password"), ("client_id", "app")];
    let (_, answer) = call(proxies[round % proxies.len()], &form).await.unwrap();
    let mut token = answer["refresh_token"].as_str().unwrap().to_owned();
    let end = Instant::now() + PATIENCE;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        match call(proxies[round % proxies.len()], &refresh_form("app", &token)).await {
            Ok((200, answer)) => answer["refresh_token"]
                .as_str()
                .unwrap()
                .clone_into(&mut token),
            Ok((400, _)) => return None,
            // It is told to retry, or no proxy responds.
            Ok((503, _)) | Err(_) => assert!(Instant::now() < end, "no proxy responds"),
            Ok(answer) => panic!("{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(token)
}

/// Refreshes until the lease of a dead instance has expired. Panics if the session is lost.
async fn go_on(proxy: SocketAddr, token: String) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = call(proxy, &refresh_form("app", &token)).await.unwrap();
        if status != 503 {
            return assert_eq!(status, 200, "{answer}");
        }
        assert!(Instant::now() < end, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_under_load_loses_no_session_of_a_forgiving_upstream() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    upstream.forgive();
    upstream.slow_down(Duration::from_millis(20));
    let address = format!("http://{}", serve_upstream(upstream.clone()).await);
    let url = server.url();
    let flags = ["--rotation-timeout", "1", "--store", &url];
    let mut proxies: Vec<Example> = Vec::new();
    for _ in 0..3 {
        proxies.push(proxy::start(&address, &flags).await);
    }
    let addresses: Vec<_> = proxies.iter().map(Example::addr).collect();
    let (mut clients, over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for number in 0..SESSIONS {
        clients.spawn(client(addresses.clone(), number, Arc::clone(&over)));
    }
    for _ in 0..2 {
        let begun = upstream.refreshes();
        until("load on the instances", || {
            upstream.refreshes() > begun + 2 * SESSIONS
        })
        .await;
        // Dropping it kills it.
        drop(proxies.pop());
    }
    over.store(true, Ordering::SeqCst);
    // All at once, because each takeover of a lease of a dead instance waits for a while.
    let mut retries = JoinSet::new();
    for token in clients.join_all().await.into_iter().flatten() {
        retries.spawn(go_on(proxies[0].addr(), token));
    }
    let left = retries.join_all().await.len();
    println!(
        "two processes killed: {SESSIONS} sessions, {} lost, {} refreshes",
        SESSIONS - left,
        upstream.refreshes()
    );
    assert_eq!(
        (left, upstream.reuses(), upstream.alive()),
        (SESSIONS, 0, SESSIONS)
    );
}

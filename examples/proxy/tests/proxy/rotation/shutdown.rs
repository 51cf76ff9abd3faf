//! Rotations while the proxy stops.

use std::sync::Arc;
use std::time::Duration;

use test_support::Act;
use test_support::PATIENCE;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::Setup;

#[tokio::test]
async fn sigterm_waits_for_a_rotation() {
    let mut setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    let gate = Arc::new(Notify::new());
    setup.upstream.then(Act::Wait(Arc::clone(&gate)));
    let stream = setup.refresh_and_stay(&token).await;
    setup.proxy.terminate();
    setup.proxy.written("shutting down").await;
    assert!(
        TcpStream::connect(setup.proxy.addr()).await.is_err(),
        "new connections are refused"
    );
    gate.notify_one();
    let answer = read(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("rt_"),
        "{answer}"
    );
    assert_eq!(
        setup.proxy.ended(PATIENCE).await.code(),
        Some(0),
        "{:?}",
        setup.proxy
    );
}

#[tokio::test]
async fn sigterm_waits_for_a_rotation_whose_client_disconnected() {
    let mut setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    let gate = Arc::new(Notify::new());
    setup.upstream.then(Act::Wait(Arc::clone(&gate)));
    drop(setup.refresh_and_stay(&token).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    setup.proxy.terminate();
    setup.proxy.written("shutting down").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!setup.proxy.stderr().contains("rotated"));
    gate.notify_one();
    assert_eq!(
        setup.proxy.ended(PATIENCE).await.code(),
        Some(0),
        "{:?}",
        setup.proxy
    );
    setup.proxy.written("rotated").await;
}

#[tokio::test]
async fn a_second_signal_stops_the_proxy_at_once() {
    let mut setup = Setup::start(&[]).await;
    let token = setup.log_in().await;
    setup.upstream.then(Act::Hang);
    let _stream = setup.refresh_and_stay(&token).await;
    setup.proxy.terminate();
    setup.proxy.written("shutting down").await;
    setup.proxy.terminate();
    assert_eq!(
        setup.proxy.ended(PATIENCE).await.code(),
        Some(1),
        "{:?}",
        setup.proxy
    );
}

async fn read(mut stream: TcpStream) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

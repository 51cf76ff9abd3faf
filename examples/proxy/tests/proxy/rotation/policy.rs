//! Old tokens, and clients that keep theirs.

use std::time::Duration;

use axum::http::StatusCode;

use super::{Setup, refused};

#[tokio::test]
async fn a_stolen_token_is_refused() {
    let setup = Setup::start(&["--retry-window", "0.5"]).await;
    let first = setup.log_in().await;
    refused(&setup.refresh_as("other", &first).await);
    let second = setup.refresh(&first).await.string("refresh_token");
    let third = setup.refresh(&second).await.string("refresh_token");
    tokio::time::sleep(Duration::from_millis(700)).await;
    refused(&setup.refresh(&first).await);
    refused(&setup.refresh(&third).await);
    assert_eq!(setup.upstream.refreshes(), 2);
}

#[tokio::test]
async fn private_copies_of_a_token_stay_logged_in_within_the_shared_window() {
    let setup = Setup::start(&["--retry-window", "0", "--shared-window", "600"]).await;
    let first = setup.log_in().await;
    let second = setup.refresh(&first).await.string("refresh_token");
    let third = setup.refresh(&second).await.string("refresh_token");
    for copy in [&first, &second, &third] {
        let answer = setup.refresh(copy).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(setup.upstream.refreshes(), 5);
    assert_eq!(setup.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_lost_response_is_recovered_within_the_recovery_window_only() {
    for (window, recovers) in [
        ("unlimited", true),
        ("600", true),
        ("0.3", false),
        ("0", false),
    ] {
        let setup = Setup::start(&["--retry-window", "0", "--recovery-window", window]).await;
        let first = setup.log_in().await;
        let lost = setup.refresh(&first).await.string("refresh_token");
        tokio::time::sleep(Duration::from_millis(400)).await;
        let answer = setup.refresh(&first).await;
        if recovers {
            assert_eq!(answer.status, StatusCode::OK, "{window}: {answer:?}");
        } else {
            refused(&answer);
            refused(&setup.refresh(&lost).await);
        }
        assert_eq!(setup.upstream.reuses(), 0, "{window}");
    }
}

#[tokio::test]
async fn clients_can_keep_their_token() {
    let flags = ["--retry-window", "0", "--rotation-client", "app=never"];
    let setup = Setup::start(&flags).await;
    let token = setup.log_in().await;
    for _ in 0..3 {
        let answer = setup.refresh(&token).await;
        assert_eq!(answer.string("refresh_token"), token);
    }
    assert_eq!(setup.upstream.refreshes(), 3);
    assert_eq!(setup.upstream.reuses(), 0);
}

#[tokio::test]
async fn the_policy_of_one_client_does_not_apply_to_another() {
    let flags = ["--rotation", "3600", "--rotation-client", "app=every-use"];
    let setup = Setup::start(&flags).await;
    let token = setup.log_in().await;
    assert_ne!(setup.refresh(&token).await.string("refresh_token"), token);
    let flags = ["--rotation", "3600", "--rotation-client", "other=every-use"];
    let setup = Setup::start(&flags).await;
    let token = setup.log_in().await;
    assert_eq!(setup.refresh(&token).await.string("refresh_token"), token);
}

#[tokio::test]
async fn strict_ends_the_grant_on_any_reuse() {
    let setup = Setup::start(&["--strict"]).await;
    let first = setup.log_in().await;
    let second = setup.refresh(&first).await.string("refresh_token");
    refused(&setup.refresh(&first).await);
    refused(&setup.refresh(&second).await);
}

//! Health, metrics and the log of the example proxy.

use std::time::Duration;

use axum::http::StatusCode;
use test_support::http::{Answer, Recorder, get, post, send, serve_upstream};
use test_support::{Upstream, refresh_form};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_oauth_refresh::EventKind;

use crate::proxy;

async fn metrics(admin: &str) -> String {
    let answer = get(&format!("{admin}/metrics")).await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    answer.text().to_owned()
}

/// Returns the value of one series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in {metrics}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn health_and_metrics_are_served_only_at_the_admin_address() {
    let upstream = Recorder::start(|_| "from the upstream").await;
    let proxy = proxy::start(&upstream.url(), &["--admin", "127.0.0.1:0"]).await;
    let admin = format!("http://{}", proxy.admin_addr());
    let health = get(&format!("{admin}/healthz")).await;
    assert_eq!((health.status, health.text()), (StatusCode::OK, "ok"));
    assert_eq!(
        get(&format!("{admin}/token")).await.status,
        StatusCode::NOT_FOUND
    );
    for path in ["/healthz", "/metrics"] {
        assert_eq!(get(&proxy.url(path)).await.text(), "from the upstream");
    }
}

#[tokio::test]
async fn every_metric_exists_from_the_start() {
    let upstream = Recorder::start(|_| "").await;
    let proxy = proxy::start(&upstream.url(), &["--admin", "127.0.0.1:0"]).await;
    let metrics = metrics(&format!("http://{}", proxy.admin_addr())).await;
    for kind in EventKind::ALL {
        assert_eq!(
            value(
                &metrics,
                &format!("oauth_refresh_events_total{{kind=\"{kind}\"}}")
            ),
            0.0
        );
    }
    for op in ["get", "swap", "sidecar", "claim"] {
        assert_eq!(
            value(
                &metrics,
                &format!("oauth_refresh_store_call_errors_total{{op=\"{op}\"}}")
            ),
            0.0
        );
        assert_eq!(
            value(
                &metrics,
                &format!("oauth_refresh_store_call_duration_seconds_count{{op=\"{op}\"}}")
            ),
            0.0
        );
    }
    for kind in ["rotated", "kept", "replayed", "converged", "recovered"] {
        assert_eq!(
            value(
                &metrics,
                &format!("oauth_refresh_rotation_duration_seconds_count{{kind=\"{kind}\"}}")
            ),
            0.0
        );
    }
    assert_eq!(value(&metrics, "proxy_requests_in_flight"), 0.0);
    let helped = metrics
        .lines()
        .filter(|line| line.starts_with("# HELP "))
        .count();
    let typed = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .count();
    assert_eq!((helped, typed), (6, 6), "{metrics}");
}

#[tokio::test]
async fn events_and_store_calls_are_measured() {
    let (upstream, gate) = (
        Upstream::new(),
        std::sync::Arc::new(tokio::sync::Notify::new()),
    );
    let addr = serve_upstream(upstream.clone()).await;
    let proxy = proxy::start(&format!("http://{addr}"), &["--admin", "127.0.0.1:0"]).await;
    let (url, admin) = (
        proxy.url("/token"),
        format!("http://{}", proxy.admin_addr()),
    );
    let token = post(&url, &[("grant_type", "x"), ("client_id", "app")])
        .await
        .string("refresh_token");
    for _ in 0..2 {
        assert_eq!(
            post(&url, &refresh_form("app", &token)).await.status,
            StatusCode::OK
        );
    }
    post(&url, &refresh_form("other", &token)).await;
    let seen = metrics(&admin).await;
    for (kind, count) in [
        ("issued", 1.0),
        ("rotated", 1.0),
        ("replayed", 1.0),
        ("client_mismatch", 1.0),
        ("late", 0.0),
    ] {
        assert_eq!(
            value(
                &seen,
                &format!("oauth_refresh_events_total{{kind=\"{kind}\"}}")
            ),
            count,
            "{kind}"
        );
    }
    for kind in ["rotated", "replayed"] {
        let series = format!(
            "oauth_refresh_rotation_duration_seconds_bucket{{kind=\"{kind}\",le=\"+Inf\"}}"
        );
        assert_eq!(value(&seen, &series), 1.0);
        let sum = value(
            &seen,
            &format!("oauth_refresh_rotation_duration_seconds_sum{{kind=\"{kind}\"}}"),
        );
        assert!(sum > 0.0 && sum < 10.0, "{kind} took {sum} s");
    }
    let [gets, claims, ..] = ["get", "claim", "swap", "sidecar"].map(|op| {
        let count = value(
            &seen,
            &format!("oauth_refresh_store_call_duration_seconds_count{{op=\"{op}\"}}"),
        );
        assert!(count >= 1.0, "{op}");
        count
    });
    // A claim that is not forwarded to the inner store is a read, too.
    assert!(
        gets <= claims,
        "only the epochs are read: {gets} of {claims}"
    );

    upstream.then(test_support::Act::Wait(std::sync::Arc::clone(&gate)));
    let waiting =
        tokio::spawn(async move { get(&proxy.url("/slow")).await.status.as_u16().min(1) });
    while value(&metrics(&admin).await, "proxy_requests_in_flight") < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.notify_one();
    waiting.await.unwrap();
}

#[tokio::test]
async fn the_trace_log_has_every_decision_and_no_secret() {
    for format in ["text", "json"] {
        let upstream = Upstream::new();
        let addr = serve_upstream(upstream.clone()).await;
        let address = format!("http://{addr}");
        let flags = ["--log-level", "trace", "--log-format", format];
        let proxy = proxy::start(&address, &flags).await;
        // At a strict proxy, the old token is reused at once.
        let strict = proxy::start(&address, &[&flags[..], &["--strict"]].concat()).await;
        let (client, secret) = ("confidential-a", "secret of confidential-a");
        let mut secrets: Vec<String> = ["code-of-login", "query-secret", "wrong-secret", secret]
            .map(Into::into)
            .into();
        let mut token = |answer: &Answer| {
            for member in ["access_token", "refresh_token"] {
                secrets.push(answer.string(member));
            }
            answer.string("refresh_token")
        };
        let url = proxy.url("/token?code=query-secret");
        let credentials = [("client_id", client), ("client_secret", secret)];
        let log_in = [
            &[
                ("grant_type", "authorization_code"),
                ("code", "code-of-login"),
            ][..],
            &credentials,
        ]
        .concat();
        let first = token(&post(&url, &log_in).await);
        let with = |token: &'static str, secret| {
            [
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", client),
                ("client_secret", secret),
            ]
        };
        let leak = |token: &str| -> &'static str { token.to_owned().leak() };
        let second = token(&post(&url, &with(leak(&first), secret)).await);
        token(&post(&url, &with(leak(&first), secret)).await);
        post(&url, &with(leak(&second), "wrong-secret")).await;
        let third = token(&post(&url, &with(leak(&second), secret)).await);
        post(&url, &refresh_form("other", &third)).await;
        let reused = strict.url("/token");
        let old = token(&post(&reused, &log_in).await);
        token(&post(&reused, &with(leak(&old), secret)).await);
        post(&reused, &with(leak(&old), secret)).await;
        send(
            "POST",
            &url,
            &[("authorization", "Basic d3Jvbmctc2VjcmV0")],
            "x=%",
        )
        .await;
        upstream.then(test_support::Act::Break);
        post(&url, &log_in).await;
        post(
            &proxy.url("/revoke"),
            &[&[("token", leak(&third))][..], &credentials].concat(),
        )
        .await;

        let log = [&proxy, &strict].map(|proxy| proxy.stderr() + &proxy.stdout());
        let log = log.concat();
        for verdict in ["Rotate", "Replay", "ClientMismatch", "Reuse"] {
            assert!(log.contains(verdict), "no {verdict} in {log}");
        }
        for event in [
            "issued",
            "rotated",
            "replayed",
            "client_mismatch",
            "reuse_detected",
        ] {
            assert!(log.contains(event), "no {event} in {log}");
        }
        secrets.extend(["upstream-0-", "d3Jvbmctc2VjcmV0", "rt_"].map(Into::into));
        for secret in &secrets {
            assert!(
                !log.contains(secret.as_str()),
                "{secret:?} is in the log:\n{log}"
            );
        }
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<serde_json::Value>(line)
                    .unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        }
    }
}

#[tokio::test]
async fn requests_are_logged_at_debug_only() {
    let upstream = Recorder::start(|_| "").await;
    let quiet = proxy::start(&upstream.url(), &[]).await;
    let loud = proxy::start(&upstream.url(), &["--log-level", "debug"]).await;
    for proxy in [&quiet, &loud] {
        get(&proxy.url("/logged?secret=1")).await;
    }
    loud.written("path=\"/logged\" status=200").await;
    assert!(!quiet.stderr().contains("/logged"), "{quiet:?}");
    assert!(!loud.stderr().contains("secret"), "{loud:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_cannot_forge_log_lines_or_fields() {
    let forged = "app\u{2028}WARN \u{202e}x event=\"forged\" event=forged";
    for format in ["text", "json"] {
        let addr = serve_upstream(Upstream::new()).await;
        let proxy = proxy::start(
            &format!("http://{addr}"),
            &["--log-level", "debug", "--log-format", format],
        )
        .await;
        let log_in = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        let token = post(&proxy.url("/token"), &log_in)
            .await
            .string("refresh_token");
        let stolen = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*token),
            ("client_id", forged),
        ];
        post(&proxy.url("/token"), &stolen).await;
        proxy.written("client_mismatch").await;
        let log = proxy.stderr();
        assert!(!log.contains(['\u{2028}', '\u{202e}']), "{log}");
        let line = log
            .lines()
            .find(|line| line.contains("client_mismatch"))
            .unwrap();
        if format == "json" {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["event"], "client_mismatch", "{line}");
            assert_eq!(
                event["client_id"], r#"app\u{2028}WARN \u{202e}x event="forged" event=forged"#,
                "{line}"
            );
        } else {
            let expected =
                r#"client_id="app\\u{2028}WARN \\u{202e}x event=\"forged\" event=forged""#;
            assert!(line.contains(expected), "{line}");
        }
    }
}

#[tokio::test]
async fn connections_that_reset_their_streams_do_not_fill_the_log() {
    let upstream = serve_upstream(Upstream::new()).await;
    let proxy = proxy::start(&format!("http://{upstream}"), &[]).await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags];
        [&head[..], &stream.to_be_bytes(), payload].concat()
    };
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend(frame(4, 0, 0, &[]));
    for stream in (1..400).step_by(2) {
        // `GET / http`, `:authority: a`, and a reset.
        attack.extend(frame(1, 5, stream, b"\x82\x84\x86\x41\x01a"));
        attack.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    for _ in 0..5 {
        let mut connection = TcpStream::connect(proxy.addr()).await.unwrap();
        connection.write_all(&attack).await.unwrap();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer).await;
        let calm = [0, 0, 0, 0xb];
        assert!(
            answer.windows(4).any(|part| part == calm),
            "the proxy closes the connection with ENHANCE_YOUR_CALM: {answer:?}"
        );
    }
    let log = proxy.stderr();
    assert!(!log.contains("h2::"), "{log}");
}

//! Several instances of the example `mcp` with one Redis: any instance can serve any step, and
//! Redis contains no secret.

mod outages;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use test_support::PATIENCE;
use test_support::http::Answer;
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::secrets::{Needles, latin};
use tokio::time::sleep;

use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, Pairs, one, onward, query};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, structured};

const PUBLIC: &str = "https://mcp.example.com";

/// The Redis and the identity provider that all instances share.
struct Site {
    identity: Identity,
    redis: RedisServer,
}

impl Site {
    async fn start() -> Self {
        Self {
            identity: Identity::start().await,
            redis: RedisServer::start().await,
        }
    }

    async fn instance(&self) -> Example {
        self.instance_over(&self.redis.url(), &[]).await
    }

    async fn instance_over(&self, url: &str, more: &[&str]) -> Example {
        let mut flags = self.identity.flags();
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        // The caches keep entries for an hour, so that a revocation takes effect only if it is
        // announced.
        let more = [
            "--public-url",
            PUBLIC,
            "--store",
            url,
            "--cache-ttl",
            "3600",
            "--log-level",
            "trace",
        ];
        flags.extend(more.map(str::to_owned));
        mcp::start(&flags).await
    }
}

/// Directs a browser to another instance.
fn at<'a>(browser: &'a mut Browser, server: &Example) -> &'a mut Browser {
    browser.through = Some((PUBLIC.to_owned(), server.url("")));
    browser
}

fn request(client: &McpClient) -> String {
    let parameters = [
        ("response_type", "code"),
        ("client_id", client.id.as_str()),
        ("redirect_uri", REDIRECT),
        ("state", "the client's"),
        ("code_challenge", mcp::CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    url::Url::parse_with_params(&format!("{PUBLIC}/authorize"), parameters)
        .unwrap()
        .into()
}

/// Waits until an instance rejects an access token.
async fn until_refused(server: &Example, token: &str) {
    let end = Instant::now() + PATIENCE;
    while call(server, token, "whoami").await.status != 401 {
        assert!(Instant::now() < end, "the access token is still accepted");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that Redis has contained so far, and the secrets that must not be in it.
#[derive(Default)]
struct Watch {
    needles: Needles,
    stored: Vec<u8>,
}

impl Watch {
    async fn note(&mut self, site: &Site) {
        for (key, value) in site.redis.dump().await {
            self.stored.extend([key, value].concat());
        }
    }

    fn tokens(&mut self, answer: &Answer) {
        for name in ["access_token", "refresh_token"] {
            self.needles.token(&answer.string(name));
        }
    }

    fn assert_no_secret_leaked(&self, site: &Site, logs: &[&Example]) {
        let mut needles = self.needles.clone();
        for secret in site.identity.secrets() {
            needles.text(&secret);
        }
        for secret in [mcp::PROVIDER_SECRET, mcp::VERIFIER, "the client's"] {
            needles.text(secret);
        }
        assert!(
            self.stored.len() > 1000,
            "Redis contains too little for this test"
        );
        assert_eq!(
            needles.find_in_bytes(&self.stored),
            None,
            "Redis contains a secret"
        );
        for server in logs {
            assert_eq!(
                needles.find(&server.stderr()),
                None,
                "the log contains a secret: {server:?}"
            );
        }
    }
}

#[tokio::test]
async fn each_step_works_on_another_instance_and_redis_contains_no_secret() {
    let site = Site::start().await;
    let (a, b, c) = (
        site.instance().await,
        site.instance().await,
        site.instance().await,
    );
    let (mut watch, mut browser) = (Watch::default(), Browser::default());

    let metadata =
        json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post" });
    let registered = mcp::register(&a, &metadata).await;
    let client = McpClient {
        id: registered["client_id"].as_str().unwrap().to_owned(),
    };
    let secret = registered["client_secret"].as_str().unwrap().to_owned();
    watch.needles.text(&secret);
    watch.note(&site).await;

    let answer = at(&mut browser, &b).get(&request(&client)).await;
    let consent = onward(&answer);
    watch.note(&site).await;
    let page = at(&mut browser, &c).get(&consent).await;
    watch.note(&site).await;
    let to_provider = at(&mut browser, &a)
        .submit(
            &consent,
            &page,
            &[("decision", "approve"), ("remember", "on")],
        )
        .await;
    watch.note(&site).await;
    let callback = onward(&browser.get(&onward(&to_provider)).await);
    assert!(
        callback.starts_with(&format!("{PUBLIC}/callback?")),
        "{callback}"
    );
    let to_client = at(&mut browser, &b).get(&callback).await;
    watch.note(&site).await;
    let answer = query(&onward(&to_client));
    let code = one(&answer, "code")
        .unwrap_or_else(|| panic!("{answer:?}"))
        .to_owned();

    let raw = |handle: &String| {
        URL_SAFE_NO_PAD
            .decode(handle)
            .map(|bytes| latin(&bytes))
            .ok()
    };
    let steps: [Pairs; 3] = [
        query(&consent),
        query(&onward(&to_provider)),
        mcp::form(&page).1,
    ];
    let names = ["login", "state", "code", "csrf", "token"];
    let fields = steps
        .iter()
        .flatten()
        .filter(|(name, _)| names.contains(&name.as_str()));
    let handles: Vec<_> = fields
        .map(|(_, value)| value.clone())
        .chain([code.clone()])
        .collect();
    assert!(
        handles.len() >= 4,
        "too few secrets in the URLs and forms: {steps:?}"
    );
    for handle in handles.iter().chain(browser.cookies.values()) {
        watch.needles.text(handle);
        watch.needles.text(&raw(handle).expect("a handle"));
    }

    let with_secret = [("client_secret", secret.as_str())];
    let first = client.exchange(&c, &code, &with_secret).await;
    assert_eq!(first.status, 200, "{}", first.text());
    watch.tokens(&first);
    watch.note(&site).await;
    let second = client
        .refresh(&a, &first.string("refresh_token"), &with_secret)
        .await;
    assert_eq!(second.status, 200, "{}", second.text());
    watch.tokens(&second);
    watch.note(&site).await;
    for server in [&a, &b, &c] {
        for answer in [&first, &second] {
            let me = structured(&call(server, &answer.string("access_token"), "whoami").await);
            assert_eq!(me["resources"], json!([format!("{PUBLIC}/mcp")]));
        }
    }

    let replayed = client.exchange(&b, &code, &with_secret).await;
    assert!(
        replayed.status != 200 || replayed.body == first.body,
        "{}",
        replayed.text()
    );
    watch.note(&site).await;
    let late = until_late(async || client.exchange(&b, &code, &with_secret).await).await;
    assert_error(
        &late,
        400,
        "invalid_grant",
        "the code after the window, at another instance",
    );
    for server in [&a, &b, &c] {
        for answer in [&first, &second] {
            until_refused(server, &answer.string("access_token")).await;
        }
        let refused = client
            .refresh(server, &second.string("refresh_token"), &with_secret)
            .await;
        assert_error(&refused, 400, "invalid_grant", "the session has ended");
    }
    watch.note(&site).await;
    watch.assert_no_secret_leaked(&site, &[&a, &b, &c]);
}

#[tokio::test]
async fn a_log_in_survives_the_death_of_an_instance_between_two_steps() {
    let site = Site::start().await;
    let mut browser = Browser::default();
    // Dropping an instance kills it.
    let client = McpClient::register(&site.instance().await).await;
    let answer = at(&mut browser, &site.instance().await)
        .get(&request(&client))
        .await;
    let to_provider = at(&mut browser, &site.instance().await)
        .approve(&answer)
        .await;
    let callback = onward(&browser.get(&onward(&to_provider)).await);
    let to_client = at(&mut browser, &site.instance().await)
        .get(&callback)
        .await;
    let answer = query(&onward(&to_client));
    let code = one(&answer, "code").unwrap_or_else(|| panic!("{answer:?}"));
    let first = client.exchange(&site.instance().await, code, &[]).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let second = client
        .refresh(&site.instance().await, &first.string("refresh_token"), &[])
        .await;
    assert_eq!(second.status, 200, "{}", second.text());
    let server = site.instance().await;
    structured(&call(&server, &first.string("access_token"), "whoami").await);
    structured(&call(&server, &second.string("access_token"), "upstream").await);
    assert_eq!(
        client
            .revoke(&server, &second.string("refresh_token"))
            .await
            .status,
        200
    );
    let refused = client
        .refresh(&site.instance().await, &second.string("refresh_token"), &[])
        .await;
    assert_error(&refused, 400, "invalid_grant", "revoked");
}

/// Repeats a request as `Retry-After` says, until the status is not 503.
async fn patiently(request: impl AsyncFn() -> Answer) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = request().await;
        if answer.status != 503 {
            return answer;
        }
        assert!(Instant::now() < end, "{}", answer.text());
        sleep(Duration::from_secs(1)).await;
    }
}

/// Repeats an exchange until its response is no longer offered. Returns the next response.
async fn until_late(exchange: impl AsyncFn() -> Answer) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = patiently(&exchange).await;
        if answer.status != 200 {
            return answer;
        }
        assert!(Instant::now() < end, "the response is still offered");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Logs in at an instance. Returns the code.
async fn code(server: &Example, client: &McpClient) -> String {
    let mut browser = Browser::default();
    let answer = query(
        &at(&mut browser, server)
            .log_in(&request(client), REDIRECT)
            .await,
    );
    one(&answer, "code")
        .unwrap_or_else(|| panic!("{answer:?}"))
        .to_owned()
}

#[tokio::test]
async fn all_instances_return_the_same_tokens_for_a_code() {
    let site = Site::start().await;
    let instances = [
        site.instance().await,
        site.instance().await,
        site.instance().await,
    ];
    let client = McpClient::register(&instances[0]).await;
    let other = McpClient::register(&instances[0]).await;
    let mut watch = Watch::default();
    for round in 0..3 {
        let code = code(&instances[round], &client).await;
        let exchange = |server| client.exchange(server, &code, &[]);
        let [a, b, c] = instances.each_ref();
        let answers = tokio::join!(
            exchange(a),
            exchange(b),
            exchange(c),
            exchange(a),
            exchange(b),
            exchange(c)
        );
        let answers = <[Answer; 6]>::from(answers);
        for answer in &answers {
            assert_eq!(answer.status, 200, "{round}: {}", answer.text());
            assert_eq!(answer.body, answers[0].body, "{round}");
        }
        watch.tokens(&answers[0]);
        watch.needles.text(&code);
        watch.note(&site).await;
        for server in &instances {
            let wrong = client
                .exchange(server, &code, &[("code_verifier", mcp::CHALLENGE)])
                .await;
            assert_error(&wrong, 400, "invalid_grant", "a wrong verifier");
            let wrong = other.exchange(server, &code, &[]).await;
            assert_error(&wrong, 400, "invalid_grant", "another client");
            structured(&call(server, &answers[0].string("access_token"), "whoami").await);
        }
        let refreshed = client
            .refresh(&instances[1], &answers[0].string("refresh_token"), &[])
            .await;
        assert_eq!(refreshed.status, 200, "{round}: {}", refreshed.text());
        watch.tokens(&refreshed);
        let late = until_late(async || client.exchange(&instances[2], &code, &[]).await).await;
        assert_error(&late, 400, "invalid_grant", "the code after the window");
        for server in &instances {
            until_refused(server, &refreshed.string("access_token")).await;
        }
    }
    watch.assert_no_secret_leaked(&site, &instances.each_ref());
}

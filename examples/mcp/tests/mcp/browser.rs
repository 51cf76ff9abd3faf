//! Log-ins through the example `mcp` in a real browser: content security policy, cookies, and
//! attacks from other browsers.

use std::net::SocketAddr;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use fantoccini::cookies::Cookie;
use serde_json::json;
use test_support::http::serve;
use test_support::process::Example;
use test_support::tls;
use tokio::net::TcpListener;

use crate::support::chromium::Chromium;
use crate::support::mcp::{self, Provider, one, query};

/// Starts a client with a page at `/callback`.
async fn client() -> SocketAddr {
    serve(Router::new().route(
        "/callback",
        get(async || Html("<!DOCTYPE html><title>Client</title><p>Connected")),
    ))
    .await
}

/// The server and a client on this computer, without TLS.
struct Local {
    server: Example,
    redirect_uri: String,
    request: String,
}

impl Local {
    async fn start(flags: &[String]) -> Self {
        let server = mcp::start(flags).await;
        let redirect_uri = format!("http://{}/callback", client().await);
        let client_id = mcp::register_public(&server, "A client", &redirect_uri).await;
        let request = mcp::request(&server, &client_id, &redirect_uri, &[]);
        Self {
            server,
            redirect_uri,
            request,
        }
    }

    async fn reach_consent(&self, browser: &Chromium) -> String {
        browser.open(&self.request).await;
        browser.reach(&self.server.url("/consent?login=")).await
    }
}

/// Returns the parameters that the client receives at its redirect URI.
async fn returned_parameters(browser: &Chromium, redirect_uri: &str) -> Vec<(String, String)> {
    let url = browser.reach(redirect_uri).await;
    assert!(browser.text().await.unwrap().contains("Connected"), "{url}");
    query(&url)
}

async fn cookie(browser: &Chromium, name: &str) -> Cookie<'static> {
    browser
        .page
        .get_named_cookie(name)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Submits the form of the consent page and that of the demo provider: each begins a chain of
/// redirects.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_can_approve_and_log_in() {
    let description = ["--scope-description", "profile=See your name"].map(str::to_owned);
    let local = Local::start(&description).await;
    let browser = Chromium::start().await;
    local.reach_consent(&browser).await;
    assert_eq!(browser.page.title().await.unwrap(), "Allow access?");
    let text = browser.text().await.unwrap();
    let host = local.redirect_uri.split('/').nth(2).unwrap();
    for words in [
        "A client",
        "It has not been verified",
        &format!("an app on this computer ({host})"),
        "Know who you are",
        "See your name",
    ] {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    assert!(!text.contains("profile"), "{text}");
    assert_eq!(
        browser
            .value("getComputedStyle(document.querySelector('main')).maxWidth")
            .await,
        "544px",
        "the style sheet was not applied"
    );
    let cookie = cookie(&browser, "mcp-browser").await;
    assert_eq!((cookie.http_only(), cookie.path()), (Some(true), Some("/")));
    assert!(cookie.same_site().is_some_and(|site| site.is_lax()));
    assert_eq!(
        browser.value("document.cookie").await,
        "",
        "scripts cannot read the cookie"
    );

    browser.click("button[value=approve]").await;
    browser.click("button[name=log_in]").await;
    let parameters = returned_parameters(&browser, &local.redirect_uri).await;
    assert_eq!(one(&parameters, "state"), Some("the client's"));
    assert_eq!(one(&parameters, "iss"), Some(&*local.server.url("")));
    let tokens = mcp::exchange(
        &local.server,
        &local.request,
        one(&parameters, "code").unwrap(),
    )
    .await;
    assert!(
        tokens.string("access_token").starts_with("at_"),
        "{}",
        tokens.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_landing_page_shows_the_url_for_clients() {
    let server = mcp::start(&[]).await;
    let browser = Chromium::start().await;
    browser.open(&server.url("")).await;
    let text = browser.text().await.unwrap();
    assert!(text.contains(&server.url("/mcp")), "{text}");
    assert_eq!(
        browser
            .value("getComputedStyle(document.querySelector('main')).maxWidth")
            .await,
        "544px",
        "the style sheet was not applied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_can_deny() {
    let provider = Provider::start().await;
    let local = Local::start(&provider.flags()).await;
    let browser = Chromium::start().await;
    let consent = local.reach_consent(&browser).await;
    browser.click("button[value=deny]").await;
    let parameters = returned_parameters(&browser, &local.redirect_uri).await;
    assert_eq!(
        (one(&parameters, "error"), one(&parameters, "code")),
        (Some("access_denied"), None)
    );
    assert!(provider.requests().is_empty());
    browser.open(&consent).await;
    assert!(
        browser
            .text()
            .await
            .unwrap()
            .contains("This log-in is no longer valid")
    );
    assert!(browser.find("button").await.is_none());
}

/// An invalid request leads to a page, and from there to the client only by a click.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_reaches_the_client_only_after_a_click() {
    let local = Local::start(&[]).await;
    let browser = Chromium::start().await;
    browser
        .open(
            &local
                .request
                .replace("response_type=code", "response_type=token"),
        )
        .await;
    browser.reach(&local.server.url("/authorize?")).await;
    let text = browser.text().await.unwrap();
    for words in [
        "Invalid request",
        "A client",
        "It has not been verified",
        "unsupported_response_type",
    ] {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    assert_eq!(
        browser
            .value("getComputedStyle(document.querySelector('main')).maxWidth")
            .await,
        "544px",
        "the style sheet was not applied"
    );
    assert_eq!(
        browser
            .value("document.querySelectorAll('form, meta[http-equiv], script').length")
            .await,
        0
    );
    browser.click("a.button").await;
    let parameters = returned_parameters(&browser, &local.redirect_uri).await;
    assert_eq!(
        (one(&parameters, "error"), one(&parameters, "code")),
        (Some("unsupported_response_type"), None)
    );
    assert_eq!(one(&parameters, "state"), Some("the client's"));
    assert_eq!(
        browser.value("document.referrer").await,
        "",
        "the client does not see the request as referrer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_click_is_harmless() {
    let provider = Provider::start().await;
    let local = Local::start(&provider.flags()).await;
    let browser = Chromium::start().await;
    local.reach_consent(&browser).await;
    browser
        .value("(button => { button.click(); button.click() })(document.querySelector('button[value=approve]'))")
        .await;
    assert!(
        one(
            &returned_parameters(&browser, &local.redirect_uri).await,
            "code"
        )
        .is_some()
    );
    assert_eq!(provider.exchanged(), 1);
}

/// Uses TLS, where the cookie has its prefix, and a client on the web, which cannot be
/// impersonated.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_is_remembered() {
    let provider = Provider::start().await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public = format!(
        "https://mcp.test:{}/tools",
        front.local_addr().unwrap().port()
    );
    let redirect_uri = format!(
        "https://client.test:{}/callback",
        web.local_addr().unwrap().port()
    );
    let mut flags = provider.flags();
    flags.extend(["--public-url".to_owned(), public.clone()]);
    let server = mcp::start(&flags).await;
    tls::terminate(front, "mcp.test", server.addr());
    tls::terminate(web, "client.test", client().await);
    let metadata = json!({
        "client_name": "A client",
        "redirect_uris": [redirect_uri],
        "token_endpoint_auth_method": "none",
    });
    let client_id =
        mcp::register_at(&server.url("/tools/register"), &metadata).await["client_id"].clone();
    let request = mcp::request(&server, client_id.as_str().unwrap(), &redirect_uri, &[]);
    let request = request.replace(&server.url(""), &public);

    let browser = Chromium::start().await;
    browser.open(&request).await;
    browser.reach(&format!("{public}/consent?login=")).await;
    assert_eq!(
        browser
            .value("getComputedStyle(document.querySelector('main')).maxWidth")
            .await,
        "544px",
        "the style sheet was not applied"
    );
    browser.click("label[for=remember]").await;
    browser.click("button[value=approve]").await;
    let first = returned_parameters(&browser, &redirect_uri).await;
    browser.open(&request).await;
    let second = returned_parameters(&browser, &redirect_uri).await;
    assert!(one(&first, "code").is_some() && one(&second, "code").is_some());
    assert_ne!(one(&first, "code"), one(&second, "code"));
    assert_eq!(provider.requests().len(), 2);

    // Open a page of the server, because WebDriver returns only the cookies of the current page.
    browser.open(&format!("{public}/consent")).await;
    let cookie = cookie(&browser, "__Host-mcp-browser").await;
    assert_eq!(
        (cookie.secure(), cookie.http_only(), cookie.path()),
        (Some(true), Some(true), Some("/"))
    );
    assert!(cookie.same_site().is_some_and(|site| site.is_lax()));
    assert!(
        cookie.expires().is_some(),
        "the cookie outlives the session of the browser"
    );

    // A page of another site sends the browser here, perhaps without the user's knowledge.
    let elsewhere = format!(
        "https://evil.test:{}/callback",
        redirect_uri
            .split(':')
            .nth(2)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
    );
    browser.open(&elsewhere).await;
    browser
        .page
        .execute("location.href = arguments[0]", vec![json!(request)])
        .await
        .unwrap();
    browser.reach(&format!("{public}/consent?login=")).await;

    // Another app requests other scopes with the same client ID, which the user has not approved.
    browser.open(&format!("{request}&scope=openid")).await;
    browser.reach(&format!("{public}/consent?login=")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_consent_url_does_not_work_in_another_browser() {
    let provider = Provider::start().await;
    let local = Local::start(&provider.flags()).await;
    let owner = Chromium::start().await;
    let thief = Chromium::start().await;
    let consent = local.reach_consent(&owner).await;
    for attempt in ["with no cookie", "with one of its own"] {
        thief.open(&consent).await;
        let text = thief.text().await.unwrap();
        assert!(
            text.contains("This log-in belongs to another browser"),
            "{attempt}: {text}"
        );
        assert!(
            text.contains("close it") && !text.contains("A client"),
            "{attempt}: {text}"
        );
        assert!(thief.find("form").await.is_none(), "{attempt}");
        local.reach_consent(&thief).await;
    }
    // The form of the owner's page does not work in the other browser either.
    let form = owner
        .value("document.querySelector('form').outerHTML")
        .await;
    thief
        .page
        .execute(
            "document.querySelector('form').outerHTML = arguments[0]",
            vec![form],
        )
        .await
        .unwrap();
    thief.click("button[value=approve]").await;
    thief.shows("This log-in belongs to another browser").await;
    assert!(provider.requests().is_empty());

    owner.click("button[value=approve]").await;
    assert!(
        one(
            &returned_parameters(&owner, &local.redirect_uri).await,
            "code"
        )
        .is_some(),
        "the owner can still approve"
    );
}

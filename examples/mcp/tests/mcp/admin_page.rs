//! The page for operators in a real browser.

use std::path::Path;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use fantoccini::Locator;
use serde_json::json;
use test_support::http::serve;
use test_support::openid::OpenId;
use test_support::process::Example;

use crate::support::chromium::Chromium;
use crate::support::mcp::{self, PROVIDER_CLIENT, Provider};
use crate::support::mcp_client::McpClient;

const TOKEN: &str = "the-token-of-the-operators-0123456789";

/// The server, its provider, and a client.
struct Operated {
    provider: Provider,
    openid: OpenId,
    server: Example,
    client: McpClient,
}

impl Operated {
    async fn start(more: &[&str]) -> Self {
        let (provider, openid) = (Provider::start().await, OpenId::start().await);
        let mut flags = provider.flags();
        let admin = ["--admin=127.0.0.1:0", "--admin-token", TOKEN];
        flags.extend(admin.iter().chain(more).map(|flag| (*flag).to_owned()));
        flags.extend(["--backchannel-logout-issuer".into(), openid.issuer()]);
        // Without `openid` there is no nonce, which the ID tokens of these tests do not have.
        flags.push("--scope=profile".into());
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        Self {
            provider,
            openid,
            server,
            client,
        }
    }

    fn admin(&self) -> String {
        format!("http://{}/", self.server.admin_addr())
    }

    /// Logs a user in. Returns the refresh token.
    async fn log_in(&self, user: &str) -> String {
        let id_token = Some(self.openid.id_token_for(PROVIDER_CLIENT, user));
        self.provider.answer_exchanges(200, tokens(id_token));
        let answer = self.client.log_in(&self.server).await;
        answer.string("refresh_token")
    }

    /// Refreshes. Returns the next refresh token, or nothing if the request is refused.
    async fn refresh(&self, token: &str) -> Option<String> {
        self.provider.answer_exchanges(200, tokens(None));
        let answer = self.client.refresh(&self.server, token, &[]).await;
        (answer.status == 200).then(|| answer.string("refresh_token"))
    }

    async fn sign_in(&self, browser: &Chromium) {
        browser.open(&self.admin()).await;
        type_into(browser, "#token", TOKEN).await;
        browser.click("form.sign-in button").await;
        browser.shows("Reuse alarms").await;
    }
}

/// Returns a token response of the provider.
fn tokens(id_token: Option<String>) -> String {
    let tokens = json!({
        "access_token": "provider-access",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "provider-refresh",
        "scope": "openid profile",
        "id_token": id_token,
    });
    tokens.to_string()
}

async fn type_into(browser: &Chromium, css: &str, text: &str) {
    let field = browser.page.wait().for_element(Locator::Css(css)).await;
    field.unwrap().send_keys(text).await.unwrap();
}

async fn search(browser: &Chromium, user: &str) {
    type_into(browser, "#subject", user).await;
    browser.click("form.search button").await;
    browser.shows("Sessions of").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_watches_finds_and_ends_sessions() {
    let flags = [
        "--retry-window=0",
        "--shared-window=0",
        "--recovery-window=0",
    ];
    let operated = Operated::start(&flags).await;
    let browser = Chromium::start().await;
    operated.sign_in(&browser).await;
    assert_eq!(
        browser.value("document.cookie").await,
        "",
        "scripts cannot read the cookie"
    );
    browser.shows("live").await;

    // The page shows what happens without being loaded again.
    let ada = operated.log_in("ada").await;
    let stolen = operated.log_in("ada").await;
    let bob = operated.log_in("bob").await;
    let ada = operated.refresh(&ada).await.unwrap();
    let bob = operated.refresh(&bob).await.unwrap();
    operated.refresh(&stolen).await.unwrap();
    assert_eq!(operated.refresh(&stolen).await, None);
    browser.shows("not_required").await;
    let alarms = "document.querySelectorAll('h2 + table tr.alarm').length > 0";
    assert_eq!(browser.value(alarms).await, true);
    let injected = "document.querySelectorAll('script:not([src]), [style], [onclick]').length";
    assert_eq!(browser.value(injected).await, 0);
    for width in [390, 768, 1280] {
        browser.assert_fits(width).await;
    }
    let background = "getComputedStyle(document.body).backgroundColor";
    browser.scheme("light").await;
    assert_eq!(browser.value(background).await, "rgb(243, 244, 246)");
    browser.assert_accessible().await;
    browser.scheme("dark").await;
    assert_eq!(browser.value(background).await, "rgb(21, 23, 26)");
    browser.assert_accessible().await;

    search(&browser, "ada").await;
    assert!(
        !browser
            .page
            .current_url()
            .await
            .unwrap()
            .as_str()
            .contains("ada")
    );
    browser.assert_fits(390).await;
    let rows = "document.querySelectorAll('tbody tr').length";
    assert_eq!(browser.value(rows).await, 1);
    browser.click("td button.danger").await;
    browser.shows("Ended 1 session.").await;
    assert_eq!(operated.refresh(&ada).await, None);
    let bob = operated.refresh(&bob).await.unwrap();

    // Another site sends the form of the page: the browser sends no cookie with it.
    let form = format!(
        "<form method=post action='{}end'><input name=csrf value=x><input name=subject value=bob><input name=grant value=all></form><button id=go>",
        operated.admin()
    );
    let evil = serve(Router::new().route("/", get(async || Html(form)))).await;
    browser
        .open(&format!("http://evil.test:{}/", evil.port()))
        .await;
    browser.value("document.forms[0].submit()").await;
    browser.reach(&operated.admin()).await;
    browser.shows("Admin token").await;
    assert!(operated.refresh(&bob).await.is_some());

    browser.open(&operated.admin()).await;
    browser.click("header form button").await;
    browser.shows("Admin token").await;
    browser.open(&operated.admin()).await;
    browser.shows("Admin token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_without_scripts() {
    let operated = Operated::start(&[]).await;
    let browser = Chromium::start().await;
    browser
        .devtools(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": true }),
        )
        .await;
    operated.log_in("ada").await;
    operated.sign_in(&browser).await;
    browser.shows("issued").await;
    search(&browser, "ada").await;
    browser.shows("End all sessions of this user").await;
    browser.click("td button.danger").await;
    browser.shows("Ended 1 session.").await;
    browser.shows("None.").await;
}

/// Draws the picture of the page in the README, if `ADMIN_SCREENSHOT` names its file.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_drawn() {
    let flags = [
        "--shared-window=0",
        "--recovery-window=0",
        "--retry-window=0",
    ];
    let operated = Operated::start(&flags).await;
    for user in 0..40 {
        let mut token = operated.log_in(&format!("user-{user}")).await;
        for _ in 0..user % 4 {
            token = operated.refresh(&token).await.unwrap();
        }
        if user == 17 {
            let old = token.clone();
            operated.refresh(&token).await.unwrap();
            assert_eq!(operated.refresh(&old).await, None);
        }
    }
    let browser = Chromium::start().await;
    browser.screen(1280, 1200).await;
    browser.scheme("light").await;
    operated.sign_in(&browser).await;
    browser.shows("live").await;
    let picture = browser.page.screenshot().await.unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    if let Some(path) = std::env::var_os("ADMIN_SCREENSHOT") {
        std::fs::write(Path::new(&path), picture).unwrap();
    }
}

//! The pages for users in a real browser, on wide and narrow screens: layout, accessibility, the
//! brand and the copy button.

use std::fs;
use std::path::Path;

use serde_json::json;
use test_support::http::get;
use test_support::process::Example;
use tokio::task::spawn_blocking;

use crate::PROGRAM;
use crate::support::chromium::Chromium;
use crate::support::mcp::{self, Browser, Provider, onward};
use crate::support::mcp_client::REDIRECT;

const SVG: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40" role="img">
<rect width="40" height="40" rx="9" fill="#0b57b4"/><path d="M10 28 20 10l10 18" fill="none" stroke="#fff" stroke-width="4"/></svg>"##;

fn strings(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Returns the flags of a brand, and the directory of its logo.
fn brand() -> (Vec<String>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let logo = directory.path().join("logo.svg");
    fs::write(&logo, SVG).unwrap();
    let mut flags = strings(&["--brand-name", "Acme Tools", "--brand-link"]);
    flags.extend(strings(&["https://acme.example/", "--brand-logo"]));
    flags.push(logo.display().to_string());
    (flags, directory)
}

/// The URLs of the landing page, a consent page, a refused request and an error.
async fn pages(server: &Example) -> [(&'static str, String); 4] {
    let name = "A client with quite a long name, as some of them have one";
    let id = mcp::register_public(server, name, REDIRECT).await;
    let request = mcp::request(server, &id, REDIRECT, &[]);
    [
        ("landing", server.url("/")),
        ("consent", request.clone()),
        (
            "refusal",
            request.replace("response_type=code", "response_type=token"),
        ),
        ("error", server.url("/authorize?client_id=unknown")),
    ]
}

/// Asserts that the page fits wide and narrow screens, and is accessible in both color schemes.
async fn assert_good(browser: &Chromium) {
    for width in [1280, 390] {
        browser.assert_fits(width).await;
        for scheme in ["light", "dark"] {
            browser.scheme(scheme).await;
            browser.assert_accessible().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_the_screen_and_are_accessible() {
    let (flags, _logo) = brand();
    let server = mcp::start(&flags).await;
    let browser = Chromium::start().await;
    for (name, url) in pages(&server).await {
        browser.open(&url).await;
        let open = "document.querySelectorAll('details').forEach(details => details.open = true)";
        browser.value(open).await;
        assert_good(&browser).await;
        let title = browser.page.title().await.unwrap();
        assert!(!title.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_about_the_provider_are_accessible() {
    let browser = Chromium::start().await;
    let unreachable = [
        "--issuer=http://127.0.0.1:1",
        "--client-id=x",
        "--client-secret=y",
    ];
    let no_access = ["--allow-user=grace", "--contact=it@example.com"];
    for (flags, words) in [
        (&unreachable[..], "cannot reach the identity provider"),
        (
            &no_access,
            "You logged in as ada, but this account may not use",
        ),
    ] {
        let server = mcp::start(&strings(flags)).await;
        let id = mcp::register_public(&server, "A client", REDIRECT).await;
        browser
            .open(&mcp::request(&server, &id, REDIRECT, &[]))
            .await;
        if flags == no_access {
            browser.click("button[value=approve]").await;
            browser.click("button[name=log_in]").await;
        }
        browser.shows(words).await;
        assert_good(&browser).await;
    }
    let back = browser.value("document.querySelector('a.button').href");
    let back = back.await;
    let back = back.as_str().unwrap();
    assert!(
        back.starts_with(REDIRECT) && back.contains("error=access_denied"),
        "{back}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_that_opens_an_app_is_accessible() {
    let server = mcp::start(&[]).await;
    let id = mcp::register_public(&server, "A client", "com.example.app:/callback").await;
    let request = mcp::request(&server, &id, "com.example.app:/callback", &[]);
    let browser = Chromium::start().await;
    browser.open(&request).await;
    browser.click("button[value=deny]").await;
    browser.shows("you can close this page").await;
    assert_good(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_the_demo_are_accessible() {
    let server = mcp::start(&[]).await;
    let id = mcp::register_public(&server, "A client", REDIRECT).await;
    let browser = Chromium::start().await;
    browser
        .open(&mcp::request(&server, &id, REDIRECT, &[]))
        .await;
    browser.click("button[value=approve]").await;
    browser.shows("This is a demo").await;
    assert_good(&browser).await;
    let demo = browser.page.current_url().await.unwrap();
    browser.open(demo.join("/logout").unwrap().as_str()).await;
    assert_good(&browser).await;
    browser.click("button").await;
    browser.shows("have ended here").await;
    assert_good(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brand_is_on_the_pages() {
    let (flags, _logo) = brand();
    let server = mcp::start(&flags).await;
    let browser = Chromium::start().await;
    for (name, url) in pages(&server).await {
        browser.open(&url).await;
        let width = "document.querySelector('.brand img')?.naturalWidth > 0";
        let is_branded = name != "error";
        assert_eq!(browser.value(width).await, json!(is_branded), "{name}");
        if is_branded {
            let link = "document.querySelector('.brand a').href";
            assert_eq!(browser.value(link).await, "https://acme.example/", "{name}");
        }
    }
    let logo = get(&server.url("/brand-logo")).await;
    assert_eq!(logo.text(), SVG);
    for (name, value) in [
        ("content-type", "image/svg+xml"),
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        ),
    ] {
        assert_eq!(logo.headers[name], value);
    }
    let without = mcp::start(&[]).await;
    assert_eq!(get(&without.url("/brand-logo")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_can_be_copied() {
    let server = mcp::start(&[]).await;
    let browser = Chromium::start().await;
    let origin = server.url("");
    let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": origin });
    let focus = json!({ "enabled": true });
    browser
        .devtools("Emulation.setFocusEmulationEnabled", focus)
        .await;
    browser
        .devtools("Browser.grantPermissions", permissions)
        .await;
    browser.open(&server.url("/")).await;
    browser.click("button[data-copy]").await;
    browser.shows("Copied").await;
    let copied = browser.value("navigator.clipboard.readText()").await;
    assert_eq!(copied, server.url("/mcp"));

    let off = json!({ "value": true });
    browser
        .devtools("Emulation.setScriptExecutionDisabled", off)
        .await;
    browser.open(&server.url("/")).await;
    browser.shows(&server.url("/mcp")).await;
    let text = browser.text().await.unwrap();
    assert!(!text.contains("Copy"), "{text}");
}

/// The demo provider is on this computer, as the client is, but it is not "the app".
#[tokio::test]
async fn the_page_after_the_consent_names_what_comes_next() {
    let provider = Provider::start().await;
    let server = mcp::start(&provider.flags()).await;
    let id = mcp::register_public(&server, "A client", REDIRECT).await;
    let to_provider = format!("<strong>{}</strong></bdi> to log in.", provider.addr);
    for (decision, words) in [
        ("approve", &*to_provider),
        ("deny", "Once it has opened, you can close this page."),
    ] {
        let mut browser = Browser::default();
        let consent = browser
            .get(&mcp::request(&server, &id, REDIRECT, &[]))
            .await;
        let page = browser.get(&onward(&consent)).await;
        let text = page.text().to_owned();
        assert_eq!(text.matches("calls itself").count(), 1, "{text}");
        assert!(text.contains("<li>Know who you are</li>"), "{text}");
        for _repeated in 0..2 {
            let page = browser
                .submit(&onward(&consent), &page, &[("decision", decision)])
                .await;
            assert!(page.text().contains(words), "{decision}: {}", page.text());
        }
    }
}

#[tokio::test]
async fn invalid_brands_are_rejected_at_startup() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    fs::write(&text, "GIF89a").unwrap();
    let large = directory.path().join("large");
    fs::write(&large, vec![b' '; 300_000]).unwrap();
    let long = "x".repeat(61);
    for (flag, value, message) in [
        ("--brand-name", "a\nb", "visible characters"),
        ("--brand-name", &*long, "visible characters"),
        (
            "--brand-link",
            "javascript:alert(1)",
            "must be http or https",
        ),
        ("--brand-logo", "/dev/null/x", "Not a directory"),
        (
            "--brand-logo",
            text.to_str().unwrap(),
            "neither a PNG nor an SVG",
        ),
        (
            "--brand-logo",
            large.to_str().unwrap(),
            "larger than 256 KiB",
        ),
    ] {
        let flags = strings(&["--listen", "127.0.0.1:0", flag, value]);
        let output = spawn_blocking(move || Example::run(PROGRAM, &flags, &[]));
        let output = output.await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(flag) && stderr.contains(message),
            "{stderr}"
        );
    }
}

/// Draws the pictures of the manual, if `PAGES_SCREENSHOTS` names their directory.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_drawn() {
    let Some(directory) = std::env::var_os("PAGES_SCREENSHOTS") else {
        return;
    };
    let (mut flags, _logo) = brand();
    flags.extend(strings(&["--listen", "127.0.0.1:8000"]));
    flags.extend(strings(&["--public-url", "http://localhost:8000"]));
    let start = move || Example::start::<_, &str, &str>(PROGRAM, &flags, &[]);
    let server = spawn_blocking(start).await.unwrap();
    let browser = Chromium::start().await;
    browser.scheme("light").await;
    for (name, url) in pages(&server).await {
        browser
            .open(&url.replace("127.0.0.1:8000", "localhost:8000"))
            .await;
        for (width, height) in [(1280, 800), (390, 844)] {
            browser.screen(width, height).await;
            let picture = browser.page.screenshot().await.unwrap();
            let path = Path::new(&directory).join(format!("{name}-{width}.png"));
            fs::write(path, picture).unwrap();
        }
    }
}

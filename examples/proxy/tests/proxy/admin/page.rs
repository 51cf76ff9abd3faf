//! The page of the operator.

use axum::http::StatusCode;
use test_support::http::{Answer, get, post, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Admin, TOKEN};

/// Returns the token of the first form with this action.
fn csrf<'a>(page: &'a Answer, action: &str) -> &'a str {
    let (_, form) = page
        .text()
        .split_once(&format!("action=\"{action}\""))
        .unwrap_or_else(|| panic!("no form {action}: {}", page.text()));
    let (_, value) = form.split_once("name=\"csrf\" value=\"").unwrap();
    value.split_once('"').unwrap().0
}

#[tokio::test]
async fn failed_calls_of_the_upstream_are_on_the_page() {
    let admin = Admin::start().await;
    let cookie = admin.sign_in().await;
    admin.log_in("ada", "app").await;
    let page = admin.page(&cookie).await;
    assert!(page.text().contains("<tr><td>upstream</td>"));
    admin.provider.fail(true);
    let path = "/.well-known/openid-configuration";
    assert_eq!(get(&admin.proxy.url(path)).await.status, 500);
    let page = admin.page(&cookie).await;
    let row = page.text().split("<tr class=\"alarm\"><td>upstream</td>");
    let row = row.last().unwrap().split("</tr>").next().unwrap();
    assert!(row.ends_with("<td>1</td>"), "one error: {row}");
}

#[tokio::test]
async fn the_page_needs_the_token_and_shows_nothing_without_it() {
    let admin = Admin::start().await;
    admin.log_in("ada", "app").await;
    for cookie in [
        "",
        "__Host-admin=",
        "__Host-admin=x",
        "__Host-admin=a; __Host-admin=a",
    ] {
        let page = admin.page(cookie).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text().contains("name=\"token\""), "{}", page.text());
        assert!(!page.text().contains("issued"), "{}", page.text());
        let live = send("GET", &admin.url("/live"), &[("cookie", cookie)], "").await;
        assert_eq!(live.status, StatusCode::UNAUTHORIZED);
        for action in ["/search", "/end", "/sign-out"] {
            let form = [("csrf", "x"), ("subject", "ada"), ("grant", "all")];
            let answer = admin.submit(cookie, action, &form).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{action}");
        }
    }
    for wrong in ["", "x", &TOKEN[1..]] {
        let answer = post(&admin.url("/sign-in"), &[("token", wrong)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(admin.sessions("subject=ada").await.len(), 1);

    let cookie = admin.sign_in().await;
    let page = admin.page(&format!("a=caf\u{e9}; {cookie}")).await;
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(page.headers[name], value);
    }
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(page.text().contains("issued"), "{}", page.text());

    let out = [("csrf", csrf(&page, "sign-out"))];
    let answer = admin.submit(&cookie, "/sign-out", &out).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(admin.page(&cookie).await.text().contains("name=\"token\""));
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let admin = Admin::start().await;
    let token = admin.log_in("ada", "app").await;
    let (cookie, other) = (admin.sign_in().await, admin.sign_in().await);
    let page = admin.page(&cookie).await;
    let others = admin.page(&other).await;
    let search = [("csrf", csrf(&page, "search")), ("subject", "ada")];
    let found = admin.submit(&cookie, "/search", &search).await;
    let right = csrf(&found, "end");
    for csrf in [
        "",
        "x",
        csrf(&page, "search"),
        csrf(&page, "sign-out"),
        csrf(&others, "search"),
        &right[1..],
    ] {
        let form = [("csrf", csrf), ("subject", "ada"), ("grant", "all")];
        let answer = admin.submit(&cookie, "/end", &form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{csrf}");
        let crossed = admin.submit(&other, "/end", &form).await;
        assert_eq!(crossed.status, StatusCode::FORBIDDEN, "{csrf}");
    }
    assert_eq!(admin.sessions("subject=ada").await.len(), 1);
    let form = [("csrf", right), ("subject", "ada"), ("grant", "all")];
    let answer = admin.submit(&cookie, "/end", &form).await;
    assert!(
        answer.text().contains("Ended 1 session."),
        "{}",
        answer.text()
    );
    assert!(!admin.is_alive("app", &token).await);
}

#[tokio::test]
async fn text_of_clients_and_users_is_escaped_in_the_page() {
    let admin = Admin::start().await;
    let client = "<script>alert(1)</script>\u{202e}\"'&";
    let user = "\"><img src=x onerror=alert(1)>";
    let token = admin.log_in(user, client).await;
    assert!(admin.is_alive(client, &token).await);
    let cookie = admin.sign_in().await;
    let page = admin.page(&cookie).await;
    let search = [("csrf", csrf(&page, "search")), ("subject", user)];
    let found = admin.submit(&cookie, "/search", &search).await;
    for (page, what) in [(&page, "the overview"), (&found, "the sessions")] {
        let text = page.text();
        assert!(
            text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
            "{what}: {text}"
        );
        for raw in ["<script>alert", "<img", "\u{202e}"] {
            assert!(!text.contains(raw), "{what}: {raw}: {text}");
        }
    }
    for words in ["Sessions of", "Began", "openid read"] {
        assert!(found.text().contains(words), "{words}: {}", found.text());
    }
    for secret in [&*token, TOKEN, "openid-access", "openid-refresh"] {
        assert!(!page.text().contains(secret) && !found.text().contains(secret));
    }
}

/// Reads from the stream until it has read `words`. Returns everything read.
async fn read_until(stream: &mut TcpStream, words: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(words) {
        let count = stream.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn the_figures_are_live_until_the_operator_signs_out() {
    let admin = Admin::start().await;
    let cookie = admin.sign_in().await;
    let page = admin.page(&cookie).await;
    assert!(
        page.text().contains("None since the start."),
        "{}",
        page.text()
    );
    let mut stream = TcpStream::connect(admin.proxy.admin_addr()).await.unwrap();
    let request =
        format!("GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let begin = read_until(&mut stream, "data: ").await;
    assert!(begin.contains("content-type: text/event-stream"), "{begin}");
    let token = admin.log_in("ada", "a live client").await;
    read_until(&mut stream, "a live client").await;
    assert!(admin.is_alive("a live client", &token).await);
    read_until(&mut stream, "<td data-label=\"Event\">rotated</td>").await;
    let out = [("csrf", csrf(&page, "sign-out"))];
    admin.submit(&cookie, "/sign-out", &out).await;
    // The server ends the response, and with it the connection.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn refused_sign_ins_do_not_fill_the_log() {
    let admin = Admin::start().await;
    for _ in 0..50 {
        let answer = post(&admin.url("/sign-in"), &[("token", "x")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    admin
        .proxy
        .wait_for("a sign-in to the admin page was refused");
    let log = admin.proxy.stderr();
    let lines = log.lines().filter(|line| line.contains("sign-in"));
    assert!(lines.count() < 50, "{log}");
}

//! The pages for users.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const USERS: [&str; 2] = ["ada", "grace"];

const STYLE: &str = "\
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 10vh auto; padding: 0 1rem; }
label { display: block; margin: .5rem 0; }
input[type=text], button { font: inherit; padding: .4rem .8rem; }
input[type=text] { width: 100%; box-sizing: border-box; }
button { margin: 1rem .5rem 0 0; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }
";

/// Renders the log-in page. Its form is posted to the same URL.
pub(super) fn log_in(scope: &str, query: &str, status: StatusCode) -> Response {
    let content = html! {
        p { "This is a demo, so you do not need a password. The app requests access to " strong { (scope) } "." }
        (refusal(status))
        form method="post" action={ "/authorize?" (query) } {
            (users("Log in as"))
            button type="submit" name="log_in" value="yes" { "Log in" }
            button type="submit" name="cancel" value="yes" { "Cancel" }
        }
    };
    page(status, "Log in", &content)
}

/// Renders the log-out page.
pub(super) fn log_out(status: StatusCode) -> Response {
    let content = html! {
        p { "The demo ends all sessions of the user, and tells the MCP server to end its own (back-channel logout)." }
        (refusal(status))
        form method="post" action="/logout" {
            (users("Log out"))
            button type="submit" { "Log out" }
        }
    };
    page(status, "Log out", &content)
}

/// Renders the page after a log-out.
pub(super) fn logged_out(user: &str, is_notified: bool) -> Response {
    let content = html! {
        p { "All sessions of " strong { (user) } " have ended here." }
        p {
            @if is_notified {
                "The MCP server has ended its sessions, too."
            } @else {
                "The MCP server did not accept the message: its sessions end at their next refresh."
            }
        }
    };
    page(StatusCode::OK, "Logged out", &content)
}

fn refusal(status: StatusCode) -> Markup {
    html! {
        @if status.is_client_error() {
            p role="alert" { strong { "Choose a name, or enter one of up to 64 characters." } }
        }
    }
}

fn users(legend: &str) -> Markup {
    html! {
        fieldset {
            legend { (legend) }
            @for (number, user) in USERS.iter().enumerate() {
                label {
                    input type="radio" name="user" value=(user) checked[number == 0];
                    " " (user)
                }
            }
            label for="other" { "or enter another name:" }
            input type="text" id="other" name="other" maxlength="64" autocomplete="username";
        }
    }
}

fn page(status: StatusCode, title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ": demo identity provider" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    (content)
                }
            }
        }
    };
    // There is no `form-action`, because Chromium applies it to all redirects that follow a form
    // submission, up to the redirect URI of the MCP client.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    (status, headers, Html(page.into_string())).into_response()
}

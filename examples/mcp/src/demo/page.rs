//! The log-in page.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, PreEscaped, html};

const USERS: [&str; 2] = ["ada", "grace"];

const STYLE: &str = "\
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 10vh auto; padding: 0 1rem; }
label { display: block; margin: .5rem 0; }
input[type=text], button { font: inherit; padding: .4rem .8rem; }
input[type=text] { width: 100%; box-sizing: border-box; }
button { margin: 1rem .5rem 0 0; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }
";

/// Renders the page. Its form is posted to the same URL.
pub(super) fn log_in(scope: &str, query: &str, status: StatusCode) -> Response {
    let refused = status.is_client_error();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Log in: demo identity provider" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Log in" }
                    p { "This is a demo, so you do not need a password. The app requests access to " strong { (scope) } "." }
                    @if refused {
                        p role="alert" { strong { "Choose a name, or enter one of up to 64 characters." } }
                    }
                    form method="post" action={ "/authorize?" (query) } {
                        fieldset {
                            legend { "Log in as" }
                            @for (number, user) in USERS.iter().enumerate() {
                                label {
                                    input type="radio" name="user" value=(user) checked[number == 0];
                                    " " (user)
                                }
                            }
                            label for="other" { "or enter another name:" }
                            input type="text" id="other" name="other" maxlength="64" autocomplete="username";
                        }
                        button type="submit" name="log_in" value="yes" { "Log in" }
                        button type="submit" name="cancel" value="yes" { "Cancel" }
                    }
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

//! Finds and ends the sessions of a user.

use std::time::SystemTime;

use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use httpdate::HttpDate;
use maud::{Markup, html};
use serde::Deserialize;
use tower_oauth_refresh::{GrantKey, Session, Timestamp};

use super::sign_in::{Operator, submitter};
use super::{Page, message, render};
use crate::metrics::visible;

/// Returns the form that searches for a user.
pub(super) fn form(operator: &Operator, subject: &str, issuer: &str) -> Markup {
    html! {
        form method="post" action="search" class="search" {
            (operator.csrf("search"))
            label for="subject" { "User (" code { "sub" } ")" }
            input id="subject" name="subject" value=(subject) required maxlength="1024" autocomplete="off";
            label for="issuer" { "Provider (" code { "iss" } "), if not that of this server" }
            input id="issuer" name="issuer" value=(issuer) maxlength="1024" autocomplete="off";
            button { "Show sessions" }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Search {
    csrf: String,
    subject: String,
    #[serde(default)]
    issuer: String,
    /// The session to end, or `all`. Only in forms with the action `end`.
    #[serde(default)]
    grant: String,
}

pub(super) async fn search(
    State(page): State<Page>,
    headers: HeaderMap,
    Form(sent): Form<Search>,
) -> Response {
    match submitter(&page, &headers, "search", &sent.csrf) {
        Ok(operator) => show(&page, &operator, &sent, None).await,
        Err(response) => *response,
    }
}

/// Ends one or all sessions of the user, and shows the remaining ones.
pub(super) async fn end(
    State(page): State<Page>,
    headers: HeaderMap,
    Form(sent): Form<Search>,
) -> Response {
    let operator = match submitter(&page, &headers, "end", &sent.csrf) {
        Ok(operator) => operator,
        Err(response) => return *response,
    };
    let sessions = &page.0.console.sessions;
    let ended = if sent.grant == "all" {
        let Ok(subjects) = sessions.subjects(sent.subject.trim(), sent.issuer()) else {
            return invalid(&page, &operator);
        };
        sessions.end(&subjects).await
    } else {
        let Ok(grant) = sent.grant.parse::<GrantKey>() else {
            return invalid(&page, &operator);
        };
        sessions.end_grant(&grant).await.map(usize::from)
    };
    match ended {
        Ok(ended) => {
            tracing::info!(ended, "an operator ended sessions of a user");
            let text = match ended {
                1 => "Ended 1 session.".to_owned(),
                ended => format!("Ended {ended} sessions."),
            };
            show(&page, &operator, &sent, Some(&text)).await
        }
        Err(_) => unavailable(&page, &operator),
    }
}

impl Search {
    fn issuer(&self) -> Option<&str> {
        Some(self.issuer.trim()).filter(|issuer| !issuer.is_empty())
    }
}

fn invalid(page: &Page, operator: &Operator) -> Response {
    let text = "The user, the provider or the session is invalid.";
    message(page, StatusCode::BAD_REQUEST, Some(operator), text)
}

fn unavailable(page: &Page, operator: &Operator) -> Response {
    let text = "The store is unavailable. Sessions may or may not have ended: try again.";
    message(page, StatusCode::SERVICE_UNAVAILABLE, Some(operator), text)
}

async fn show(page: &Page, operator: &Operator, sent: &Search, done: Option<&str>) -> Response {
    let sessions = &page.0.console.sessions;
    let Ok(subjects) = sessions.subjects(sent.subject.trim(), sent.issuer()) else {
        return invalid(page, operator);
    };
    let Ok(found) = sessions.list(&subjects).await else {
        return unavailable(page, operator);
    };
    let content = html! {
        (form(operator, sent.subject.trim(), sent.issuer.trim()))
        @if let Some(done) = done {
            p class="message" role="status" { (done) }
        }
        h1 { "Sessions of " bdi { (visible(sent.subject.trim())) } }
        @if found.is_empty() {
            p { "None." }
        } @else {
            table {
                thead {
                    tr { th { "Client" } th { "Began" } th { "Last refresh" } th { "Expires" } th { "Scope" } th { "Label" } th { "Session" } th {} }
                }
                tbody {
                    @for session in &found { (row(operator, sent, session)) }
                }
            }
            form method="post" action="end" {
                (operator.csrf("end"))
                (user(sent))
                button name="grant" value="all" class="danger" { "End all sessions of this user" }
            }
        }
    };
    render(page, StatusCode::OK, "Sessions", Some(operator), &content)
}

/// Returns the hidden fields that name the user.
fn user(sent: &Search) -> Markup {
    html! {
        input type="hidden" name="subject" value=(sent.subject.trim());
        input type="hidden" name="issuer" value=(sent.issuer.trim());
    }
}

fn row(operator: &Operator, sent: &Search, session: &Session) -> Markup {
    let scopes: Vec<_> = session.scopes().collect();
    let label = session.label().map(visible).unwrap_or_default();
    html! {
        tr {
            td data-label="Client" { bdi { (visible(session.client_id())) } }
            td data-label="Began" { (time(session.created_at())) }
            td data-label="Last refresh" { (session.last_refreshed_at().map_or_else(|| "never".to_owned(), time)) }
            td data-label="Expires" { (time(session.expires_at())) }
            td data-label="Scope" { (visible(&scopes.join(" "))) }
            td data-label="Label" { bdi { (label) } }
            td data-label="Session" { code { (session.grant().short()) } }
            td {
                form method="post" action="end" {
                    (operator.csrf("end"))
                    (user(sent))
                    button name="grant" value=(session.grant()) class="danger" { "End" }
                }
            }
        }
    }
}

fn time(time: Timestamp) -> String {
    HttpDate::from(SystemTime::from(time)).to_string()
}

//! `GET /authorize`: the authorization endpoint (RFC 6749 §3.1).

use axum::extract::{RawQuery, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use url::Url;

use super::browser::Browser;
use super::login::{AtProvider, Login};
use super::pages::{self, Problem};
use super::remembered;
use super::reply::{Reply, redirect};
use super::request::Asked;
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::rate_limit::Network;

/// The maximum length of a query, in bytes.
const LONGEST_QUERY: usize = 16 * 1024;

/// Checks an authorization request. Sends the browser to the consent page, or directly to the
/// provider if the user's consent is remembered.
pub(super) async fn begin(
    State(app): State<App>,
    headers: HeaderMap,
    extensions: Extensions,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    app.provider
        .settings()
        .map_err(|_| Problem::no_provider())?;
    let query = query.unwrap_or_default();
    if query.len() > LONGEST_QUERY {
        return Err(Problem::bad_request("it is too long"));
    }
    let query = Parameters::parse(query.as_bytes());
    let client = client(&app, Network::of_request(&extensions), &query).await?;
    // Before this point, there is no redirect URI to which an error could be sent (RFC 6749
    // §4.1.2.1).
    let redirect_uri = redirect_uri(&client, &query)?;
    let state = query.one("state").unwrap_or_default().map(str::to_owned);
    let reply = Reply {
        redirect_uri,
        state,
    };
    match proceed(&app, &headers, &client, reply.clone(), &query).await {
        Ok(response) => Ok(response),
        // Registration is open, so a redirect without the user's consent would make this server an
        // open redirector (RFC 9700 §4.11.2).
        Err(error) if error.status == StatusCode::BAD_REQUEST => {
            let back = reply.error(&app.issuer, &error)?;
            Ok(pages::refused(
                &app.brand,
                &client,
                &reply.redirect_uri,
                &error,
                &back,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the client that the request names.
async fn client(app: &App, network: Network, query: &Parameters) -> Result<Client, Problem> {
    let client_id = match query.one("client_id") {
        Ok(Some(client_id)) => client_id,
        Ok(None) => {
            return Err(Problem::bad_request(
                "it does not name an app (client_id is missing)",
            ));
        }
        Err(_) => {
            return Err(Problem::bad_request(
                "it names more than one app (client_id is repeated)",
            ));
        }
    };
    app.clients
        .find(client_id, network)
        .await?
        .ok_or_else(Problem::unknown_client)
}

/// Returns the redirect URI of the request, or the only registered one if the request has none.
fn redirect_uri(client: &Client, query: &Parameters) -> Result<String, Problem> {
    let uri = match (query.one("redirect_uri"), &client.redirect_uris[..]) {
        (Ok(Some(uri)), _) => uri,
        // RFC 6749 §3.1.2.3: the only registered URI is the default.
        (Ok(None), [uri]) => uri,
        (Ok(None), _) => {
            return Err(Problem::bad_request(
                "it does not say where to send you afterwards (redirect_uri is missing)",
            ));
        }
        (Err(_), _) => {
            return Err(Problem::bad_request(
                "it names more than one address to send you to (redirect_uri is repeated)",
            ));
        }
    };
    if client.allows_redirect(uri) && Url::parse(uri).is_ok() {
        Ok(uri.to_owned())
    } else {
        Err(Problem::bad_redirect(uri))
    }
}

/// Continues with a request whose redirect URI is known, so that errors can be sent there.
async fn proceed(
    app: &App,
    headers: &HeaderMap,
    client: &Client,
    reply: Reply,
    query: &Parameters,
) -> Result<Response, OauthError> {
    let asked = Asked::read(app, client, reply, query)?;
    if let Some(browser) = Browser::find(headers, &app.issuer) {
        if remembered::may_skip_the_page(headers)
            && remembered::has_agreed(app, &browser, client, &asked).await?
        {
            return Ok(redirect(&AtProvider::begin(app, &browser, asked).await?));
        }
        return to_consent(app, &browser, client.clone(), asked).await;
    }
    let browser = Browser::new()?;
    let mut response = to_consent(app, &browser, client.clone(), asked).await?;
    browser.set_cookie(&app.issuer, None, &mut response);
    Ok(response)
}

async fn to_consent(
    app: &App,
    browser: &Browser,
    client: Client,
    asked: Asked,
) -> Result<Response, OauthError> {
    let login = Login::begin(app, browser, client, asked).await?;
    let page = format!("{}?login={login}", app.issuer.join("/consent"));
    let url = Url::parse(&page).map_err(|_| OauthError::new("server_error", "internal error"))?;
    Ok(redirect(&url))
}

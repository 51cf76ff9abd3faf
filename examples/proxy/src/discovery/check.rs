//! Checks at start-up whether the upstream's discovery documents direct clients past the proxy.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use server_common::upstream::{PublicUrl, Upstream};
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};

use super::document::{Document, Endpoint};
use super::{DOCUMENTS, LARGEST, without_query};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The most directories above the token endpoint that are tried as the path of an issuer.
const MOST_ISSUERS: usize = 6;

/// The settings of the proxy with which the documents are compared.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) upstream: Upstream,
    pub(crate) public: Option<PublicUrl>,
    pub(crate) listen: SocketAddr,
    pub(crate) token_path: String,
    pub(crate) revocation_path: String,
    pub(crate) introspection_path: Option<String>,
}

/// Requests the discovery documents from `upstream` as a client would, and logs a warning for each
/// endpoint that would direct clients past the proxy.
pub(crate) async fn warn_of_detours<S, B, ResBody>(upstream: S, expected: Expected)
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    B: Default,
    ResBody: Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
{
    let here = expected
        .public
        .clone()
        .or_else(|| format!("http://{}", expected.listen).parse().ok());
    let Some(here) = here else { return };
    let mut found = false;
    for (round, paths) in well_known(&expected.token_path).into_iter().enumerate() {
        if found && round > 0 {
            break;
        }
        for path in paths {
            match timeout(TIMEOUT, fetch(upstream.clone(), &path, &here)).await {
                Ok(Ok(Some(text))) => match Document::parse(&text) {
                    Some(document) => {
                        found = true;
                        expected.hold_against(&document, &here, &path);
                    }
                    None => tracing::warn!(path, "the upstream's discovery document is not JSON"),
                },
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    return tracing::warn!(
                        path,
                        error,
                        "the upstream's discovery document could not be read"
                    );
                }
                Err(_) => {
                    return tracing::warn!(
                        path,
                        "the upstream's discovery document did not arrive in time"
                    );
                }
            }
        }
    }
    if !found {
        tracing::info!(
            "no discovery document found at the upstream: its endpoints are not checked"
        );
    }
}

/// Returns the possible paths of discovery documents, in rounds: first those of the whole upstream,
/// then those of the issuers to which the token endpoint may belong.
fn well_known(token_path: &str) -> Vec<Vec<String>> {
    let mut rounds = vec![
        DOCUMENTS
            .map(|name| format!("/.well-known/{name}"))
            .to_vec(),
    ];
    let issuers = token_path
        .match_indices('/')
        .map(|(end, _)| &token_path[..end])
        .filter(|issuer| !issuer.is_empty());
    for issuer in issuers.take(MOST_ISSUERS) {
        let [openid, oauth] = DOCUMENTS;
        rounds.push(vec![
            format!("{issuer}/.well-known/{openid}"),
            format!("/.well-known/{oauth}{issuer}"),
        ]);
    }
    rounds
}

/// Fetches a discovery document; returns `None` if the status is not 200.
async fn fetch<S, B, ResBody>(
    upstream: S,
    path: &str,
    here: &PublicUrl,
) -> Result<Option<String>, String>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    B: Default,
    ResBody: Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
{
    let mut request = Request::new(B::default());
    *request.uri_mut() = path.parse().map_err(|error| format!("{error}"))?;
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(
        HOST,
        HeaderValue::from_str(here.authority()).map_err(|error| error.to_string())?,
    );
    let response = upstream
        .oneshot(request)
        .await
        .map_err(|error| server_common::causes::causes(&*error.into()))?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let whole = Limited::new(response.into_body(), LARGEST)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    String::from_utf8(whole.to_bytes().into())
        .map(Some)
        .map_err(|error| error.to_string())
}

impl Expected {
    fn hold_against(&self, document: &Document, here: &PublicUrl, path: &str) {
        let (mut detours, mut unguarded) = (BTreeSet::new(), BTreeSet::new());
        for endpoint in &document.endpoints {
            let at_upstream = self.upstream.seen_through_proxy(&endpoint.url);
            let at_proxy = here.path_of(&endpoint.url);
            if at_proxy.is_none() && (at_upstream.is_none() || self.public.is_none()) {
                detours.insert(Named(endpoint).to_string());
            }
            let seen = at_proxy
                .or(at_upstream)
                .unwrap_or_else(|| endpoint.url.path());
            let flag = if endpoint.name.ends_with("token_endpoint") {
                ("--token-path", &self.token_path)
            } else if endpoint.name.ends_with("revocation_endpoint") {
                ("--revocation-path", &self.revocation_path)
            } else if let Some(path) = &self.introspection_path {
                ("--introspection-path", path)
            } else {
                continue;
            };
            if without_query(seen) != flag.1 {
                unguarded.insert(format!("{} is not {} {}", Named(endpoint), flag.0, flag.1));
            }
        }
        if !detours.is_empty() {
            let endpoints = list(&detours);
            let hint = match &self.public {
                None => "set --public-url to the URL at which clients reach this proxy",
                Some(_) => "these URLs are neither below --upstream nor below --public-url",
            };
            tracing::warn!(
                document = path,
                endpoints,
                "the upstream's discovery document directs clients past the proxy: {hint}"
            );
        }
        if !unguarded.is_empty() {
            let endpoints = list(&unguarded);
            tracing::warn!(
                document = path,
                endpoints,
                "the proxy does not guard these endpoints: correct the flags for their paths"
            );
        }
        if document.signed {
            tracing::warn!(
                document = path,
                "signed_metadata cannot be rewritten and may direct clients past the proxy"
            );
        }
    }
}

struct Named<'a>(&'a Endpoint);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.0.name, self.0.url)
    }
}

fn list(items: &BTreeSet<String>) -> String {
    items
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

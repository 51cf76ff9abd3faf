//! Discovery of the example `mcp` by clients (RFC 8414, RFC 9728), including clients in web pages.

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, get, send};
use test_support::process::Example;

use crate::support::mcp;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const SERVER: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

async fn start(flags: &[&str]) -> Example {
    mcp::start(
        &flags
            .iter()
            .map(|&flag| flag.to_owned())
            .collect::<Vec<_>>(),
    )
    .await
}

/// Returns the document at a path, after checking its headers.
async fn document(server: &Example, path: &str) -> Value {
    let answer = get(&server.url(path)).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    assert_eq!(
        answer.headers["cache-control"], "public, max-age=300",
        "{path}"
    );
    answer.json()
}

fn authorization_server(issuer: &str) -> Value {
    let methods = json!([
        "none",
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt"
    ]);
    let algorithms = json!([
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"
    ]);
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "scopes_supported": ["openid", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": true,
        "refresh_token_expiration_types_supported": ["token_timeout"],
    })
}

fn protected_resource(issuer: &str) -> Value {
    json!({
        "resource": format!("{issuer}/mcp"),
        "authorization_servers": [issuer],
        "scopes_supported": ["openid", "email"],
        "bearer_methods_supported": ["header"],
    })
}

#[tokio::test]
async fn the_documents_are_at_the_well_known_paths() {
    // The paths that clients request, for each path of the issuer.
    let rows: [(&str, &[&str], &[&str], &[&str]); 3] = [
        (
            "https://mcp.example.com",
            &[SERVER, OPENID],
            &[RESOURCE, "/.well-known/oauth-protected-resource/mcp"],
            &[],
        ),
        (
            "https://example.com/tools",
            &[
                "/.well-known/oauth-authorization-server/tools",
                "/.well-known/openid-configuration/tools",
                "/tools/.well-known/openid-configuration",
            ],
            &[RESOURCE, "/.well-known/oauth-protected-resource/tools/mcp"],
            // Documents of other issuers.
            &[SERVER, OPENID, "/.well-known/oauth-protected-resource/mcp"],
        ),
        (
            "https://example.com:8443/a/b",
            &[
                "/.well-known/oauth-authorization-server/a/b",
                "/a/b/.well-known/openid-configuration",
            ],
            &["/.well-known/oauth-protected-resource/a/b/mcp"],
            &[SERVER],
        ),
    ];
    for (issuer, servers, resources, nothing) in rows {
        // A trailing slash is not part of the issuer.
        for given in [issuer.to_owned(), format!("{issuer}/")] {
            let server = start(&["--public-url", &given, "--scope", "openid email"]).await;
            for path in servers {
                assert_eq!(
                    document(&server, path).await,
                    authorization_server(issuer),
                    "{path}"
                );
            }
            for path in resources {
                assert_eq!(
                    document(&server, path).await,
                    protected_resource(issuer),
                    "{path}"
                );
            }
            for path in nothing {
                assert_eq!(
                    get(&server.url(path)).await.status,
                    StatusCode::NOT_FOUND,
                    "{path}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_metadata_shows_disabled_features() {
    let server = start(&["--no-metadata-documents"]).await;
    assert_eq!(
        document(&server, SERVER).await["client_id_metadata_document_supported"],
        false
    );
}

#[tokio::test]
async fn the_metadata_lists_the_expirations_that_every_response_states() {
    let rows: [(&[&str], &[&str]); 2] = [
        (&[], &["token_timeout"]),
        (
            &["--absolute-lifetime", "86400"],
            &["authorization", "token_timeout"],
        ),
    ];
    for (flags, types) in rows {
        let server = start(flags).await;
        let metadata = document(&server, SERVER).await;
        assert_eq!(
            metadata["refresh_token_expiration_types_supported"],
            json!(types),
            "{flags:?}"
        );
    }
}

#[tokio::test]
async fn the_challenge_leads_to_existing_endpoints() {
    let server = start(&[]).await;
    let answer = send(
        "POST",
        &server.url("/mcp"),
        &[("content-type", "application/json")],
        "{}",
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    let (_, rest) = challenge
        .split_once("resource_metadata=\"")
        .unwrap_or_else(|| panic!("{challenge}"));
    let resource = get(rest.split_once('"').unwrap().0).await.json();
    assert_eq!(resource["resource"], server.url("/mcp"));
    let issuer = resource["authorization_servers"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let document = get(&format!("{issuer}{SERVER}")).await.json();
    assert_eq!(document["issuer"], issuer.as_str());
    for (endpoint, method) in [
        ("authorization_endpoint", "GET"),
        ("token_endpoint", "POST"),
        ("registration_endpoint", "POST"),
        ("revocation_endpoint", "POST"),
    ] {
        let url = document[endpoint].as_str().unwrap();
        // An empty request is rejected, but the endpoint exists.
        let answer = send(method, url, &[], "").await;
        assert!(
            (400..404).contains(&answer.status.as_u16()),
            "{endpoint}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn web_pages_may_call_the_endpoints_for_clients() {
    let server = start(&[]).await;
    let origin = ("origin", "https://inspector.example");
    let preflight = async |path: &str, method| -> Answer {
        let headers = [
            origin,
            ("access-control-request-method", method),
            (
                "access-control-request-headers",
                "authorization,content-type,mcp-protocol-version",
            ),
        ];
        send("OPTIONS", &server.url(path), &headers, "").await
    };
    for (path, method) in [
        (SERVER, "GET"),
        (OPENID, "GET"),
        (RESOURCE, "GET"),
        ("/register", "POST"),
        ("/token", "POST"),
        ("/revoke", "POST"),
        ("/mcp", "POST"),
        ("/mcp", "DELETE"),
    ] {
        let answer = preflight(path, method).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_ascii_lowercase())
        };
        assert_eq!(
            header("access-control-allow-origin").as_deref(),
            Some("*"),
            "{path}"
        );
        assert!(
            header("access-control-allow-methods")
                .unwrap()
                .contains(&method.to_ascii_lowercase()),
            "{path}"
        );
        let allowed = header("access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "mcp-protocol-version"] {
            assert!(allowed.contains(name), "{path}: {allowed}");
        }
        assert_eq!(header("access-control-allow-credentials"), None, "{path}");
    }
    // A page may read the response, including the challenge.
    let answer = send("POST", &server.url("/mcp"), &[origin], "{}").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let exposed = answer.headers["access-control-expose-headers"]
        .to_str()
        .unwrap()
        .to_ascii_lowercase();
    assert!(exposed.contains("www-authenticate"), "{exposed}");
    // Other pages must not read the pages for users.
    for path in ["/authorize", "/consent", "/callback"] {
        for answer in [
            preflight(path, "GET").await,
            send("GET", &server.url(path), &[origin], "").await,
        ] {
            assert!(
                !answer.headers.contains_key("access-control-allow-origin"),
                "{path}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_documents_are_read_only() {
    let server = start(&[]).await;
    let answer = send("POST", &server.url(SERVER), &[], "").await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::METHOD_NOT_ALLOWED, "invalid_request")
    );
    let answer = send("HEAD", &server.url(SERVER), &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
}

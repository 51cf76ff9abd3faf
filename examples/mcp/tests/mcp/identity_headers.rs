//! The MCP server behind the example `mcp` learns who the user is.

use std::io::Write as _;

use axum::http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;
use test_support::http::{Answer, Recorder, Seen, get, send};
use test_support::process::Example;

use crate::PROGRAM;
use crate::support::idp::{Behaviour, Idp};
use crate::support::mcp;
use crate::support::mcp_client::McpClient;

/// Headers with which a client pretends to be another user, through a trusted reverse proxy.
const FORGED: [(&str, &str); 12] = [
    ("x-forwarded-user", "root"),
    ("x_forwarded_user", "root"),
    ("x-forwarded-email", "root@example.com"),
    ("x-forwarded-groups", "admin"),
    ("x-forwarded-preferred-username", "root"),
    ("X_Forwarded_Preferred_Username", "root"),
    ("x-forwarded-access-token", "forged"),
    ("x-auth-request-user", "root"),
    ("remote-user", "root"),
    ("x_remote_user", "root"),
    ("x-identity-token", "e30.e30."),
    ("x_identity_token", "e30.e30."),
];

/// A server in front of an MCP server.
struct Guarded {
    upstream: Recorder,
    idp: Idp,
    server: Example,
    client: McpClient,
}

impl Guarded {
    async fn start(behaviour: Behaviour, more: &[&str]) -> Self {
        let upstream = Recorder::start(|_| StatusCode::ACCEPTED).await;
        let idp = Idp::with(behaviour).await;
        let mut flags = idp.preset_flags();
        flags.push(format!("--mcp-upstream={}/mcp", upstream.url()));
        flags.push("--trust-forwarded=127.0.0.0/8".into());
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        Self {
            upstream,
            idp,
            server,
            client,
        }
    }

    /// Sends a request with the access token of a response. Returns what the MCP server receives.
    async fn send(&self, tokens: &Answer) -> Seen {
        let authorization = format!("Bearer {}", tokens.string("access_token"));
        let headers = [&FORGED[..], &[("authorization", &*authorization)]].concat();
        let answer = send("POST", &self.server.url("/mcp"), &headers, "{}").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        self.upstream.last("/mcp")
    }
}

/// Sends one request through a server with these flags. Returns what the MCP server receives, with
/// the server.
async fn through(behaviour: Behaviour, more: &[&str]) -> (Seen, Example) {
    let guarded = Guarded::start(behaviour, more).await;
    let tokens = guarded.client.log_in(&guarded.server).await;
    let seen = guarded.send(&tokens).await;
    (seen, guarded.server)
}

fn ada() -> Value {
    json!({ "sub": "ada", "email": "ada@example.com", "email_verified": true, "groups": ["staff", "a,admin", "x"] })
}

fn says(claims: Value) -> Behaviour {
    Behaviour {
        id_token: Some(claims),
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn headers_name_the_user_and_cannot_be_forged() {
    let userinfo = Behaviour {
        id_token: None,
        userinfo: ada(),
        ..Behaviour::default()
    };
    for behaviour in [says(ada()), userinfo] {
        let (seen, _server) = through(behaviour, &["--identity-headers"]).await;
        assert_eq!(seen.header("x-forwarded-user"), Some("ada"));
        assert_eq!(seen.header("x-forwarded-email"), Some("ada@example.com"));
        assert_eq!(seen.header("x-forwarded-groups"), Some("staff,x"));
        let known = [
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-groups",
        ];
        for (name, _) in FORGED.iter().filter(|(name, _)| !known.contains(name)) {
            assert_eq!(seen.header(&name.to_lowercase()), None, "{name}");
        }
    }
    let unverified = json!({ "sub": "ada", "email": "ada@example.com" });
    let (seen, _server) = through(says(unverified), &["--identity-headers"]).await;
    assert_eq!(seen.header("x-forwarded-user"), Some("ada"));
    assert_eq!(
        seen.header("x-forwarded-email"),
        None,
        "the address is not verified"
    );
    assert_eq!(seen.header("x-forwarded-groups"), None);
}

#[tokio::test]
async fn names_that_http_would_change_are_not_sent() {
    let claims = json!({ "sub": "ada", "groups": [" staff", "a,b", "x", "staff\u{a0}"] });
    let (seen, _server) = through(says(claims), &["--identity-headers"]).await;
    assert_eq!(seen.header("x-forwarded-user"), Some("ada"));
    assert_eq!(seen.header("x-forwarded-groups"), Some("x"));
    for id in [" ada", "ada ", "\u{3000}ada"] {
        let claims = json!({ "sub": id, "groups": ["staff"] });
        let behaviour = Behaviour {
            userinfo: claims.clone(),
            ..says(claims)
        };
        let (seen, _server) = through(behaviour, &["--identity-headers"]).await;
        for name in ["x-forwarded-user", "x-forwarded-groups"] {
            assert_eq!(seen.header(name), None, "{id:?}: {name}");
        }
    }
}

#[tokio::test]
async fn headers_name_the_user_whom_the_rules_know() {
    let mut many: Vec<_> = (0..500).map(|number| format!("group-{number}")).collect();
    many.push("staff".into());
    let quotes = "\"".repeat(1500);
    for groups in [json!(many), json!("staff"), json!(["staff", quotes])] {
        let claims = json!({ "sub": "ada", "groups": groups });
        let flags = ["--identity-headers", "--allow-group=staff"];
        let (seen, _server) = through(says(claims), &flags).await;
        let groups = seen.header("x-forwarded-groups").unwrap_or_default();
        assert_eq!(groups.split(',').next(), Some("staff"), "{groups}");
    }
    let discord = Behaviour {
        document: None,
        id_token: None,
        userinfo: json!({ "id": "8035", "username": "ada", "email": "ada@example.com", "verified": true }),
        ..Behaviour::default()
    };
    let flags = ["--identity-headers", "--provider=discord"];
    let (seen, _server) = through(discord, &flags).await;
    assert_eq!(seen.header("x-forwarded-user"), Some("8035"));
    assert_eq!(seen.header("x-forwarded-email"), Some("ada@example.com"));
}

#[tokio::test]
async fn headers_follow_the_user_at_every_refresh() {
    // The ID token of the log-in is thin, and refreshes have none.
    let behaviour = Behaviour {
        userinfo: ada(),
        ..says(json!({ "sub": "ada" }))
    };
    let guarded = Guarded::start(behaviour, &["--identity-headers"]).await;
    let Guarded {
        idp,
        server,
        client,
        ..
    } = &guarded;
    let mut tokens = client.log_in(server).await;
    let seen = guarded.send(&tokens).await;
    assert_eq!(seen.header("x-forwarded-email"), Some("ada@example.com"));
    assert_eq!(seen.header("x-forwarded-groups"), Some("staff,x"));
    idp.change(|now| now.id_token = None);
    // While userinfo is unavailable, the user stays who it was.
    for (userinfo, groups) in [
        (Value::Null, "staff,x"),
        (json!({ "sub": "ada", "groups": ["alumni"] }), "alumni"),
    ] {
        idp.change(|now| now.userinfo = userinfo);
        let refresh = tokens.string("refresh_token");
        tokens = client.refresh(server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let seen = guarded.send(&tokens).await;
        assert_eq!(seen.header("x-forwarded-user"), Some("ada"));
        assert_eq!(seen.header("x-forwarded-groups"), Some(groups));
    }
}

#[tokio::test]
async fn forged_headers_are_removed_without_the_flag() {
    let (seen, _server) = through(says(ada()), &[]).await;
    for (name, _) in FORGED {
        assert_eq!(seen.header(&name.to_lowercase()), None, "{name}");
    }
}

#[tokio::test]
async fn a_signed_token_names_the_user() {
    let mut file = NamedTempFile::new().unwrap();
    let pair = KeyPair::generate().unwrap();
    file.write_all(pair.serialize_pem().as_bytes()).unwrap();
    let key = format!("--identity-key={}", file.path().display());
    let (seen, server) = through(says(ada()), &["--identity-jwt", &key]).await;
    assert_eq!(seen.header("x-forwarded-user"), None);
    let token = seen.header("x-identity-token").unwrap();
    let metadata = get(&server.url("/.well-known/oauth-authorization-server")).await;
    let keys = get(metadata.json()["jwks_uri"].as_str().unwrap()).await;
    assert_eq!(keys.headers["content-type"], "application/json");
    let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
    let kid = decode_header(token).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[server.url("/mcp")]);
    validation.set_issuer(&[server.url("")]);
    let claims: Map<String, Value> = decode(token, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], "ada");
    assert_eq!(claims["email"], "ada@example.com");
    assert_eq!(claims["groups"], json!(["staff", "a,admin", "x"]));
    assert_eq!(claims["scope"], "openid profile");
    assert!(claims["client_id"].is_string());
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 60);
}

#[tokio::test]
async fn all_keys_are_published_and_the_first_signs() {
    let files = [(), ()].map(|()| {
        let mut file = NamedTempFile::new().unwrap();
        let pair = KeyPair::generate().unwrap();
        file.write_all(pair.serialize_pem().as_bytes()).unwrap();
        file
    });
    let flags = files.each_ref();
    let flags = flags.map(|file| format!("--identity-key={}", file.path().display()));
    let mut published = Vec::new();
    for [first, second] in [[0, 1], [1, 0]] {
        let flags = ["--identity-jwt", &flags[first], &flags[second]];
        let (seen, server) = through(says(ada()), &flags).await;
        let token = seen.header("x-identity-token").unwrap();
        let kid = decode_header(token).unwrap().kid.unwrap();
        let keys = get(&server.url("/.well-known/jwks.json")).await;
        let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
        let ids = keys.keys.iter().map(|key| key.common.key_id.clone());
        let ids: Vec<_> = ids.map(Option::unwrap).collect();
        assert_eq!((ids.len(), &ids[0]), (2, &kid));
        published.push(ids);
    }
    published[1].reverse();
    assert_eq!(published[0], published[1]);
}

#[tokio::test]
async fn without_a_key_there_is_no_key_set() {
    let server = mcp::start(&[]).await;
    let keys = get(&server.url("/.well-known/jwks.json")).await;
    assert_eq!(keys.status, StatusCode::NOT_FOUND);
}

#[test]
fn the_flags_need_each_other() {
    let rows: [(&[&str], &str); 4] = [
        (&["--identity-jwt"], "--identity-jwt needs --identity-key"),
        (
            &["--identity-key=/none"],
            "--identity-key needs --identity-jwt",
        ),
        (
            &["--identity-headers"],
            "--identity-headers needs --mcp-upstream",
        ),
        (
            &[
                "--identity-jwt",
                "--identity-key=/none",
                "--mcp-upstream=http://127.0.0.1:1/mcp",
            ],
            "--identity-key /none",
        ),
    ];
    for (flags, text) in rows {
        let args = [&["--listen=127.0.0.1:0"], flags].concat();
        let output = Example::run(PROGRAM, &args, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(text), "{flags:?}: {stderr}");
    }
}

//! Enterprise-managed authorization: assertions of a trusted identity provider.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use test_support::http::{Answer, Recorder, get, post};
use test_support::openid::OpenId;
use test_support::process::Example;
use test_support::redis::RedisServer;
use tokio::task::spawn_blocking;

use crate::PROGRAM;
use crate::support::idp::Idp;
use crate::support::mcp::{self, register};
use crate::support::mcp_client::{REDIRECT, assert_error, call, ended, structured};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const PUBLIC: &str = "https://mcp.example";

/// A confidential client.
struct Client {
    id: String,
    secret: String,
}

impl Client {
    async fn register(server: &Example) -> Self {
        let method = "client_secret_post";
        let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": method });
        let answer = register(server, &metadata).await;
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            id: text("client_id"),
            secret: text("client_secret"),
        }
    }

    async fn present(&self, server: &Example, assertion: &str, more: &[(&str, &str)]) -> Answer {
        let usual = [
            ("grant_type", GRANT_TYPE),
            ("client_id", &*self.id),
            ("client_secret", &*self.secret),
            ("assertion", assertion),
        ];
        post(&server.url("/token"), &[&usual, more].concat()).await
    }

    /// Returns the claims of a valid assertion.
    fn claims(&self, issuer: &OpenId, id: &str) -> Map<String, Value> {
        let mut claims = issuer.logout("ada");
        claims.remove("events");
        let now = claims["iat"].as_u64().unwrap();
        let own = json!({
            "aud": PUBLIC,
            "client_id": self.id,
            "resource": format!("{PUBLIC}/mcp"),
            "scope": "openid unknown",
            "exp": now + 300,
            "jti": id,
        });
        claims.extend(own.as_object().unwrap().clone());
        claims
    }
}

async fn start(issuer: &OpenId, store: &str, more: &[&str]) -> Example {
    let issuer = issuer.issuer();
    let flags = [
        "--public-url",
        PUBLIC,
        "--store",
        store,
        "--trusted-issuer",
        &issuer,
    ];
    let flags: Vec<_> = [&flags[..], more].concat();
    let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
    mcp::start(&flags).await
}

fn sign(issuer: &OpenId, claims: &Map<String, Value>) -> String {
    issuer.sign_as("oauth-id-jag+jwt", claims)
}

#[tokio::test]
async fn an_assertion_of_a_trusted_issuer_opens_one_session_on_all_instances() {
    let issuer = OpenId::start().await;
    let redis = RedisServer::start().await;
    let server = start(&issuer, &redis.url(), &[]).await;
    let other = start(&issuer, &redis.url(), &[]).await;
    let client = Client::register(&server).await;
    let assertion = sign(&issuer, &client.claims(&issuer, "one"));
    let answer = client.present(&server, &assertion, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tokens = answer.json();
    assert_eq!(tokens["scope"], "openid");
    assert!(tokens["expires_in"].as_u64().unwrap() <= 900, "{tokens}");
    assert!(tokens.get("refresh_token").is_none(), "{tokens}");
    assert!(tokens.get("id_token").is_none(), "{tokens}");
    let access = answer.string("access_token");
    let seen = structured(&call(&other, &access, "whoami").await);
    assert_eq!(seen["client_id"], *client.id);
    assert_eq!(seen["scopes"], json!(["openid"]));

    let again = client.present(&other, &assertion, &[]).await;
    assert_error(&again, 400, "invalid_grant", "a second use");
    assert!(
        again.text().contains("it was used before"),
        "{}",
        again.text()
    );

    let form = [
        ("client_id", &*client.id),
        ("client_secret", &*client.secret),
        ("token", &*access),
    ];
    let answer = post(&server.url("/revoke"), &form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    ended(&other, &access).await;
}

#[tokio::test]
async fn invalid_assertions_are_refused_and_use_nothing_up() {
    let issuer = OpenId::start().await;
    let stranger = OpenId::start().await;
    let server = start(&issuer, "memory", &[]).await;
    let client = Client::register(&server).await;
    let claims = client.claims(&issuer, "one");
    let now = claims["iat"].as_u64().unwrap();
    let rows = [
        ("aud", json!("https://other.example"), "its aud must be"),
        ("client_id", json!("other"), "it is for another client"),
        (
            "resource",
            json!("https://other.example/mcp"),
            "its resource must be",
        ),
        ("resource", Value::Null, "it needs the claims"),
        ("exp", json!(now - 600), "it has expired"),
        ("exp", json!(now + 7200), "more than one hour ahead"),
        ("iat", json!(now + 600), "it is not yet valid"),
        ("jti", json!(""), "its jti is empty"),
        ("jti", Value::Null, "it needs the claims"),
        ("iss", json!(stranger.issuer()), "its issuer is not trusted"),
    ];
    for (claim, value, why) in rows {
        let mut claims = claims.clone();
        claims.insert(claim.to_owned(), value);
        let answer = client.present(&server, &sign(&issuer, &claims), &[]).await;
        assert_error(&answer, 400, "invalid_grant", claim);
        assert!(answer.text().contains(why), "{claim}: {}", answer.text());
    }
    for (assertion, why) in [
        (issuer.sign_as("jwt", &claims), "its typ must be"),
        // An ID token of the same issuer may have no type.
        (issuer.sign_as(None, &claims), "its typ must be"),
        (sign(&stranger, &claims), "signature"),
        ("x.y.z".to_owned(), "its issuer is not trusted"),
    ] {
        let answer = client.present(&server, &assertion, &[]).await;
        assert_error(&answer, 400, "invalid_grant", why);
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
    }
    let assertion = sign(&issuer, &claims);
    let scope = [("scope", "profile")];
    let answer = client.present(&server, &assertion, &scope).await;
    assert_error(&answer, 400, "invalid_scope", "scope");
    let public = mcp::register_public(&server, "A client", REDIRECT).await;
    let form = [
        ("grant_type", GRANT_TYPE),
        ("client_id", &*public),
        ("assertion", &*assertion),
    ];
    let answer = post(&server.url("/token"), &form).await;
    assert_error(&answer, 400, "unauthorized_client", "a public client");
    let answer = client.present(&server, &assertion, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn an_assertion_of_a_new_key_is_accepted_or_refused_for_now() {
    let issuer = OpenId::start().await;
    let server = start(&issuer, "memory", &[]).await;
    let client = Client::register(&server).await;
    let present = async |kid: &str| {
        issuer.rotate(kid);
        let assertion = sign(&issuer, &client.claims(&issuer, kid));
        client.present(&server, &assertion, &[]).await
    };
    // The second one comes right after the keys were fetched.
    for kid in ["one", "two"] {
        let answer = present(kid).await;
        assert_eq!(answer.status, 200, "{kid}: {}", answer.text());
    }
    let answer = present("three").await;
    assert_error(&answer, 503, "temporarily_unavailable", "too soon");
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_guarded_server_learns_the_user_and_gets_no_token() {
    let upstream = Recorder::start(|_| StatusCode::ACCEPTED).await;
    let issuer = OpenId::start().await;
    let url = format!("{}/mcp", upstream.url());
    // Its discovery document has no endpoints.
    let own = format!("--issuer={}", issuer.issuer());
    let flags = [
        &*own,
        // The id of its users is in another claim, which assertions do not have.
        "--provider=entra",
        "--client-id=x",
        "--client-secret=x",
        "--authorization-endpoint=http://127.0.0.1:1/",
        "--token-endpoint=http://127.0.0.1:1/",
        "--mcp-upstream",
        &url,
        "--mcp-token=strip",
        "--identity-headers",
    ];
    let server = start(&issuer, "memory", &flags).await;
    let client = Client::register(&server).await;
    let mut claims = client.claims(&issuer, "one");
    claims.insert("groups".into(), json!("staff"));
    let assertion = sign(&issuer, &claims);
    let answer = client.present(&server, &assertion, &[]).await;
    let answer = call(&server, &answer.string("access_token"), "any").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let [request] = &upstream.all()[..] else {
        panic!("not one request")
    };
    assert_eq!(request.headers["x-forwarded-user"], "ada");
    assert_eq!(request.headers["x-forwarded-groups"], "staff");
    assert!(!request.headers.contains_key("authorization"));
}

#[tokio::test]
async fn assertions_do_not_need_the_provider() {
    let issuer = OpenId::start().await;
    let provider = Idp::start().await;
    provider.is_down(true);
    let flags = provider.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let server = start(&issuer, "memory", &flags).await;
    let client = Client::register(&server).await;
    let assertion = sign(&issuer, &client.claims(&issuer, "one"));
    let answer = client.present(&server, &assertion, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn the_rules_for_users_apply_to_assertions() {
    let issuer = OpenId::start().await;
    let rule = ["--allow-email-domain", "acme.example"];
    let server = start(&issuer, "memory", &rule).await;
    let client = Client::register(&server).await;
    for (email, verified, status) in [
        ("ada@acme.example", true, 200),
        ("ada@acme.example", false, 400),
        ("ada@other.example", true, 400),
    ] {
        let mut claims = client.claims(&issuer, &format!("{email} {verified}"));
        claims.insert("email".into(), json!(email));
        claims.insert("email_verified".into(), json!(verified));
        let answer = client.present(&server, &sign(&issuer, &claims), &[]).await;
        assert_eq!(
            answer.status,
            status,
            "{email} {verified}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn the_grant_type_is_announced_only_if_an_issuer_is_trusted() {
    let issuer = OpenId::start().await;
    let path = "/.well-known/oauth-authorization-server";
    let server = start(&issuer, "memory", &[]).await;
    let metadata = get(&server.url(path)).await.json();
    let types = metadata["grant_types_supported"].as_array().unwrap();
    assert!(types.contains(&json!(GRANT_TYPE)), "{metadata}");
    let profiles = &metadata["authorization_grant_profiles_supported"];
    assert_eq!(
        *profiles,
        json!(["urn:ietf:params:oauth:grant-profile:id-jag"])
    );

    let server = mcp::start(&[]).await;
    let metadata = get(&server.url(path)).await.json();
    assert!(!metadata.to_string().contains("jwt-bearer"), "{metadata}");
    let client = Client::register(&server).await;
    let answer = client.present(&server, "x", &[]).await;
    assert_error(&answer, 400, "unsupported_grant_type", "no trusted issuer");
}

#[tokio::test]
async fn ids_and_groups_of_another_issuer_are_refused_at_startup() {
    let upstream = ["--mcp-upstream=http://127.0.0.1:1/mcp", "--mcp-token=strip"];
    let provider = ["--client-id=x", "--client-secret=x"];
    let own = [&provider[..], &["--issuer=https://own.example"]].concat();
    let headers = [&upstream[..], &["--identity-headers"]].concat();
    let (own, headers) = (&*own, &*headers);
    let github = [&provider[..], &["--provider=github"]].concat();
    for (provider, trusted, flags, refused) in [
        (own, "own", headers, None),
        (
            own,
            "own",
            &["--allow-user=42", "--allow-group=staff"][..],
            None,
        ),
        (own, "other", &["--allow-user=ada@own.example"], None),
        (own, "other", &["--allow-email-domain=own.example"], None),
        (own, "other", headers, Some("--identity-headers")),
        (own, "other", &["--allow-user=42"], Some("--allow-user")),
        (
            own,
            "other",
            &["--allow-group=staff"],
            Some("--allow-group"),
        ),
        (
            &github,
            "other",
            &["--allow-user=ada"],
            Some("--allow-user"),
        ),
        (&[], "other", headers, Some("--identity-headers")),
    ] {
        let trusted = format!("--trusted-issuer=https://{trusted}.example");
        let flags = [
            &["--check-config", "--store=memory", &*trusted],
            provider,
            flags,
        ]
        .concat();
        let run = {
            let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            move || {
                let flags: Vec<_> = flags.iter().map(String::as_str).collect();
                Example::run(PROGRAM, &flags, &[])
            }
        };
        let output = spawn_blocking(run).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let Some(flag) = refused else {
            assert!(output.status.success(), "{flags:?}: {stderr}");
            continue;
        };
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        let message = format!("must be --issuer if {flag} is set");
        assert!(stderr.contains(&message), "{flags:?}: {stderr}");
    }
}

#[tokio::test]
async fn the_issuer_of_all_tenants_is_refused_at_startup() {
    let run = |tenant: &'static str| {
        let issuer = format!("--trusted-issuer=https://login.microsoftonline.com/{tenant}/v2.0");
        spawn_blocking(move || Example::run(PROGRAM, &["--check-config", &issuer], &[]))
    };
    for all in ["common", "organizations", "{tenantid}"] {
        let output = run(all).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{all}: {stderr}");
        assert!(stderr.contains("must name one tenant"), "{all}: {stderr}");
    }
    let one = run("72f988bf-86f1-41af-91ab-2d7cd011db47").await.unwrap();
    assert!(one.status.success(), "{one:?}");
}

#[tokio::test]
async fn an_upstream_that_expects_a_token_of_the_provider_is_refused_at_startup() {
    let run = |token: &'static str| {
        let flags = [
            "--check-config",
            "--trusted-issuer=https://login.example",
            "--mcp-upstream=http://127.0.0.1:1/mcp",
            "--mcp-token",
            token,
        ];
        spawn_blocking(move || Example::run(PROGRAM, &flags, &[]))
    };
    let output = run("swap").await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let message = "--trusted-issuer needs --mcp-token strip";
    assert!(stderr.contains(message), "{stderr}");
    assert!(run("strip").await.unwrap().status.success());
}

use serde_json::{Value, json};

use super::*;
use crate::scopes::UnknownScopes;

fn parse(changes: &Value) -> Result<Metadata, InvalidMetadata> {
    let mut metadata = json!({ "redirect_uris": ["https://client.example/cb"] });
    for (name, value) in changes.as_object().unwrap() {
        metadata[name] = value.clone();
    }
    let rules = Rules {
        redirects: AllowedRedirects::default(),
        scopes: Scopes::new(vec!["openid".into(), "profile".into()], UnknownScopes::Drop),
        fetches_keys: true,
    };
    Metadata::parse(
        metadata.to_string().as_bytes(),
        Origin::Registration,
        &rules,
    )
}

#[test]
fn valid_metadata_is_accepted() {
    let plain = parse(&json!({})).unwrap();
    assert_eq!(plain.redirect_uris, ["https://client.example/cb"]);
    assert_eq!(
        (plain.auth.method, &plain.scope, &plain.client_name),
        ("none", &None, &None)
    );
    for ignored in [
        json!({ "application_type": "other", "software_id": 1, "logo_uri": "javascript:x", "x": [{}] }),
        json!({ "client_name": null, "client_uri": null, "scope": null, "grant_types": null }),
        json!({ "client_name": "  " }),
        json!({ "client_name": "\u{200b}\u{ad}" }),
        json!({ "client_id": "mine", "client_secret": "mine" }),
        json!({ "grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "authorization_code"] }),
        json!({ "response_types": ["code", "code id_token"] }),
    ] {
        assert_eq!(parse(&ignored).unwrap(), plain, "{ignored}");
    }
    let repeated = parse(&json!({ "scope": "profile openid profile ".repeat(100) })).unwrap();
    assert_eq!(repeated.scope.as_deref(), Some("profile openid"));
    let full = parse(&json!({
        "client_name": " Bücher & <Co> 👩‍🔬 ",
        "client_uri": "https://client.example",
        "scope": "profile email openid",
        "token_endpoint_auth_method": "client_secret_post",
    }));
    let full = full.unwrap();
    assert_eq!(
        full.client_name.as_deref(),
        Some("Bücher & <Co> 👩🔬"),
        "the zero-width joiner is removed"
    );
    assert_eq!(full.client_uri.as_deref(), Some("https://client.example/"));
    assert_eq!(
        (full.scope.as_deref(), full.auth.method),
        (Some("profile openid"), "client_secret_post")
    );
}

#[test]
fn invalid_metadata_is_rejected() {
    let metadata = "invalid_client_metadata";
    let redirect = "invalid_redirect_uri";
    let uris = |count: usize| vec!["https://client.example/cb"; count];
    let long = |length: usize| format!("https://client.example/{}", "a".repeat(length - 23));
    for (changes, code) in [
        (json!({ "redirect_uris": null }), redirect),
        (json!({ "redirect_uris": [] }), redirect),
        (
            json!({ "redirect_uris": uris(MOST_REDIRECT_URIS + 1) }),
            redirect,
        ),
        (
            json!({ "redirect_uris": ["https://client.example/cb", "javascript:alert(1)"] }),
            redirect,
        ),
        (json!({ "redirect_uris": ["steam://run/1"] }), redirect),
        (
            json!({ "redirect_uris": "https://client.example/cb" }),
            metadata,
        ),
        (json!({ "redirect_uris": [1] }), metadata),
        (
            json!({ "client_name": "x".repeat(LONGEST_NAME + 1) }),
            metadata,
        ),
        (json!({ "client_name": "a\u{0}b" }), metadata),
        (json!({ "client_name": "a\nb" }), metadata),
        (json!({ "client_name": "a\u{202e}b" }), metadata),
        (json!({ "client_name": "a\u{2066}b" }), metadata),
        (json!({ "client_name": ["a"] }), metadata),
        (
            json!({ "redirect_uris": [long(2048), long(1600)] }),
            metadata,
        ),
        (
            json!({ "client_uri": long(2048), "redirect_uris": [long(1600)] }),
            metadata,
        ),
        (
            json!({ "client_name": "\"".repeat(100), "client_uri": long(2000), "redirect_uris": [long(1400)] }),
            metadata,
        ),
        (json!({ "client_uri": "http://client.example/" }), metadata),
        (json!({ "client_uri": "javascript:alert(1)" }), metadata),
        (
            json!({ "client_uri": "https://user@client.example/" }),
            metadata,
        ),
        (json!({ "client_uri": "" }), metadata),
        (json!({ "scope": "admin" }), metadata),
        (json!({ "scope": ["openid"] }), metadata),
        (
            json!({ "token_endpoint_auth_method": "private_key_jwt" }),
            metadata,
        ),
        (json!({ "grant_types": ["client_credentials"] }), metadata),
        (json!({ "grant_types": [] }), metadata),
        (json!({ "response_types": ["token"] }), metadata),
    ] {
        assert_eq!(parse(&changes).unwrap_err().code(), code, "{changes}");
    }
    let rules = Rules {
        redirects: AllowedRedirects::default(),
        scopes: Scopes::new(Vec::new(), UnknownScopes::Drop),
        fetches_keys: true,
    };
    for text in [
        "",
        "null",
        "[[\"https://client.example/cb\"]]",
        "{",
        "{} {}",
        r#"{"redirect_uris":["https://a.example/"],"redirect_uris":["https://b.example/"]}"#,
        r#"{"redirect_uris":["https://a.example/"],"client_name":"a","client_name":"b"}"#,
    ] {
        let error = Metadata::parse(text.as_bytes(), Origin::Registration, &rules).unwrap_err();
        assert_eq!(error.code(), metadata, "{text}");
    }
}

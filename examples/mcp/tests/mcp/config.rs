//! The configuration file and `--check-config`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use test_support::http::get;
use test_support::process::Example;
use tokio::task::spawn_blocking;

use crate::PROGRAM;

/// A directory with a configuration file.
fn file(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mcp.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    (directory, path.display().to_string())
}

fn check(flags: &[&str], envs: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Example::run(PROGRAM, &[&["--check-config"], flags].concat(), envs);
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

async fn start(flags: &[&str], envs: &'static [(&str, &str)]) -> Example {
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    spawn_blocking(move || Example::start(PROGRAM, &flags, envs))
        .await
        .unwrap()
}

async fn metadata(server: &Example) -> Value {
    get(&server.url("/.well-known/oauth-authorization-server"))
        .await
        .json()
}

#[tokio::test]
async fn flags_win_over_the_environment_which_wins_over_the_file() {
    let (_directory, path) = file(
        r#"
        listen = "127.0.0.1:0"
        scope = "of the file"
        public_url = "https://file.example"
        trust-forwarded = ["10.0.0.0/8", "fd00::/8"]
        no-metadata-documents = true
        strict = false
        upstream-refresh = false
        idle-lifetime = 60.5
        max-connections = 100
        "#,
    );
    let server = start(
        &["--config", &path, "--public-url", "https://flag.example"],
        &[
            ("MCP_PUBLIC_URL", "https://environment.example"),
            ("MCP_SCOPE", "of environment"),
        ],
    )
    .await;
    let metadata = metadata(&server).await;
    assert_eq!(metadata["issuer"], "https://flag.example");
    assert_eq!(
        metadata["scopes_supported"],
        serde_json::json!(["of", "environment", "offline_access"])
    );
    assert_ne!(
        metadata["client_id_metadata_document_supported"],
        Value::Bool(true)
    );
    assert!(!server.stderr().contains("--config"), "{server:?}");
}

#[tokio::test]
async fn a_file_with_secrets_that_others_can_read_gets_a_warning() {
    let (_directory, path) = file("admin-token = '0123456789abcdef0123456789abcdef'");
    fs::set_permissions(Path::new(&path), Permissions::from_mode(0o644)).unwrap();
    let flags = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0"];
    let server = start(&[&flags[..], &["--config", &path]].concat(), &[]).await;
    let log = server.stderr();
    assert!(
        log.contains("has secrets, and other users can read it"),
        "{log}"
    );
    assert!(!log.contains("0123456789abcdef"), "{log}");
}

#[tokio::test]
async fn a_public_url_without_tls_gets_a_warning() {
    for (url, is_warned) in [
        ("http://mcp.example.com/tools", true),
        ("https://mcp.example.com/tools", false),
        ("http://mcp.internal", false),
    ] {
        let server = start(&["--listen=127.0.0.1:0", "--public-url", url], &[]).await;
        let warned = server.stderr().contains("--public-url is not https");
        assert_eq!(warned, is_warned, "{url}: {server:?}");
    }
}

#[test]
fn every_problem_of_a_file_is_reported_with_its_key() {
    let (_directory, path) = file(
        r#"
        listen = "nowhere"
        config = "other.toml"
        public_url = ["https://one.example", "https://two.example"]
        strict = "yes"
        no-such-flag = 1
        client-lifetime = 0
        "#,
    );
    let (status, text) = check(&["--config", &path], &[]);
    assert_eq!(status, Some(2), "{text}");
    for problem in [
        "invalid value 'nowhere' for '--listen <ADDR>'",
        "`config` is not the name of a flag",
        "`public_url`: it must be a text, a number or a truth value",
        "`strict`: it must be true or false",
        "`no-such-flag` is not the name of a flag",
        "invalid value '0' for '--client-lifetime <SECS>'",
    ] {
        let line = format!("error: --config {path}: {problem}");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_without_its_text() {
    let (_directory, path) = file("listen = '127.0.0.1:0'\nclient-secret = 'swordfish\n");
    for (path, problem) in [
        (path.as_str(), "line 2: "),
        ("/dev/null/x", "Not a directory"),
    ] {
        let (status, text) = check(&["--config", path], &[]);
        assert_eq!(status, Some(2), "{text}");
        assert!(
            text.contains(&format!("--config {path}: {problem}")),
            "{text}"
        );
        assert!(!text.contains("swordfish"), "{text}");
    }
}

#[test]
fn a_valid_configuration_is_checked_without_listening_or_opening_the_store() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = tempfile::tempdir().unwrap();
    let home = state.path().display().to_string();
    let flags = [
        "--listen",
        &address,
        "--authorization-endpoint=https://id.example/authorize",
        "--token-endpoint=https://id.example/token",
        "--client-id=x",
        "--mcp-upstream=http://127.0.0.1:1/mcp",
    ];
    let envs = [("MCP_CLIENT_SECRET", "x"), ("XDG_STATE_HOME", &*home)];
    let (status, text) = check(&flags, &envs);
    assert_eq!((status, &*text), (Some(0), "configuration is valid\n"));
    assert!(fs::read_dir(state.path()).unwrap().next().is_none());
    let (status, text) = check(&[], &[]);
    assert_eq!((status, &*text), (Some(0), "configuration is valid\n"));
}

#[test]
fn the_example_in_the_manual_is_valid() {
    let manual = include_str!("../../README.md");
    let (_, example) = manual.split_once("```toml\npublic-url").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let (directory, path) = file(&format!("public-url{example}"));
    let home = directory.path().display().to_string();
    let envs = [("MCP_CLIENT_SECRET", "x"), ("XDG_STATE_HOME", &*home)];
    let (status, text) = check(&["--config", &path], &envs);
    assert_eq!((status, &*text), (Some(0), "configuration is valid\n"));
}

#[test]
fn an_endpoint_of_the_provider_needs_tls() {
    let endpoints = ["authorization", "token", "revocation", "userinfo"];
    for name in endpoints {
        let flag = format!("--{name}-endpoint");
        for url in [
            "http://id.example/x",
            "http://10.0.0.1/x",
            "ftp://127.0.0.1/x",
        ] {
            let (status, text) = check(&[&flag, url], &[]);
            assert_eq!(status, Some(2), "{text}");
            let problem = format!("for '{flag} <URL>': the scheme must be https");
            assert!(text.contains(&problem), "{url}: {text}");
        }
    }
    let provider = ["--store=memory", "--client-id=x", "--client-secret=x"];
    for host in [
        "https://id.example",
        "http://127.0.0.1:1",
        "http://localhost",
    ] {
        let endpoints = endpoints.map(|name| format!("--{name}-endpoint={host}/{name}"));
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        let (status, text) = check(&[&provider[..], &endpoints].concat(), &[]);
        assert_eq!(status, Some(0), "{host}: {text}");
    }
}

#[test]
fn every_problem_is_reported_with_its_flag() {
    let flags = [
        "--store=mysql",
        "--client-id=x",
        "--admin-token=0123456789abcdef0123456789abcdef",
        "--scope-description=email=Read your e-mail address",
        "--upstream-revocation",
        "--metadata-ca=/dev/null/x",
    ];
    let (status, text) = check(&flags, &[]);
    assert_eq!(status, Some(2), "{text}");
    for problem in [
        "--store: unknown store `mysql`",
        "--client-id needs --client-secret, --client-key or --client-auth none",
        "--admin-token needs --admin",
        "--scope-description: `email` is not one of the scopes",
        "--upstream-revocation needs --revocation-key-file",
        "--metadata-ca",
    ] {
        assert_eq!(text.matches(problem).count(), 1, "{problem}: {text}");
    }
}

//! The example proxy checks its flags before it starts.

mod invalid;

use test_support::http::get;
use test_support::process::{Example, assert_flags};

use crate::PROGRAM;

fn refused(args: &[&str], envs: &[(&str, &str)]) -> String {
    let output = Example::run(PROGRAM, args, envs);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?} {envs:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{args:?} {envs:?}: {stderr}");
    stderr
}

#[test]
fn a_configuration_is_checked_completely() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    let path = path.to_str().unwrap();
    let check = |text: &str, flags: &[&str]| {
        std::fs::write(path, text).unwrap();
        let flags = [&["--check-config", "--config", path], flags].concat();
        let output = Example::run(PROGRAM, &flags, &[]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let valid = "upstream = 'http://127.0.0.1:1'\nresource_prefix = ['/a', '/b']\nreference-access-tokens = true";
    let result = check(valid, &[]);
    assert_eq!(result, (Some(0), "configuration is valid\n".into()));

    let (status, text) = check("hand-back = true\nresource-scope = 'x'", &["--store=mysql"]);
    assert_eq!(status, Some(2), "{text}");
    for problem in [
        "--store: unknown store",
        "--hand-back needs --upstream",
        "--resource-scope needs",
    ] {
        assert_eq!(text.matches(problem).count(), 1, "{problem}: {text}");
    }
    let (status, text) = check("no-such-flag = true\nlisten = 'x'", &[]);
    assert_eq!(status, Some(2), "{text}");
    for problem in ["`no-such-flag` is not the name", "'--listen <ADDR>'"] {
        assert!(text.contains(problem), "{problem}: {text}");
    }
}

#[test]
fn environment_variables_are_checked_like_flags() {
    for (name, value, why) in [
        ("PROXY_LISTEN", "8080", "--listen"),
        ("PROXY_UPSTREAM", "ftp://a", "the scheme must be"),
        ("PROXY_STRICT", "perhaps", "--strict"),
        ("PROXY_KEEP_ID_TOKEN", "yes", "--keep-id-token needs"),
        (
            "PROXY_RESOURCE_PREFIX",
            "/api,/v2",
            "--resource-prefix needs",
        ),
        ("PROXY_RESOURCE_SCOPE", "read", "--resource-scope needs"),
        ("PROXY_RESOURCE", "https://a", "--resource needs"),
        (
            "PROXY_RESOURCE_METADATA",
            "https://a",
            "--resource-metadata needs",
        ),
        ("PROXY_STORE", "mysql", "unknown store"),
        ("PROXY_ROTATION_TIMEOUT", "0", "--rotation-timeout must be"),
    ] {
        let stderr = refused(&[], &[(name, value)]);
        assert!(
            stderr.contains(why),
            "{name}={value}: expected {why:?} in {stderr}"
        );
    }
}

#[test]
fn every_flag_has_an_environment_variable_and_documentation() {
    let help = assert_flags(PROGRAM, "PROXY_", include_str!("../../../README.md"), 57);
    assert!(
        help.contains("response_type with `token` or `id_token`"),
        "the help of --reference-access-tokens: {help}"
    );
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "a stolen copy cannot be distinguished from a stale one",
        "[default: --retry-window]",
        "[default: unlimited]",
    ] {
        assert!(words.contains(text), "{text}: {help}");
    }
}

#[test]
fn an_address_in_use_is_reported_with_its_flag() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for flags in [
        &["--listen", &address][..],
        &["--listen", "127.0.0.1:0", "--admin", &address],
    ] {
        let output = Example::run(PROGRAM, flags, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("{} {address}", flags[flags.len() - 2])),
            "{stderr}"
        );
    }
}

#[test]
fn missing_root_certificates_are_reported_with_the_flag_that_needs_them() {
    let envs = [("SSL_CERT_FILE", "/nowhere"), ("SSL_CERT_DIR", "/nowhere")];
    let listen = "--listen=127.0.0.1:0";
    for flags in [
        &["--upstream=https://login.example.com"][..],
        &[
            "--backchannel-logout-issuer=https://login.example.com",
            "--backchannel-logout-audience=app",
        ],
    ] {
        let output = Example::run(PROGRAM, &[flags, &[listen]].concat(), &envs);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let (flag, url) = flags[0].split_once('=').unwrap();
        assert!(
            stderr.contains(&format!("error: {flag} {url}")),
            "{flags:?}: {stderr}"
        );
    }
}

#[test]
fn a_public_url_without_tls_gets_a_warning() {
    for (url, is_warned) in [
        ("http://login.example.com", true),
        ("https://login.example.com", false),
        ("http://10.0.0.1:8080", false),
    ] {
        let flags = ["--listen", "127.0.0.1:0", "--public-url", url];
        let proxy = Example::start::<_, &str, &str>(PROGRAM, &flags, &[]);
        let warned = proxy.stderr().contains("--public-url is not https");
        assert_eq!(warned, is_warned, "{url}: {proxy:?}");
    }
}

#[tokio::test]
async fn environment_variables_set_all_flags() {
    let envs = [
        ("PROXY_LISTEN", "127.0.0.1:0"),
        ("PROXY_ADMIN", "127.0.0.1:0"),
        ("PROXY_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef"),
        (
            "PROXY_GLOBAL_REVOCATION_TOKEN",
            "fedcba9876543210fedcba9876543210",
        ),
        (
            "PROXY_BACKCHANNEL_LOGOUT_ISSUER",
            "https://login.example.com",
        ),
        ("PROXY_BACKCHANNEL_LOGOUT_AUDIENCE", "app,other"),
        ("PROXY_UPSTREAM", "http://127.0.0.1:1"),
        ("PROXY_PUBLIC_URL", "https://login.example.com"),
        ("PROXY_PRESERVE_HOST", "true"),
        ("PROXY_UPSTREAM_TIMEOUT", "1.5"),
        ("PROXY_TRUST_FORWARDED", "10.0.0.0/8,fd00::/8"),
        ("PROXY_STORE", "memory"),
        ("PROXY_CACHE_SIZE", "0"),
        ("PROXY_CACHE_TTL", "0"),
        ("PROXY_TOKEN_PATH", "/t"),
        ("PROXY_REVOCATION_PATH", "/r"),
        ("PROXY_INTROSPECTION_PATH", "/i"),
        ("PROXY_REFERENCE_ACCESS_TOKENS", "yes"),
        ("PROXY_KEEP_ID_TOKEN", "no"),
        ("PROXY_ALLOW_AMBIGUOUS_PATH", "/projects,/groups"),
        ("PROXY_RESOURCE_PREFIX", "/api,/v2"),
        ("PROXY_RESOURCE_SCOPE", "read,/v2=write"),
        ("PROXY_RESOURCE", "/v2=https://v2.example"),
        ("PROXY_RESOURCE_METADATA", "https://meta.example"),
        ("PROXY_RETRY_WINDOW", "0.5"),
        ("PROXY_SHARED_WINDOW", "60"),
        ("PROXY_RECOVERY_WINDOW", "unlimited"),
        ("PROXY_IDLE_LIFETIME", "60"),
        ("PROXY_ABSOLUTE_LIFETIME", "60"),
        ("PROXY_ACCESS_TOKEN_LIFETIME", "60"),
        ("PROXY_ROTATION_TIMEOUT", "1"),
        ("PROXY_ADOPT_UNTIL", "4102444800"),
        ("PROXY_STRICT", "no"),
        ("PROXY_UPSTREAM_REFRESH", "yes"),
        ("PROXY_UPSTREAM_REVOCATION", "no"),
        ("PROXY_UPSTREAM_CLIENT_ID", "web"),
        ("PROXY_UPSTREAM_CLIENT_SECRET", "x"),
        ("PROXY_UPSTREAM_CLIENT_AUTH", "client_secret_post"),
        ("PROXY_MAX_CONNECTIONS", "100"),
        ("PROXY_MAX_IN_FLIGHT", "50"),
        ("PROXY_BODY_MEMORY", "1000000"),
        ("PROXY_IDLE_TIMEOUT", "65"),
        ("PROXY_STALL_TIMEOUT", "0.5"),
        ("PROXY_LOG_FORMAT", "json"),
        ("PROXY_LOG_LEVEL", "trace"),
    ];
    let proxy =
        tokio::task::spawn_blocking(move || Example::start::<&str, _, _>(PROGRAM, &[], &envs))
            .await
            .unwrap();
    assert_eq!(
        get(&format!("http://{}/healthz", proxy.admin_addr()))
            .await
            .text(),
        "ok"
    );
    let log = proxy.stderr();
    let mut lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let listening = format!("listening on http://{}", proxy.addr());
    let line = lines.find(|line| line["message"] == *listening).unwrap();
    for path in ["/api", "/v2/x"] {
        let answer = get(&proxy.url(path)).await;
        assert_eq!(answer.status, 401, "{path}");
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        let scope = if path == "/api" { "read" } else { "read write" };
        let expected = format!(
            r#"Bearer realm="oauth", scope="{scope}", resource_metadata="https://meta.example""#
        );
        assert_eq!(challenge, expected, "{path}");
    }
    assert_eq!(
        (&line["upstream"], &line["store"]),
        (&"http://127.0.0.1:1/".into(), &"memory".into())
    );
}

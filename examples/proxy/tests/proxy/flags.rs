//! The example proxy checks its flags before it starts.

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
fn invalid_flags_end_with_status_2_and_a_reason() {
    let rows: &[(&[&str], &str)] = &[
        (&["--listen", "8080"], "--listen"),
        (&["--listen", "localhost"], "--listen"),
        (
            &["--upstream", "localhost:9000"],
            "the scheme must be http or https",
        ),
        (&["--upstream", "127.0.0.1:9000"], "not a URL such as"),
        (
            &["--upstream", "ftp://a"],
            "the scheme must be http or https, not `ftp`",
        ),
        (&["--upstream", "http://"], "not a URL such as"),
        (&["--upstream", "http://a:99999"], "invalid port"),
        (
            &["--upstream", "http://u:p@a"],
            "must not contain a user name or a password",
        ),
        (&["--upstream", "http://a/?x"], "must not contain a query"),
        (
            &["--upstream", "http://a/#x"],
            "must not contain a query or a fragment",
        ),
        (&["--public-url", "login.example.com"], "--public-url"),
        (
            &["--public-url", "https://a/?x"],
            "must not contain a query",
        ),
        (
            &["--upstream-timeout", "0"],
            "must be more than 0 and at most a day",
        ),
        (
            &["--upstream-timeout", "86401"],
            "must be more than 0 and at most a day",
        ),
        (&["--upstream-timeout", "-1"], "not a number of seconds"),
        (
            &["--trust-forwarded", "localhost"],
            "not a network such as 10.0.0.0/8",
        ),
        (
            &["--trust-forwarded", "10.0.0.0/8,10.0.0.0/33"],
            "not a network such as",
        ),
        (
            &["--store", "redis://:secret@"],
            "--store: invalid Redis URL: a host is missing",
        ),
        (
            &["--store", "redis://:secret@a,b"],
            "--store: invalid Redis URL: several hosts",
        ),
        (
            &["--store", "redis-sentinel://:secret@a:1"],
            "--store: invalid Redis URL: the path must be",
        ),
        (
            &["--store", "rediss-cluster://u:secret@a:1/3"],
            "--store: invalid Redis URL: Redis Cluster supports",
        ),
        #[cfg(feature = "postgres")]
        (
            &["--store", "postgres://u:secret@a:port/db"],
            "--store: invalid PostgreSQL URL",
        ),
        #[cfg(feature = "postgres")]
        (
            &[
                "--store",
                "postgres://u:secret@a,b/db?target_session_attrs=standby",
            ],
            "--store: invalid PostgreSQL URL: target_session_attrs must be one of",
        ),
        (
            &["--store", "redb:"],
            "--store: `redb` needs the path of a file: redb:PATH",
        ),
        (
            &["--store", "redb"],
            "--store: `redb` needs the path of a file: redb:PATH",
        ),
        (&["--wait-for-replicas", "some"], "--wait-for-replicas"),
        (
            &["--wait-for-replicas", "1"],
            "--wait-for-replicas needs --store with Redis",
        ),
        (&["--cache-size", "64M"], "--cache-size"),
        (&["--cache-ttl", "-1"], "--cache-ttl"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--max-in-flight", "many"], "--max-in-flight"),
        (&["--body-memory", "64M"], "--body-memory"),
        (&["--idle-timeout", "0"], "--idle-timeout"),
        (&["--stall-timeout", "inf"], "--stall-timeout"),
        (
            &["--store", "memory:x"],
            "--store: `memory` does not take an address",
        ),
        (&["--store", "mysql"], "--store: unknown store `mysql`"),
        (&["--store", ""], "--store: unknown store ``"),
        (
            &["--upstream", "http://a", "--token-path", "token"],
            "--token-path: \"token\" is not a path such as /token",
        ),
        (
            &["--upstream", "http://a", "--token-path", "/{tenant}/token"],
            "looks like a route pattern",
        ),
        (
            &["--upstream", "http://a", "--token-path", "/x/../t"],
            "can be read in more than one way",
        ),
        (
            &["--upstream", "http://a", "--allow-ambiguous-path", "/a%2fb"],
            "--allow-ambiguous-path",
        ),
        (
            &[
                "--upstream",
                "http://a",
                "--allow-ambiguous-path",
                "/token/x",
            ],
            "--token-path and --allow-ambiguous-path are both",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix=/api",
                "--allow-ambiguous-path=/api/x",
            ],
            "--allow-ambiguous-path /api/x is below --resource-prefix /api",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix", "/token/x"],
            "--resource-prefix /token/x is below --token-path /token",
        ),
        (
            &["--upstream", "http://a", "--token-path", "/token?x"],
            "--token-path",
        ),
        (
            &["--upstream", "http://a", "--revocation-path", ""],
            "--revocation-path",
        ),
        (
            &["--upstream", "http://a", "--revocation-path", "/token"],
            "--token-path and --revocation-path are both",
        ),
        (
            &["--upstream", "http://a", "--revocation-path", "/token.json"],
            "--token-path and --revocation-path are both",
        ),
        (
            &["--upstream", "http://a", "--revocation-path", "//TOKEN/"],
            "--token-path and --revocation-path are both",
        ),
        (
            &["--upstream", "http://a", "--introspection-path", "i"],
            "--introspection-path: \"i\" is not a path such as /token",
        ),
        (
            &["--upstream", "http://a", "--introspection-path", "/token/"],
            "--token-path and --introspection-path are both",
        ),
        (
            &["--keep-id-token"],
            "--keep-id-token needs --reference-access-tokens",
        ),
        (
            &["--resource-prefix", "/api"],
            "--resource-prefix needs --reference-access-tokens",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix", "api"],
            "'--resource-prefix <PATH>': not an absolute path",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix", "/api?x"],
            "--resource-prefix",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix", "/api,"],
            "--resource-prefix",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api/../x",
            ],
            "the path can be read in more than one way",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource-prefix",
                "//Revoke",
            ],
            "--revocation-path /revoke is below --resource-prefix //Revoke",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix", "/"],
            "--token-path /token is below --resource-prefix /",
        ),
        (
            &["--allowed-resource", "https://a"],
            "--allowed-resource needs --reference-access-tokens",
        ),
        (
            &[
                "--reference-access-tokens",
                "--allowed-resource",
                "https://a,/b",
            ],
            r#"--allowed-resource: "/b" is not a URI such as"#,
        ),
        (
            &["--resource-scope", "read"],
            "--resource-scope needs --resource-prefix",
        ),
        (
            &["--resource", "https://a"],
            "--resource needs --resource-prefix",
        ),
        (
            &["--resource-metadata", "https://a"],
            "--resource-metadata needs --resource-prefix",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource-scope",
                "/apo=read",
            ],
            "--resource-scope: /apo is not a --resource-prefix",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource-scope",
                "a\"b",
            ],
            r#"--resource-scope: "a\"b" is not a scope"#,
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource",
                "/api=api",
            ],
            r#"--resource: "api" is not a URI such as"#,
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource",
                "https://a,https://b",
            ],
            "--resource: https://a and https://b are both set for every --resource-prefix",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix=/api,/api/x",
                "--resource=/api=https://a,/api/x=https://b",
            ],
            "--resource: /api/x is below /api, which requires another resource",
        ),
        (
            &["--reference-access-tokens", "--resource-prefix=/api,/API/"],
            r#"--resource-prefix and --resource-prefix are both "/api" or below it"#,
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--resource-metadata",
                "meta",
            ],
            r#"--resource-metadata: "meta" is not a URI such as"#,
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix",
                "/api",
                "--cache-ttl",
                "86401",
            ],
            "--cache-ttl must be at most a day",
        ),
        (&["--retry-window", "x"], "not a number of seconds"),
        (&["--retry-window", "-1"], "--retry-window"),
        (&["--retry-window", "1e9"], "not a number of seconds"),
        (&["--retry-window", "inf"], "not a number of seconds"),
        (
            &["--retry-window", "99999999999999999999999"],
            "the number of seconds is too large",
        ),
        (&["--retry-window", "9999999999"], "--retry-window must be"),
        (
            &["--retry-window", "60", "--recovery-window", "60"],
            "--recovery-window must be 0 or longer than --retry-window",
        ),
        (
            &["--recovery-window", "9999999999"],
            "--recovery-window must be",
        ),
        (
            &["--recovery-window", "never"],
            "not a number of seconds, nor `unlimited`",
        ),
        (&["--shared-window", "unlimited"], "not a number of seconds"),
        (&["--shared-window", "-1"], "--shared-window"),
        (
            &["--shared-window", "9999999999"],
            "--shared-window must be",
        ),
        (
            &["--shared-window", "3601", "--idle-lifetime", "3600"],
            "--shared-window must be at most --idle-lifetime",
        ),
        (
            &["--rotation", "sometimes"],
            "not a number of seconds, `every-use` or `never`",
        ),
        (&["--rotation", "-1"], "--rotation"),
        (&["--rotation", "0"], "--rotation"),
        (
            &["--rotation-client", "alexa"],
            "it must be CLIENT_ID=POLICY",
        ),
        (&["--rotation-client", "=never"], "--rotation-client"),
        (&["--rotation-client", "alexa=0"], "use `every-use`"),
        (&["--idle-lifetime", "0"], "--idle-lifetime must be"),
        (&["--absolute-lifetime", "0"], "--absolute-lifetime must be"),
        (
            &[
                "--upstream=http://127.0.0.1:1",
                "--reference-access-tokens",
                "--upstream-refresh",
            ],
            "--upstream-refresh needs --access-token-lifetime",
        ),
        (
            &["--access-token-lifetime", "60"],
            "--access-token-lifetime needs --reference-access-tokens",
        ),
        (
            &["--reference-access-tokens", "--access-token-lifetime", "0"],
            "--access-token-lifetime must be more than 0",
        ),
        (
            &["--access-token-lifetime", "an hour"],
            "not a number of seconds",
        ),
        (&["--rotation-timeout", "0"], "--rotation-timeout must be"),
        (
            &["--rotation-timeout", "3601"],
            "--rotation-timeout must be at most an hour",
        ),
        (&["--issue-timeout", "0"], "--issue-timeout must be"),
        (
            &["--issue-timeout", "3601"],
            "--issue-timeout must be at most an hour",
        ),
        (
            &["--upstream", "http://a", "--adopt-until", "tomorrow"],
            "not a number of seconds since 1970",
        ),
        (
            &[
                "--upstream",
                "http://a",
                "--adopt-until",
                "99999999999999999999",
            ],
            "not a number of seconds since 1970",
        ),
        (
            &[
                "--upstream",
                "http://a",
                "--adopt-until",
                "18446744073709551615",
            ],
            "too far in the future",
        ),
        (
            &["--strict", "--retry-window", "5"],
            "--strict cannot be combined with --retry-window, --shared-window or --recovery-window",
        ),
        (
            &["--strict", "--shared-window", "5"],
            "--strict cannot be combined with",
        ),
        (
            &["--strict", "--recovery-window", "unlimited"],
            "--strict cannot be combined with",
        ),
        (&["--log-format", "xml"], "possible values: text, json"),
        (
            &["--log-level", "loud"],
            "possible values: off, error, warn, info, debug, trace",
        ),
        (&["--admin", "9090"], "--admin"),
        (
            &["--admin", "127.0.0.1:8080"],
            "--admin and --listen are both 127.0.0.1:8080",
        ),
        (
            &["--admin-token", "short"],
            "-token needs at least 32 characters",
        ),
        (
            &["--admin-token", "0123456789abcdef0123456789abcdef"],
            "--admin-token needs --admin",
        ),
        (
            &[
                "--global-revocation-token",
                "0123456789abcdef 0123456789abcdef",
            ],
            "-token needs at least 32 characters",
        ),
        (
            &["--backchannel-logout-issuer", "http://login.example.com"],
            "the scheme must be https",
        ),
        (
            &["--backchannel-logout-issuer", "https://login.example.com"],
            "--backchannel-logout-issuer needs --backchannel-logout-audience",
        ),
        (
            &["--backchannel-logout-audience", "app"],
            "--backchannel-logout-audience needs --backchannel-logout-issuer",
        ),
        (
            &[
                "--reference-access-tokens",
                "--resource-prefix=/backchannel-logout",
                "--backchannel-logout-issuer=https://login.example.com",
                "--backchannel-logout-audience=app",
            ],
            "--backchannel-logout-issuer: its path /backchannel-logout is below --resource-prefix",
        ),
        (
            &[
                "--upstream=http://a",
                "--revocation-path=/global-token-revocation",
                "--global-revocation-token=0123456789abcdef0123456789abcdef",
            ],
            "--global-revocation-token: its path /global-token-revocation is that of a guarded",
        ),
        (&["--preserve-host"], "--preserve-host needs --upstream"),
        (&["--token-path", "/x"], "--token-path needs --upstream"),
        (
            &["--revocation-path", "/x"],
            "--revocation-path needs --upstream",
        ),
        (
            &["--introspection-path", "/x"],
            "--introspection-path needs --upstream",
        ),
        (&["--adopt-until", "1"], "--adopt-until needs --upstream"),
        (&["--hand-back"], "--hand-back needs --upstream"),
        (
            &["--upstream-revocation", "--revocation-key-file=/nowhere"],
            "--upstream-revocation needs --upstream",
        ),
        (
            &["--upstream=http://a", "--upstream-revocation"],
            "--upstream-revocation needs --revocation-key-file",
        ),
        (
            &["--upstream=http://a", "--revocation-key-file=/nowhere"],
            "--revocation-key-file needs --upstream-revocation",
        ),
        (
            &[
                "--upstream=http://a",
                "--upstream-revocation",
                "--revocation-key-file=/nowhere",
            ],
            "--revocation-key-file /nowhere: ",
        ),
        (
            &["--upstream-client-id=web", "--upstream-client-secret=x"],
            "--upstream-client-id needs --upstream-refresh or --upstream-revocation",
        ),
        (
            &["--upstream-client-auth=client_secret_basic"],
            "--upstream-client-auth needs --upstream-client-id",
        ),
        (
            &["--rotation-client=alexa=never,alexa=60"],
            "--rotation-client: two policies for `alexa`",
        ),
        (
            &["--cache-size=0", "--store=memory"],
            "--cache-size needs --store with Redis or PostgreSQL, or --resource-prefix",
        ),
        (
            &["--cache-ttl=10"],
            "--cache-ttl needs --store with Redis or PostgreSQL, or --resource-prefix",
        ),
        (
            &[
                "--upstream",
                "http://a",
                "--hand-back",
                "--reference-access-tokens",
            ],
            "--hand-back cannot be combined",
        ),
        (&["--upstreams", "http://a"], "unexpected argument"),
        (&["http://a"], "unexpected argument"),
    ];
    for (args, why) in rows {
        let stderr = refused(args, &[]);
        assert!(
            stderr.contains(why),
            "{args:?}: expected {why:?} in {stderr}"
        );
        assert!(!stderr.contains("secret"), "{stderr}");
    }
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
    let help = assert_flags(PROGRAM, "PROXY_", include_str!("../../README.md"), 57);
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
fn a_rejected_token_is_not_printed() {
    for flag in [
        "--admin-token",
        "--global-revocation-token",
        "--upstream-client-secret",
    ] {
        let stderr = refused(&["--admin", "127.0.0.1:0", flag, "swordfish"], &[]);
        assert!(
            stderr.contains(flag) && !stderr.contains("swordfish"),
            "{stderr}"
        );
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

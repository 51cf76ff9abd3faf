//! Command lines.

use test_support::process::{Example, assert_flags};

use crate::PROGRAM;

#[tokio::test]
async fn invalid_command_lines_are_rejected() {
    let long = format!("openid={}", "x".repeat(201));
    let rows: &[(&[&str], &str)] = &[
        (
            &["--client-id", "x", "--client-secret", "y"],
            "--client-id needs --authorization-endpoint, --issuer or --provider",
        ),
        (
            &["--token-endpoint", "https://id.example.com/token"],
            "--token-endpoint needs --client-id",
        ),
        (
            &["--demo-listen", "0.0.0.0:0"],
            "--demo-listen must be an address of this computer",
        ),
        (&["--strict", "--retry-window", "5"], "--strict"),
        (&["--rotation-timeout", "7200"], "--rotation-timeout"),
        (
            &["--access-token-lifetime", "0"],
            "--access-token-lifetime must be more than 0",
        ),
        (
            &["--upstream-revocation"],
            "--upstream-revocation needs --revocation-key-file",
        ),
        (
            &["--shared-window", "2592001"],
            "--shared-window must be at most --idle-lifetime",
        ),
        (
            &["--recovery-window", "never"],
            "not a number of seconds, nor `unlimited`",
        ),
        (
            &["--rotation", "sometimes"],
            "not a number of seconds, `every-use` or `never`",
        ),
        (
            &["--rotation-client", "alexa"],
            "it must be CLIENT_ID=POLICY",
        ),
        (
            &["--require-scope", "two scopes"],
            "--require-scope: `two scopes` is not one of the scopes of --scope",
        ),
        (&["--tool-scope", "delete"], "it must be NAME=SCOPE"),
        (&["--tool-scope", "=x"], "`` is not the name of a tool"),
        (&["--tool-scope", "a=b c"], "`b c` is not a scope"),
        (
            &["--tool-scope", "delete=admin"],
            "--tool-scope: `admin` is not one of the scopes of --scope",
        ),
        (
            &["--require-scope", "offline_access"],
            "offline_access is not a scope of access tokens",
        ),
        (
            &["--require-scope", "admin"],
            "--require-scope: `admin` is not one of the scopes of --scope",
        ),
        (
            &["--rotation-client=alexa=never,alexa=60"],
            "--rotation-client: two policies for `alexa`",
        ),
        (
            &["--userinfo-endpoint", "https://id.example.com/userinfo"],
            "--userinfo-endpoint needs --client-id",
        ),
        (
            &["--revocation-endpoint", "https://id.example.com/revoke"],
            "--revocation-endpoint needs --client-id",
        ),
        (
            &["--provider-issuer", "https://id.example.com"],
            "--provider-issuer needs --client-id",
        ),
        (
            &["--authorization-param", "a=b"],
            "--authorization-param needs --client-id",
        ),
        (
            &["--authorization-param", "max_age=soon"],
            "'--authorization-param <NAME=VALUE>': max_age must be a whole number of seconds",
        ),
        (
            &["--authorization-param", "max_age=-1"],
            "'--authorization-param <NAME=VALUE>': max_age must be",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=github",
                "--authorization-param=max_age=600",
            ],
            "--authorization-param max_age needs openid in --scope",
        ),
        (&["--token-param", "a=b"], "--token-param needs --client-id"),
        (
            &["--forward-resource"],
            "--forward-resource needs --client-id",
        ),
        (
            &["--client-auth", "none"],
            "--client-auth needs --client-id",
        ),
        (
            &["--client-key-id", "7"],
            "--client-key-id needs --client-id",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=github",
                "--allow-group=staff",
            ],
            "--allow-group: --provider github does not name the groups of users",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=google",
                "--demo-access-lifetime=60",
            ],
            "--demo-access-lifetime is for the demo provider",
        ),
        (
            &[
                "--client-id=x",
                "--client-secret=y",
                "--provider=google",
                "--demo-no-rotation",
            ],
            "--demo-no-rotation is for the demo provider",
        ),
        (&["--public-url", "https://example.com/?x"], "--public-url"),
        (&["--authorization-param", "x"], "--authorization-param"),
        (&["--cache-ttl", "1e3"], "--cache-ttl"),
        (
            &["--cache-ttl", "86401"],
            "--cache-ttl must be at most a day",
        ),
        (&["--store", "redis://:secret@"], "--store"),
        (&["--scope-description", "openid"], "it must be SCOPE=TEXT"),
        (&["--scope-description", "=x"], "`` is not a scope"),
        (&["--scope-description", "a b=x"], "`a b` is not a scope"),
        (
            &["--scope-description", "openid= "],
            "the text for `openid` is empty",
        ),
        (
            &["--scope-description", &long],
            "the text for `openid` is longer than 200 characters",
        ),
        (
            &["--scope-description", "openid=a\nb"],
            "must be one line of visible characters",
        ),
        (
            &["--scope-description", "openid=a\u{202e}b"],
            "must be one line of visible characters",
        ),
        (
            &["--scope-description", "openid=a; b"],
            "it must be SCOPE=TEXT",
        ),
        (
            &["--scope-description", "email=Read your e-mail address"],
            "`email` is not one of the scopes of --scope",
        ),
        (
            &[
                "--scope-description",
                "openid=a",
                "--scope-description",
                "openid=b",
            ],
            "two texts for `openid`",
        ),
    ];
    for (flags, message) in rows {
        let args: Vec<_> = ["--listen", "127.0.0.1:0"]
            .iter()
            .chain(*flags)
            .map(|&arg| arg.to_owned())
            .collect();
        let output = tokio::task::spawn_blocking(move || Example::run(PROGRAM, &args, &[]))
            .await
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(
            stderr.contains(*message) && !stderr.contains("secret@"),
            "{flags:?}: {stderr}"
        );
    }
}

#[test]
fn flags_without_effect_are_rejected() {
    let no_documents = "cannot be combined with --no-metadata-documents";
    let rows: [(&str, &str, &str); 11] = [
        ("--mcp-token=swap", "", "needs --mcp-upstream"),
        ("--mcp-token=strip", "", "needs --mcp-upstream"),
        ("--mcp-upstream-timeout=300", "", "needs --mcp-upstream"),
        (
            "--metadata-ca=/dev/null",
            "--no-metadata-documents",
            no_documents,
        ),
        (
            "--limit-document-fetches=30",
            "--no-metadata-documents",
            no_documents,
        ),
        ("--groups-claim=groups", "", "needs --allow-group"),
        (
            "--groups-claim=groups",
            "--allow-user=ada",
            "needs --allow-group",
        ),
        ("--contact=it", "", "needs --allow-user"),
        ("--brand-link=https://a", "", "needs --brand-name"),
        (
            "--backchannel-logout-audience=a",
            "--client-id=x --client-secret=x --provider=github",
            "needs --backchannel-logout-issuer",
        ),
        (
            "--client-key-id=7",
            "--client-id=x --client-secret=x",
            "needs --client-key",
        ),
    ];
    for (flag, more, why) in rows {
        let name = flag.split('=').next().unwrap();
        let text = format!("{name} {why}");
        for check in [&[][..], &["--check-config"]] {
            let flags: Vec<_> = ["--listen=127.0.0.1:0", "--store=memory", flag]
                .into_iter()
                .chain(more.split_whitespace())
                .chain(check.iter().copied())
                .collect();
            let output = Example::run(PROGRAM, &flags, &[]);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
            assert_eq!(stderr.matches(&text).count(), 1, "{flags:?}: {stderr}");
        }
    }
}

#[test]
fn every_flag_has_an_environment_variable_and_documentation() {
    assert_flags(PROGRAM, "MCP_", include_str!("../../../README.md"), 89);
}

use super::*;

#[test]
fn the_defaults_are_valid() {
    Config::default().check().unwrap();
    Paths::default().checked().unwrap();
    for strict in [false, true] {
        let chosen = ChosenWindows {
            strict,
            ..ChosenWindows::default()
        };
        chosen.checked().unwrap();
    }
}

#[test]
fn an_invalid_path_is_rejected() {
    for path in [
        "",
        "token",
        "/token?x=1",
        "/to ken",
        "*",
        "https://as.example/token",
        "/token#x",
    ] {
        let paths = Paths {
            token: path.into(),
            ..Paths::default()
        };
        assert_eq!(
            paths.checked().unwrap_err(),
            ConfigError::Path {
                setting: "token_path",
                path: path.into()
            },
            "{path:?}"
        );
    }
    let [token, revocation, introspection] =
        ["token_path", "revocation_path", "introspection_path"];
    let rows = [
        ("/a", "/a", None, false, [token, revocation], "/a"),
        ("/a", "/a/", None, true, [token, revocation], "/a"),
        ("/a", "/b", Some("/a"), false, [token, introspection], "/a"),
        (
            "/a",
            "/b",
            Some("//b"),
            true,
            [revocation, introspection],
            "/b",
        ),
        (
            "/a/b",
            "//A/b.json",
            None,
            true,
            [token, revocation],
            "/a/b",
        ),
        (
            "/x",
            "/A.json",
            Some("/a"),
            true,
            [revocation, introspection],
            "/A.json",
        ),
    ];
    for (token, revocation, introspection, normalized, settings, path) in rows {
        let introspection = introspection.map(str::to_owned);
        let paths = Paths {
            token: token.into(),
            revocation: revocation.into(),
            introspection,
            normalized,
            ..Paths::default()
        };
        assert_eq!(
            paths.checked().unwrap_err(),
            ConfigError::SamePath {
                settings,
                path: path.into()
            }
        );
    }
}

#[test]
fn an_invalid_setting_is_rejected() {
    let long = Duration::MAX;
    const ZERO: Duration = Duration::ZERO;
    let prefix = |prefix: &str| ConfigError::Prefix {
        setting: "token_prefix",
        prefix: prefix.into(),
    };
    let uri = ConfigError::Uri {
        setting: "allowed_resources",
        uri: "https://a/#x".into(),
    };
    let rows: [(&str, ConfigError, fn(&mut Config)); 14] = [
        ("a resource with a fragment", uri, |c| {
            c.allowed_resources = vec!["https://a/".into(), "https://a/#x".into()];
        }),
        ("a prefix with a space", prefix("r t"), |c| {
            c.prefix = "r t".into()
        }),
        ("a prefix that a form would escape", prefix("r+"), |c| {
            c.prefix = "r+".into()
        }),
        ("a prefix of 33 bytes", prefix(&"r".repeat(33)), |c| {
            c.prefix = "r".repeat(33)
        }),
        (
            "an idle lifetime of zero",
            ConfigError::Duration("idle_lifetime"),
            |c| c.idle_lifetime = Duration::ZERO,
        ),
        (
            "an absolute lifetime of a microsecond",
            ConfigError::Duration("absolute_lifetime"),
            |c| {
                c.absolute_lifetime = Some(Duration::from_micros(1));
            },
        ),
        (
            "an unlimited time-out",
            ConfigError::Duration("rotation_timeout"),
            |c| c.rotation_timeout = Duration::MAX,
        ),
        (
            "a time-out of more than an hour",
            ConfigError::RotationTimeout,
            |c| c.rotation_timeout = Duration::from_secs(3601),
        ),
        (
            "an issue time-out of zero",
            ConfigError::Duration("issue_timeout"),
            |c| c.issue_timeout = ZERO,
        ),
        (
            "an issue time-out of more than an hour",
            ConfigError::Timeout("issue_timeout"),
            |c| c.issue_timeout = 2 * LONGEST_TIMEOUT,
        ),
        (
            "a body time-out of zero",
            ConfigError::Duration("request_body_timeout"),
            |c| c.request_body_timeout = ZERO,
        ),
        (
            "a body time-out of more than an hour",
            ConfigError::Timeout("request_body_timeout"),
            |c| {
                c.request_body_timeout = LONGEST_TIMEOUT + Duration::from_millis(1);
            },
        ),
        (
            "a request limit of zero",
            ConfigError::Limit("max_request_body"),
            |c| c.max_request_body = 0,
        ),
        (
            "a response limit of more than 16 MiB",
            ConfigError::Limit("max_response_body"),
            |c| c.max_response_body = usize::MAX,
        ),
    ];
    for (name, error, set) in rows {
        let mut config = Config::default();
        set(&mut config);
        assert_eq!(config.check().unwrap_err(), error, "{name}");
    }
    let windows = [
        (
            "strict with a retry window",
            Some(DAY),
            None,
            true,
            ConfigError::StrictWithWindow,
        ),
        (
            "strict with a recovery window",
            None,
            Some(DAY),
            true,
            ConfigError::StrictWithWindow,
        ),
        (
            "a recovery window as long as the retry window",
            Some(DAY),
            Some(DAY),
            false,
            ConfigError::RecoveryWithinRetry,
        ),
        (
            "an unlimited retry window",
            Some(long),
            Some(long),
            false,
            ConfigError::Duration("retry_window"),
        ),
        (
            "an unlimited recovery window",
            None,
            Some(long),
            false,
            ConfigError::Duration("recovery_window"),
        ),
    ];
    for (name, retry, recovery, strict, error) in windows {
        let chosen = ChosenWindows {
            retry,
            shared: None,
            recovery,
            strict,
        };
        assert_eq!(chosen.checked().unwrap_err(), error, "{name}");
    }
}

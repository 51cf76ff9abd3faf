//! Invalid flags.

use super::refused;

/// Command lines, and a part of the error about each.
const INVALID: &str = r#"
--listen 8080 => --listen
--listen localhost => --listen
--upstream localhost:9000 => the scheme must be http or https
--upstream 127.0.0.1:9000 => not a URL such as
--upstream ftp://a => the scheme must be http or https, not `ftp`
--upstream http:// => not a URL such as
--upstream http://a:99999 => invalid port
--upstream http://u:p@a => must not contain a user name or a password
--upstream http://a/?x => must not contain a query
--upstream http://a/#x => must not contain a query or a fragment
--public-url login.example.com => --public-url
--public-url https://a/?x => must not contain a query
--upstream-timeout 0 => must be more than 0 and at most a day
--upstream-timeout 86401 => must be more than 0 and at most a day
--upstream-timeout -1 => not a number of seconds
--trust-forwarded localhost => not a network such as 10.0.0.0/8
--trust-forwarded 10.0.0.0/8,10.0.0.0/33 => not a network such as
--store redis://:secret@ => --store: invalid Redis URL: a host is missing
--store redis://:secret@a,b => --store: invalid Redis URL: several hosts
--store redis-sentinel://:secret@a:1 => --store: invalid Redis URL: the path must be
--store rediss-cluster://u:secret@a:1/3 => --store: invalid Redis URL: Redis Cluster supports
--store redb: => --store: `redb` needs the path of a file: redb:PATH
--store redb => --store: `redb` needs the path of a file: redb:PATH
--wait-for-replicas some => --wait-for-replicas
--wait-for-replicas 1 => --wait-for-replicas needs --store with Redis
--cache-size 64M => --cache-size
--cache-ttl -1 => --cache-ttl
--max-connections 0 => --max-connections
--max-in-flight many => --max-in-flight
--body-memory 64M => --body-memory
--idle-timeout 0 => --idle-timeout
--stall-timeout inf => --stall-timeout
--store memory:x => --store: `memory` does not take an address
--store mysql => --store: unknown store `mysql`
--store  => --store: unknown store ``
--upstream http://a --token-path token => --token-path: "token" is not a path such as /token
--upstream http://a --token-path /{tenant}/token => looks like a route pattern
--upstream http://a --token-path /x/../t => can be read in more than one way
--upstream http://a --allow-ambiguous-path /a%2fb => --allow-ambiguous-path
--upstream http://a --allow-ambiguous-path /token/x => --token-path and --allow-ambiguous-path are both
--reference-access-tokens --resource-prefix=/api --allow-ambiguous-path=/api/x => --allow-ambiguous-path /api/x is below --resource-prefix /api
--reference-access-tokens --resource-prefix /token/x => --resource-prefix /token/x is below --token-path /token
--upstream http://a --token-path /token?x => --token-path
--upstream http://a --revocation-path  => --revocation-path
--upstream http://a --revocation-path /token => --token-path and --revocation-path are both
--upstream http://a --revocation-path /token.json => --token-path and --revocation-path are both
--upstream http://a --revocation-path //TOKEN/ => --token-path and --revocation-path are both
--upstream http://a --introspection-path i => --introspection-path: "i" is not a path such as /token
--upstream http://a --introspection-path /token/ => --token-path and --introspection-path are both
--keep-id-token => --keep-id-token needs --reference-access-tokens
--resource-prefix /api => --resource-prefix needs --reference-access-tokens
--reference-access-tokens --resource-prefix api => '--resource-prefix <PATH>': not an absolute path
--reference-access-tokens --resource-prefix /api?x => --resource-prefix
--reference-access-tokens --resource-prefix /api, => --resource-prefix
--reference-access-tokens --resource-prefix /api/../x => the path can be read in more than one way
--reference-access-tokens --resource-prefix /api --resource-prefix //Revoke => --revocation-path /revoke is below --resource-prefix //Revoke
--reference-access-tokens --resource-prefix / => --token-path /token is below --resource-prefix /
--allowed-resource https://a => --allowed-resource needs --reference-access-tokens
--reference-access-tokens --allowed-resource https://a,/b => --allowed-resource: "/b" is not a URI such as
--resource-scope read => --resource-scope needs --resource-prefix
--resource https://a => --resource needs --resource-prefix
--resource-metadata https://a => --resource-metadata needs --resource-prefix
--reference-access-tokens --resource-prefix /api --resource-scope /apo=read => --resource-scope: /apo is not a --resource-prefix
--reference-access-tokens --resource-prefix /api --resource-scope a"b => --resource-scope: "a\"b" is not a scope
--reference-access-tokens --resource-prefix /api --resource /api=api => --resource: "api" is not a URI such as
--reference-access-tokens --resource-prefix /api --resource https://a,https://b => --resource: https://a and https://b are both set for every --resource-prefix
--reference-access-tokens --resource-prefix=/api,/api/x --resource=/api=https://a,/api/x=https://b => --resource: /api/x is below /api, which requires another resource
--reference-access-tokens --resource-prefix=/api,/API/ => --resource-prefix and --resource-prefix are both "/api" or below it
--reference-access-tokens --resource-prefix /api --resource-metadata meta => --resource-metadata: "meta" is not a URI such as
--reference-access-tokens --resource-prefix /api --cache-ttl 86401 => --cache-ttl must be at most a day
--retry-window x => not a number of seconds
--retry-window -1 => --retry-window
--retry-window 1e9 => not a number of seconds
--retry-window inf => not a number of seconds
--retry-window 99999999999999999999999 => the number of seconds is too large
--retry-window 9999999999 => --retry-window must be
--retry-window 60 --recovery-window 60 => --recovery-window must be 0 or longer than --retry-window
--recovery-window 9999999999 => --recovery-window must be
--recovery-window never => not a number of seconds, nor `unlimited`
--shared-window unlimited => not a number of seconds
--shared-window -1 => --shared-window
--shared-window 9999999999 => --shared-window must be
--shared-window 3601 --idle-lifetime 3600 => --shared-window must be at most --idle-lifetime
--rotation sometimes => not a number of seconds, `every-use` or `never`
--rotation -1 => --rotation
--rotation 0 => --rotation
--rotation-client alexa => it must be CLIENT_ID=POLICY
--rotation-client =never => --rotation-client
--rotation-client alexa=0 => use `every-use`
--idle-lifetime 0 => --idle-lifetime must be
--absolute-lifetime 0 => --absolute-lifetime must be
--upstream=http://127.0.0.1:1 --reference-access-tokens --upstream-refresh => --upstream-refresh needs --access-token-lifetime
--access-token-lifetime 60 => --access-token-lifetime needs --reference-access-tokens
--reference-access-tokens --access-token-lifetime 0 => --access-token-lifetime must be more than 0
--access-token-lifetime an hour => not a number of seconds
--rotation-timeout 0 => --rotation-timeout must be
--rotation-timeout 3601 => --rotation-timeout must be at most an hour
--issue-timeout 0 => --issue-timeout must be
--issue-timeout 3601 => --issue-timeout must be at most an hour
--upstream http://a --adopt-until tomorrow => not a number of seconds since 1970
--upstream http://a --adopt-until 99999999999999999999 => not a number of seconds since 1970
--upstream http://a --adopt-until 18446744073709551615 => too far in the future
--strict --retry-window 5 => --strict cannot be combined with --retry-window, --shared-window or --recovery-window
--strict --shared-window 5 => --strict cannot be combined with
--strict --recovery-window unlimited => --strict cannot be combined with
--log-format xml => possible values: text, json
--log-level loud => possible values: off, error, warn, info, debug, trace
--admin 9090 => --admin
--admin 127.0.0.1:8080 => --admin and --listen are both 127.0.0.1:8080
--admin-token short => -token needs at least 32 characters
--admin-token 0123456789abcdef0123456789abcdef => --admin-token needs --admin
--global-revocation-token 0123456789abcdef 0123456789abcdef => -token needs at least 32 characters
--backchannel-logout-issuer http://login.example.com => the scheme must be https
--backchannel-logout-issuer https://login.example.com => --backchannel-logout-issuer needs --backchannel-logout-audience
--backchannel-logout-audience app => --backchannel-logout-audience needs --backchannel-logout-issuer
--reference-access-tokens --resource-prefix=/backchannel-logout --backchannel-logout-issuer=https://login.example.com --backchannel-logout-audience=app => --backchannel-logout-issuer: its path /backchannel-logout is below --resource-prefix
--upstream=http://a --revocation-path=/global-token-revocation --global-revocation-token=0123456789abcdef0123456789abcdef => --global-revocation-token: its path /global-token-revocation is that of a guarded
--preserve-host => --preserve-host needs --upstream
--token-path /x => --token-path needs --upstream
--revocation-path /x => --revocation-path needs --upstream
--introspection-path /x => --introspection-path needs --upstream
--adopt-until 1 => --adopt-until needs --upstream
--hand-back => --hand-back needs --upstream
--upstream-revocation --revocation-key-file=/nowhere => --upstream-revocation needs --upstream
--upstream=http://a --upstream-revocation => --upstream-revocation needs --revocation-key-file
--upstream=http://a --revocation-key-file=/nowhere => --revocation-key-file needs --upstream-revocation
--upstream=http://a --upstream-revocation --revocation-key-file=/nowhere => --revocation-key-file /nowhere: 
--upstream-client-id=web --upstream-client-secret=x => --upstream-client-id needs --upstream-refresh or --upstream-revocation
--upstream-client-auth=client_secret_basic => --upstream-client-auth needs --upstream-client-id
--rotation-client=alexa=never,alexa=60 => --rotation-client: two policies for `alexa`
--cache-size=0 --store=memory => --cache-size needs --store with Redis or PostgreSQL, or --resource-prefix
--cache-ttl=10 => --cache-ttl needs --store with Redis or PostgreSQL, or --resource-prefix
--upstream http://a --hand-back --reference-access-tokens => --hand-back cannot be combined
--upstreams http://a => unexpected argument
http://a => unexpected argument
"#;

#[cfg(feature = "postgres")]
const INVALID_POSTGRES: &str = "
--store postgres://u:secret@a:port/db => --store: invalid PostgreSQL URL
--store postgres://u:secret@a,b/db?target_session_attrs=standby => --store: invalid PostgreSQL URL: target_session_attrs must be one of
";

#[cfg(not(feature = "postgres"))]
const INVALID_POSTGRES: &str = "";

/// Splits a command line at its flags. What follows a flag is its value, which may contain spaces.
fn arguments(line: &str) -> Vec<&str> {
    let mut arguments = Vec::new();
    let mut start = 0;
    for end in line
        .match_indices(" --")
        .map(|(end, _)| end)
        .chain([line.len()])
    {
        arguments.extend(line[start..end].splitn(2, ' '));
        start = end + 1;
    }
    arguments
}

#[test]
fn invalid_flags_end_with_status_2_and_a_reason() {
    let rows = INVALID.lines().chain(INVALID_POSTGRES.lines());
    for row in rows.filter(|row| !row.is_empty()) {
        let (line, why) = row.split_once(" => ").unwrap();
        let args = arguments(line);
        let stderr = refused(&args, &[]);
        assert!(
            stderr.contains(why),
            "{args:?}: expected {why:?} in {stderr}"
        );
        assert!(!stderr.contains("secret"), "{stderr}");
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

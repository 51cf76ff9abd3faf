//! The session that the demo prints.

use std::net::SocketAddr;
use std::time::Duration;

use super::clients::{CONFIDENTIAL, PUBLIC, SECRET};

/// The verifier and the challenge of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT_URI: &str = "http://127.0.0.1:7777/callback";

/// Returns a complete session with the proxy at `here`, as lines for bash.
pub(crate) fn session(
    here: &str,
    upstream: SocketAddr,
    (retry_window, shared_window): (Duration, Duration),
) -> String {
    let login = login();
    let retry = if retry_window.is_zero() { "" } else { RETRY };
    let windows = retry_window.max(shared_window);
    let sleep = if windows.is_zero() {
        String::new()
    } else {
        format!("sleep {}\n", windows.as_secs().saturating_add(2))
    };
    format!(
        r#"# A demo authorization server is running at http://{upstream}, with this proxy in front of it at {here}.
# Paste these lines into bash to run through one session. `demo` is a public client.
PROXY={here}

# 1. Log in: get a code with PKCE and exchange it for tokens. The refresh token is the proxy's own: it begins with rt_.
{login}FIRST=$(echo "$ANSWER" | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')

# 2. Refresh: the response has the next refresh token.
ANSWER=$(curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id={PUBLIC} -d "refresh_token=$FIRST"); echo "$ANSWER"
SECOND=$(echo "$ANSWER" | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')
{retry}
# 4. Steal: another client presents the token and is refused. The session of the owner continues.
curl -sS "$PROXY/token" -u {CONFIDENTIAL}:{SECRET} -d grant_type=refresh_token -d "refresh_token=$SECOND"; echo
ANSWER=$(curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id={PUBLIC} -d "refresh_token=$SECOND"); echo "$ANSWER"
THIRD=$(echo "$ANSWER" | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')
#    Reuse: after its windows an old token ends the session, even if the right client presents it.
{sleep}curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id={PUBLIC} -d "refresh_token=$FIRST"; echo
curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id={PUBLIC} -d "refresh_token=$THIRD"; echo

# 5. Log in again and revoke: the token is no longer accepted.
{login}TOKEN=$(echo "$ANSWER" | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')
curl -sS -o /dev/null -w '%{{http_code}}\n' "$PROXY/revoke" -d client_id={PUBLIC} -d "token=$TOKEN"
curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id={PUBLIC} -d "refresh_token=$TOKEN"; echo
"#
    )
}

const RETRY: &str = r#"
# 3. Retry: the response got lost and the client sends the old token again. It gets the same response and keeps its session.
curl -sS "$PROXY/token" -d grant_type=refresh_token -d client_id=demo -d "refresh_token=$FIRST"; echo
"#;

fn login() -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", PUBLIC)
        .append_pair("redirect_uri", REDIRECT_URI)
        .append_pair("scope", "profile")
        .append_pair("code_challenge", CHALLENGE)
        .append_pair("code_challenge_method", "S256")
        .finish();
    format!(
        r#"CODE=$(curl -sS -o /dev/null -w '%{{redirect_url}}' "$PROXY/authorize?{query}" | sed 's/.*[?&]code=\([^&]*\).*/\1/')
ANSWER=$(curl -sS "$PROXY/token" -d grant_type=authorization_code -d client_id={PUBLIC} -d "code=$CODE" -d redirect_uri={REDIRECT_URI} -d code_verifier={VERIFIER}); echo "$ANSWER"
"#
    )
}

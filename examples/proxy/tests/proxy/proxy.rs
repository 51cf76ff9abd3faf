//! The example proxy in front of a server of the test.

use test_support::http::raw;
use test_support::process::Example;

use crate::PROGRAM;

/// Starts the proxy on a free port in front of `upstream`, with further flags.
///
/// It waits for the proxy in a separate thread, because the upstream runs in the runtime of the
/// test.
pub(crate) async fn start(upstream: &str, flags: &[&str]) -> Example {
    start_with(upstream, flags, &[]).await
}

/// Starts the proxy with environment variables as well.
pub(crate) async fn start_with(upstream: &str, flags: &[&str], envs: &[(&str, &str)]) -> Example {
    let mut args = vec!["--upstream".to_owned(), upstream.to_owned()];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    if !flags.contains(&"--listen") {
        args.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    }
    let envs: Vec<_> = envs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    tokio::task::spawn_blocking(move || Example::start(PROGRAM, &args, &envs))
        .await
        .unwrap()
}

/// Posts a form to this exact path, which HTTP clients would normalize or reject. Returns the whole
/// response.
pub(crate) async fn form(proxy: &Example, path: &str, form: &str) -> String {
    form_by("POST", proxy, path, form).await
}

pub(crate) async fn form_by(method: &str, proxy: &Example, path: &str, form: &str) -> String {
    raw(proxy.addr(), &form_request(method, path, form)).await
}

/// Returns the request of [`form_by`]. The proxy closes the connection after the response.
pub(crate) fn form_request(method: &str, path: &str, form: &str) -> String {
    let head = "Host: a\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close";
    format!(
        "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

/// Returns whether a log names `word`. The ids in a log are random, and may contain a short word by
/// chance.
pub(crate) fn names(log: &str, word: &str) -> bool {
    log.split(|c: char| !c.is_alphanumeric())
        .any(|part| part == word)
}

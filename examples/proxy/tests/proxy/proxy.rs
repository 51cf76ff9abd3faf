//! The example proxy in front of a server of the test.

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

//! The frame of a server program: errors, exit status, start and shutdown.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::causes;
use crate::listener::{Connections, finish};
use crate::shutdown::Signals;

/// The reason why a server did not start or did not shut down cleanly.
#[derive(Debug)]
pub enum Failure {
    /// The command line is invalid.
    Usage(String),
    Other(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Prints the failure, if there is one. Returns the exit status of the program: 2 if the command
/// line is invalid, 1 after any other failure.
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}\n\nFor more information, try '--help'.");
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            eprintln!("error: {}", causes::causes(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Prints the result of `--check-config`: all problems, each once.
pub fn report(results: impl IntoIterator<Item = Result<(), String>>) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for problem in results.into_iter().filter_map(Result::err) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        println!("configuration is valid");
        return Ok(());
    }
    Err(Failure::Usage(problems.join("\nerror: ")))
}

impl Failure {
    /// Returns the text of the failure with its causes.
    pub fn message(self) -> String {
        match self {
            Self::Usage(message) => message,
            Self::Other(error) => causes::causes(&*error),
        }
    }
}

/// Listens on the address that `flag` sets.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("{flag} {address}: {error}").into())
}

/// Shuts the server down with [`finish`], or at once if another signal arrives.
pub async fn shut_down(
    mut signals: Signals,
    connections: Connections,
    limit: Duration,
    drain: impl Future<Output = ()>,
    rotation_timeout: Duration,
) -> Result<(), Failure> {
    tracing::info!("shutting down");
    tokio::select! {
        result = finish(connections, limit, drain, rotation_timeout) => result.map_err(Failure::from),
        () = signals.next() => Err("stopped by a second signal: requests and rotations in progress may be lost".into()),
    }
}

//! The settings of a server before it is started.

use std::fs;
use std::time::Instant;

use super::server::{CONFIG, FIXTURE, HOST, LIMIT};
use super::{Certificates, RedisServer};
use crate::port::Port;

/// The settings of a server.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    lines: Vec<String>,
    master: Option<u16>,
    tls: Option<Certificates>,
    sentinel: bool,
}

impl Builder {
    pub(super) fn new() -> Self {
        let lines = [
            "protected-mode no",
            "save \"\"",
            "appendonly no",
            "repl-diskless-sync-delay 0",
            &format!("masteruser {FIXTURE}"),
            &format!("masterauth {FIXTURE}"),
        ];
        Self {
            lines: lines.map(Into::into).into(),
            master: None,
            tls: None,
            sentinel: false,
        }
    }

    /// Returns a builder for a sentinel, which rejects most server settings.
    pub(super) const fn sentinel() -> Self {
        Self {
            lines: Vec::new(),
            master: None,
            tls: None,
            sentinel: true,
        }
    }

    /// Sets the password of the user `default`.
    pub fn password(self, password: &str) -> Self {
        self.config("requirepass", password)
    }

    /// Adds a line to the configuration; a later one overrides an earlier one. Values with spaces
    /// need quotes as in `redis.conf`.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.lines.push(format!("{name} {value}"));
        self
    }

    /// Adds a user, in the syntax of `ACL SETUSER`: `alice on >password ~prefix* +get`.
    pub fn user(self, rules: &str) -> Self {
        self.config("user", rules)
    }

    /// Serves only TLS, and uses it to other servers. Clients need no certificate, unless
    /// `.config("tls-auth-clients", "yes")` requires one.
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        self.tls = Some(certificates.clone());
        self
    }

    /// Makes it a replica of the server on this port. It has started when it is in sync.
    pub fn replica_of(mut self, port: u16) -> Self {
        self.master = Some(port);
        self
    }

    /// Starts the server on a free port and waits until it responds.
    pub async fn start(self) -> RedisServer {
        let end = Instant::now() + LIMIT;
        loop {
            let server = self.lay_out(Port::free());
            server.launch();
            if server.answers(end).await {
                if self.master.is_some() {
                    server
                        .until_info("replication", "its master", |info| {
                            info.get("master_link_status")
                                .is_some_and(|link| link == "up")
                        })
                        .await;
                }
                return server;
            }
            // Another process has taken the port.
        }
    }

    fn lay_out(&self, port: Port) -> RedisServer {
        let directory = tempfile::tempdir().unwrap();
        let mut lines = vec![
            format!("bind {HOST}"),
            format!("user {FIXTURE} on >{FIXTURE} ~* &* +@all"),
        ];
        match &self.tls {
            None => lines.push(format!("port {}", port.number())),
            Some(certificates) => {
                let file = |name| certificates.file(name).display().to_string();
                lines.extend([
                    "port 0".into(),
                    format!("tls-port {}", port.number()),
                    format!("tls-ca-cert-file {}", file("ca.pem")),
                    format!("tls-cert-file {}", file("server.pem")),
                    format!("tls-key-file {}", file("server.key")),
                    format!("tls-client-cert-file {}", file("client.pem")),
                    format!("tls-client-key-file {}", file("client.key")),
                    "tls-auth-clients no".into(),
                    "tls-replication yes".into(),
                ]);
            }
        }
        lines.extend(self.master.map(|port| format!("replicaof {HOST} {port}")));
        lines.extend(self.lines.iter().cloned());
        fs::write(directory.path().join(CONFIG), lines.join("\n") + "\n").unwrap();
        RedisServer::new(port, self.tls.clone(), self.sentinel, directory)
    }
}

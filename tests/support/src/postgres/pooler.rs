use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::PostgresServer;
use super::programs::{is_root, unprivileged};
use super::server::{LIMIT, POLL};
use crate::port::{HOST, Port};

/// Ends the pooler at the end of the standard input, which also comes when the test is killed.
const KEEPER: &str = r#""$@" & read -r line; kill -KILL $!; wait"#;

/// PgBouncer in transaction mode, with fewer connections to the server than it accepts. It is ended
/// when dropped.
pub struct PgBouncer {
    port: Port,
    keeper: Child,
    _directory: TempDir,
}

impl PgBouncer {
    pub async fn in_front_of(server: &PostgresServer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = Port::free();
        let config = directory.path().join("pgbouncer.ini");
        let lines = [
            "[databases]".to_owned(),
            format!(
                "postgres = host={HOST} port={} user=postgres",
                server.port()
            ),
            "[pgbouncer]".to_owned(),
            format!("listen_addr = {HOST}"),
            format!("listen_port = {}", port.number()),
            "unix_socket_dir =".to_owned(),
            "auth_type = any".to_owned(),
            "pool_mode = transaction".to_owned(),
            "default_pool_size = 3".to_owned(),
            "max_client_conn = 1000".to_owned(),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        if is_root() {
            let owned = Command::new("chown")
                .args(["-R", "nobody:nogroup"])
                .arg(directory.path())
                .status();
            assert!(owned.unwrap().success());
        }
        let pooler = unprivileged("pgbouncer");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(pooler.get_program());
        keeper.args(pooler.get_args()).arg(&config);
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pooler = Self {
            port,
            keeper: keeper.spawn().unwrap(),
            _directory: directory,
        };
        let end = Instant::now() + LIMIT;
        while TcpStream::connect((HOST, pooler.port.number())).is_err() {
            assert!(Instant::now() < end, "PgBouncer does not start");
            tokio::time::sleep(POLL).await;
        }
        pooler
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        let port = self.port.number();
        format!("postgres://postgres@{HOST}:{port}/postgres?sslmode=disable")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _: Result<_, _> = self.keeper.wait();
    }
}

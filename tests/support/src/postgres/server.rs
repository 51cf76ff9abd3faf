//! A PostgreSQL server in its own processes and directory.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::programs::{directories, initialize, kill, own, program, run, state, unprivileged};
use crate::port::{HOST, Port};
use crate::redis::Certificates;

/// The time limit for a server to reach the expected state.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) const POLL: Duration = Duration::from_millis(10);

/// Starts the server for each line of its standard input. At the end of the input, which also
/// comes when the test is killed, it ends the server and removes the directory.
const KEEPER: &str = r#"
directory=$1; shift
while read -r line; do "$@" >>"$directory/log" 2>&1 & server=$!; done
kill -CONT $server; kill -QUIT $server; wait; rm -rf "$directory"
"#;

/// A server that is running, or was stopped and can be started again. It is ended and its directory
/// removed when dropped. Every role can connect without a password; `postgres` has all rights.
pub struct PostgresServer {
    port: Port,
    directory: PathBuf,
    keeper: Mutex<(Child, Option<ChildStdin>)>,
}

impl PostgresServer {
    /// Starts a server with one database, `postgres`, which is empty.
    pub async fn start() -> Self {
        Self::start_with("fsync=off").await
    }

    /// Starts a server with one more setting, such as `fsync=on`.
    pub async fn start_with(setting: &str) -> Self {
        let (directory, data) = directories();
        initialize(&data);
        Self::start_in(directory, &[setting]).await
    }

    /// Starts a server that also accepts TLS. The roles `client.test` and `other.test`, which do
    /// not exist yet, can connect with TLS and a client certificate for their name only.
    pub async fn start_with_tls(certificates: &Certificates) -> Self {
        let (directory, data) = directories();
        initialize(&data);
        for (name, file) in [
            ("server.pem", "server.crt"),
            ("server.key", "server.key"),
            ("ca.pem", "root.crt"),
        ] {
            // It must belong to the user of the server.
            let file = data.join(file);
            fs::write(&file, fs::read(certificates.file(name)).unwrap()).unwrap();
            run(Command::new("chmod").arg("600").arg(&file));
            own(&file);
        }
        let roles = "\"client.test\",\"other.test\"";
        let rules = format!(
            "hostssl all {roles} {HOST}/32 trust clientcert=verify-full\nhost all {roles} {HOST}/32 reject\n"
        );
        let file = data.join("pg_hba.conf");
        fs::write(&file, rules + &fs::read_to_string(&file).unwrap()).unwrap();
        Self::start_in(directory, &["fsync=off", "ssl=on", "ssl_ca_file=root.crt"]).await
    }

    /// Starts a server, and a standby that streams from it. The server confirms a commit when the
    /// standby has it, too.
    pub async fn start_pair() -> (Self, Self) {
        let (directory, data) = directories();
        initialize(&data);
        // In the file, so that SQL can change it.
        let file = data.join("postgresql.conf");
        let settings = fs::read_to_string(&file).unwrap();
        fs::write(&file, settings + "synchronous_standby_names = '*'\n").unwrap();
        let primary = Self::start_in(directory, &["fsync=off"]).await;

        let (directory, data) = directories();
        run(unprivileged("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--username=postgres", "--no-password", "--host", HOST])
            .args(["--port", &primary.port().to_string(), "--pgdata"])
            .arg(&data));
        let alone = "synchronous_standby_names=";
        let standby = Self::start_in(directory, &["fsync=off", alone]).await;
        let state = "SELECT sync_state FROM pg_stat_replication";
        primary.until(state, "sync").await;
        (primary, standby)
    }

    async fn start_in(directory: PathBuf, further: &[&str]) -> Self {
        let port = Port::free();
        let server = unprivileged("postgres");
        let settings = [
            format!("listen_addresses={HOST}"),
            format!("port={}", port.number()),
            "unix_socket_directories=".to_owned(),
            "max_connections=500".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        let further = further.iter().map(|setting| (*setting).to_owned());
        let settings: Vec<_> = settings.into_iter().chain(further).collect();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&directory);
        keeper.arg(server.get_program()).args(server.get_args());
        keeper.arg("-D").arg(directory.join("data"));
        keeper.args(settings.iter().flat_map(|setting| ["-c", &**setting]));
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut keeper = keeper.spawn().unwrap();
        let input = keeper.stdin.take();
        let server = Self {
            port,
            directory,
            keeper: Mutex::new((keeper, input)),
        };
        server.launch().await;
        server
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// Returns the URL for this role.
    pub fn url_as(&self, role: &str) -> String {
        format!(
            "postgres://{role}@{HOST}:{}/postgres?sslmode=disable",
            self.port()
        )
    }

    /// Returns the URL for these servers, in this order, of which the one that accepts writes is
    /// wanted.
    pub fn url_of(servers: [&Self; 2]) -> String {
        let [first, second] = servers.map(Self::port);
        format!(
            "postgres://postgres@{HOST}:{first},{HOST}:{second}/postgres?sslmode=disable&target_session_attrs=read-write"
        )
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let limit = LIMIT.as_secs();
        assert_eq!(self.sql(&format!("SELECT pg_promote(true, {limit})")), "t");
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Runs SQL as a superuser, and returns the rows, one a line.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.psql(sql);
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until this SQL returns `expected`.
    pub async fn until(&self, sql: &str, expected: &str) {
        let end = Instant::now() + LIMIT;
        while self.sql(sql) != expected {
            assert!(
                Instant::now() < end,
                "{sql}: {} instead of {expected}",
                self.sql(sql)
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts a session that runs this SQL, and then waits with its transaction open.
    pub fn session(&self, sql: &str) -> Session {
        let mut client = self.client();
        client.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut client = client.stderr(Stdio::null()).spawn().unwrap();
        let input = client.stdin.as_mut().unwrap();
        writeln!(input, "{sql};").unwrap();
        Session(client)
    }

    fn psql(&self, sql: &str) -> Output {
        self.client().args(["-c", sql]).output().unwrap()
    }

    fn client(&self) -> Command {
        let mut client = Command::new(program("psql"));
        client.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", HOST]);
        client.args(["-U", "postgres", "-d", "postgres", "-p"]);
        client.arg(self.port().to_string());
        client
    }

    /// Suspends all processes: connections stay open, and the server stops responding.
    pub fn freeze(&self) {
        let end = Instant::now() + LIMIT;
        loop {
            self.signal_all("STOP");
            // A process may have been starting.
            let states: Vec<_> = self.processes().into_iter().filter_map(state).collect();
            if states.iter().all(|state| matches!(state, 'T' | 'Z')) {
                return;
            }
            assert!(
                Instant::now() < end,
                "it does not freeze: {states:?} {self:?}"
            );
            thread::sleep(POLL);
        }
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// Stops it cleanly: connections are closed, and transactions undone.
    pub async fn stop(&self) {
        self.end("INT").await;
    }

    /// Stops it as a crash would: what is not in its log is lost.
    pub async fn crash(&self) {
        self.end("QUIT").await;
    }

    async fn end(&self, signal: &str) {
        let server = self.pid().expect("it runs");
        kill(signal, &[server]);
        let end = Instant::now() + LIMIT;
        while self.pid().is_some() {
            assert!(Instant::now() < end, "it does not stop: {self:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts it again after [`stop`](Self::stop) or [`crash`](Self::crash), on the same port and
    /// with the same data.
    pub async fn restart(&self) {
        assert!(self.pid().is_none(), "it still runs: {self:?}");
        self.launch().await;
    }

    async fn launch(&self) {
        let input = self.keeper.lock().unwrap().1.take();
        let mut input = input.expect("it is closed at the end");
        writeln!(input, "start").unwrap();
        self.keeper.lock().unwrap().1 = Some(input);
        let end = Instant::now() + LIMIT;
        while !self.psql("SELECT 1").status.success() {
            assert!(Instant::now() < end, "it does not start: {self:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns the id of the server process, if it runs.
    fn pid(&self) -> Option<u32> {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).ok()?;
        file.lines().next()?.parse().ok()
    }

    /// Returns the server process, and then the process of each connection.
    fn processes(&self) -> Vec<u32> {
        let server = self.pid().expect("it runs");
        let parent = format!("PPid:\t{server}\n");
        let all = fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let children = all.filter(|process| {
            fs::read_to_string(format!("/proc/{process}/status"))
                .is_ok_and(|status| status.contains(&parent))
        });
        std::iter::once(server).chain(children).collect()
    }

    fn signal_all(&self, signal: &str) {
        // The server first, so that it starts no further process.
        kill(signal, &[self.pid().expect("it runs")]);
        kill(signal, &self.processes());
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        fs::read(self.directory.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into())
            .unwrap_or_default()
    }
}

/// A session, whose client is killed when dropped.
pub struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL on port {}\n{}", self.port(), self.log())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.pid().is_some() {
            self.thaw();
        }
        if let Ok(mut keeper) = self.keeper.lock() {
            keeper.1 = None;
            let _ = keeper.0.wait();
        }
    }
}

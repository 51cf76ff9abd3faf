//! A Redis server in its own process and directory.

mod commands;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, RedisResult, TlsCertificates};
use tempfile::TempDir;

use super::{Builder, Certificates};
pub(super) use crate::port::HOST;
use crate::port::Port;

/// The time limit for a server to reach the expected state.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) const POLL: Duration = Duration::from_millis(20);

pub(super) const CONFIG: &str = "redis.conf";
const LOG: &str = "log";

/// User and password of the fixture itself, which works whatever a test does to the other users.
pub(super) const FIXTURE: &str = "fixture";

/// A server that is running, or was killed and can be started again. It is killed and its directory
/// removed when dropped.
pub struct RedisServer {
    port: Port,
    tls: Option<Certificates>,
    sentinel: bool,
    process: Mutex<Option<Child>>,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk and needs no password.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Returns a server that is not started yet.
    pub(super) fn new(
        port: Port,
        tls: Option<Certificates>,
        sentinel: bool,
        directory: TempDir,
    ) -> Self {
        Self {
            port,
            tls,
            sentinel,
            process: Mutex::default(),
            directory,
        }
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://…`; a database can be appended as `/1`.
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// [`url`](Self::url) with credentials, such as `user:password@`.
    pub fn url_with(&self, credentials: &str) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!("{scheme}://{credentials}{HOST}:{}", self.port())
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the process id. Panics if the server does not run.
    pub fn pid(&self) -> u32 {
        self.process()
            .as_ref()
            .unwrap_or_else(|| panic!("no process: {self:?}"))
            .id()
    }

    pub fn runs(&self) -> bool {
        self.process().is_some()
    }

    /// Suspends the process: connections stay open, and it stops responding.
    pub fn freeze(&self) {
        self.signal("STOP");
        // The signal takes effect asynchronously.
        let stat = format!("/proc/{}/stat", self.pid());
        let end = Instant::now() + LIMIT;
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") T ")) {
            assert!(Instant::now() < end, "it does not freeze: {self:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Kills it as a crash would. Its directory stays for [`restart`](Self::restart).
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Adds a line to its configuration, which takes effect when it is started again.
    pub(super) fn configure(&self, line: &str) {
        let path = self.directory.path().join(CONFIG);
        let lines = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{lines}{line}\n")).unwrap();
    }

    /// Shuts it down cleanly, which writes its memory to disk if it keeps files at all.
    pub async fn stop(&self) {
        self.thaw();
        self.signal("TERM");
        let end = Instant::now() + LIMIT;
        while self
            .process()
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
        {
            assert!(Instant::now() < end, "it does not stop: {self:?}");
            tokio::time::sleep(POLL).await;
        }
        *self.process() = None;
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port and in
    /// the same directory.
    pub async fn restart(&self) {
        assert!(!self.runs(), "it still runs: {self:?}");
        let end = Instant::now() + LIMIT;
        loop {
            self.launch();
            if self.answers(end).await {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns what it has logged and written to its standard error.
    pub fn log(&self) -> String {
        fs::read(self.directory.path().join(LOG))
            .map(|log| String::from_utf8_lossy(&log).into())
            .unwrap_or_default()
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let url = self.url_with(&format!("{FIXTURE}:{FIXTURE}@"));
        let client = match &self.tls {
            None => Client::open(url)?,
            Some(Certificates { ca, client, .. }) => {
                let identity = ClientTlsConfig {
                    client_cert: client.certificate.clone().into(),
                    client_key: client.key.clone().into(),
                };
                let root = Some(ca.clone().into());
                Client::build_with_tls(
                    url,
                    TlsCertificates {
                        client_tls: Some(identity),
                        root_cert: root,
                    },
                )?
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LIMIT))
            .set_response_timeout(Some(LIMIT));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    pub(super) fn launch(&self) {
        let directory = self.directory.path();
        let log = File::create(directory.join(LOG)).unwrap();
        let server = program();
        let command = |words: &[&OsStr]| {
            let mut command = Command::new(words[0]);
            command
                .args(&words[1..])
                .arg(CONFIG)
                .args(self.sentinel.then_some("--sentinel"))
                .current_dir(directory);
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log.try_clone().unwrap());
            command
        };
        let words = ["setpriv", "--pdeathsig", "KILL"].map(OsStr::new);
        let child = spawn(command(&[&words[..], &[&server]].concat())).or_else(|error| {
            // Systems other than Linux have no such option: there, servers outlive a test that
            // is killed.
            if error.kind() == io::ErrorKind::NotFound {
                spawn(command(&[&server]))
            } else {
                Err(error)
            }
        });
        *self.process() = Some(child.unwrap_or_else(|error| panic!("{server:?}: {error}")));
    }

    /// Waits until it responds; `false` if it has ended because its port is in use.
    pub(super) async fn answers(&self, end: Instant) -> bool {
        loop {
            let ended = self
                .process()
                .as_mut()
                .is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                *self.process() = None;
                let log = self.log();
                assert!(
                    log.contains("already in use"),
                    "it ended before it answered: {self:?}"
                );
                assert!(Instant::now() < end, "its port stays in use: {self:?}");
                return false;
            }
            if self.try_command(&["PING"]).await.is_ok() {
                return true;
            }
            assert!(Instant::now() < end, "it does not answer: {self:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    fn signal(&self, name: &str) {
        // A builtin of every shell; the command of that name is not installed everywhere.
        let id = self.pid().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name, &id])
            .status()
            .unwrap();
        assert!(status.success(), "SIG{name} could not be sent: {self:?}");
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap()
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on port {}\n--- log\n{}",
            program().display(),
            self.port(),
            self.log()
        )
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the server program: the path or name in the environment variable `REDIS_SERVER`, by
/// default `redis-server`. A path must be absolute, because each server has its own directory.
fn program() -> OsString {
    env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

type Started = io::Result<Child>;

/// Starts processes from a thread that never ends, because `--pdeathsig` refers to the thread that
/// started a process.
fn spawn(command: Command) -> Started {
    static STARTER: OnceLock<mpsc::Sender<(Command, mpsc::Sender<Started>)>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, commands) = mpsc::channel::<(Command, mpsc::Sender<Started>)>();
        thread::spawn(move || {
            for (mut command, answer) in commands {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, started) = mpsc::channel();
    starter.send((command, answer)).unwrap();
    started.recv().unwrap()
}

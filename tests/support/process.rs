//! Examples of this crate, run as processes of their own.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an example may take until it listens.
const START: Duration = Duration::from_secs(30);

const LISTENING: &str = "listening on http://";
const ADMIN: &str = "admin listening on http://";

/// A running example; killed when dropped.
pub(crate) struct Example {
    name: String,
    child: Child,
    seen: Arc<Seen>,
    addr: SocketAddr,
}

impl Example {
    /// Starts `target/…/examples/NAME` and waits until it says that it listens.
    ///
    /// Panics, with all that the example has written, if it ends before that or does not say so in time.
    pub(crate) fn start<A, E, V>(name: &str, args: &[A], envs: &[(E, V)]) -> Self
    where
        A: AsRef<OsStr>,
        E: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let mut command = Self::command(name);
        command.args(args).envs(envs.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let seen = Arc::new(Seen::default());
        let readers = [
            seen.follow(child.stdout.take().unwrap(), |text| &mut text.stdout),
            seen.follow(child.stderr.take().unwrap(), |text| &mut text.stderr),
        ];
        // From here on a panic kills the child.
        let mut example = Self { name: name.into(), child, seen, addr: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let end = Instant::now() + START;
        loop {
            if let Some(addr) = example.find_addr(LISTENING, Some(ADMIN)) {
                example.addr = addr;
                return example;
            }
            if let Some(status) = example.child.try_wait().unwrap() {
                for reader in readers {
                    reader.join().unwrap();
                }
                panic!("the example `{name}` ended with {status} and never listened: {example:?}");
            }
            assert!(Instant::now() < end, "the example `{name}` does not listen: {example:?}");
            example.seen.wait_for_more(Duration::from_millis(20));
        }
    }

    /// Runs the example to its end, for command lines that it refuses.
    pub(crate) fn run<A: AsRef<OsStr>>(name: &str, args: &[A], envs: &[(&str, &str)]) -> Output {
        let mut command = Self::command(name);
        command.args(args).envs(envs.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn command(name: &str) -> Command {
        let path = example_path(name);
        assert!(path.exists(), "{} is not there: run `cargo build --examples` first", path.display());
        Command::new(path)
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR` + `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Where its admin server listens; panics if it has none.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.find_addr(ADMIN, None).unwrap_or_else(|| panic!("no admin server: {self:?}"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.seen.text().stdout.clone()
    }

    /// What it has written to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.seen.text().stderr.clone()
    }

    /// Waits until it has written `words` to one of the two; panics if it does not within ten seconds.
    pub(crate) fn wait_for(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.text().either(|text| text.contains(words)) {
            assert!(Instant::now() < end, "{words:?} was never written: {self:?}");
            self.seen.wait_for_more(Duration::from_millis(20));
        }
    }

    /// [`wait_for`](Self::wait_for) for tests in whose runtime a server of theirs has to go on meanwhile.
    pub(crate) async fn written(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.text().either(|text| text.contains(words)) {
            assert!(Instant::now() < end, "{words:?} was never written: {self:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        // A builtin of every shell; the command of that name is not on every machine.
        let id = self.child.id().to_string();
        let status = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status().unwrap();
        assert!(status.success(), "SIGTERM could not be sent to `{}`", self.name);
    }

    /// Waits for its end; panics if that does not come within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the example does not end: {self:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// [`wait`](Self::wait) for tests in whose runtime a server of theirs has to go on meanwhile.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the example does not end: {self:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn find_addr(&self, words: &str, but_not: Option<&str>) -> Option<SocketAddr> {
        let text = self.seen.text();
        // The last line may not be there in full.
        let lines = [&text.stdout, &text.stderr].map(|text| text.rsplit_once('\n').map_or("", |(whole, _)| whole));
        let mut lines = lines.iter().flat_map(|text| text.lines());
        let line = lines.find(|line| line.contains(words) && !but_not.is_some_and(|other| line.contains(other)))?;
        let (_, addr) = line.split_once(words)?;
        let end = addr.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(addr.len());
        addr[..end].parse().ok()
    }
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.seen.text();
        write!(f, "`{}`\n--- stdout\n{}\n--- stderr\n{}", self.name, text.stdout, text.stderr)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tests lie in `target/PROFILE/deps`, examples in `target/PROFILE/examples`.
fn example_path(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

#[derive(Default)]
struct Seen {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Default)]
struct Text {
    stdout: String,
    stderr: String,
}

impl Text {
    fn either(&self, test: impl Fn(&str) -> bool) -> bool {
        test(&self.stdout) || test(&self.stderr)
    }
}

impl Seen {
    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap()
    }

    fn wait_for_more(&self, limit: Duration) {
        drop(self.more.wait_timeout(self.text(), limit).unwrap());
    }

    /// Reads `pipe` to its end in a thread, so that the example never waits for a reader.
    fn follow(
        self: &Arc<Self>,
        pipe: impl Read + Send + 'static,
        part: fn(&mut Text) -> &mut String,
    ) -> JoinHandle<()> {
        let seen = Arc::clone(self);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                part(&mut seen.text()).push_str(&String::from_utf8_lossy(&line));
                seen.more.notify_all();
                line.clear();
            }
        })
    }
}

//! Programs under test, run as child processes.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// The time limit for the start of a program.
const START: Duration = Duration::from_secs(60);

/// The time limit for a line of a process.
const WRITTEN: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

const LISTENING: &str = "listening on http://";
const ADMIN: &str = "admin listening on http://";

/// A running program, which is killed when dropped.
pub struct Example {
    name: String,
    child: Child,
    stdout: Transcript,
    stderr: Transcript,
    addr: SocketAddr,
}

impl Example {
    /// Starts `program` and waits until it reports that it listens.
    ///
    /// Panics with all output of the program if it ends before that, or does not listen in time.
    pub fn start<A, E, V>(program: impl AsRef<Path>, args: &[A], envs: &[(E, V)]) -> Self
    where
        A: AsRef<OsStr>,
        E: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let program = program.as_ref();
        let mut command = Self::command(program);
        command
            .args(args)
            .envs(envs.iter().map(|(name, value)| (name, value)));
        Self::spawn(program, command)
    }

    /// Starts `program` with this descriptor limit.
    pub fn start_within(descriptors: u32, program: impl AsRef<Path>, args: &[&str]) -> Self {
        Self::start_between([descriptors; 2], program, args)
    }

    /// Starts `program` with this soft and this hard descriptor limit.
    pub fn start_between(limits: [u32; 2], program: impl AsRef<Path>, args: &[&str]) -> Self {
        let program = program.as_ref();
        let [soft, hard] = limits;
        let limit = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limit, "sh"]);
        command.arg(program).args(args);
        Self::spawn(program, command)
    }

    fn spawn(program: &Path, mut command: Command) -> Self {
        let name = program.file_stem().unwrap().to_string_lossy();
        let (stdout, stderr) = (Transcript::new(), Transcript::new());
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.writer())
            .stderr(stderr.writer())
            .spawn()
            .unwrap();
        // From here on, a panic kills the child.
        let addr = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut example = Self {
            name: name.clone().into_owned(),
            child,
            stdout,
            stderr,
            addr,
        };
        let end = Instant::now() + START;
        loop {
            // The status is read first: when the process has ended, its transcripts are complete.
            let status = example.child.try_wait().unwrap();
            if let Some(addr) = example.find_addr(LISTENING, Some(ADMIN)) {
                example.addr = addr;
                return example;
            }
            if let Some(status) = status {
                panic!("`{name}` ended with {status} and never listened: {example:?}");
            }
            assert!(
                Instant::now() < end,
                "`{name}` does not listen: {example:?}"
            );
            thread::sleep(POLL);
        }
    }

    /// Runs `program` to its end, for command lines that it rejects.
    pub fn run<A: AsRef<OsStr>>(
        program: impl AsRef<Path>,
        args: &[A],
        envs: &[(&str, &str)],
    ) -> Output {
        let mut command = Self::command(program.as_ref());
        command
            .args(args)
            .envs(envs.iter().copied())
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn command(path: &Path) -> Command {
        assert!(
            path.exists(),
            "{} does not exist: run `cargo build --examples` first",
            path.display()
        );
        Command::new(path)
    }

    /// Returns the address on which it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR` + `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns the address of its admin server. Panics if it has none.
    pub fn admin_addr(&self) -> SocketAddr {
        self.find_addr(ADMIN, None)
            .unwrap_or_else(|| panic!("no admin server: {self:?}"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything that the process has written to its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.read()
    }

    /// Returns everything that the process has written to its standard error so far, including
    /// every line that it wrote before its last response.
    pub fn stderr(&self) -> String {
        self.stderr.read()
    }

    fn has_written(&self, words: &str) -> bool {
        self.stdout().contains(words) || self.stderr().contains(words)
    }

    /// Waits until the process has written `words` to either stream. Panics if that takes longer
    /// than a minute.
    pub fn wait_for(&self, words: &str) {
        let end = Instant::now() + WRITTEN;
        while !self.has_written(words) {
            assert!(
                Instant::now() < end,
                "{words:?} was never written: {self:?}"
            );
            thread::sleep(POLL);
        }
    }

    /// Does the same as [`wait_for`](Self::wait_for), for tests whose runtime must keep running
    /// their own server.
    pub async fn written(&self, words: &str) {
        let end = Instant::now() + WRITTEN;
        while !self.has_written(words) {
            assert!(
                Instant::now() < end,
                "{words:?} was never written: {self:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends SIGTERM to it.
    pub fn terminate(&self) {
        // A builtin of every shell; the command of that name is not installed everywhere.
        let id = self.child.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &id])
            .status()
            .unwrap();
        assert!(
            status.success(),
            "SIGTERM could not be sent to `{}`",
            self.name
        );
    }

    /// Waits until it has ended. Panics if that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end: {self:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does the same as [`wait`](Self::wait), for tests whose runtime must keep running their own
    /// server.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end: {self:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn find_addr(&self, words: &str, but_not: Option<&str>) -> Option<SocketAddr> {
        let text = [self.stdout(), self.stderr()];
        // The last line may be incomplete.
        let lines = text
            .each_ref()
            .map(|text| text.rsplit_once('\n').map_or("", |(whole, _)| whole));
        let mut lines = lines.iter().flat_map(|text| text.lines());
        let line = lines.find(|line| {
            line.contains(words) && !but_not.is_some_and(|other| line.contains(other))
        })?;
        let (_, addr) = line.split_once(words)?;
        let end = addr
            .find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)))
            .unwrap_or(addr.len());
        addr[..end].parse().ok()
    }
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}`\n--- stdout\n{}\n--- stderr\n{}",
            self.name,
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of an example of the package under test. Tests are in `target/PROFILE/deps`,
/// examples in `target/PROFILE/examples`.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("examples")
        .join(name)
        .with_extension(std::env::consts::EXE_EXTENSION)
}

/// A file that a process writes to. Unlike a pipe, which a thread must read, it contains a line as
/// soon as the process has written it.
struct Transcript(NamedTempFile);

impl Transcript {
    fn new() -> Self {
        Self(NamedTempFile::new().unwrap())
    }

    fn writer(&self) -> Stdio {
        self.0.reopen().unwrap().into()
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.0.path()).unwrap()).into_owned()
    }
}

/// Asserts that each of the `count` flags in the help of `program` has an environment variable with
/// this prefix and is in its README, which describes flags that begin with `--demo-` together.
/// Returns the help.
pub fn assert_flags(program: &str, prefix: &str, readme: &str, count: usize) -> String {
    let output = Example::run::<&str>(program, &["--help"], &[]);
    let help = String::from_utf8(output.stdout).unwrap();
    let flags: Vec<_> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(flags.len(), count, "{flags:?}");
    for flag in flags {
        let name = flag.to_uppercase().replace('-', "_");
        let name = name.strip_prefix(prefix).unwrap_or(&name);
        let variable = format!("[env: {prefix}{name}");
        assert!(
            help.contains(&format!("{variable}=")) || help.contains(&format!("{variable}]")),
            "--{flag} has no {variable}]"
        );
        assert!(
            flag.starts_with("demo-") || readme.contains(&format!("`--{flag}`")),
            "--{flag} is not in the README"
        );
    }
    help
}

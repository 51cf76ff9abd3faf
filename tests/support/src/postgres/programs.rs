//! The programs of PostgreSQL, and the user that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// PostgreSQL does not run as root.
const USER: [&str; 3] = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"];

/// Creates a directory for the user of the server. Returns it, and the directory for the data in
/// it, which does not exist yet.
pub(super) fn directories() -> (PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap().keep();
    own(&directory);
    let data = directory.join("data");
    (directory, data)
}

/// Gives a file to the user of the server.
pub(super) fn own(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("nobody:nogroup").arg(path));
    }
}

/// Creates the files of a server with one database, `postgres`, which is empty.
pub(super) fn initialize(data: &Path) {
    run(unprivileged("initdb").arg(data).args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]));
}

pub(super) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

/// Returns the path of a program of PostgreSQL: the newest version of Debian's package, or the one
/// in the path.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = versions
        .flatten()
        .map(|version| version.path().join("bin").join(name));
    let newest = versions
        .filter(|path| path.exists())
        .max_by_key(|path| version(path));
    newest.unwrap_or_else(|| name.into())
}

fn version(program: &Path) -> Option<u32> {
    let version = program.parent()?.parent()?.file_name()?;
    version.to_str()?.parse().ok()
}

pub(super) fn unprivileged(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(USER).arg(program(name));
    command
}

pub(super) fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Sends a signal. A process may have ended.
pub(super) fn kill(signal: &str, processes: &[u32]) {
    let ids: Vec<_> = processes.iter().map(ToString::to_string).collect();
    // A builtin of every shell; the command of that name is not installed everywhere.
    let script = "signal=$1; shift; for id; do kill -s \"$signal\" \"$id\" 2>/dev/null; done; true";
    run(Command::new("sh")
        .args(["-c", script, "sh", signal])
        .args(&ids));
}

pub(super) fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

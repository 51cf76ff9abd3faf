//! The directory in which a server keeps its state if no store is configured.

use std::ffi::OsString;
#[cfg(feature = "redb")]
use std::fs::{self, DirBuilder};
#[cfg(feature = "redb")]
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a server. Only the user of this process can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// Finds the directory of `program`: the first of
    ///
    /// 1. `$STATE_DIRECTORY`, which systemd sets for a unit with `StateDirectory=`
    /// 2. `$XDG_STATE_HOME/PROGRAM`
    /// 3. `/var/lib/PROGRAM`, if this process can write it or create it
    /// 4. `$HOME/.local/state/PROGRAM`
    ///
    /// Relative paths are ignored, as the XDG specification demands.
    ///
    /// # Errors
    ///
    /// If none of these directories can be used.
    pub fn find(program: &str) -> Result<Self, String> {
        Self::among(
            program,
            |name| std::env::var_os(name),
            Path::new("/var/lib"),
        )
    }

    fn among(
        program: &str,
        variable: impl Fn(&str) -> Option<OsString>,
        system: &Path,
    ) -> Result<Self, String> {
        let absolute = |name| {
            let path = variable(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        // systemd separates several directories with colons.
        let unit = variable("STATE_DIRECTORY")
            .and_then(|paths| std::env::split_paths(&paths).next())
            .filter(|path| path.is_absolute());
        let of_system = || {
            let path = system.join(program);
            can_write(&path).then_some(path)
        };
        unit.or_else(|| Some(absolute("XDG_STATE_HOME")?.join(program)))
            .or_else(of_system)
            .or_else(|| Some(absolute("HOME")?.join(".local/state").join(program)))
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "no directory for sessions: set `redb:PATH`, `memory` or Redis, or make {} writable",
                    system.join(program).display()
                )
            })
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Creates the directory, unless it exists.
    #[cfg(feature = "redb")]
    pub(super) fn create(&self) -> io::Result<()> {
        if let Ok(found) = fs::metadata(&self.0)
            && found.is_dir()
        {
            self.warn(&found);
            return Ok(());
        }
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0)
    }
}

impl StateDirectory {
    /// Warns if other users can open the directory, which this process did not create.
    #[cfg(all(feature = "redb", unix))]
    fn warn(&self, found: &fs::Metadata) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                directory = %self.0.display(),
                mode = format!("{mode:o}"),
                "other users can open the state directory: set its mode to 0700, in a systemd unit with StateDirectoryMode=0700"
            );
        }
    }

    #[cfg(all(feature = "redb", not(unix)))]
    #[expect(clippy::unused_self, reason = "there is no mode")]
    const fn warn(&self, _: &fs::Metadata) {}
}

/// Returns whether this process can write into the directory, or can create it.
fn can_write(path: &Path) -> bool {
    let directory = if path.exists() {
        Some(path)
    } else {
        path.parent()
    };
    directory.is_some_and(is_writable)
}

#[cfg(unix)]
fn is_writable(directory: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(directory: &Path) -> bool {
    directory.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], system: &Path) -> Option<PathBuf> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(other, _)| *other == name)?;
            Some(OsString::from(value))
        };
        let directory = StateDirectory::among("server", variable, system).ok()?;
        Some(directory.as_path().to_owned())
    }

    #[test]
    fn the_most_specific_directory_wins() {
        let system = tempfile::tempdir().unwrap();
        let here = system.path();
        let missing = here.join("missing");
        let unit = ("STATE_DIRECTORY", "/run/unit:/run/other");
        let xdg = ("XDG_STATE_HOME", "/xdg");
        let home = ("HOME", "/home/user");
        let in_home = Path::new("/home/user/.local/state/server");
        for (variables, system, expected) in [
            (&[unit, xdg, home][..], here, Path::new("/run/unit")),
            (&[xdg, home], here, Path::new("/xdg/server")),
            (&[home], here, &here.join("server")),
            (&[home], &missing, in_home),
            (&[("XDG_STATE_HOME", "relative"), home], &missing, in_home),
        ] {
            let found = found(variables, system);
            assert_eq!(found.as_deref(), Some(expected), "{variables:?}");
        }
        assert_eq!(found(&[], &missing), None);
    }
}

//! The configuration file: values of flags that neither the command line nor the environment sets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// The flags that a file cannot set.
const NOT_IN_FILES: [&str; 2] = ["config", "check-config"];

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// The flags for the configuration.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFlags {
    /// Configuration file in TOML: the keys are the names of flags, such as `public-url` or
    /// `public_url`, and flags that may be repeated take arrays [default: none]
    ///
    /// The command line and the environment take precedence. A file with secrets should not be
    /// readable by other users.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration and exit: with status 0 if it is valid, otherwise with status 2 and
    /// every problem
    ///
    /// The check neither listens nor opens the store, and it does not contact the provider.
    #[arg(long)]
    pub check_config: bool,
}

/// A value of the file, as arguments of the command line.
struct Setting {
    /// The name of the flag, without `--`.
    flag: String,
    arguments: Vec<OsString>,
}

/// The settings of a file.
#[derive(Default)]
pub(super) struct ConfigFile {
    path: PathBuf,
    settings: Vec<Setting>,
    pub(super) problems: Vec<String>,
    /// The file has secrets, and other users can read it.
    pub(super) is_exposed: bool,
}

impl ConfigFile {
    /// Reads the file that `--config` names on this command line or in the environment. Without
    /// one, there are no settings.
    pub(super) fn read(command: &Command, arguments: &[OsString]) -> Self {
        // Errors of the command line are reported later.
        let matches = command.clone().ignore_errors(true);
        let Ok(matches) = matches.try_get_matches_from(arguments) else {
            return Self::default();
        };
        let Some(path) = matches.get_one::<PathBuf>("config") else {
            return Self::default();
        };
        let mut file = Self {
            path: path.clone(),
            ..Self::default()
        };
        match read_toml(path) {
            Ok((table, others_can_read)) => file.set(command, &matches, table, others_can_read),
            Err(why) => file.problem(&why),
        }
        file
    }

    fn set(
        &mut self,
        command: &Command,
        matches: &ArgMatches,
        table: Table,
        others_can_read: bool,
    ) {
        for (key, value) in table {
            let flag = key.replace('_', "-");
            let arg = command.get_arguments().find(|arg| {
                arg.get_long() == Some(&flag)
                    && !arg.is_hide_set()
                    && !NOT_IN_FILES.contains(&&*flag)
            });
            let Some(arg) = arg else {
                self.problem(&format!("`{key}` is not the name of a flag"));
                continue;
            };
            self.is_exposed |= others_can_read && arg.is_hide_env_values_set();
            match arguments(arg, &value) {
                Ok(_) if is_set(arg, matches) => {}
                Ok(arguments) => self.settings.push(Setting { flag, arguments }),
                Err(why) => self.problem(&format!("`{key}`: {why}")),
            }
        }
    }

    /// Returns the settings as arguments for the end of the command line.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &OsString> {
        self.settings.iter().flat_map(|setting| &setting.arguments)
    }

    /// If an error is about a setting of the file, removes the setting and adds the problem.
    /// Returns whether it did.
    pub(super) fn take(&mut self, error: &clap::Error) -> bool {
        let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else {
            return false;
        };
        let is_meant = |setting: &Setting| {
            let rest = arg
                .strip_prefix("--")
                .and_then(|arg| arg.strip_prefix(&*setting.flag));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=']))
        };
        let Some(at) = self.settings.iter().position(is_meant) else {
            return false;
        };
        self.settings.remove(at);
        self.problem(message(&error.to_string()));
        true
    }

    fn problem(&mut self, text: &str) {
        let path = self.path.display();
        self.problems.push(format!("--config {path}: {text}"));
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a TOML file of at most a megabyte. Returns its table, and whether other users can read it.
/// The error does not contain its text.
pub fn read_toml(path: &Path) -> Result<(Table, bool), String> {
    let (text, others_can_read) = text(path).map_err(|error| error.to_string())?;
    let table = text.parse().map_err(|error: toml::de::Error| {
        // The full message would repeat the line, which may have a secret.
        let line = error.span().map_or(0, |span| line(&text, span.start));
        format!("line {line}: {}", error.message())
    })?;
    Ok((table, others_can_read))
}

/// Returns the text of the file, and whether other users can read it.
fn text(path: &Path) -> io::Result<(String, bool)> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > MAX_SIZE {
        return Err(io::Error::other("the file is larger than a megabyte"));
    }
    #[cfg(unix)]
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    #[cfg(not(unix))]
    let mode = 0;
    Ok((fs::read_to_string(path)?, mode & 0o004 != 0))
}

/// Returns the number of the line with this byte.
fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Returns whether the command line or the environment sets the flag.
fn is_set(arg: &Arg, matches: &ArgMatches) -> bool {
    let by_environment = arg
        .get_env()
        .is_some_and(|name| env::var_os(name).is_some());
    by_environment || matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Returns the arguments that set the flag to this value.
fn arguments(arg: &Arg, value: &Value) -> Result<Vec<OsString>, &'static str> {
    let long = arg.get_long().unwrap_or_default();
    let one = |value: &Value| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            _ => return Err("it must be a text, a number or a truth value"),
        };
        Ok(format!("--{long}={value}").into())
    };
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(true)) => Ok(vec![format!("--{long}").into()]),
        (ArgAction::SetTrue, Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err("it must be true or false"),
        (ArgAction::Append, Value::Array(values)) => values.iter().map(one).collect(),
        (_, value) => Ok(vec![one(value)?]),
    }
}

/// Returns the message of an error of clap, without the hint at its end.
pub(super) fn message(error: &str) -> &str {
    let error = error.strip_prefix("error: ").unwrap_or(error);
    error.split("\n\n").next().unwrap_or(error).trim_end()
}

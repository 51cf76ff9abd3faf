//! The flags by which the guarded MCP server learns who the user is.

use std::path::PathBuf;

use crate::signing::SigningKey;

/// The flags by which the guarded MCP server learns who the user is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "MCP endpoint")]
pub(crate) struct IdentityFlags {
    /// Send the identity of the user to --mcp-upstream: X-Forwarded-User is the id,
    /// X-Forwarded-Email a verified address, and X-Forwarded-Groups the groups, separated by commas
    ///
    /// If a client sends such headers, they are removed, with and without this flag.
    #[arg(long)]
    pub(crate) identity_headers: bool,

    /// Send the identity of the user to --mcp-upstream in the header X-Identity-Token: a JWT that
    /// is valid for a minute, signed with --identity-key, whose public key is at
    /// /.well-known/jwks.json
    #[arg(long)]
    identity_jwt: bool,

    /// File with the private key for --identity-jwt, in PEM, for the curve P-256; the same on all
    /// servers; may be repeated: the first key signs, and all are published
    ///
    /// To replace a key, add the new one, wait until the MCP server has fetched both, make the new
    /// one the first, and remove the old one a minute later.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    identity_key: Vec<PathBuf>,
}

impl IdentityFlags {
    /// Checks the rules that concern more than one flag. `has_upstream` says whether there is an
    /// `--mcp-upstream`.
    pub(crate) fn check(&self, has_upstream: bool) -> Result<(), String> {
        match (self.identity_jwt, self.identity_key.is_empty()) {
            (true, true) => return Err("--identity-jwt needs --identity-key".into()),
            (false, false) => return Err("--identity-key needs --identity-jwt".into()),
            _ => {}
        }
        match self.first_set() {
            Some(flag) if !has_upstream => Err(format!("{flag} needs --mcp-upstream")),
            _ => Ok(()),
        }
    }

    /// Returns the first flag that is set.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        let flags = [
            ("--identity-headers", self.identity_headers),
            ("--identity-jwt", self.identity_jwt),
        ];
        let mut set = flags.into_iter().filter(|(_, is_set)| *is_set);
        set.next().map(|(flag, _)| flag)
    }

    /// Returns whether this server forwards the identity of users to the MCP server.
    pub(crate) fn forwards_users(&self) -> bool {
        self.first_set().is_some()
    }

    /// Reads the keys of `--identity-jwt`. The first one signs.
    pub(crate) fn keys(&self) -> Result<Vec<SigningKey>, String> {
        let read = |path: &PathBuf| {
            let key = SigningKey::read("--identity-key", path, None)?;
            if key.is_es256() {
                Ok(key)
            } else {
                let path = path.display();
                Err(format!(
                    "--identity-key {path}: not a key for the curve P-256"
                ))
            }
        };
        self.identity_key.iter().map(read).collect()
    }
}

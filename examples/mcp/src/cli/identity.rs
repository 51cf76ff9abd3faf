//! The flags by which the guarded MCP server learns who the user is.

use std::path::PathBuf;

use crate::signing::SigningKey;

/// The flags by which the guarded MCP server learns who the user is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "MCP endpoint")]
pub(crate) struct IdentityFlags {
    /// Tell --mcp-upstream who the user is: X-Forwarded-User is the id, X-Forwarded-Email a verified
    /// address, and X-Forwarded-Groups the groups, separated by commas
    ///
    /// Such headers of requests are removed, with and without this flag.
    #[arg(long)]
    pub(crate) identity_headers: bool,

    /// Tell --mcp-upstream who the user is, in the header X-Identity-Token: a JWT that lives for a
    /// minute, signed with --identity-key, whose public key is at /.well-known/jwks.json
    #[arg(long)]
    identity_jwt: bool,

    /// File with the private key for --identity-jwt, in PEM, for the curve P-256; the same on all
    /// servers
    #[arg(long, value_name = "FILE")]
    identity_key: Option<PathBuf>,
}

impl IdentityFlags {
    /// Checks the rules that concern more than one flag. `has_upstream` says whether there is an
    /// `--mcp-upstream`.
    pub(crate) fn check(&self, has_upstream: bool) -> Result<(), String> {
        match (self.identity_jwt, &self.identity_key) {
            (true, None) => return Err("--identity-jwt needs --identity-key".into()),
            (false, Some(_)) => return Err("--identity-key needs --identity-jwt".into()),
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

    /// Returns whether the MCP server learns who users are.
    pub(crate) fn tells_users(&self) -> bool {
        self.first_set().is_some()
    }

    /// Reads the key of `--identity-jwt`.
    pub(crate) fn key(&self) -> Result<Option<SigningKey>, String> {
        let Some(path) = &self.identity_key else {
            return Ok(None);
        };
        let key = SigningKey::read("--identity-key", path, None)?;
        if !key.is_es256() {
            let path = path.display();
            return Err(format!(
                "--identity-key {path}: not a key for the curve P-256"
            ));
        }
        Ok(Some(key))
    }
}

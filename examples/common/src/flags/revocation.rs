use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The flags for the upstream tokens of sessions that the server itself ends.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub struct RevocationFlags {
    /// Revoke the upstream's refresh token when this server ends a session by itself: at the admin
    /// server, for another server, or because an old token was reused; needs --revocation-key-file
    ///
    /// The revocation is sent in the background. Without this flag, the upstream keeps a session
    /// that no client can reach. Some upstreams revoke more than one token: Google ends all
    /// sessions of the user at this client.
    #[arg(long)]
    upstream_revocation: bool,

    /// File with the key for --upstream-revocation, the same on all servers: 32 random bytes as 64
    /// hexadecimal digits or in base64, such as the output of `openssl rand -hex 32`
    ///
    /// The risk: this key and a copy of the store open the newest upstream refresh token of every
    /// session. Keep the key out of the store and its backups. After a change of the key, a session
    /// cannot be revoked at the upstream until its next refresh.
    #[arg(long, value_name = "FILE")]
    revocation_key_file: Option<PathBuf>,
}

impl RevocationFlags {
    /// Checks the rules that concern more than one flag.
    pub fn check(&self) -> Result<(), String> {
        match (self.upstream_revocation, &self.revocation_key_file) {
            (true, None) => Err("--upstream-revocation needs --revocation-key-file".into()),
            (false, Some(_)) => Err("--revocation-key-file needs --upstream-revocation".into()),
            _ => Ok(()),
        }
    }

    /// Returns whether the server revokes upstream tokens.
    pub const fn is_set(&self) -> bool {
        self.upstream_revocation
    }

    /// Reads the key. Returns `None` without `--upstream-revocation`.
    pub fn key(&self) -> Result<Option<[u8; 32]>, String> {
        self.check()?;
        let path = self.revocation_key_file.as_deref();
        path.map(read).transpose()
    }
}

/// Reads a key from a file. The error does not contain its text.
fn read(path: &Path) -> Result<[u8; 32], String> {
    let failed = |why: &str| format!("--revocation-key-file {}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failed(&error.to_string()))?;
    parse_key(text.trim()).ok_or_else(|| {
        failed("not 32 bytes as 64 hexadecimal digits or in base64, such as the output of `openssl rand -hex 32`")
    })
}

/// Parses 32 bytes in hexadecimal digits or base64.
pub fn parse_key(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return STANDARD.decode(text).ok()?.try_into().ok();
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let [high, low] = digits else { return None };
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hexadecimal_or_base64() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        assert_eq!(parse_key(hex), Some(key));
        assert_eq!(parse_key(&STANDARD.encode(key)), Some(key));
        for text in ["", &hex[1..], &format!("+{}", &hex[1..]), "AAAA", "ä"] {
            assert_eq!(parse_key(text), None, "{text}");
        }
        assert_eq!(parse_key(&"é".repeat(32)), None);
    }
}

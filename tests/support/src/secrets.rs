//! Searches for secrets in places where they must not be, in every encoding that careless code
//! could produce.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use tower_oauth_refresh::store::{Change, Key};
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::Call;
use super::tokens::PAYLOAD;

/// The encodings of secrets, each with a description.
#[derive(Clone, Debug, Default)]
pub struct Needles(Vec<(String, String)>);

impl Needles {
    /// Adds a secret that is text: a token of the inner service, or a client secret.
    pub fn text(&mut self, secret: &str) {
        let escaped: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for (spelling, needle) in [("as it is", secret.to_owned()), ("in a form", escaped)] {
            self.0.push((format!("{secret} {spelling}"), needle));
        }
        self.bytes(secret, secret.as_bytes());
    }

    /// Adds a token of the layer, of either kind: the whole token, its id and its secret.
    pub fn token(&mut self, token: &str) {
        let encoded = token
            .strip_prefix("rt_")
            .or_else(|| token.strip_prefix("at_"));
        let Some(encoded) = encoded else {
            return self.text(token);
        };
        let bytes = URL_SAFE_NO_PAD.decode(encoded).unwrap();
        for (part, text) in [
            ("begin", &encoded[..16]),
            ("middle", &encoded[24..44]),
            ("end", &encoded[44..64]),
        ] {
            self.0
                .push((format!("the {part} of {token}"), text.to_owned()));
        }
        self.bytes(&format!("the id of {token}"), &bytes[..12]);
        self.bytes(&format!("the secret of {token}"), &bytes[16..PAYLOAD]);
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let list = format!("{bytes:?}");
        let literal = format!("{:?}", Bytes::copy_from_slice(bytes));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // If it is encoded together with bytes before or after it, its first and last characters
        // differ.
        for shift in 0..bytes.len().min(3) {
            let whole = &bytes[shift..];
            let whole = &whole[..whole.len() / 3 * 3];
            if !whole.is_empty() {
                self.0.push((
                    format!("{name} in base64 within more ({shift})"),
                    STANDARD_NO_PAD.encode(whole),
                ));
                self.0.push((
                    format!("{name} in base64url ({shift})"),
                    URL_SAFE_NO_PAD.encode(whole),
                ));
            }
        }
        for (spelling, needle) in [
            ("as bytes", latin(bytes)),
            ("as a list", list[1..list.len() - 1].to_owned()),
            ("as a literal", literal[2..literal.len() - 1].to_owned()),
            ("in HEX", hex.to_uppercase()),
            ("in hex", hex),
            ("in base64", STANDARD.encode(bytes)),
        ] {
            self.0.push((format!("{name} {spelling}"), needle));
        }
    }

    /// Returns the description of the first secret in `text`.
    pub fn find(&self, text: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(_, needle)| text.contains(needle.as_str()))
            .map(|(name, _)| name.as_str())
    }

    pub fn find_in_bytes(&self, bytes: &[u8]) -> Option<&str> {
        self.find(&latin(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }
}

/// Returns a character for each byte, so that bytes can be searched as text.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A subscriber that lives as long as the process.
///
/// While there is only one, `tracing` asks the subscriber of the thread that first reaches a
/// callsite whether the callsite is of interest, and remembers the answer for all threads. A test
/// that runs in parallel and has no subscriber would disable the callsite for a [`Log`]. With two,
/// `tracing` asks all of them.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// Captured log output.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures everything that this thread logs from now on, at all levels.
    pub fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        LazyLock::force(&SECOND);
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Collects all warnings and errors of the process from now on. Call it once in a process.
    pub fn of_all_threads() -> Self {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Returns everything that a call writes to the store, including its key.
pub fn written(key: &Key, call: &Call) -> Vec<u8> {
    let Call::Swap {
        change, sidecars, ..
    } = call
    else {
        return Vec::new();
    };
    let mut bytes = key.as_bytes().to_vec();
    if let Change::Put { entry, .. } = change {
        bytes.extend_from_slice(entry.version.as_bytes());
        bytes.extend_from_slice(entry.tag.as_bytes());
        bytes.extend_from_slice(&entry.value);
    }
    for sidecar in sidecars {
        bytes.extend_from_slice(sidecar.name.as_bytes());
        bytes.extend_from_slice(&sidecar.value);
    }
    bytes
}

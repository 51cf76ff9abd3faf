use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::{ClientProof, Detail, EventKind, EventSubject, Reuse, emit, printable};
use crate::wire::client::ClientId;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

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

/// Returns the log line of an event with this client and this cause, as text or as JSON.
fn logged(json: bool, client_id: &str, cause: &str) -> String {
    let client_id = ClientId::try_from(client_id).unwrap();
    let cause: Box<dyn std::error::Error> = cause.into();
    let subject = EventSubject::client(Some(&client_id));
    let detail = Detail {
        cause: Some(&*cause),
        ..Detail::default()
    };
    line(json, || {
        let kind = EventKind::StoreUnavailable;
        emit(None, "refresh token", kind, subject, Duration::ZERO, detail);
    })
}

/// Returns the log line that `emit` writes, as text or as JSON.
fn line(json: bool, emit: impl FnOnce()) -> String {
    let log = Log::default();
    let builder = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone());
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = if json {
        Box::new(builder.json().flatten_event(true).finish())
    } else {
        Box::new(builder.finish())
    };
    tracing::subscriber::with_default(subscriber, emit);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Returns the names and the quoted values of the fields in a line of the text format.
fn fields(line: &str) -> Vec<(String, String)> {
    let (mut fields, mut rest) = (Vec::new(), line.trim_end());
    while let Some((before, after)) = rest.split_once('=') {
        let name = before.rsplit(' ').next().unwrap().to_owned();
        let end = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let quote = quoted.find(|char| {
                    let ends = char == '"' && !escaped;
                    escaped = char == '\\' && !escaped;
                    ends
                });
                quote.expect("a quoted value has a closing quote") + 2
            }
            None => after.find(' ').unwrap_or(after.len()),
        };
        fields.push((name, after[..end].to_owned()));
        rest = &after[end..];
    }
    fields
}

const FORGERIES: [&str; 12] = [
    "app event=revoked client_id=admin",
    "app\" event=\"revoked",
    "app\\\" event=\"revoked",
    "app', event='revoked",
    "app\u{2028}WARN forged event=x",
    "app\u{2029}WARN forged",
    "app\u{202e}drawkcab",
    "app\u{2066}isolated\u{2069}",
    "app\u{200b}\u{200d}\u{2060}\u{feff}",
    "app\u{ad}\u{61c}\u{180e}",
    "{\"event\":\"revoked\"}",
    "\u{e4}\u{4e2d}\u{1f600}",
];

#[test]
fn a_client_id_or_a_cause_cannot_forge_a_log_line_or_a_field() {
    for forgery in FORGERIES {
        // A cause may be any text, for example from another server.
        let cause = format!("{forgery}\r\n\u{85}\u{1b}[2K\u{7f}WARN forged\0");
        let text = logged(false, forgery, &cause);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let names: Vec<_> = fields(&text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["event", "client_id", "cause"], "{text}");

        let json = logged(true, forgery, &cause);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let parsed: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["event"], "store_unavailable", "{json}");
        assert_eq!(parsed["client_id"], &*printable(forgery.into()), "{json}");
        for line in [text, json] {
            let printed = line.trim_end_matches('\n');
            assert!(
                printed
                    .chars()
                    .all(|char| char.is_ascii() || char.escape_debug().len() == 1),
                "{line:?}"
            );
            assert!(
                !printed.contains(|char: char| char.is_control()),
                "{line:?}"
            );
        }
    }
}

#[test]
fn a_reuse_is_logged_in_fields_of_its_own() {
    let reuse = Reuse {
        generations_behind: 3,
        rotated_away_for: Duration::from_millis(7_200_900),
        client_proof: ClientProof::Disproved,
    };
    let subject = EventSubject::client(None);
    let detail = Detail {
        reuse: Some(reuse),
        ..Detail::default()
    };
    let line = line(false, || {
        let kind = EventKind::ReuseUnproven;
        emit(None, "refresh token", kind, subject, Duration::ZERO, detail);
    });
    assert_eq!(
        line.trim_start(),
        "WARN tower_oauth_refresh::event: refresh token event=\"reuse_unproven\" \
         generations_behind=3 rotated_away_secs=7200 client_proof=\"disproved\"\n"
    );
}

#[test]
fn printable_text_is_logged_unchanged() {
    for text in [
        "app",
        "https://app.example/client.json",
        "a b",
        "\u{e4}\u{4e2d}\u{1f600}",
        "\"quoted\" \\",
    ] {
        assert_eq!(printable(text.into()), text);
    }
    assert_eq!(printable("a\u{202e}b\n".into()), r"a\u{202e}b\n");
    assert!(logged(false, "app", "x").contains(r#"client_id="app" cause="x""#));
}

#[test]
fn debug_of_a_client_id_escapes_unprintable_characters() {
    for char in [
        '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{200b}',
        '\u{200f}', '\u{feff}',
    ] {
        let id = ClientId::try_from(format!("a{char}")).unwrap();
        assert_eq!(
            format!("{id:?}"),
            format!("\"a\\u{{{:x}}}\"", u32::from(char))
        );
    }
}

//! The byte streams below the connections, with a limit on the memory that a server can make the
//! client use.
//!
//! The parser of the client library buffers a reply until it is complete. A server that declares a
//! string of 2 GB, or deeply nested arrays, could exhaust the memory. So the declared lengths of a
//! reply are checked as they arrive.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::select_ok;
use redis::aio::AsyncStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::target::Address;
use super::tls::Tls;

/// The most bytes that one reply may have. The layer stores no body larger than 16 MiB, and little
/// else with it.
pub(super) const MAX_REPLY: usize = 32 << 20;

/// The most values that one reply may have, including those of nested arrays.
const MAX_VALUES: usize = 4096;

/// The types of values that begin with a length.
const WITH_LENGTH: &[u8] = b"$!=*~>%|";

/// The most bytes of a line with a length: the type, the digits and their sign, and a `\r`.
const MAX_LENGTH_LINE: usize = 22;

pub(super) type Stream = Pin<Box<dyn AsyncStream + Send + Sync>>;

/// A stream that fails when a reply exceeds the limits.
pub(super) struct Bounded {
    stream: Stream,
    scanner: Scanner,
}

impl Bounded {
    /// Opens a stream, over TLS if `tls` is given.
    pub(super) async fn open(address: &Address, tls: Option<&Tls>) -> io::Result<Self> {
        let stream: Stream = match address {
            Address::Socket(path) => Box::pin(UnixStream::connect(path).await?),
            Address::Tcp { host, port } => {
                let stream = connect(host, *port).await?;
                stream.set_nodelay(true)?;
                match tls {
                    Some(tls) => tls.handshake(host, stream).await?,
                    None => Box::pin(stream),
                }
            }
        };
        Ok(Self {
            stream,
            scanner: Scanner::default(),
        })
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.stream.as_mut().poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(
            self.scanner
                .scan(read)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        )
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}

/// Connects to the first address of the host that accepts a connection.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    let attempts: Vec<_> = addresses
        .map(|to| Box::pin(TcpStream::connect(to)))
        .collect();
    if attempts.is_empty() {
        let message = "the host has no address";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let (stream, _) = select_ok(attempts).await?;
    Ok(stream)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ScanError {
    #[error(
        "a reply from Redis is larger than {MAX_REPLY} bytes or has more than {MAX_VALUES} values"
    )]
    TooLarge,
    #[error("a reply from Redis declares a length that is not a number")]
    Length,
}

/// Reads the lengths in replies (RESP2 and RESP3). The parser detects all other errors.
#[derive(Default)]
struct Scanner {
    /// The bytes of this reply that have arrived or are declared.
    size: usize,
    /// The number of values that this reply has declared.
    values: usize,
    /// The number of these values that are still to come; 0 between two replies.
    pending: usize,
    /// The first line of the value that is being read. Of a line without a length, only its first
    /// and its last byte.
    line: Vec<u8>,
    /// The bytes of a string, and of the line break after it, that are still to come.
    string: usize,
}

impl Scanner {
    fn scan(&mut self, mut bytes: &[u8]) -> Result<(), ScanError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.string > 0 {
                let (passed, rest) = bytes.split_at(self.string.min(bytes.len()));
                bytes = rest;
                self.string -= passed.len();
                if self.string == 0 {
                    self.complete(0)?;
                }
                continue;
            }
            bytes = rest;
            self.grow(1)?;
            if self.pending == 0 {
                (self.pending, self.values) = (1, 1);
            }
            self.line.push(byte);
            let has_length = self
                .line
                .first()
                .is_some_and(|kind| WITH_LENGTH.contains(kind));
            if self.line.ends_with(b"\r\n") {
                let mut line = std::mem::take(&mut self.line);
                if has_length {
                    self.declare(&line)?;
                } else {
                    self.complete(0)?;
                }
                // The next line uses its memory.
                line.clear();
                self.line = line;
            } else if has_length && self.line.len() > MAX_LENGTH_LINE {
                return Err(ScanError::Length);
            } else if !has_length && self.line.len() > 2 {
                self.line.remove(1);
            }
        }
        Ok(())
    }

    /// Reads the length in the first line of a value.
    fn declare(&mut self, line: &[u8]) -> Result<(), ScanError> {
        let [of, digits @ .., b'\r', b'\n'] = line else {
            return Err(ScanError::Length);
        };
        let digits = str::from_utf8(digits).ok();
        let length = digits.and_then(|digits| digits.parse::<i64>().ok());
        let length = length.ok_or(ScanError::Length)?;
        let Ok(length) = usize::try_from(length) else {
            // A string or an array that is null.
            return if length == -1 && matches!(of, b'$' | b'*') {
                self.complete(0)
            } else {
                Err(ScanError::Length)
            };
        };
        let children = match of {
            b'$' | b'!' | b'=' => {
                self.grow(length)?;
                self.grow(2)?;
                self.string = length + 2;
                return Ok(());
            }
            b'%' => length.checked_mul(2),
            b'|' => length.checked_mul(2).and_then(|parts| parts.checked_add(1)),
            _ => Some(length),
        };
        self.complete(children.ok_or(ScanError::TooLarge)?)
    }

    /// Completes the head of a value that consists of `parts` further values.
    fn complete(&mut self, parts: usize) -> Result<(), ScanError> {
        self.values = self.values.saturating_add(parts);
        if self.values > MAX_VALUES {
            return Err(ScanError::TooLarge);
        }
        self.pending = self.pending.saturating_sub(1) + parts;
        if self.pending == 0 {
            self.size = 0;
        }
        Ok(())
    }

    fn grow(&mut self, by: usize) -> Result<(), ScanError> {
        self.size = self.size.saturating_add(by);
        if self.size > MAX_REPLY {
            Err(ScanError::TooLarge)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans in pieces of every length. The result must be the same.
    fn scan(bytes: &[u8]) -> Result<usize, ScanError> {
        let results = [1, 2, 3, 7, 64, bytes.len().max(1)].map(|piece| {
            let mut scanner = Scanner::default();
            let scanned = bytes
                .chunks(piece)
                .try_for_each(|piece| scanner.scan(piece));
            scanned.map(|()| scanner.pending)
        });
        assert!(
            results.iter().all(|result| *result == results[0]),
            "{results:?}"
        );
        results[0]
    }

    #[test]
    fn finds_the_end_of_replies_of_every_type() {
        let replies: [&[u8]; 20] = [
            b"+OK\r\n",
            b"-ERR a\rb\nc\r\n",
            b":-5\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$12\r\n$900000000\r\n\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n$8\r\n\r\n*9\r\n$4\r\n:1\r\n*2\r\n_\r\n+a\r\n",
            b"_\r\n",
            b",1.5\r\n",
            b"#t\r\n",
            b"(3492890328409238509324850943850943825024385\r\n",
            b"!5\r\nERR a\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
            b"~2\r\n:1\r\n:2\r\n",
            b">3\r\n$7\r\nmessage\r\n$2\r\nab\r\n$1\r\nc\r\n",
            b"|1\r\n+ttl\r\n:5\r\n$1\r\na\r\n",
            b"*1\r\n*1\r\n*1\r\n$1\r\na\r\n",
        ];
        for reply in replies {
            assert_eq!(scan(reply), Ok(0), "{:?}", reply.escape_ascii().to_string());
            let begun = &reply[..reply.len() - 1];
            assert_eq!(
                scan(begun).map(|pending| pending > 0),
                Ok(true),
                "{:?}",
                begun.escape_ascii().to_string()
            );
        }
        assert_eq!(scan(&replies.concat()), Ok(0));
    }

    #[test]
    fn the_limits_apply_to_each_reply() {
        let mut scanner = Scanner::default();
        let reply = [&b"$1048576\r\n"[..], &vec![b'a'; 1 << 20], b"\r\n"].concat();
        for _ in 0..2 * (MAX_REPLY >> 20) {
            assert_eq!(scanner.scan(&reply), Ok(()));
        }
        let array = ["*4095\r\n", &":1\r\n".repeat(4095)].concat();
        for _ in 0..10 {
            assert_eq!(scanner.scan(array.as_bytes()), Ok(()));
        }
        assert_eq!(scanner.pending, 0);
    }

    #[test]
    fn rejects_a_reply_that_is_too_large_when_its_length_arrives() {
        let nested = "*4\r\n".repeat(2000);
        let line = ["+", &"a".repeat(MAX_REPLY)].concat();
        let rows = [
            "$2147483648\r\n",
            "$9223372036854775807\r\n",
            "!2147483648\r\n",
            "=2147483648\r\n",
            "*1000000\r\n",
            "*9223372036854775807\r\n",
            "~1000000\r\n",
            ">1000000\r\n",
            "%1000000\r\n",
            "%9223372036854775807\r\n",
            "|9223372036854775807\r\n",
            "*2\r\n$20000000\r\n",
            nested.as_str(),
            line.as_str(),
        ];
        for row in rows {
            let row = if row.starts_with("*2") {
                [
                    row.as_bytes(),
                    &vec![b'a'; 20_000_000],
                    b"\r\n$20000000\r\n",
                ]
                .concat()
            } else {
                row.as_bytes().to_vec()
            };
            let mut scanner = Scanner::default();
            let begin = row[..row.len().min(40)].escape_ascii().to_string();
            assert_eq!(scanner.scan(&row), Err(ScanError::TooLarge), "{begin:?}");
        }
        for row in [
            "$?\r\n",
            "*\r\n",
            "$1 \r\n",
            "$-2\r\n",
            "%-1\r\n",
            "$000000000000000000001\r\n",
        ] {
            assert_eq!(scan(row.as_bytes()), Err(ScanError::Length), "{row:?}");
        }
    }
}

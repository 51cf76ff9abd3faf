//! A connection through the wire, and the fate of its requests.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use redis::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::{Connection, Fault};
use crate::redis::server::HOST;

/// The fate of a reply.
enum Fate {
    Deliver,
    Swallow,
    Close,
    Hold(Arc<Notify>),
    Replace(Bytes),
    Double,
    Overtaken,
}

impl Connection {
    pub(super) async fn serve(self, client: TcpStream) {
        let Ok(server) = TcpStream::connect((HOST, self.shared.server)).await else {
            return;
        };
        // With Nagle's algorithm, the wire would be slower than the network that it replaces.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let fates = Mutex::default();
        let requests = async {
            if self.requests(from_client, to_server, &fates).await {
                // Requests that have arrived take effect, and are answered if the client is still
                // there.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = requests => {}
            () = self.answers(from_server, to_client, &fates) => {}
        }
    }

    /// Passes all requests on; `false` if the connection must be closed at once.
    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        fates: &Mutex<VecDeque<Fate>>,
    ) -> bool {
        let mut buffer = BytesMut::new();
        while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            let mut requests = Vec::new();
            while let Some(length) = value_length(&buffer) {
                let request = buffer.split_to(length).freeze();
                requests.push((words(&request), request));
            }
            self.count(&requests);
            for (words, request) in requests {
                let fault = self
                    .shared
                    .hook
                    .lock()
                    .unwrap()
                    .as_mut()
                    .map_or(Fault::Pass, |hook| hook(&words));
                let fate = match &fault {
                    Fault::Drop => return false,
                    Fault::Pass | Fault::Delay(_) | Fault::Hold(_) | Fault::Repeat => Fate::Deliver,
                    Fault::LoseAnswer => Fate::Close,
                    Fault::HoldAnswer(notify) => Fate::Hold(Arc::clone(notify)),
                    Fault::Replace(bytes) => Fate::Replace(bytes.clone()),
                    Fault::Double => Fate::Double,
                    Fault::Overtaken => Fate::Overtaken,
                };
                match &fault {
                    Fault::Delay(time) => tokio::time::sleep(*time).await,
                    Fault::Hold(notify) => notify.notified().await,
                    _ => {}
                }
                let mut bytes = request.clone();
                if is_answered(&words) {
                    let mut fates = fates.lock().unwrap();
                    if matches!(fault, Fault::Repeat) {
                        fates.push_back(Fate::Swallow);
                        bytes = [&request[..], &request].concat().into();
                    }
                    fates.push_back(fate);
                }
                if to.write_all(&bytes).await.is_err() {
                    return true;
                }
            }
        }
        // Dropping `to` tells the server, which closes the connection once it has answered earlier
        // requests.
        true
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        fates: &Mutex<VecDeque<Fate>>,
    ) {
        let mut buffer = BytesMut::new();
        let mut overtaken = Vec::new();
        while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            while let Some(length) = value_length(&buffer) {
                let mut answer = buffer.split_to(length).freeze();
                // A push message is not a reply.
                let fate = if answer.starts_with(b">") {
                    None
                } else {
                    fates.lock().unwrap().pop_front()
                };
                match fate {
                    Some(Fate::Swallow) => continue,
                    Some(Fate::Close) => return,
                    Some(Fate::Hold(notify)) => {
                        self.shared.log().held_answers += 1;
                        notify.notified().await;
                        self.answered();
                    }
                    Some(Fate::Deliver) => self.answered(),
                    Some(Fate::Replace(bytes)) => {
                        answer = bytes;
                        self.answered();
                    }
                    Some(Fate::Double) => {
                        answer = [&answer[..], &answer].concat().into();
                        self.answered();
                    }
                    Some(Fate::Overtaken) => {
                        overtaken.push(answer);
                        self.answered();
                        continue;
                    }
                    None => {}
                }
                if !overtaken.is_empty() {
                    answer = [&answer[..], &overtaken.concat()].concat().into();
                    overtaken.clear();
                }
                // A client that has disconnected misses it, and the server may still wait for the
                // next one.
                let _ = to.write_all(&answer).await;
            }
        }
    }

    fn count(&self, requests: &[(Vec<Bytes>, Bytes)]) {
        let mut log = self.shared.log();
        for (words, _) in requests {
            log.commands.push(words.clone());
            if is_answered(words) {
                log.round_trips += usize::from(log.unanswered == 0);
                log.unanswered += 1;
                self.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts the reply before the client can receive it and send the next request.
    fn answered(&self) {
        self.shared.log().unanswered -= 1;
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.log().unanswered -= *self.unanswered.get_mut();
    }
}

/// Returns whether a request has a reply. Subscriptions get messages instead, one for each channel.
fn is_answered(words: &[Bytes]) -> bool {
    !words[0].to_ascii_uppercase().ends_with(b"SUBSCRIBE")
}

/// Returns the words of a request. The script that reads a value is shown as a `GET`; it is the
/// only one whose arguments are just a nonce.
fn words(request: &[u8]) -> Vec<Bytes> {
    let value = redis::parse_redis_value(request).unwrap();
    let Value::Array(words) = value else {
        panic!("not a request: {value:?}")
    };
    let words = words
        .into_iter()
        .map(|word| redis::from_redis_value::<Vec<u8>>(word).unwrap().into());
    match <[Bytes; 5]>::try_from(words.collect::<Vec<_>>()) {
        Ok([name, _, one, key, _]) if name.starts_with(b"EVAL") && one == "1" => {
            vec!["GET".into(), key]
        }
        Ok(words) => words.into(),
        Err(words) => words,
    }
}

/// Returns the length of the value at the start of these bytes; `None` if it is incomplete.
///
/// The client's parser returns the value, but not where it ends.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let start = line + 2;
    let number = || {
        std::str::from_utf8(&bytes[1..line])
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    let parts = match bytes[0] {
        b'$' | b'!' | b'=' => {
            let length = usize::try_from(number()).map_or(start, |length| start + length + 2);
            return (length <= bytes.len()).then_some(length);
        }
        b'*' | b'~' | b'>' => number(),
        b'%' => 2 * number(),
        b'|' => 2 * number() + 1,
        _ => 0,
    };
    (0..parts).try_fold(start, |at, _| Some(at + value_length(&bytes[at..])?))
}

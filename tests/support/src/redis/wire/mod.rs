//! A wire between a client and a server, on which requests are counted, lost, repeated and held.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use redis::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::server::{HOST, LIMIT};
use crate::port::Port;

/// The fate of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    Pass,
    /// The connection is closed, and the request never reaches the server.
    Drop,
    /// It takes effect; then the connection is closed instead of a reply.
    LoseAnswer,
    /// It takes effect twice, and the client gets the second reply, as if the first had been lost
    /// on the way.
    Repeat,
    /// It reaches the server this much later, and so do the requests behind it.
    Delay(Duration),
    /// It reaches the server when notified, even if the client has disconnected by then.
    Hold(Arc<Notify>),
    /// It takes effect; its reply is passed on when notified.
    HoldAnswer(Arc<Notify>),
    /// The command takes effect; these bytes arrive instead of its reply. They may be empty.
    Replace(Bytes),
    /// The command takes effect; its reply arrives twice.
    Double,
    /// The command takes effect; its reply arrives after the next one.
    Overtaken,
}

type Hook = Box<dyn FnMut(&[Bytes]) -> Fault + Send>;

/// A TCP proxy in front of a server without TLS, which stops when dropped.
pub struct Wire {
    port: Port,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

struct Shared {
    server: u16,
    hook: Mutex<Option<Hook>>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    commands: Vec<Vec<Bytes>>,
    unanswered: usize,
    round_trips: usize,
    held_answers: usize,
}

impl Wire {
    pub async fn in_front_of(server: u16) -> Self {
        let shared = Arc::new(Shared {
            server,
            hook: Mutex::default(),
            log: Mutex::default(),
        });
        loop {
            let port = Port::free();
            if let Ok(listener) = TcpListener::bind((HOST, port.number())).await {
                let listening = Mutex::new(Some(listen(&shared, listener)));
                return Self {
                    port,
                    shared,
                    listening,
                };
            }
        }
    }

    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// [`url`](Self::url) with credentials, such as `user:password@`.
    pub fn url_with(&self, credentials: &str) -> String {
        format!("redis://{credentials}{HOST}:{}", self.port())
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Calls the hook with each request, as the words of its command, before it is passed on.
    pub fn hook(&self, hook: impl FnMut(&[Bytes]) -> Fault + Send + 'static) {
        *self.shared.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Applies the fault to the first request with a command of this name, and to no other.
    pub fn once(&self, command: &'static str, fault: Fault) {
        let mut fault = Some(fault);
        self.hook(move |words| {
            let fits = words[0].eq_ignore_ascii_case(command.as_bytes());
            if fits {
                fault.take().unwrap_or(Fault::Pass)
            } else {
                Fault::Pass
            }
        });
    }

    pub fn unhook(&self) {
        *self.shared.hook.lock().unwrap() = None;
    }

    /// Returns the requests since the last call of this function, including those with which a
    /// client introduces itself.
    pub fn commands(&self) -> Vec<Vec<Bytes>> {
        std::mem::take(&mut self.shared.log().commands)
    }

    /// Returns how often since the last call a request arrived after all earlier ones had been
    /// answered. For a caller that does one thing at a time, this is how often it waited. Requests
    /// that arrive together count once.
    pub fn round_trips(&self) -> usize {
        std::mem::take(&mut self.shared.log().round_trips)
    }

    /// Returns how many replies have arrived and were held until now.
    pub fn held_answers(&self) -> usize {
        self.shared.log().held_answers
    }

    /// Closes all connections, and rejects new ones.
    pub async fn cut(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(Listening { task, stop }) = listening {
            let _ = stop.send(());
            task.await.unwrap();
        }
    }

    /// Accepts connections again.
    pub async fn mend(&self) {
        let end = Instant::now() + LIMIT;
        let listener = loop {
            match TcpListener::bind((HOST, self.port())).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < end, "its port was taken: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        *self.listening.lock().unwrap() = Some(listen(&self.shared, listener));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(Listening { task, .. }) = self.listening.lock().unwrap().take() {
            task.abort();
        }
    }
}

fn listen(shared: &Arc<Shared>, listener: TcpListener) -> Listening {
    let (stop, mut stopped) = oneshot::channel();
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    let connection = Connection { shared: Arc::clone(&shared), unanswered: AtomicUsize::new(0) };
                    connections.spawn(connection.serve(client));
                },
            }
        }
        drop(listener);
        connections.shutdown().await;
    });
    Listening { task, stop }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

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

struct Connection {
    shared: Arc<Shared>,
    unanswered: AtomicUsize,
}

impl Connection {
    async fn serve(self, client: TcpStream) {
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

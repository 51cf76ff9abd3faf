//! A wire between a client and a server, on which requests are counted, lost, repeated and held.

mod connection;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
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

struct Connection {
    shared: Arc<Shared>,
    unanswered: AtomicUsize,
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::server::{LIMIT, POLL};
use crate::port::{HOST, Port};

/// A network between clients and a server. It can lose what clients send, as a partition does: no
/// connection is closed. It can also be cut.
pub struct Relay {
    port: Port,
    server: u16,
    /// The number of partitions so far. A connection that is older than the last partition forwards
    /// nothing to the server.
    partitions: Arc<AtomicUsize>,
    /// Accepts connections, and owns them.
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Relay {
    pub async fn in_front_of(server: u16) -> Self {
        let relay = Self {
            port: Port::free(),
            server,
            partitions: Arc::default(),
            listening: Mutex::default(),
        };
        relay.mend().await;
        relay
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        let port = self.port.number();
        format!("postgres://postgres@{HOST}:{port}/postgres?sslmode=disable")
    }

    /// Loses everything that clients send from now on over the connections that are open. What the
    /// server sends still arrives, and new connections work.
    pub fn partition(&self) {
        self.partitions.fetch_add(1, Ordering::SeqCst);
    }

    /// Closes all connections, and rejects new ones.
    pub async fn cut(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(listening) = listening {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// Accepts connections, again if it was cut.
    pub async fn mend(&self) {
        let end = Instant::now() + LIMIT;
        let listener = loop {
            match TcpListener::bind((HOST, self.port.number())).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < end, "its port was taken: {error}"),
            }
            tokio::time::sleep(POLL).await;
        };
        let (server, partitions) = (self.server, Arc::clone(&self.partitions));
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(forward(client, server, Arc::clone(&partitions)));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.listening.lock().unwrap() = Some(listening);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.lock().unwrap().take() {
            listening.abort();
        }
    }
}

async fn forward(client: TcpStream, server: u16, partitions: Arc<AtomicUsize>) {
    let born = partitions.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect((HOST, server)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async move {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            let lost = partitions.load(Ordering::SeqCst) != born;
            if !lost && to_server.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    let replies = async move {
        // The client notices that the server has closed the connection.
        let _ = copy(&mut from_server, &mut to_client).await;
    };
    tokio::join!(requests, replies);
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::port::HOST;

/// A network between clients and a server. It can lose what clients send, as a partition does: no
/// connection is closed.
pub struct Relay {
    port: u16,
    /// The number of partitions so far. A connection that is older than the last partition forwards
    /// nothing to the server.
    partitions: Arc<AtomicUsize>,
}

impl Relay {
    pub async fn in_front_of(server: u16) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let partitions = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&partitions);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect((HOST, server)).await.unwrap();
                forward(client, server, Arc::clone(&count));
            }
        });
        Self { port, partitions }
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        let port = self.port;
        format!("postgres://postgres@{HOST}:{port}/postgres?sslmode=disable")
    }

    /// Loses everything that clients send from now on over the connections that are open. What the
    /// server sends still arrives, and new connections work.
    pub fn partition(&self) {
        self.partitions.fetch_add(1, Ordering::SeqCst);
    }
}

fn forward(client: TcpStream, server: TcpStream, partitions: Arc<AtomicUsize>) {
    let born = partitions.load(Ordering::SeqCst);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            let lost = partitions.load(Ordering::SeqCst) != born;
            if !lost && to_server.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        // The client notices that the server has closed the connection.
        let _ = copy(&mut from_server, &mut to_client).await;
    });
}
